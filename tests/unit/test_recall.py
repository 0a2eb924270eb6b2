"""Recall of HNSW against the exact index, at 10,000 real sentences.

The sentences are those of Python's own documentation strings, embedded by the local provider. Where the environment
variable LLMSPELL_TEST_VECTORS names a .npy file of vectors, the same is measured on its first 10,000 as well.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmspell_memory.embeddings import EmbeddingService, LocalProvider
from llmspell_memory.index import ExactIndex, HNSWIndex
from llmspell_memory.types import HNSWConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmspell_memory.types import Matrix

COUNT, QUERIES, K = 10_000, 300, 10
GIVEN = os.environ.get("LLMSPELL_TEST_VECTORS")


def sentences() -> Iterator[str]:
    """Yield distinct sentences from the documentation strings of the standard library and of numpy."""
    seen: set[str] = set()
    for path in (*Path(os.__file__).parent.rglob("*.py"), *Path(np.__file__).parent.rglob("*.py")):
        if "site-packages" in path.relative_to(Path(path.anchor)).parts and "numpy" not in path.parts:
            continue
        for block in re.findall(r'"""(.*?)"""', path.read_text(encoding="utf-8", errors="replace"), flags=re.DOTALL):
            for raw in re.split(r"(?<=[.!?])\s+|\n\s*\n", block):
                sentence = " ".join(raw.split())
                if 30 <= len(sentence) <= 300 and sentence not in seen:
                    seen.add(sentence)
                    yield sentence


def own_vectors() -> Matrix:
    texts = sorted(sentences())
    chosen = np.random.default_rng(0).permutation(len(texts))[: COUNT + QUERIES]
    assert len(chosen) == COUNT + QUERIES, f"only {len(texts)} sentences found"
    return EmbeddingService(LocalProvider(), cache=None).embed([texts[row] for row in chosen])


def given_vectors() -> Matrix:
    rows: Matrix = np.load(str(GIVEN), mmap_mode="r")[: COUNT + QUERIES].astype(np.float32)
    return rows


@pytest.fixture(scope="module", params=[own_vectors] + ([given_vectors] if GIVEN else []))
def data(request: pytest.FixtureRequest) -> tuple[Matrix, Matrix]:
    vectors = request.param()
    return vectors[:COUNT], vectors[COUNT:]


def recall(index: HNSWIndex, exact: ExactIndex, queries: Matrix) -> float:
    found = [set(index.search(query, K)[0].tolist()) for query in queries]
    truth = [set(exact.search(query, K)[0].tolist()) for query in queries]
    return sum(len(one & other) for one, other in zip(found, truth, strict=True)) / (K * len(queries))


def built(vectors: Matrix, config: HNSWConfig) -> HNSWIndex:
    index = HNSWIndex(dimensions=vectors.shape[1], config=config)
    index.add(np.arange(len(vectors)), vectors)
    return index


@pytest.fixture(scope="module")
def indexes(data: tuple[Matrix, Matrix]) -> tuple[HNSWIndex, ExactIndex]:
    exact = ExactIndex(dimensions=data[0].shape[1])
    exact.add(np.arange(COUNT), data[0])
    return built(data[0], HNSWConfig()), exact


def test_recall_at_the_defaults(data: tuple[Matrix, Matrix]) -> None:
    """At least .95 at the defaults, and still after half was deleted and a fifth added again."""
    vectors, queries = data
    exact = ExactIndex(dimensions=vectors.shape[1])
    exact.add(np.arange(COUNT), vectors)
    index = built(vectors, HNSWConfig())
    figures = [recall(index, exact, queries)]
    gone = np.random.default_rng(1).permutation(COUNT)[: COUNT // 2]
    for one in (index, exact):
        one.remove(gone)
    figures.append(recall(index, exact, queries))
    back = gone[: COUNT // 5]
    for one in (index, exact):
        one.add(back, vectors[back])
    figures.append(recall(index, exact, queries))
    assert index.check() == ""
    assert min(figures) >= 0.95, figures


def test_presets_are_ordered_by_recall(data: tuple[Matrix, Matrix], indexes: tuple[HNSWIndex, ExactIndex]) -> None:
    """High recall finds at least as much as balanced, and balanced as fast; each through the graph, not by scanning."""
    vectors, queries = data
    _, exact = indexes
    figures = [
        recall(built(vectors, config), exact, queries)
        for config in (HNSWConfig.high_recall(), HNSWConfig.balanced(), HNSWConfig.fast())
    ]
    assert figures == sorted(figures, reverse=True), figures
    assert figures[-1] > 0.8, figures


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02, 0.01, 0.001])
@pytest.mark.parametrize("correlated", [False, True], ids=["random", "far-from-the-query"])
def test_recall_under_filters(
    data: tuple[Matrix, Matrix],
    indexes: tuple[HNSWIndex, ExactIndex],
    share: float,
    correlated: bool,
) -> None:
    """Always k hits and recall of at least .95, for random filters and for those far from the query."""
    vectors, queries = data
    index, exact = indexes
    hits = 0
    for number, query in enumerate(queries[:40]):
        order = np.argsort(vectors @ query) if correlated else np.random.default_rng(number).permutation(COUNT)
        among = order[: int(COUNT * share)]
        found = index.search(query, K, among=among)[0]
        assert len(found) == K
        hits += len(set(found.tolist()) & set(exact.search(query, K, among=among)[0].tolist()))
    assert hits / (K * 40) >= 0.95
