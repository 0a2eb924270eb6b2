"""Recall and latency: what is true, what of it was found, and how long one call took."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from data import percentiles
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from llmspell_memory.types import Matrix, Vector
    from llmspell_memory.types.arrays import Labels

K: Final = 10

TIE: Final = 1e-6
"""Scores this near are equal: float32 sums of another order differ by less."""

_AT_ONCE: Final = 20_000
_SECONDS_A_TURN: Final = 0.6


class Truth(NamedTuple):
    """What recall is judged by: the rows, the queries, and each query's score of the k-th best row."""

    vectors: Matrix | NDArray[np.float16]
    queries: Matrix
    worst: Vector


def truth_of(vectors: Matrix | NDArray[np.float16], queries: Matrix) -> Truth:
    """Return what is to be found, by looking at every row as float32, with all cores and block by block."""
    best = np.full((len(queries), K), -np.inf, np.float32)
    for start in range(0, len(vectors), _AT_ONCE):
        scores = queries @ np.asarray(vectors[start : start + _AT_ONCE], np.float32).T
        kept = np.partition(scores, max(0, scores.shape[1] - K), axis=1)[:, -K:]
        best = np.sort(np.concatenate([best, kept], axis=1), axis=1)[:, -K:]
    return Truth(vectors, queries, best[:, 0])


def recall(found: Sequence[Labels], truth: Truth) -> float:
    """Return the share of the top k that was found; among rows that tie for the last place any will do."""
    k = min(K, len(truth.vectors))
    hits = 0
    for labels, query, worst in zip(found, truth.queries, truth.worst, strict=True):
        hits += hits_of(labels, query, truth.vectors, float(worst), k)
    return round(hits / (k * len(truth.queries)), 4)


def hits_of(labels: Labels, query: Vector, vectors: Matrix | NDArray[np.float16], worst: float, k: int) -> int:
    """Return how many of `labels` are among the k best, whose last scores `worst`."""
    distinct = np.unique(labels)
    rows = np.asarray(vectors[distinct[distinct >= 0]], np.float32)  # a padded place is -1
    return min(k, int(np.count_nonzero(rows @ query >= worst - TIE)))


class Spent:
    """The microseconds of many calls, gathered in turns."""

    def __init__(self) -> None:
        self._turns: list[NDArray[np.float64]] = []

    def turn(self, search: Callable[[Vector], object], queries: Sequence[Vector]) -> None:
        """Time one call a query, as many as fit in the time of a turn, after a warm-up of a tenth."""
        warming = queries[: max(1, len(queries) // 10)]
        first = timed(search, warming[:1])  # a slow one is not asked a hundred times for nothing
        each = float(np.median(np.concatenate([first, timed(search, warming[1 : fitting(float(first[0])) // 10])])))
        self._turns.append(timed(search, queries[: fitting(each)]))

    def percentiles(self) -> dict[str, float]:
        """Return p50, p95 and p99 over all turns."""
        return percentiles(np.concatenate(self._turns))


def fitting(microseconds: float) -> int:
    """Return how many calls fit in a turn; some, however long one takes."""
    return max(10, int(1e6 * _SECONDS_A_TURN / microseconds))


def timed(work: Callable[[Vector], object], queries: Sequence[Vector]) -> NDArray[np.float64]:
    """Return the microseconds of one call a query."""
    spent = np.empty(len(queries))
    for place, query in enumerate(queries):
        start = time.perf_counter_ns()
        work(query)
        spent[place] = time.perf_counter_ns() - start
    return spent / 1_000


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` took, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def on_one_thread() -> threadpool_limits:
    """Return a context in which BLAS, and so numpy and what else is bound to it, has one thread."""
    return threadpool_limits(limits=1, user_api="blas")
