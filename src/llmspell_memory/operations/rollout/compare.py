"""The thread in which a share of the searches is run again, on both stores, and their answers are compared.

Each query is run three times: on the candidate, for its answer, and so that both stores have lately read what it needs,
as the primary has; then on both, in turns the one first and the other, for the time it takes.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmspell_memory.errors import UnavailableError
from llmspell_memory.index import ExactIndex
from llmspell_memory.operations.migration.follow import last_number
from llmspell_memory.operations.rollout.guard import Watched
from llmspell_memory.types import Filter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import Hit, Vector

logger = logging.getLogger(__name__)

WAITING: Final = 64
"""The most queries that wait to be compared."""

_PATIENCE: Final = 60.0
"""Seconds that who wants to wait for a place among them does."""

_TRIES: Final = 3
"""How often a query is tried whose stores did not stand still meanwhile."""

_SAME: Final = 1e-5
"""Scores that differ by less are equal; those of an index with codes or in float16 are rounded."""


_SHARE: Final = 0.1
"""How much of the time it works at most, while nobody waits for it: it asks for what those who search ask for, too."""

_LOOK: Final = 0.05
"""Seconds between two looks of who waits whether the candidate hangs."""


class Query(NamedTuple):
    """A search to be compared."""

    vector: Vector
    k: int
    where: Filter


class Compared(NamedTuple):
    """What a comparison found: recall, and both latencies in microseconds."""

    recall: float
    primary: float
    candidate: float


def recall_of(found: Sequence[Hit], right: Sequence[Hit], query: Query, primary: EpisodicBackend) -> float:
    """Return how much of the right answer was found, from 0 to 1.

    An entry counts if it is the same in all its fields, or if it is not in the right answer only because others have
    the same score. What is found beyond as many as there should be, counts against it.
    """
    if not found and not right:
        return 1.0
    known = {hit.entry.identity: hit.entry for hit in right}
    others = [hit for hit in found if hit.entry.identity not in known]
    same = {name for hit in found for name in [hit.entry.identity] if known.get(name) == hit.entry}
    ties = 0
    if others and right:
        level = right[-1].score - _SAME * max(1.0, abs(right[-1].score))
        claimed = [hit for hit in others if hit.score >= level]
        ties = sum(_is_tied(hit, query, level, primary) for hit in claimed)
    return min(1.0, (len(same) + ties) / max(len(found), len(right)))


def _is_tied(hit: Hit, query: Query, level: float, primary: EpisodicBackend) -> bool:
    """Say whether the primary has this entry, and gives it the score that it needs."""
    entry = hit.entry
    where = Filter(ids=frozenset([entry.id]), namespace=entry.namespace, below=False)
    for row in primary.scan(where):
        if row == entry and row.embedding is not None:
            one = ExactIndex(dimensions=len(row.embedding), metric=primary.space.metric)
            one.add([0], row.embedding[None])
            _, scores = one.search(query.vector, 1)
            return float(scores[0]) >= level
    return False


class Comparer:
    """Compares what it is offered; started by the first offer, ended by `stop`.

    Args:
        primary: gives the right answers.
        candidate: is compared with it.
        level: brings the two level, if it can within a moment, and returns the number of the one that serves up to
            which the other has followed.
        serving: says whether the primary is the one that serves.
        counted: is told of each comparison, None where there was none because the stores did not stand still.
        failed: is told of an error of the candidate.
    """

    def __init__(
        self,
        primary: EpisodicBackend,
        candidate: EpisodicBackend,
        *,
        level: Callable[[], int | None],
        serving: Callable[[], EpisodicBackend],
        counted: Callable[[Compared | None], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self._primary = primary
        self.candidate: Any = Watched(candidate)
        self._level = level
        self._serving = serving
        self._counted = counted
        self._failed = failed
        self._queue: queue.Queue[Query | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._hurry = threading.Event()
        self._stopping = False
        self._turn = 0

    def offer(self, query: Query, *, wait: bool = False) -> bool:
        """Take a query, unless too many are waiting; wait for a place only where asked to."""
        if self._thread is None:
            self._start()
        try:
            self._queue.put(query, block=wait, timeout=_PATIENCE if wait else None)
        except queue.Full:
            return False
        return True

    def _start(self) -> None:
        with self._guard:
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="llmspell-memory compare", daemon=True)
                self._thread.start()

    def drain(self, stuck: Callable[[], str | None]) -> None:
        """Return when all that waits is compared.

        Raises:
            UnavailableError: the candidate hangs.
        """
        done = self._queue.all_tasks_done
        while not self._stopping:
            with done:
                if self._is_done():
                    return
                self._hurry.set()
                if done.wait_for(self._is_done, timeout=_LOOK):
                    self._hurry.clear()
                    return
            if what := stuck():
                raise UnavailableError(what)

    def _is_done(self) -> bool:
        return not self._queue.unfinished_tasks

    def clear(self) -> None:
        """Let go of what is waiting."""
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                return
            self._queue.task_done()

    def _run(self) -> None:
        while not self._stopping:
            query = self._queue.get()
            began = time.monotonic()
            try:
                if query is not None and not self._stopping:
                    self.compare(query)
            finally:
                self._queue.task_done()
            self._hurry.wait(min(1.0, (time.monotonic() - began) * (1 / _SHARE - 1)))

    def compare(self, query: Query) -> None:
        """Compare the two answers, and tell what was found."""
        try:
            for _ in range(_TRIES):
                result = self._compared(query)
                if result is not None or self._stopping:
                    break
        except Exception as error:  # (a candidate may raise anything)
            if error is self.candidate.error:
                if not self._stopping:
                    self._failed(error)
                return
            logger.debug("A query was not compared, for the primary failed", exc_info=True)  # its users are told
            result = None
        if not self._stopping:
            self._counted(result)

    def _compared(self, query: Query) -> Compared | None:
        """Run a query on both; None unless they were of one moment, before and after."""
        before = self._moment()
        if before is None:
            return None
        found, _ = _timed(self.candidate, query)
        self._turn += 1
        if self._turn % 2:
            (right, primary), (again, candidate) = _timed(self._primary, query), _timed(self.candidate, query)
        else:
            (again, candidate), (right, primary) = _timed(self.candidate, query), _timed(self._primary, query)
        if self._moment() != before:
            return None
        recall = min(self._recall(answer, right, query) for answer in (found, again))
        return Compared(recall, primary, candidate)

    def _recall(self, answer: Sequence[Hit], right: Sequence[Hit], query: Query) -> float:
        try:
            return recall_of(answer, right, query, self._primary)
        except (AttributeError, TypeError, ValueError) as error:  # it is no answer at all
            self.candidate.error = error
            raise

    def _moment(self) -> tuple[int, int] | None:
        """Return the numbers of both stores, None unless they are level."""
        followed = self._level()
        moment = last_number(self._primary), last_number(self.candidate)
        serves = moment[0] if self._serving() is self._primary else moment[1]
        return moment if followed == serves else None

    def stop(self, seconds: float) -> bool:
        """End the thread, and say whether it has ended within `seconds`."""
        with self._guard:
            self._stopping = True
            thread = self._thread
        self.clear()
        if thread is None or thread is threading.current_thread():
            return True
        self._hurry.set()
        with suppress(queue.Full):  # then it wakes up anyway
            self._queue.put_nowait(None)
        thread.join(seconds)
        return not thread.is_alive()


def _timed(backend: Any, query: Query) -> tuple[list[Hit], float]:
    """Search, and return what was found and the microseconds it took."""
    began = time.perf_counter_ns()
    hits = backend.search(query.vector, query.k, query.where)
    return hits, (time.perf_counter_ns() - began) / 1000
