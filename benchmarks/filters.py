"""Searches among some of the rows: how much of the subset's own top k is found, and how fast."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from data import percentiles
from engines import FaissHNSW, Hnswlib, best_of
from measure import K, hits_of, on_one_thread, timed

from llmspell_memory.index import LabelSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench import Bench
    from numpy.typing import NDArray

    from llmspell_memory.index import HNSWIndex
    from llmspell_memory.types import Matrix, Vector
    from llmspell_memory.types.arrays import Labels

SHARES: Final = (0.5, 0.1, 0.02, 0.01, 0.001)
SESSION: Final = 15
QUERIES: Final = 200
SLOW_QUERIES: Final = 20
EF: Final = 50
ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class Case:
    """Queries, each with the labels that it may return and the score of the k-th best of them."""

    vectors: Matrix
    queries: Matrix
    allowed: list[Labels]
    worst: list[float]

    def recall(self, found: Sequence[Labels]) -> float:
        """Return the share of the subsets' top k that was found; what is outside of its subset does not count."""
        hits = wanted = 0
        for place, labels in enumerate(found):
            k = min(K, len(self.allowed[place]))
            inside = labels[np.isin(labels, self.allowed[place])]
            hits += hits_of(inside, self.queries[place], self.vectors, self.worst[place], k)
            wanted += k
        return round(hits / wanted, 4)

    def fewer(self, found: Sequence[Labels]) -> float:
        """Return the share of queries that came back with fewer than there are, up to k."""
        short = [np.count_nonzero(labels >= 0) < min(K, len(self.allowed[place])) for place, labels in enumerate(found)]
        return round(float(np.mean(short)), 4)


def measure(bench: Bench) -> Iterator[dict[str, Any]]:
    """Yield a row per kind of filter, share and engine, at the largest size."""
    peers: list[Callable[[Case], Way]] = []
    for name, made in (("faiss HNSW", faiss_way), ("hnswlib", hnswlib_way)):
        try:
            peers.append(made(bench))
        except Exception as error:  # noqa: BLE001 (as in curve.py)
            yield {"index": name, "failed": f"{type(error).__name__}: {error}"}
    ours: list[Callable[[Case], Way]] = [partial(way, bench.index) for way in (ours_way, array_way)]
    ways = [*ours, numpy_way, *peers]
    with on_one_thread():
        for kind, choose in (("random", at_random), ("correlated", farthest)):
            for share in SHARES:
                case = case_of(bench, choose(bench, share))
                for measured in compared([way(case) for way in ways], case):
                    yield {"kind": kind, "share": share, **measured}


def case_of(bench: Bench, allowed: list[Labels]) -> Case:
    """Return the queries with their subsets and what is to be found in them."""
    queries = bench.data.queries[: len(allowed)]
    worst = []
    for query, labels in zip(queries, allowed, strict=True):
        scores = bench.vectors[labels] @ query
        worst.append(float(np.sort(scores)[-min(K, len(scores))]))
    return Case(bench.vectors, queries, allowed, worst)


def at_random(bench: Bench, share: float) -> list[Labels]:
    """Return the same random labels for each query."""
    count = max(1, round(share * bench.largest))
    chosen = np.sort(np.random.default_rng(1).choice(bench.largest, count, replace=False))
    return [chosen] * min(QUERIES, len(bench.queries))


def farthest(bench: Bench, share: float) -> list[Labels]:
    """Return for each query whole sessions: those whose mean is least like it, until they make up the share."""
    count = bench.largest // SESSION
    rows = np.arange(count * SESSION).reshape(count, SESSION)
    means = bench.vectors[: count * SESSION].reshape(count, SESSION, -1).mean(axis=1)
    taken = max(1, round(share * bench.largest / SESSION))
    scores = bench.data.queries[:QUERIES] @ means.T
    return [np.sort(rows[np.argsort(one)[:taken]].ravel()) for one in scores]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to search a case: its name, the filters in its own form, the search, and how many queries it is given."""

    index: str
    filters: Sequence[Any]
    search: Callable[[Vector, Any], Labels]
    queries: int = QUERIES


def compared(ways: Sequence[Way], case: Case) -> Iterator[dict[str, Any]]:
    """Yield recall, shortage and latency of each way, after rounds in turn; the pass for recall is the warm-up."""
    found = [
        [way.search(case.queries[place], one) for place, one in zip(counted(way, case), way.filters, strict=False)]
        for way in ways
    ]
    spent = [[passed(way, case) for way in ways] for _ in range(ROUNDS)]
    for place, way in enumerate(ways):
        yield {
            "index": way.index,
            "recall": case.recall(found[place]),
            "fewer": case.fewer(found[place]),
            **percentiles(np.concatenate([turn[place] for turn in spent])),
        }


def counted(way: Way, case: Case) -> range:
    """Return the numbers of the queries that a way is given."""
    return range(min(way.queries, len(case.queries)))


def passed(way: Way, case: Case) -> NDArray[np.float64]:
    """Return the microseconds of one pass over the queries."""
    filters = iter(way.filters)
    return timed(lambda query: way.search(query, next(filters)), [case.queries[place] for place in counted(way, case)])


def shared(allowed: list[Labels], make: Callable[[Labels], Any]) -> list[Any]:
    """Return each subset in an engine's form, the same one once."""
    made: dict[int, Any] = {}
    return [made[id(one)] if id(one) in made else made.setdefault(id(one), make(one)) for one in allowed]


def ours_way(index: HNSWIndex, case: Case) -> Way:
    """Search with label sets made beforehand."""
    return Way(
        "llmspell-memory",
        shared(case.allowed, LabelSet),
        lambda query, among: index.search(query, K, among=among, ef_search=EF)[0],
    )


def array_way(index: HNSWIndex, case: Case) -> Way:
    """Search with plain arrays of labels, which every search has to take in."""
    return Way(
        "llmspell-memory, label array",
        case.allowed,
        lambda query, among: index.search(query, K, among=among, ef_search=EF)[0],
        SLOW_QUERIES,
    )


def numpy_way(case: Case) -> Way:
    """Gather the subset's rows and scan them."""
    vectors = case.vectors
    return Way("numpy", case.allowed, lambda query, rows: rows[best_of(vectors[rows] @ query)], SLOW_QUERIES)


def faiss_way(bench: Bench) -> Callable[[Case], Way]:
    """Return the way of faiss: a bitmap that the walk looks at."""
    faiss = import_module("faiss")
    index = bench.built(FaissHNSW, bench.largest).engine.index

    def parameters(labels: Labels) -> Any:
        mask = np.zeros(bench.largest, bool)
        mask[labels] = True
        selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        return faiss.SearchParametersHNSW(efSearch=EF, sel=selector)

    def search(query: Vector, params: Any) -> Labels:
        found: Labels = index.search(query[None], K, params=params)[1][0]
        return found

    return lambda case: Way("faiss HNSW", shared(case.allowed, parameters), search)


def hnswlib_way(bench: Bench) -> Callable[[Case], Way]:
    """Return the way of hnswlib: a Python function that is called for every row it meets."""
    index = bench.built(Hnswlib, bench.largest).engine.index
    index.set_ef(EF)

    def search(query: Vector, allowed: set[int]) -> Labels:
        try:
            found: Labels = index.knn_query(query, K, num_threads=1, filter=allowed.__contains__)[0][0]
        except RuntimeError:  # it refuses to return fewer than k
            return np.empty(0, np.int64)
        return found.astype(np.int64)

    return lambda case: Way(
        "hnswlib", shared(case.allowed[:SLOW_QUERIES], lambda one: set(one.tolist())), search, SLOW_QUERIES
    )
