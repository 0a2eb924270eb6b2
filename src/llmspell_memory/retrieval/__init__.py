"""What is made of the hits that a backend finds: a finer ranking, and contexts to put before a language model."""

from llmspell_memory.retrieval.consolidation import Consolidation
from llmspell_memory.retrieval.context import Context, TokenCounter, most_tokens
from llmspell_memory.retrieval.ranking import Ranking

__all__ = ["Consolidation", "Context", "Ranking", "TokenCounter", "most_tokens"]
