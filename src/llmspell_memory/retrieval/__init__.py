"""What is made of the hits that a backend finds: a finer ranking, and contexts to put before a language model."""

from llmspell_memory.retrieval.ranking import Ranking

__all__ = ["Ranking"]
