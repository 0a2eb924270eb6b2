"""A backend over two: one serves, the other follows it and is compared with it, until it may take over."""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from contextlib import suppress
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Final, TypeVar

from llmspell_memory.errors import ClosedError, ConfigError, EpisodicError, InputError
from llmspell_memory.operations.rollout import places
from llmspell_memory.operations.rollout.compare import Query as Compared
from llmspell_memory.operations.rollout.figures import Bar
from llmspell_memory.operations.rollout.guard import within
from llmspell_memory.operations.rollout.meeting import recorded
from llmspell_memory.operations.rollout.pair import Pair
from llmspell_memory.types import Filter
from llmspell_memory.types.arrays import as_vector

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from datetime import datetime

    from numpy.typing import ArrayLike

    from llmspell_memory.operations.rollout.figures import RolloutReport, RolloutState
    from llmspell_memory.protocols import EpisodicBackend, VectorsBeside
    from llmspell_memory.types import (
        BackendStats,
        EmbeddingSpace,
        EpisodicEntry,
        Erased,
        Hit,
        HNSWConfig,
        Query,
        RowChanges,
        SessionSummary,
        Vector,
    )

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_EVERYTHING: Final = Filter()

_running: Final[weakref.WeakSet[Pair]] = weakref.WeakSet()
"""Those whose threads were started in this process, or in one that it was forked from."""

_CLOSING: Final = 5.0
"""Seconds that `close` waits for each of the threads, and for a candidate to close."""


class Rollout:
    """A primary that serves, and a candidate that is tried beside it until it may take over.

    It is a backend itself. Searches are answered by the primary, writes are acknowledged by it alone. The candidate
    follows in a thread of its own; how far, is kept in it, so that nothing is lost when the process dies. A share of
    the searches is run again in another thread, on both, and the answers are compared. Whatever the candidate does
    (raise, hang, answer wrongly, lose its disk) is counted and hurts nobody.

    Once the bar is met, `promote` lets the candidate serve, and the former primary follows it: `rollback` then loses
    nothing that was written since. Who serves is kept in the primary's notes, so that a `Rollout` over the same two
    stores goes on where the last one was, whichever way round they are given.

    A rollout is open in one process at a time, and other processes may write to the primary for as long as it
    serves, not afterwards. May be used from several threads.

    Args:
        primary: holds the entries; a whole store. Closed with the rollout.
        candidate: a store of the same embedding space: an empty one, one that was migrated from the primary, or the
            candidate of earlier. Closed with the rollout.
        share: of the searches, how many are compared, from 0 to 1.
        bar: what the candidate must show.
        automatic: whether the candidate is set aside at once when it breaks the bar, and the former primary serves
            again where the candidate was promoted. Otherwise the state becomes "broken", for somebody to decide.
        timeout: seconds that a call of the candidate may take; it counts as an error that it takes longer. Erasing may
            take twenty times as long.

    Raises:
        ConfigError: `share` or `timeout` is out of range; or another candidate was promoted in place of this primary.
        InputError: a store shows one namespace alone; the two are the same store; or the candidate holds entries that
            came from elsewhere, which it would lose.
        SchemaError: the stores are of different embedding spaces.
        StorageError: this rollout is open in another process, or in this one; or the one that serves has failed.
    """

    def __init__(
        self,
        primary: EpisodicBackend,
        candidate: EpisodicBackend,
        *,
        share: float = 0.05,
        bar: Bar | None = None,
        automatic: bool = True,
        timeout: float = 30.0,
    ) -> None:
        if not _is_number(share) or not 0.0 <= share <= 1.0:
            raise ConfigError(f"share must be a number from 0 to 1, got {share!r}")
        if not _is_number(timeout) or not timeout > 0.0:
            raise ConfigError(f"timeout must be a number of seconds above 0, got {timeout!r}")
        if primary is candidate:
            raise InputError("primary and candidate are the same store; give a new one as candidate")
        if primary.namespace or candidate.namespace:
            raise InputError("a rollout is between whole stores; one of these shows one namespace alone")
        self._chosen = cycle(_spread(share))
        self._pair = Pair(primary, candidate, bar=bar or Bar(), automatic=automatic, timeout=timeout)
        self._guard = threading.Lock()
        self._started = False
        self._closed = False

    @staticmethod
    def recorded(
        primary: EpisodicBackend, candidate: EpisodicBackend, *, bar: Bar | None = None
    ) -> RolloutReport | None:
        """Return how the rollout between two stores stands, by what they keep of it; None where there is none.

        Nothing is begun or changed, and another process may have the rollout open. Figures are some seconds old then.

        Raises:
            ConfigError: another candidate was promoted in place of this primary.
        """
        return recorded(primary, candidate, bar or Bar())

    # --- what every verb begins with ---------------------------------------------------------------------------------

    def _enter(self) -> Pair:
        self._pair.here.check("this rollout")
        if not self._started:
            self._start()
        return self._pair

    def _start(self) -> None:
        with self._guard:
            if self._closed:
                raise ClosedError("this rollout is closed")
            if not self._started:
                self._started = True
                if not _running:
                    atexit.register(_end)
                _running.add(self._pair)
                self._pair.shadow.start()

    def _read(self, ask: Callable[[EpisodicBackend], Result]) -> Result:
        """Ask the one that serves; where the candidate has failed and was rolled back, ask the primary."""
        pair = self._enter()
        store = pair.serving
        try:
            return ask(store)
        except Exception as error:
            if not pair.fall_back(store, error):
                raise
            return ask(pair.serving)

    def _write(self, change: Callable[[EpisodicBackend], Result]) -> Result:
        """Change the one that serves, and let the other follow."""
        pair = self._enter()
        store = pair.serving
        while True:
            try:
                with pair.gate as epoch:
                    if pair.doubt:
                        pair.settle()
                    store = pair.serving
                    result = change(store)
                    done = pair.gate.acknowledge(epoch)
            except Exception as error:
                if not pair.fall_back(store, error):
                    raise
            else:
                pair.shadow.wake()
                if done:
                    return result

    # --- the verbs of a backend --------------------------------------------------------------------------------------

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of both stores."""
        return self._pair.serving.space

    @property
    def namespace(self) -> tuple[str, ...]:
        """(): it shows every namespace."""
        return ()

    @property
    def hnsw(self) -> HNSWConfig | None:
        """Parameters of the index of the one that serves; None when that is exact."""
        return self._pair.serving.hnsw

    @property
    def is_remote(self) -> bool:
        """Whether the rows of either are elsewhere."""
        return self._pair.home.is_remote or self._pair.away.is_remote

    def add(
        self, entries: Sequence[EpisodicEntry], *, space: EmbeddingSpace | None = None, skip_equal: bool = False
    ) -> list[str]:
        """Store all or none, durable on return in the one that serves, and return their ids."""
        return self._write(lambda store: store.add(entries, space=space, skip_equal=skip_equal))

    def scan(self, where: Filter, *, limit: int | None = None, newest: bool = False) -> Iterator[EpisodicEntry]:
        """Yield matching entries ordered by (timestamp, id), as they were when the scan began; or the newest first."""
        return self._enter().serving.scan(where, limit=limit, newest=newest)

    def search(
        self, vector: Vector, k: int, where: Filter, *, exact: bool = False, space: EmbeddingSpace | None = None
    ) -> list[Hit]:
        """Return the k entries nearest to `vector` among those that match, best first; of the one that serves."""
        pair = self._enter()
        store = pair.serving
        try:
            hits = store.search(vector, k, where, exact=exact, space=space)
        except Exception as error:
            if not pair.fall_back(store, error):
                raise
            hits = pair.serving.search(vector, k, where, exact=exact, space=space)
        if next(self._chosen) and not exact and k:
            self._offer(vector, k, where)
        return hits

    def named_roles(self, words: Collection[str], where: Filter) -> list[str]:
        """Return which of `words` name the role of some entry that matches, in the one that serves."""
        return self._read(lambda store: store.named_roles(words, where))

    def retrieve(self, query: Query, k: int, where: Filter, *, space: EmbeddingSpace | None = None) -> list[Hit]:
        """Return the k entries that answer a query best among those that match, of the one that serves.

        What is compared is how near vectors are found to be, whatever else a query asks for.
        """
        hits = self._read(lambda store: store.retrieve(query, k, where, space=space))
        if query.vector is not None and not query.exact and k and next(self._chosen):
            self._offer(query.vector, k, where)
        return hits

    def _offer(self, vector: Vector, k: int, where: Filter) -> None:
        """Let a search be compared, unless too many wait; look whether the candidate hangs."""
        pair = self._pair
        pair.stuck()
        if pair.comparing and not pair.comparer.offer(Compared(as_vector(vector).copy(), k, where)):
            pair.dropped()

    def changes(self, since: int, *, limit: int = 512) -> RowChanges:
        """Return what happened to rows after a sequence number, which is one of the store that serves."""
        return self._read(lambda store: store.changes(since, limit=limit))

    def read_note(self, name: str) -> str | None:
        """Return a text that the store that serves keeps about itself; None where there is none of that name."""
        return self._read(lambda store: store.read_note(name))

    def write_note(self, name: str, text: str | None) -> None:
        """Keep a short text about the store that serves in it, durable on return; the other does not get it."""
        self._write(lambda store: store.write_note(name, text))

    def mark_processed(self, where: Filter) -> int:
        """Mark what matches; return how many were not marked before."""
        return self._write(lambda store: store.mark_processed(where))

    def set_expiry(self, where: Filter, expires_at: datetime | None) -> int:
        """Have what matches expire at this moment, or never when None; return how many there were."""
        return self._write(lambda store: store.set_expiry(where, expires_at))

    def delete(self, where: Filter) -> int:
        """Delete what matches; return how many there were."""
        return self._write(lambda store: store.delete(where))

    def forget(self, where: Filter) -> list[Erased]:
        """Delete what matches from both stores, leave no trace of it in either, and return what it was.

        Where the store that follows fails or hangs, this returns all the same: it is erased there as soon as that can
        be done, also after a restart, and `report().unerased` says so until then.
        """
        pair = self._enter()
        store = pair.serving
        try:
            return places.forget(pair, where)
        except Exception as error:
            if not pair.fall_back(store, error):
                raise
            return places.forget(pair, where)

    def count(self, where: Filter) -> int:
        """Return how many entries match."""
        return self._read(lambda store: store.count(where))

    def sessions(self, where: Filter) -> list[SessionSummary]:
        """Return one line per session with matching entries, counting those, latest activity first."""
        return self._read(lambda store: store.sessions(where))

    def beside(self, space: EmbeddingSpace) -> VectorsBeside:
        """Return vectors of another space for the rows of the one that serves.

        When they take over, the other store cannot follow any more: the rollout is broken then, and serves on.
        """
        return self._read(lambda store: store.beside(space))

    def configure(self, hnsw: HNSWConfig | None, *, rebuild: bool = False) -> None:
        """Change the view of the one that serves; the other keeps its own."""
        self._enter().serving.configure(hnsw, rebuild=rebuild)

    def stats(self) -> BackendStats:
        """Return figures about rows and index of the one that serves; see `report` for those of the rollout."""
        return self._read(lambda store: store.stats())

    # --- the rollout -------------------------------------------------------------------------------------------------

    @property
    def state(self) -> RolloutState:
        """One of "comparing", "ready", "promoted", "rolled back" and "broken"; see `RolloutReport`."""
        return self.report().state

    def report(self) -> RolloutReport:
        """Return how it stands: state, lag, recall, latencies, errors, and what the bar still lacks."""
        return self._enter().report()

    def catch_up(self, timeout: float | None = None) -> None:
        """Return when the store that follows has all that was written before this call.

        Raises:
            UnavailableError: it has not come so far in `timeout` seconds, or the candidate hangs. An error of the
                candidate's own where it fails.
        """
        self._enter().shadow.catch_up(timeout)

    def compare(self, vector: ArrayLike, k: int = 10, *, where: Filter = _EVERYTHING) -> None:
        """Compare the answers to a query, and count what is found; returns when that is done.

        Raises:
            UnavailableError: the candidate hangs.
        """
        pair = self._enter()
        pair.comparer.offer(Compared(as_vector(vector).copy(), k, where), wait=True)
        pair.comparer.drain(pair.stuck)

    def drain(self) -> None:
        """Return when all searches that wait to be compared are; raises as `compare`."""
        pair = self._enter()
        pair.comparer.drain(pair.stuck)

    def promote(self, *, force: bool = False) -> RolloutReport:
        """Let the candidate serve from now on, and the primary follow it.

        Writes wait for some milliseconds meanwhile, searches do not. Of the one that serves already, it does nothing.

        Args:
            force: also where the bar is not met.

        Raises:
            NotReadyError: the bar is not met; says what is missing.
            UnavailableError: the candidate could not be brought level, or a write took too long; nothing has changed.
            StorageError: a store failed; nothing has changed.
        """
        pair = self._enter()
        places.promote(pair, force=force)
        return pair.report()

    def rollback(self, reason: str | None = None, *, force: bool = False) -> RolloutReport:
        """Let the primary serve, with all that was written meanwhile; nothing is compared until `restart`.

        The candidate goes on following, so that what is forgotten is erased there, too.

        Args:
            reason: kept in the record.
            force: also where the candidate serves and cannot be read any more; the last changes may be lost then.

        Raises:
            UnavailableError: the primary could not be brought level; nothing has changed.
            StorageError: a store failed; nothing has changed.
        """
        pair = self._enter()
        places.rollback(pair, reason, force=force)
        return pair.report()

    def restart(self) -> RolloutReport:
        """Count anew from nothing, and compare again where it was rolled back or broken.

        Raises:
            UnavailableError: the candidate still hangs.
        """
        pair = self._enter()
        pair.restart()
        return pair.report()

    # --- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End both threads and close both stores; a second call does nothing. A candidate that hangs is left alone."""
        pair = self._pair
        if not pair.here.is_here:  # its threads and its record are another process's
            pair.home.close()
            pair.away.close()
            return
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._started = False
        _running.discard(pair)
        pair.stop(_CLOSING)
        pair.home.close()
        try:
            within(_CLOSING, pair.away.close, what="the candidate's closing")
        except Exception as error:
            if pair.serving is pair.away:
                raise
            logger.warning("The candidate of a rollout could not be closed: %s", error)


def _end() -> None:
    """End the threads of rollouts that were not closed: one that runs on as the interpreter ends may crash it."""
    for pair in tuple(_running):
        if pair.here.is_here:
            with suppress(EpisodicError):
                pair.stop(1.0)


def _spread(share: float) -> list[bool]:
    """Return which of ten thousand searches are compared: so many of them, as evenly as can be."""
    whole = [int(n * share + 1e-9) for n in range(10_001)]
    return [after > before for before, after in pairwise(whole)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
