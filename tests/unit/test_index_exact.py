"""Exact search is exact, although it looks at codes first and at few of the vectors themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmspell_memory import HNSWConfig
from llmspell_memory.index import ExactIndex, HNSWIndex
from llmspell_memory.testing.indexes import METRICS, gaussian

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from llmspell_memory.types import Matrix, Metric, Vector

WIDTH = 20
SIZES = (1, 2, 3, 5, 17, 64, 65, 300, 3000)


def scaled(rows: Matrix, longest: float) -> Matrix:
    made: Matrix = (rows * (longest / np.linalg.norm(rows, axis=1).max())).astype(np.float32)
    return made


def clustered(count: int, seed: int) -> Matrix:
    chance = np.random.default_rng(seed)
    centres = gaussian(10, WIDTH, seed=99) * 10
    spread: Matrix = (gaussian(count, WIDTH, seed=seed) * 0.01).astype(np.float32)
    return centres[chance.integers(0, 10, count)] + spread


def heavy_tailed(count: int, seed: int) -> Matrix:
    rows = gaussian(count, WIDTH, seed=seed)
    rows[:, 3] *= 1000
    return rows


def duplicated(count: int, seed: int) -> Matrix:
    chance = np.random.default_rng(seed)
    return gaussian(count // 5 + 1, WIDTH)[chance.integers(0, count // 5 + 1, count)]


def with_zeros(count: int, seed: int) -> Matrix:
    rows = gaussian(count, WIDTH, seed=seed)
    rows[::3] = 0
    rows[:, 5] = 0
    return rows


def of_all_lengths(count: int, seed: int) -> Matrix:
    lengths = 10 ** np.random.default_rng(seed).uniform(-6, 6, (count, 1))
    return (gaussian(count, WIDTH, seed=seed) * lengths).astype(np.float32)


KINDS: dict[str, Callable[[int, int], Matrix]] = {
    "random": lambda count, seed: gaussian(count, WIDTH, seed=seed),
    "clustered": clustered,
    "heavy-tailed": heavy_tailed,
    "duplicated": duplicated,
    "with zeros": with_zeros,
    "of all lengths": of_all_lengths,
    "far from zero": lambda count, seed: gaussian(count, WIDTH, seed=seed) + np.float32(1e6),
    "subnormal": lambda count, seed: (gaussian(count, WIDTH, seed=seed) * 1e-40).astype(np.float32),
    "huge": lambda count, seed: scaled(gaussian(count, WIDTH, seed=seed), 0.999e18),
}


def true_scores(rows: Matrix, query: Vector, metric: Metric) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the score of each row, straight from the definition in float64, and what float32 may be off by.

    A vector of length 0 has the cosine 0 with any other.
    """
    wide, one = rows.astype(np.float64), query.astype(np.float64)
    lengths, own = np.linalg.norm(wide, axis=1), float(np.linalg.norm(one))
    if metric == "euclidean":
        distances: NDArray[np.float64] = np.linalg.norm(wide - one, axis=1)
        return -distances, distances * 1e-6 + 1e-22  # the root of the least number that float32 holds
    products: NDArray[np.float64] = wide @ one
    both = lengths * own
    if metric == "inner_product":
        return products, both * 1e-6 + 1e-44
    cosines: NDArray[np.float64] = np.divide(products, both, out=np.zeros_like(both), where=both > 0)
    return cosines, np.full(len(rows), 2e-6)


def assert_exact(index: ExactIndex, labels: NDArray[np.int64], rows: Matrix, query: Vector) -> None:
    """Every score is its vector's and they fall; and the k best are the first k of all, to the last digit."""
    everything, scores = index.search(query, len(rows))
    assert sorted(everything.tolist()) == sorted(labels.tolist())
    at = {int(label): row for row, label in enumerate(labels)}
    order = np.array([at[label] for label in everything.tolist()])
    truth, tolerance = true_scores(rows, query, index.metric)
    assert (np.abs(scores - truth[order]) <= tolerance[order]).all()
    assert (scores[:-1] >= scores[1:]).all()
    equal = (rows[order[:-1]] == rows[order[1:]]).all(axis=1)
    assert (everything[:-1] < everything[1:])[equal].all()
    for k in (1, 2, 10, len(rows) // 2):
        few, few_scores = index.search(query, k)
        assert few.tolist() == everything[:k].tolist()
        assert few_scores.tolist() == scores[:k].tolist()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_best_are_found_whatever_the_vectors(kind: str, metric: Metric) -> None:
    """However vectors are spread, scores are numpy's in float64, and no k hides a better one that a larger k shows."""
    for size in SIZES:
        rows = KINDS[kind](size, 7)
        index = ExactIndex(dimensions=WIDTH, metric=metric)
        index.add(np.arange(size), rows)
        for query in [*KINDS[kind](3, 8), rows[0], np.zeros(WIDTH, np.float32)]:
            assert_exact(index, np.arange(size), rows, query)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 33, 384])
@pytest.mark.parametrize("metric", ["inner_product", "euclidean"])
def test_whole_numbers_are_ranked_exactly_as_numpy_ranks_them(metric: Metric, dimensions: int) -> None:
    """Where float32 loses nothing, the labels are those of a stable sort in float64: equal scores by label."""
    chance = np.random.default_rng(dimensions)
    for size in SIZES:
        rows = chance.integers(-5, 6, (size, dimensions)).astype(np.float32)
        labels = chance.permutation(size)
        index = ExactIndex(dimensions=dimensions, metric=metric)
        index.add(labels, rows)
        for query in chance.integers(-5, 6, (4, dimensions)).astype(np.float32):
            truth, _ = true_scores(rows, query, metric)
            expected = labels[np.lexsort((labels, -truth))]
            for k in (1, 7, size):
                assert index.search(query, k)[0].tolist() == expected[:k].tolist()


def test_equal_cosines_come_by_label() -> None:
    """Vectors that differ by a power of two in length alone have one cosine, and the order of their labels."""
    rows = gaussian(50, WIDTH)
    index = ExactIndex(dimensions=WIDTH)
    labels = np.random.default_rng(1).permutation(200)
    index.add(labels, np.concatenate([rows, rows * 2, rows / 4, rows * 1024]))
    for row in range(50):
        found, scores = index.search(rows[row], 4)
        assert found.tolist() == sorted(labels[row::50].tolist())
        assert len(set(scores.tolist())) == 1


@pytest.mark.parametrize("metric", METRICS)
def test_it_stays_exact_through_deletes_and_another_distribution(metric: Metric) -> None:
    """After deletes, replacements and a complete change of what is stored, codes learned before mislead nobody."""
    chance = np.random.default_rng(3)
    held: dict[int, Vector] = {}
    index = ExactIndex(dimensions=WIDTH, metric=metric)

    def put(labels: NDArray[np.int64], rows: Matrix) -> None:
        index.add(labels, rows)
        held.update(zip(labels.tolist(), rows, strict=True))

    def check(*queries: Vector) -> None:
        assert index.check() == ""
        rows = np.stack(list(held.values()))
        for query in [*queries, *rows[chance.integers(0, len(rows), 4)]]:
            assert_exact(index, np.array(list(held)), rows, query)

    put(np.arange(1500), gaussian(1500, WIDTH))
    gone = chance.permutation(1500)[:700]
    index.remove(gone)
    for label in gone.tolist():
        del held[label]
    check(*gaussian(3, WIDTH, seed=8))
    shifted = heavy_tailed(3000, 9) * np.float32(0.01) + np.float32(50)
    put(np.array(sorted(held))[:300], shifted[:300])  # few: the codes are still the old ones
    check(*gaussian(3, WIDTH, seed=8), shifted[5])
    put(np.arange(1500, 4000), shifted[300:2800])  # so many that they are learned anew
    check(*gaussian(3, WIDTH, seed=8), shifted[5])
    old = np.array([label for label in held if label < 1500])
    index.remove(old)
    for label in old.tolist():
        del held[label]
    check(shifted[2900], gaussian(1, WIDTH)[0])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["random", "clustered", "heavy-tailed", "of all lengths"])
def test_a_filter_narrows_and_stays_exact(kind: str, metric: Metric) -> None:
    """Among some labels the best are the best of all that are among them, in the same order."""
    rows = KINDS[kind](1500, 7)
    index = ExactIndex(dimensions=WIDTH, metric=metric)
    index.add(np.arange(1500), rows)
    for seed, query in enumerate(KINDS[kind](5, 8)):
        among = np.random.default_rng(seed).permutation(1500)[:200]
        everything = index.search(query, 1500)[0]
        expected = everything[np.isin(everything, among)].tolist()
        for k in (1, 10, 200):
            assert index.search(query, k, among=among)[0].tolist() == expected[:k]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_that_scans_is_as_exact(kind: str, metric: Metric) -> None:
    """Where an HNSW index scans it returns labels and scores of the exact one."""
    rows = KINDS[kind](700, 7)
    exact = ExactIndex(dimensions=WIDTH, metric=metric)
    graph = HNSWIndex(dimensions=WIDTH, metric=metric, config=HNSWConfig(m=2, ef_construction=4))
    for index in (exact, graph):
        index.add(np.arange(700), rows)
    for query in KINDS[kind](5, 8):
        for k in (1, 10, 300):
            found = graph.core.search(query, k, 1, None, "scan")
            assert found is not None
            labels, scores = exact.search(query, k)
            assert (found[0].tolist(), found[1].tolist()) == (labels.tolist(), scores.tolist())
