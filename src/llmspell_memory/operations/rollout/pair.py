"""The two stores of a rollout: which serves, how the other follows, and what is learned of the candidate.

What is durable is said in `record`, how they change places in `places`.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from llmspell_memory.backends.checks import Birthplace
from llmspell_memory.errors import (
    ClosedError,
    ConfigError,
    InputError,
    NotFoundError,
    SchemaError,
    SpaceChangedError,
    StorageError,
    UnavailableError,
)
from llmspell_memory.operations.migration.follow import NOBODY, Follower, last_number
from llmspell_memory.operations.rollout.compare import Comparer
from llmspell_memory.operations.rollout.figures import Bar, Figures, report_of
from llmspell_memory.operations.rollout.guard import Gate, Watched, within
from llmspell_memory.operations.rollout.meeting import check_nobodys, check_not_older, settled
from llmspell_memory.operations.rollout.places import PAUSE, give_back
from llmspell_memory.operations.rollout.record import BACK, FORTH, NOTE, Owner, Record, check_free, write_home
from llmspell_memory.operations.rollout.shadow import BATCH, Shadow

if TYPE_CHECKING:
    from llmspell_memory.operations.rollout.compare import Compared
    from llmspell_memory.operations.rollout.figures import RolloutReport
    from llmspell_memory.protocols import EpisodicBackend

logger = logging.getLogger(__name__)

_SAVE_EVERY: Final = 5.0
"""Seconds between two records of figures; what is counted in between is lost with the process."""

_NEAR, _MOMENT = 1000, 0.5
"""For a comparison, the other store is made to catch up with so many numbers at most, in so many seconds at most."""

_AGAIN: Final = 1.0
"""Seconds before a rollback that was not possible is tried again."""

_ASKERS: Final = (InputError, ConfigError, ClosedError, NotFoundError, SpaceChangedError)
"""Errors that are the caller's, and no failure of a store."""


class Pair:
    """Holds both stores and the record. `home` is the primary of the beginning, `away` the candidate.

    Args:
        primary: as given; or the candidate, where the two were given the other way round than they began.
        candidate: the other.
        bar: what the candidate must show.
        automatic: whether a broken bar is a rollback.
        timeout: seconds that a call of the candidate may take.
    """

    def __init__(
        self, primary: EpisodicBackend, candidate: EpisodicBackend, *, bar: Bar, automatic: bool, timeout: float
    ) -> None:
        self.here = Birthplace()
        self.bar = bar
        self.automatic = automatic
        self.timeout = timeout
        self.home, self.away, self.record = settled(primary, candidate, bar.window)
        check_free(self.record.owner)
        self.gate = Gate()
        self.serving = self.away if self.record.serving == "candidate" else self.home
        self.doubt = False
        self._lock = threading.RLock()
        self.switching = threading.Lock()
        """Held by who changes places or erases; such a one waits for the shadow, so the shadow never waits for it."""
        self._counting = threading.Lock()
        self._known = False
        self._hung = False
        self._saved = time.monotonic()
        self._tried = 0.0
        self.asked = Watched(self.away)
        self.written = self.asked
        self.shadow = Shadow(
            self.back if self.serving is self.away else self.forth,
            acknowledged=lambda: self.gate.acknowledged,
            stuck=self.stuck,
            failed=self._not_followed,
            level=self._level,
        )
        self.comparer = Comparer(
            self.home,
            self.away,
            level=self._brought_level,
            serving=lambda: self.serving,
            counted=self._counted,
            failed=self.failed,
        )
        self._meet()
        self._owner = Owner()
        try:
            self.commit(owner=self._owner.fields)
        except BaseException:
            self._owner.leave()
            raise

    # --- getting to know the candidate -------------------------------------------------------------------------------

    def _meet(self) -> None:
        """Ask the candidate who it is. Before it serves, it may fail in this, and is asked again later."""
        try:
            within(self.timeout, self._identify, what="the candidate's answer")
        except (InputError, SchemaError):
            raise
        except Exception as error:
            if self.serving is self.away:
                raise
            self.failed(error)

    def _identify(self) -> None:
        away = cast("EpisodicBackend", self.asked)
        name = away.stats().id
        if name == self.record.primary:
            raise InputError(
                "primary and candidate are the same store, or one is a copy of the other's file; give a new store as "
                "candidate"
            )
        if away.space != self.home.space:
            raise SchemaError(
                f"the primary holds vectors of {self.home.space}, the candidate those of {away.space}; a rollout is "
                "between two stores of one embedding space"
            )
        if self.record.candidate != name:
            check_nobodys(away, self.record.primary)
            with self._lock:
                if self.record.candidate is not None:
                    self.record = Record(self.record.primary, Figures(self.bar.window), owner=self.record.owner)
                self.record.candidate = name
        if self.serving is self.home:
            check_not_older(self.home, away)
        write_home(away, self.record.primary)
        self._known = True

    def forth(self) -> Follower:
        """Make the candidate follow the primary; in the shadow's thread."""
        self.asked = self.written = Watched(self.away)
        if not self._known:
            self._identify()
            self.save()
        follower = Follower(self.home, cast("EpisodicBackend", self.written), note=FORTH, batch=BATCH)
        if self.record.stale:
            follower.start_over()
            self.commit(stale=False)
        return follower

    def back(self) -> Follower:
        """Make the former primary follow the candidate; in the shadow's thread."""
        self.asked, self.written = Watched(self.away), Watched(self.home)
        source, target = cast("EpisodicBackend", self.asked), cast("EpisodicBackend", self.written)
        return Follower(source, target, note=BACK, batch=BATCH)

    # --- what is learned of it ---------------------------------------------------------------------------------------

    def stuck(self) -> str | None:
        """Say what a store does not come back from; where it is the candidate, count that once as an error."""
        for watched in (self.asked, self.comparer.candidate):
            if verb := watched.hangs(self.timeout):
                what = f"the candidate has not come back from {verb!r} for more than {self.timeout:g} s"
                if not self._hung:
                    self._hung = True
                    self.failed(UnavailableError(what))
                return what
        self._hung = False
        if self.written is not self.asked and (verb := self.written.hangs(self.timeout)):
            return f"the former primary has not come back from {verb!r} for more than {self.timeout:g} s"
        return None

    def failed(self, error: Exception) -> None:
        """Count an error of the candidate; the log is told of the first, the second, the fourth, and so on."""
        with self._lock:
            figures = self.record.figures
            figures.errors += 1
            figures.last_error = f"{type(error).__name__}: {error}"
            count = figures.errors
        if count & (count - 1) == 0:
            logger.warning("The candidate of a rollout has failed, %d times by now: %s", count, figures.last_error)
        self._judge()

    def _not_followed(self, error: Exception) -> None:
        """Hear that a step of the follower has failed; it is tried again."""
        if error is self.asked.error:
            self.failed(error)
        elif isinstance(error, InputError | SchemaError):
            self.try_to_commit(phase="broken", reason=str(error))  # the stores are no pair, whoever serves
            self.comparer.clear()
        else:
            logger.warning("A rollout's stores cannot be brought level for now: %s: %s", type(error).__name__, error)

    def _counted(self, result: Compared | None) -> None:
        with self._lock:
            if result is None:
                self.record.figures.skipped += 1
            else:
                self.record.figures.count(result.recall, primary=result.primary, candidate=result.candidate)
        self._judge()
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self.save()

    def _judge(self) -> None:
        reason = self.bar.broken(self.record.figures)
        again = self.automatic and self.serving is self.away and time.monotonic() - self._tried > _AGAIN
        if reason and (self.comparing or again):
            self._break(reason)

    def _break(self, reason: str) -> None:
        """Draw the consequence of a broken bar; whoever asked for something else goes on in any case."""
        if not self.automatic:
            self.try_to_commit(phase="broken", reason=reason)
        elif self.serving is self.home:
            logger.warning("A rollout is rolled back: %s", reason)
            self.comparer.clear()
            self.try_to_commit(phase="rolled back", reason=reason)
        elif self.switching.acquire(blocking=False):  # otherwise somebody is at it
            logger.warning("The candidate of a rollout that serves is rolled back: %s", reason)
            try:
                with suppress(Exception):
                    self.shadow.catch_up(PAUSE)
                give_back(self, reason, force=False)
            except Exception:
                self._tried = time.monotonic()
                logger.exception("A broken candidate serves on, for it cannot be rolled back without loss: %s", reason)
                self.try_to_commit(phase="broken", reason=reason)
            finally:
                self.switching.release()

    def fall_back(self, store: EpisodicBackend, error: Exception) -> bool:
        """Say whether what has failed in `store` is to be asked again, of the one that serves now."""
        if store is not self.away or isinstance(error, _ASKERS):
            return False
        self.failed(error)
        return self.serving is not store

    def dropped(self) -> None:
        """Count a search that found no place to wait."""
        with self._counting:
            self.record.figures.dropped += 1

    @property
    def comparing(self) -> bool:
        """Whether searches are to be compared."""
        return self.record.phase in {"comparing", "promoted"}

    # --- how it goes on ---

    def turn(self, follower: Follower | None) -> None:
        """Let the one serve that the record says, and this follower bring the other along; None: one yet to be made."""
        self.written.revoke(0.0)  # what the former one has read is not to be written any more
        promoted = self.record.serving == "candidate"
        if follower is not None:
            self.written = cast("Watched", follower.target)
            self.asked = cast("Watched", follower.source) if promoted else self.written
        self.serving = self.away if promoted else self.home
        self.shadow.turn(self.back if promoted else self.forth, follower)

    def lacking(self) -> tuple[str, ...]:
        """Return what stands against a promotion, a sentence each."""
        missing = self.bar.missing(self.record.figures)
        if self.record.phase in {"rolled back", "broken"}:
            return (f"it is {self.record.phase} ({self.record.reason or 'by hand'}); restart() compares anew", *missing)
        return missing

    def restart(self) -> None:
        """Count anew, from nothing; compare again if it was rolled back or broken.

        Raises:
            UnavailableError: the candidate still hangs.
        """
        if what := self.stuck():
            raise UnavailableError(f"{what}; close the rollout and open both stores again")
        with self.switching, self._lock:
            self.record.figures = Figures(self.bar.window)
            self.commit(phase="comparing" if self.serving is self.home else "promoted", reason=None)

    def _level(self) -> None:
        """Finish an erasing that has failed, now that the rows are level; in the shadow's thread."""
        if self.record.unerased:
            cast("EpisodicBackend", self.written).forget(NOBODY)
            self.try_to_commit(unerased=False)

    def _brought_level(self) -> int | None:
        """Bring both level if that is a matter of a moment, and return the number reached; None where it is not."""
        position = self.shadow.position
        if position is None or last_number(self.serving) - position > _NEAR:
            return None
        if position == last_number(self.serving):
            return position
        try:
            self.shadow.catch_up(_MOMENT)
        except Exception:  # noqa: BLE001 (the shadow has told of it)
            return None
        return self.shadow.position

    # --- the record ---------------------------------------------------------------------------------------------------

    def commit(self, **changed: Any) -> None:
        """Write the record with these changes, then hold them for true."""
        with self._lock:
            text = self.record.text(**changed)
            try:
                self.home.write_note(NOTE, text)
            except Exception:
                if "serving" in changed:
                    self.doubt = True  # until it was written again as it was, nobody knows which one stands
                    self._settle_doubt()
                raise
            for name, value in changed.items():
                setattr(self.record, name, value)
            self._saved = time.monotonic()

    def try_to_commit(self, **changed: Any) -> None:
        """Change the record, also where it cannot be written now."""
        try:
            self.commit(**changed)
        except Exception as error:  # noqa: BLE001 (a failing store; whoever asks it is told)
            logger.warning("The record of a rollout could not be written: %s", error)
            for name, value in changed.items():
                setattr(self.record, name, value)

    def _settle_doubt(self) -> None:
        try:
            self.home.write_note(NOTE, self.record.text())
        except Exception as error:  # noqa: BLE001 (as above)
            logger.warning("The record of a rollout could not be written: %s", error)
        else:
            self.doubt = False

    def settle(self) -> None:
        """Before a write is let through: make sure that a reopening will look for it where it goes.

        Raises:
            StorageError: that cannot be made sure now.
        """
        with self._lock:
            if self.doubt:
                self._settle_doubt()
            if self.doubt:
                raise StorageError("the record of the rollout cannot be written, so nothing else is; see the log")

    def save(self) -> None:
        """Write the record as it is; a failure is logged."""
        self.try_to_commit()

    def report(self) -> RolloutReport:
        """Return how it stands."""
        self.stuck()
        position = self.shadow.position
        with self._lock:
            record = self.record
            try:
                lag = None if position is None else max(0, last_number(self.serving) - position)
            except Exception:  # noqa: BLE001 (a report is asked for above all where a store fails)
                lag = None
            return report_of(
                record.figures,
                self.bar,
                phase=record.phase,
                serving=record.serving,
                reason=record.reason,
                lag=lag,
                lag_seconds=self.shadow.seconds if lag else 0.0,
                unerased=record.unerased,
            )

    def stop(self, seconds: float) -> None:
        """End both threads, and write the record."""
        self.comparer.stop(seconds)
        self.shadow.stop(seconds)
        self.try_to_commit(owner=None)
        self._owner.leave()
