"""Indexes by a row's number: of vectors, exact and HNSW, and of what the rows are. Derived; they know nothing of files."""

from llmspell_memory.index.exact import ExactIndex
from llmspell_memory.index.hnsw import HNSWIndex, check_storable
from llmspell_memory.index.labels import LabelSet
from llmspell_memory.index.turns import Turn, TurnTable

__all__ = ["ExactIndex", "HNSWIndex", "LabelSet", "Turn", "TurnTable", "check_storable"]
