"""Searches by stored vectors, to see how quick a store answers right now, and how much of the exact answer it finds."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Final

from llmspell_memory.types import Filter, RecallEstimate
from llmspell_memory.types.histogram import unrecorded
from llmspell_memory.watch.comparing import recall_of
from llmspell_memory.watch.interval import interval

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmspell_memory.manager import DefaultMemoryManager
    from llmspell_memory.types import Vector

K: Final = 10
_WINDOW: Final = 1_000
_EVERYTHING: Final = Filter()


class Probe:
    """Searches a memory, which times them as any others, and compares each with the exact answer.

    Args:
        memory: to be searched; its own watch is not needed.
        count: how many searches a round has.
    """

    def __init__(self, memory: DefaultMemoryManager, count: int) -> None:
        self._memory = memory
        self._count = count
        self._chance = random.Random()  # noqa: S311 (a sample, not a secret)
        self._recalls: deque[float] = deque(maxlen=_WINDOW)

    def run(self) -> int | None:
        """Run a round; return how many changes the index was behind when it began, None in the first."""
        backend = self._memory.backend
        behind = backend.stats().lag if self._recalls else None
        for vector in self._vectors():
            with unrecorded():
                if not self._recalls:
                    backend.search(vector, K, _EVERYTHING)  # loads or builds the index, which is not to be timed
                best = backend.search(vector, K, _EVERYTHING, exact=True)
            self._recalls.append(recall_of(self._memory.episodic.search(vector, K), best))
        return behind

    def recall(self) -> RecallEstimate | None:
        """Return what was found of the exact answers; None where the store is empty."""
        if not self._recalls:
            return None
        mean, low, high = interval(self._recalls)
        return RecallEstimate(recall=mean, low=low, high=high, comparisons=len(self._recalls))

    def _vectors(self) -> Iterator[Vector]:
        """Yield vectors of rows found at random among the numbers of changes."""
        backend = self._memory.backend
        last = backend.stats().seq
        for _ in range(self._count if last else 0):
            after = self._chance.randrange(last)
            put = backend.changes(after, limit=1).put or backend.changes(0, limit=1).put
            if put and put[0].embedding is not None:
                yield put[0].embedding
