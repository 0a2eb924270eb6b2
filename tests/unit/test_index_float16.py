"""Vectors kept as float16: half the memory, and nearly the same answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmspell_memory import HNSWConfig
from llmspell_memory.index import ExactIndex, HNSWIndex
from llmspell_memory.testing.indexes import METRICS, gaussian, oracle_scores

if TYPE_CHECKING:
    from llmspell_memory._core import DType
    from llmspell_memory.types import Matrix, Metric

COUNT, WIDTH = 3000, 384
HALVES = HNSWConfig(m=8, ef_construction=40, ef_search=100, dtype="float16")


def sentences(count: int, *, seed: int) -> Matrix:
    """Return vectors of length 1 that crowd together by topic, as embeddings of sentences do."""
    chance = np.random.default_rng(seed)
    topics = gaussian(60, WIDTH, seed=99)
    rows = topics[chance.integers(0, 60, count)] + 0.7 * gaussian(count, WIDTH, seed=seed)
    unit: Matrix = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.mark.parametrize("metric", METRICS)
def test_a_scan_finds_nearly_all(metric: Metric) -> None:
    """Of the true best ten at least 99 % are found, each with its score to within 2e-3."""
    vectors, queries = sentences(COUNT, seed=7), sentences(100, seed=8)
    exact = ExactIndex(dimensions=WIDTH, metric=metric)
    index = HNSWIndex(dimensions=WIDTH, metric=metric, config=HNSWConfig(m=2, ef_construction=2, dtype="float16"))
    exact.add(np.arange(COUNT), vectors)
    index.add(np.arange(COUNT), vectors)
    hits = 0
    for query in queries:
        found = index.core.search(query, 10, 10, None, "scan")
        assert found is not None
        labels, scores = found
        hits += int(np.isin(labels, exact.search(query, 10)[0]).sum())
        truth = oracle_scores(vectors[labels], query, metric)
        np.testing.assert_allclose(scores, truth, rtol=0, atol=2e-3)
    assert hits >= 0.99 * 1000


def test_a_walk_finds_as_much_as_with_float32() -> None:
    """The graph is no worse for the rounding: recall differs by less than .01."""
    vectors, queries = sentences(COUNT, seed=7), sentences(200, seed=8)
    exact = ExactIndex(dimensions=WIDTH)
    exact.add(np.arange(COUNT), vectors)
    truth = exact.search_many(queries, 10)[0]
    recall = []
    for config in (HALVES, HNSWConfig(m=8, ef_construction=40, ef_search=100)):
        index = HNSWIndex(dimensions=WIDTH, config=config)
        index.add(np.arange(COUNT), vectors, threads=2)
        assert index.check() == ""
        found = [index.core.search(query, 10, 100, None, "graph") for query in queries]
        hits = sum(int(np.isin(one[0], own).sum()) for one, own in zip(found, truth, strict=True) if one is not None)
        recall.append(hits / truth.size)
    assert min(recall) > 0.9
    assert abs(recall[0] - recall[1]) < 0.01


@pytest.mark.parametrize("metric", METRICS)
def test_it_takes_half_the_memory_of_vectors(metric: Metric) -> None:
    """Two bytes a dimension are saved, and nothing else changes."""
    vectors = gaussian(2048, WIDTH)
    taken: list[int] = []
    dtypes: tuple[DType, ...] = ("float32", "float16")
    for dtype in dtypes:
        config = HNSWConfig(m=2, ef_construction=2, dtype=dtype)
        index = HNSWIndex(dimensions=WIDTH, metric=metric, config=config)
        index.add(np.arange(2048), vectors)
        taken.append(index.stats().memory_bytes)
    saved = taken[0] - taken[1]
    assert saved == pytest.approx(2048 * WIDTH * 2, rel=0.2)  # memory comes in pieces of 256 KB


def test_what_is_equal_as_float16_is_one_vector() -> None:
    """Vectors that round to the same float16 share one node, and come by label with one score."""
    rows = gaussian(50, WIDTH)
    index = HNSWIndex(dimensions=WIDTH, metric="inner_product", config=HALVES)
    index.add(np.arange(50), rows)
    size = index.stats().memory_bytes
    rounded = rows.astype(np.float16).astype(np.float32)
    index.add(np.arange(50, 100), rounded)
    assert index.stats().memory_bytes - size < 50 * 200
    labels, scores = index.search(rows[4], 2)
    assert labels.tolist() == [4, 54]
    assert scores[0] == scores[1] == pytest.approx(rounded[4] @ rows[4], rel=1e-5)
