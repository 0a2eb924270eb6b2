"""How good and how quick an index is: recall against an exact search, and the time of one call.

Recall is the share of the k nearest that were found; among entries that tie for the last place any will do. Times are
taken on one thread and in turns, a slice of the queries for each setting and then the next slice: a shared machine
drifts by a factor of two within minutes, and that meets all settings alike.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from llmspell_memory.index import HNSWIndex
from llmspell_memory.watch.interval import interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from llmspell_memory.index import LabelSet
    from llmspell_memory.operations.tuning.queries import Queries, Query
    from llmspell_memory.operations.tuning.stored import Index
    from llmspell_memory.types import Vector
    from llmspell_memory.types.arrays import Labels
    from llmspell_memory.watch.interval import Interval

    Work = Callable[[Query], object]

_TIE: Final = 1e-6
"""Scores this near, by their size, are equal: the same sum in another order differs by less."""

_TURNS: Final = 6
_SECONDS_A_TURN: Final = 0.25
_LEAST_CALLS: Final = 8
_WARMING: Final = 16


class _Case(NamedTuple):
    """A query with what is to be found: the labels of its nearest, and the least score that belongs among them."""

    query: Query
    labels: Labels
    least: float


class Judge:
    """Knows the k nearest of each query, by exact search.

    Args:
        index: searches exactly, be it an HNSW index asked to.
        queries: what is asked; those that nothing matches are left out.
    """

    def __init__(self, index: Index, queries: Queries) -> None:
        self._index = index
        self._k = queries.k
        cases = [self._case(query) for query in queries.each]
        self._cases = [case for case in cases if len(case.labels)]

    @property
    def queries(self) -> list[Query]:
        """The queries that something matches."""
        return [case.query for case in self._cases]

    def _best(self, query: Query, k: int, among: LabelSet | Labels | None) -> tuple[Labels, Vector]:
        if isinstance(self._index, HNSWIndex):
            return self._index.search(query.vector, k, among=among, exact=True)
        return self._index.search(query.vector, k, among=among)

    def _case(self, query: Query) -> _Case:
        labels, scores = self._best(query, self._k, query.among)
        worst = float(scores[-1]) if len(scores) else 0.0
        return _Case(query, labels, worst - _TIE * (1.0 if self._index.metric == "cosine" else abs(worst)))

    def recall(self, index: HNSWIndex, ef_search: int) -> Interval:
        """Return the recall of an index at `ef_search`, with its 95 % interval."""
        found = (
            index.search(case.query.vector, self._k, among=case.query.among, ef_search=ef_search)[0]
            for case in self._cases
        )
        return interval([self._share(*one) for one in zip(self._cases, found, strict=True)])

    def _share(self, case: _Case, labels: Labels) -> float:
        others = labels[~np.isin(labels, case.labels)]
        hits = len(labels) - len(others)
        if len(others):
            hits += int(np.count_nonzero(self._best(case.query, len(others), others)[1] >= case.least))
        return hits / len(case.labels)


class Latency(NamedTuple):
    """Median and 95th percentile of one call, in microseconds."""

    p50: float
    p95: float


def latency(microseconds: NDArray[np.float64]) -> Latency:
    """Return the percentiles of some calls."""
    p50, p95 = np.percentile(microseconds, [50, 95])
    return Latency(round(float(p50), 1), round(float(p95), 1))


def in_turns(works: Sequence[Work], queries: Sequence[Query]) -> list[NDArray[np.float64]]:
    """Return, for each of `works`, the microseconds of its calls, one a query, measured in turns on this thread.

    In a turn each has another slice of the queries than the one before it, so that none finds in the processor's caches
    what another has just read. A turn begins with some calls that are not counted, and is cut off after a quarter of a
    second.
    """
    count = min(_TURNS, len(queries))
    slices = [queries[place::count] for place in range(count)]
    spent: list[list[NDArray[np.float64]]] = [[] for _ in works]
    for turn in range(_TURNS):
        first = turn * len(works) // _TURNS
        for place in (*range(first, len(works)), *range(first)):
            mine = turn + place
            spent[place].append(_one_turn(works[place], slices[mine % count], slices[(mine + count // 2) % count]))
    return [np.concatenate(turns) for turns in spent]


def _one_turn(work: Work, queries: Sequence[Query], others: Sequence[Query]) -> NDArray[np.float64]:
    first = timed(work, others[:1])  # a slow one is not asked a hundred times for nothing
    fitting = max(_LEAST_CALLS, int(1e6 * _SECONDS_A_TURN / first[0]))
    timed(work, others[: min(fitting // 4, _WARMING)])
    repeated = list(queries) * -(-_LEAST_CALLS // len(queries))
    return timed(work, repeated[:fitting])


def timed(work: Work, queries: Sequence[Query]) -> NDArray[np.float64]:
    """Return the microseconds of one call a query."""
    spent = np.empty(len(queries))
    for place, query in enumerate(queries):
        start = time.perf_counter_ns()
        work(query)
        spent[place] = time.perf_counter_ns() - start
    return spent / 1_000
