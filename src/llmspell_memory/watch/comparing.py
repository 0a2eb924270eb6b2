"""One thread that runs searches again, exactly and as they were, within a share of one processor's time."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from llmspell_memory.errors import EpisodicError
from llmspell_memory.types.ending import end_at_exit
from llmspell_memory.types.histogram import unrecorded
from llmspell_memory.types.locks import ForkLock

if TYPE_CHECKING:
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace, Filter, Hit, HNSWConfig, Vector

logger = logging.getLogger(__name__)

_WAITING: Final = 32
"""Searches that wait to be compared, at most; then the oldest is left out."""

_IDLE_SECONDS: Final = 30.0
"""A thread without work ends after so long; the next search chosen starts another."""

_CLOSING_SECONDS: Final = 5.0
_TIE: Final = 1e-6
"""Scores this near, relative to their size, are equal: float32 sums of another order differ by less."""


class Epoch(NamedTuple):
    """What searches must have in common to be of one estimate: the index's parameters, the space, and its rebuilds."""

    hnsw: HNSWConfig | None
    space: EmbeddingSpace
    rebuilds: int


class Judged(Protocol):
    """Whose search it was, and who wants to know."""

    def judged(self, epoch: Epoch, where: Filter, recall: float) -> None:
        """Take in a recall."""
        ...

    def left_out(self, *, failed: bool) -> None:
        """Take in that there is none."""
        ...


class Sample(NamedTuple):
    """A search as it was asked."""

    owner: Judged
    vector: Vector
    k: int
    where: Filter
    space: EmbeddingSpace


class Comparer:
    """Compares searches of a store, one at a time.

    The thread starts with the first search to compare. A forked process begins anew, with no search and no thread.

    Args:
        backend: runs the searches.
        budget: share of one processor's time that it may take.
    """

    def __init__(self, backend: EpisodicBackend, budget: float) -> None:
        self._backend = backend
        self._budget = budget
        self._rebuilds = 0
        self._closed = False
        self.lock = ForkLock()
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._waiting: deque[Sample] = deque()
        self._work = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._since = 0.0
        self._spent = 0.0

    @property
    def epoch(self) -> Epoch:
        """The present one."""
        return Epoch(self._backend.hnsw, self._backend.space, self._rebuilds)

    @property
    def cpu_share(self) -> float:
        """Processor time spent so far, as a share of the time since the first comparison."""
        return self._spent / max(time.monotonic() - self._since, 1e-3) if self._since else 0.0

    def begin_anew(self) -> None:
        """Begin a new epoch: the index is another one, whether or not its parameters tell."""
        self._rebuilds += 1

    def offer(self, sample: Sample) -> None:
        """Have a search compared when there is time."""
        with self.lock:
            if os.getpid() != self._process:
                self._begin()
            if self._closed:
                return
            left_out = self._waiting.popleft() if len(self._waiting) >= _WAITING else None
            self._waiting.append(sample)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="llmspell-memory-recall", daemon=True)
                self._since = self._since or time.monotonic()
                end_at_exit(self)
                self._thread.start()
        self._work.set()
        if left_out is not None:
            left_out.owner.left_out(failed=False)

    def end(self) -> None:
        """Stop, and wait for the comparison that is going on."""
        self._closed = True
        if os.getpid() != self._process:
            return
        with self.lock:
            self._waiting.clear()
            thread = self._thread
        self._stop.set()
        self._work.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSING_SECONDS)

    def _run(self) -> None:
        try:
            with unrecorded():
                self._compare()
        except BaseException:  # of a handler of the log, say: it is told as any thread's, and the next search goes on
            with self.lock:
                self._thread = None
            raise

    def _compare(self) -> None:
        used = time.thread_time()
        while (sample := self._next()) is not None:
            self._judge(sample)
            del sample  # while it waits, nothing of a closed scope is held
            now = time.thread_time()
            spent, used = now - used, now
            self._spent += spent
            self._stop.wait(spent / self._budget - spent)

    def _next(self) -> Sample | None:
        """Wait for work; None when this thread is to end."""
        while True:
            self._work.clear()  # before looking: what comes after this wakes it
            if self._stop.is_set():
                return None
            with self.lock:
                if self._waiting:
                    return self._waiting.popleft()
            if not self._work.wait(_IDLE_SECONDS):
                with self.lock:
                    if not self._waiting:
                        self._thread = None
                        return None

    def _judge(self, sample: Sample) -> None:
        epoch, failed = self.epoch, False
        try:
            recall = self._recall(sample) if epoch.hnsw is not None else None
        except EpisodicError as error:  # closed meanwhile, or the store could not; its user will be told by a search
            logger.debug("A search could not be run again to estimate recall: %s", error)
            recall, failed = None, True
        except Exception:  # the thread goes on
            logger.exception("A search could not be run again to estimate recall")
            recall, failed = None, True
        if recall is None or epoch != self.epoch:
            sample.owner.left_out(failed=failed)
        else:
            sample.owner.judged(epoch, sample.where, recall)

    def _recall(self, sample: Sample) -> float | None:
        """Return the share of the k best that is found; None where a write came between, or nothing matches."""
        asked = sample.vector, sample.k, sample.where
        found = self._backend.search(*asked, space=sample.space)
        best = self._backend.search(*asked, exact=True, space=sample.space)
        again = self._backend.search(*asked, space=sample.space)
        return None if not best or _named(found) != _named(again) else recall_of(found, best)


def recall_of(found: list[Hit], best: list[Hit]) -> float:
    """Return the share of `best` that is in `found`, by scores: of entries that tie for the last place any will do."""
    worst = best[-1].score
    enough = worst - _TIE * max(1.0, abs(worst))
    return min(len(best), sum(hit.score >= enough for hit in found)) / len(best)


def _named(hits: list[Hit]) -> list[tuple[tuple[str, ...], str, float]]:
    return [(hit.entry.namespace, hit.entry.id, hit.score) for hit in hits]
