"""How the two stores change places, and how both are erased from.

To change places takes four acts, each of which may be the last of a process:

1. The other store comes level while writes go on, then once more while they wait.
2. The one that served is told the other's number of that moment: from there it will follow, if need be.
3. The record says who serves. It is one note in one store, so this is done or not done.
4. From here on searches and writes go there.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from llmspell_memory.errors import NotReadyError, UnavailableError
from llmspell_memory.operations.migration.follow import NOBODY, Follower, delete, last_number
from llmspell_memory.operations.rollout.guard import Watched
from llmspell_memory.operations.rollout.record import BACK, FORTH, write_home
from llmspell_memory.operations.rollout.shadow import BATCH
from llmspell_memory.types import Filter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmspell_memory.operations.rollout.pair import Pair
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import Erased, Identity

logger = logging.getLogger(__name__)

PAUSE: Final = 5.0
"""The most seconds that writes wait for the two stores to change places."""

EVERY: Final = Filter(expired=None)


def promote(pair: Pair, *, force: bool) -> None:
    """Let the candidate serve.

    Raises:
        NotReadyError: the bar is not met.
        UnavailableError: the two could not be brought level within a moment; nothing has changed.
    """
    with pair.switching:
        if pair.serving is pair.away:
            return
        _check_ready(pair, force=force)
        pair.shadow.catch_up(None)
        back = pair.shadow.run(lambda _: _prepared(pair.away, pair.home, BACK), seconds=pair.timeout)
        pair.shadow.hold()
        try:
            with pair.gate.closed(PAUSE) as alone:
                if not alone:
                    raise UnavailableError("a write to the primary takes longer than a promotion may wait; try again")
                pair.shadow.run(lambda forth: _hand_over(pair, forth, back), seconds=PAUSE)
                _check_ready(pair, force=force)
                pair.commit(serving="candidate", phase="promoted", reason=None)
                pair.turn(back)
        finally:
            pair.shadow.release()
    logger.info("The candidate of a rollout was promoted")


def _check_ready(pair: Pair, *, force: bool) -> None:
    lacking = pair.lacking()
    if lacking and not force:
        raise NotReadyError(lacking)


def _prepared(source: EpisodicBackend, target: EpisodicBackend, note: str) -> Follower:
    watched = cast("tuple[EpisodicBackend, EpisodicBackend]", (Watched(source), Watched(target)))
    return Follower(*watched, note=note, batch=BATCH)


def _hand_over(pair: Pair, forth: Follower, back: Follower) -> None:
    _join(forth, back)
    if not _alike(pair):
        forth.start_over()
        raise UnavailableError(
            "the candidate does not hold as many entries as the primary, for something else has written to it; it is "
            "compared and made equal now; try again"
        )
    write_home(forth.target, pair.record.primary, took_over=forth.position)


def rollback(pair: Pair, reason: str | None, *, force: bool) -> None:
    """Let the primary serve, and the candidate be.

    Raises:
        UnavailableError: the candidate serves, and what was written to it since cannot be read.
    """
    with pair.switching:
        if pair.serving is pair.home:
            pair.comparer.clear()
            pair.commit(phase="rolled back", reason=reason)
            return
        with suppress(Exception):  # told already; what is missing is seen in the end
            pair.shadow.catch_up(None)
        give_back(pair, reason, force=force)


def give_back(pair: Pair, reason: str | None, *, force: bool) -> None:
    """Bring the former primary level and let it serve; whoever calls this holds `switching`."""
    pair.shadow.hold()
    try:
        with pair.gate.closed(PAUSE) as alone:
            if not alone:
                pair.gate.disown()  # what hangs in the candidate is not acknowledged, and asked again
            forth = _brought_home(pair, force=force)
            if not pair.written.revoke(PAUSE):
                raise UnavailableError("the former primary has not come back from a write; try again")
            pair.commit(serving="primary", phase="rolled back", reason=reason, stale=forth is None)
            pair.comparer.clear()
            pair.turn(forth)
    finally:
        pair.shadow.release()
    logger.info("A rollout was rolled back, and the former primary serves again: %s", reason or "by hand")


def _brought_home(pair: Pair, *, force: bool) -> Follower | None:
    """Bring the former primary level; return who makes the candidate follow again, None if that must compare."""

    def work(back: Follower) -> Follower | None:
        _level(back)
        forth = _prepared(pair.home, pair.away, FORTH)
        _join(back, forth)
        if _alike(pair):
            return forth
        logger.warning("The former primary was written to while the candidate served; it keeps that, and so will both")
        return None

    try:
        return pair.shadow.run(work, seconds=PAUSE)
    except Exception as error:
        nothing_missing = pair.shadow.followed == pair.gate.acknowledged
        if nothing_missing or force:
            logger.warning("The candidate could not be read in the end: %s", error)
            return None
        raise UnavailableError(
            "the candidate cannot be read, and some of what was written to it is not in the former primary yet; "
            "try again, or lose that with rollback(force=True)"
        ) from error


def _alike(pair: Pair) -> bool:
    """Say whether level stores have as many entries; where they have not, something else has written to one."""
    return pair.home.count(EVERY) == pair.away.count(EVERY)


def _level(follower: Follower) -> None:
    while follower.step() is not None:
        pass


def _join(follower: Follower, opposite: Follower) -> None:
    """Bring level, and let the opposite begin at this moment."""
    _level(follower)
    moment = last_number(follower.target)
    opposite.record(source=opposite.source.stats().id, namespace=[], position=moment, clean=moment)


def forget(pair: Pair, where: Filter) -> list[Erased]:
    """Erase in the store that serves, then in the other; where that one fails, it is noted and done later."""
    with pair.switching:
        pair.shadow.hold()  # no step is to come between level and erased: it would compare all identities
        try:
            with suppress(Exception):  # told already; then they are to be compared
                pair.shadow.catch_up(None)
            pair.try_to_commit(unerased=True)
            with pair.gate.closed(PAUSE):  # so that nothing but this has happened since both were level
                erased = pair.serving.forget(where)
                reached = last_number(pair.serving)
                pair.gate.count()
            names = [one.identity for one in erased]
            try:
                pair.shadow.run(lambda follower: _erase(follower, names, reached), seconds=None)
            except Exception as error:  # noqa: BLE001 (the candidate's are counted, and nothing is undone by them)
                logger.warning("What was forgotten is yet to be erased from the store that follows: %s", error)
            else:
                pair.try_to_commit(unerased=False)
        finally:
            pair.shadow.release()
        return erased


def _erase(follower: Follower, names: Sequence[Identity], reached: int) -> None:
    """Erase what is named, and what was deleted earlier; `reached` is the source's number right after it was erased.

    Where nothing else has happened since both were level, the names are all there is to it. Otherwise the follower
    compares the identities of all rows.
    """
    if follower.position + len(names) == reached:
        delete(follower.target, names)
        follower.target.forget(NOBODY)
        follower.record(position=reached, clean=reached)
        return
    _level(follower)
    follower.target.forget(NOBODY)
