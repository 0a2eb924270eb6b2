"""Indexes over vectors known by a number: exact, and HNSW. Derived data; they know nothing of entries or files."""

from llmspell_memory.index.exact import ExactIndex
from llmspell_memory.index.hnsw import HNSWIndex, check_storable
from llmspell_memory.index.labels import LabelSet

__all__ = ["ExactIndex", "HNSWIndex", "LabelSet", "check_storable"]
