"""The graph itself: its invariants, its determinism, its parameters, and what threads may do to it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmspell_memory import ConfigError, HNSWConfig
from llmspell_memory.index import ExactIndex, HNSWIndex
from llmspell_memory.testing.indexes import METRICS, gaussian

if TYPE_CHECKING:
    from llmspell_memory.types import Matrix, Metric, Vector


def graph_search(index: HNSWIndex, query: Vector, k: int, ef: int) -> list[int]:
    """Search through the graph even where a scan would be cheaper."""
    found = index.core.search(np.asarray(query, np.float32), k, ef, None, "graph")
    assert found is not None
    labels: list[int] = found[0].tolist()
    return labels


operations = st.lists(
    st.tuples(st.sampled_from(["add", "add", "add", "remove"]), st.integers(0, 60), st.integers(0, 25)), max_size=250
)


@settings(max_examples=150, deadline=None)
@given(steps=operations, m=st.sampled_from([2, 3, 8]), metric=st.sampled_from(METRICS))
def test_every_live_point_stays_reachable(steps: list[tuple[str, int, int]], m: int, metric: Metric) -> None:
    """After any adds, replacements (many of them equal vectors) and deletes the graph is whole and reaches all."""
    points = gaussian(26, 5)
    index = HNSWIndex(dimensions=5, metric=metric, config=HNSWConfig(m=m, ef_construction=4))
    live = set()
    for verb, label, point in steps:
        if verb == "add":
            index.add(np.array([label]), points[point : point + 1])
            live.add(label)
        else:
            index.remove(np.array([label]))
            live.discard(label)
    assert index.check() == ""
    assert len(index) == len(live)
    assert set(graph_search(index, points[0], len(live), max(1, len(live)))) == live


def star(count: int, dimensions: int) -> tuple[Vector, Matrix]:
    """Return a centre of length 1 and `count` points on a sphere of radius 0.5 around it."""
    centre = gaussian(1, dimensions, seed=5)[0]
    rays = gaussian(count, dimensions)
    rays *= np.float32(0.5) / np.linalg.norm(rays, axis=1, keepdims=True)
    unit: Vector = (centre / np.linalg.norm(centre)).astype(np.float32)
    return unit, unit + rays


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("order", ["first", "interleaved"])
@pytest.mark.parametrize("copies", [0, 30, 1000])
def test_a_crowd_of_equal_vectors_hides_no_neighbour(metric: Metric, order: str, copies: int) -> None:
    """Around a vector that was added a thousand times every point is found by its own vector, as without the crowd."""
    centre, points = star(4000, 64)
    vectors = np.concatenate([np.tile(centre, (copies, 1)), points])
    index = HNSWIndex(dimensions=64, metric=metric)
    sequence = np.arange(len(vectors))
    if order == "interleaved":
        sequence = np.random.default_rng(1).permutation(len(vectors))
    index.add(sequence, vectors[sequence])
    missed = sum(graph_search(index, point, 1, 50) != [copies + row] for row, point in enumerate(points))
    assert missed < 0.01 * len(points)
    assert graph_search(index, centre, copies, 50) == list(range(copies))
    assert index.check() == ""


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("route", ["graph", "scan", "cheapest"])
def test_a_filter_admits_some_of_equal_vectors(metric: Metric, route: Literal["graph", "scan", "cheapest"]) -> None:
    """Of labels that share a vector only those in the filter come back, each once, in order, and k of them."""
    points = gaussian(40, 8)
    index = HNSWIndex(dimensions=8, metric=metric, config=HNSWConfig(m=4, ef_construction=20))
    index.add(np.arange(200), points[np.arange(200) % 40])  # 40 vectors of 5 labels each
    index.add(np.arange(200, 230), gaussian(30, 8, seed=9))
    exact = ExactIndex(dimensions=8, metric=metric)
    exact.add(np.arange(230), np.concatenate([points[np.arange(200) % 40], gaussian(30, 8, seed=9)]))
    chance = np.random.default_rng(2)
    for query in points[:10]:
        among = chance.permutation(230)[:60]
        repeated = chance.permutation(np.concatenate([among, among, [999]]))
        for k in (1, 3, 20, 60, 100):
            labels, scores = index.core.search(query, k, 60, repeated, route) or pytest.fail("not understood")
            expected, their_scores = exact.search(query, k, among=among)
            assert labels.tolist() == expected.tolist()
            np.testing.assert_allclose(scores, their_scores, rtol=1e-4, atol=1e-4)


def test_copies_leave_one_by_one() -> None:
    """Each removed copy is gone at once and the others stay, until with the last of them the vector is gone too."""
    points = gaussian(100, 8)
    index = HNSWIndex(dimensions=8)
    index.add(np.arange(100), points)
    index.add(np.arange(100, 120), np.tile(points[:1], (20, 1)))
    left = [0, *range(100, 120)]
    for label in np.random.default_rng(3).permutation(left).tolist():
        index.remove(np.array([label]))
        left.remove(label)
        assert index.check() == ""
        assert graph_search(index, points[0], 21, 200)[: len(left)] == left
    assert len(index) == 99
    assert index.search(points[0], 1)[1][0] < 0.99


def test_replacements_into_and_out_of_a_crowd() -> None:
    """A label that gets the vector of others joins them, and one that gets its own leaves; what is unchanged stays."""
    points = gaussian(60, 8)
    index = HNSWIndex(dimensions=8, config=HNSWConfig(m=2, ef_construction=4))
    index.add(np.arange(50), points[:50])
    for label in range(1, 50):
        index.add(np.array([label]), points[:1])
        assert (len(index), index.check()) == (50, "")
    assert index.search(points[0], 50)[0].tolist() == list(range(50))
    assert index.search(points[0], 50)[1].tolist() == pytest.approx([1] * 50)
    for label in range(10):
        index.add(np.array([label]), points[50 + label : 51 + label])
        assert index.check() == ""
        assert graph_search(index, points[50 + label], 1, 60) == [label]
    assert index.search(points[0], 40)[0].tolist() == list(range(10, 50))
    index.add(np.arange(10), points[50:])
    assert (len(index), index.check()) == (50, "")


def test_equal_vectors_take_one_node() -> None:
    """A thousand copies take the memory of their labels and not that of a thousand nodes."""
    index = HNSWIndex(dimensions=384)
    index.add(np.arange(1000), gaussian(1000, 384))
    before = index.stats().memory_bytes
    index.add(np.arange(1000, 2000), np.tile(gaussian(1, 384), (1000, 1)))
    assert index.stats().memory_bytes - before < 100_000


@pytest.mark.parametrize("dimensions", [2, 384, 65_536])
def test_a_small_index_takes_little_memory(dimensions: int) -> None:
    """Memory is taken some megabyte at a time, however wide the vectors."""
    index = HNSWIndex(dimensions=dimensions)
    vectors = gaussian(9, dimensions)
    index.add(np.arange(9), vectors)
    assert index.stats().memory_bytes < 9 * 4 * dimensions + 3_000_000
    assert [index.search(one, 1)[0].tolist() for one in vectors] == [[label] for label in range(9)]


@pytest.mark.parametrize("m", [2, 16])
def test_a_large_graph_stays_whole(m: int) -> None:
    """Thousands of adds and deletes in ten cycles leave every invariant in place, and slots are reused."""
    vectors = gaussian(4000, 24)
    index = HNSWIndex(dimensions=24, config=HNSWConfig(m=m, ef_construction=40))
    index.add(np.arange(4000), vectors)
    size = index.stats().memory_bytes
    chance = np.random.default_rng(1)
    for _ in range(10):
        some = chance.permutation(4000)[:800]
        index.remove(some)
        assert index.check() == ""
        index.add(some, vectors[some])
    assert index.check() == ""
    assert len(index) == 4000
    assert index.stats().memory_bytes <= size * 1.05
    assert sorted(graph_search(index, vectors[0], 4000, 4000)) == list(range(4000))


def test_removing_everything_leaves_a_usable_index() -> None:
    """An index emptied one by one, entry point and all, takes new vectors as a fresh one does."""
    vectors = gaussian(500, 8)
    index = HNSWIndex(dimensions=8)
    index.add(np.arange(500), vectors)
    for label in range(500):
        index.remove(np.array([label]))
    assert (len(index), index.check()) == (0, "")
    assert index.search(vectors[0], 3)[0].tolist() == []
    index.add(np.array([7]), vectors[7:8])
    assert index.search(vectors[7], 3)[0].tolist() == [7]


def test_the_same_seed_gives_the_same_graph() -> None:
    """Seed and order decide everything: two builds answer alike to the bit, another seed builds another graph."""
    vectors, queries = gaussian(3000, 32), gaussian(50, 32, seed=8)

    def answers(seed: int) -> list[list[int]]:
        index = HNSWIndex(dimensions=32, config=HNSWConfig(m=4, ef_construction=10, seed=seed))
        index.add(np.arange(3000), vectors)
        return [graph_search(index, query, 10, 10) for query in queries]

    assert answers(1) == answers(1)
    assert answers(1) != answers(2)


def test_ef_search_holds_from_the_next_search_on() -> None:
    """A wider search finds more; it can be set for the index or for one call."""
    vectors, queries = gaussian(6000, 48), gaussian(100, 48, seed=8)
    index = HNSWIndex(dimensions=48, config=HNSWConfig(m=4, ef_construction=20, ef_search=10))
    index.add(np.arange(6000), vectors)
    exact = ExactIndex(dimensions=48)
    exact.add(np.arange(6000), vectors)

    def recall(ef: int | None = None) -> float:
        found = [set(index.search(query, 10, ef_search=ef)[0].tolist()) for query in queries]
        truth = [set(exact.search(query, 10)[0].tolist()) for query in queries]
        return sum(len(one & other) for one, other in zip(found, truth, strict=True)) / 1000

    narrow, wide = recall(), recall(200)
    assert narrow + 0.1 < wide
    assert recall() == narrow
    index.ef_search = 200
    assert index.config.ef_search == 200
    assert recall() == wide


@pytest.mark.parametrize(
    ("settings_", "named"),
    [
        ({"m": 1}, r"m must be an integer in 2\.\.256, got 1"),
        ({"m": 257}, r"2\.\.256"),
        ({"m": 16.0}, "m must be an integer"),
        ({"ef_construction": 0}, r"ef_construction must be an integer in 1\.\."),
        ({"ef_search": 0}, r"ef_search must be an integer in 1\.\."),
        ({"ef_search": True}, "ef_search"),
        ({"seed": -1}, "seed"),
        ({"dtype": "float64"}, 'dtype must be "float32" or "float16"'),
    ],
)
def test_parameters_out_of_range_are_refused(settings_: dict[str, Any], named: str) -> None:
    """A ConfigError names the parameter, its range and what was given."""
    with pytest.raises(ConfigError, match=named):
        HNSWConfig(**settings_)
    if "ef_search" in settings_:
        with pytest.raises(ConfigError, match=named):
            HNSWIndex(dimensions=2).search(np.ones(2), 1, **settings_)


def test_presets_are_those_of_the_guide() -> None:
    """Balanced 16/200/50, high recall 32/400/100, fast 8/100/30."""
    presets = [HNSWConfig.balanced(), HNSWConfig.high_recall(), HNSWConfig.fast()]
    assert [(one.m, one.ef_construction, one.ef_search) for one in presets] == [
        (16, 200, 50),
        (32, 400, 100),
        (8, 100, 30),
    ]


def test_searches_go_on_while_another_thread_writes() -> None:
    """Readers beside a writer that adds, replaces and removes always get whole results of live labels."""
    vectors = gaussian(3000, 32)
    index = HNSWIndex(dimensions=32, config=HNSWConfig(m=6, ef_construction=20, ef_search=20))
    index.add(np.arange(1000), vectors[:1000])
    exact = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    faults: list[str] = []
    done = threading.Event()

    def read(seed: int) -> None:
        chance = np.random.default_rng(seed)
        while not done.is_set():
            row = int(chance.integers(3000))
            among = np.arange(500) if row % 3 == 0 else None  # never removed
            labels, scores = index.search(vectors[row], 10, among=among)
            if len(labels) != 10 or len(set(labels.tolist())) != 10:
                faults.append(f"{len(labels)} labels: {labels}")
            if not np.allclose(scores, exact[labels] @ exact[row], atol=1e-4):
                faults.append("a score that is not its label's")

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(2)]
    for reader in readers:
        reader.start()
    chance = np.random.default_rng(5)
    for start in range(1000, 3000, 50):
        index.add(np.arange(start, start + 50), vectors[start : start + 50])
        index.add(np.arange(0, 50), vectors[:50])
        index.remove(chance.integers(500, start, 20))
    done.set()
    for reader in readers:
        reader.join()
    assert faults == []
    assert index.check() == ""


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_exact_search_is_that_of_the_exact_index(dtype: Literal["float32", "float16"]) -> None:
    """With `exact` the graph is left aside: the answer has the labels and scores of an exact index, filtered or not."""
    vectors = gaussian(4000, 48).astype(np.float16).astype(np.float32)
    index = HNSWIndex(dimensions=48, metric="inner_product", config=HNSWConfig(m=2, ef_search=1, dtype=dtype))
    judge = ExactIndex(dimensions=48, metric="inner_product")
    for one in (index, judge):
        one.add(np.arange(4000), vectors)
    some = np.arange(0, 4000, 3)
    approximate = 0
    for query in gaussian(40, 48, seed=9):
        for among in (None, some):
            labels, scores = index.search(query, 10, among=among, exact=True)
            wanted, best = judge.search(query, 10, among=among)
            assert labels.tolist() == wanted.tolist()
            np.testing.assert_allclose(scores, best, rtol=1e-5)
        approximate += index.search(query, 10)[0].tolist() != judge.search(query, 10)[0].tolist()
    assert approximate, "the graph finds everything, so nothing was shown"
