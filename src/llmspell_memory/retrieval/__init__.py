"""What is made of the hits that a backend finds: a finer ranking, and contexts to put before a language model."""

from llmspell_memory.retrieval.consolidation import Consolidation
from llmspell_memory.retrieval.context import Context, TokenCounter, most_tokens
from llmspell_memory.retrieval.ranking import Ranking
from llmspell_memory.retrieval.rerankers import CallableReranker, CrossEncoderReranker
from llmspell_memory.retrieval.times import NamedTimes

__all__ = [
    "CallableReranker",
    "Consolidation",
    "Context",
    "CrossEncoderReranker",
    "NamedTimes",
    "Ranking",
    "TokenCounter",
    "most_tokens",
]
