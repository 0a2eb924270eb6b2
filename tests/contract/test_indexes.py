"""Both indexes keep the one contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.index import ExactIndex, HNSWIndex
from llmspell_memory.testing import IndexContract

if TYPE_CHECKING:
    from llmspell_memory.protocols import VectorIndex
    from llmspell_memory.types import Metric


class TestExactIndex(IndexContract):
    def make(self, *, dimensions: int, metric: Metric = "cosine") -> VectorIndex:
        return ExactIndex(dimensions=dimensions, metric=metric)


class TestHNSWIndex(IndexContract):
    def make(self, *, dimensions: int, metric: Metric = "cosine") -> VectorIndex:
        return HNSWIndex(dimensions=dimensions, metric=metric)
