"""Indexes by a row's number: of vectors, exact and HNSW; of words; of who spoke when. Derived; they know no entries."""

from llmspell_memory.index.analysis import Analyzer
from llmspell_memory.index.blend import blend
from llmspell_memory.index.exact import ExactIndex
from llmspell_memory.index.function_words import worth
from llmspell_memory.index.hnsw import HNSWIndex, check_storable
from llmspell_memory.index.keyword import KeywordIndex
from llmspell_memory.index.labels import LabelSet
from llmspell_memory.index.turns import Turn, TurnTable

__all__ = [
    "Analyzer",
    "ExactIndex",
    "HNSWIndex",
    "KeywordIndex",
    "LabelSet",
    "Turn",
    "TurnTable",
    "blend",
    "check_storable",
    "worth",
]
