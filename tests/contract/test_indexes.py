"""Both indexes keep the one contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory import HNSWConfig
from llmspell_memory.index import ExactIndex, HNSWIndex
from llmspell_memory.testing import IndexContract

if TYPE_CHECKING:
    from llmspell_memory.protocols import VectorIndex
    from llmspell_memory.types import Metric


class TestExactIndex(IndexContract):
    def make(self, *, dimensions: int, metric: Metric = "cosine") -> VectorIndex:
        return ExactIndex(dimensions=dimensions, metric=metric)


class TestHNSWIndex(IndexContract):
    exact_up_to = 600
    recall = 0.95

    def make(self, *, dimensions: int, metric: Metric = "cosine") -> VectorIndex:
        return HNSWIndex(dimensions=dimensions, metric=metric)


class TestHNSWIndexThatWalks(IndexContract):
    """So narrow a search pays from 96 vectors on: beyond, it is the graph that answers, and not a scan."""

    exact_up_to = 96
    recall = 0.3

    def make(self, *, dimensions: int, metric: Metric = "cosine") -> VectorIndex:
        return HNSWIndex(dimensions=dimensions, metric=metric, config=HNSWConfig(m=4, ef_construction=40, ef_search=8))
