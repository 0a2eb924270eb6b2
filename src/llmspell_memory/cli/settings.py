"""What was said about the store: which one, and who embeds in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from llmspell_memory.types import KeywordConfig

if TYPE_CHECKING:
    from llmspell_memory.cli.stores import Store


class ProviderName(StrEnum):
    """Embedding providers that the command line can make."""

    LOCAL = "local"
    HASHING = "hashing"
    OPENAI = "openai"
    OLLAMA = "ollama"
    SENTENCE_TRANSFORMERS = "sentence-transformers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of the store; None where one was not given.

    Attributes:
        db: the store.
        db_named: whether it was named in the command itself, rather than by the environment or not at all.
        provider: who embeds.
        model: its model.
        base_url: where its server is.
        dimensions: width of its vectors.
        language: whose stemmer makes words comparable; "none" for no stemmer.
    """

    db: Store
    db_named: bool = False
    provider: ProviderName | None = None
    model: str | None = None
    base_url: str | None = None
    dimensions: int | None = None
    language: str | None = None

    @property
    def keywords(self) -> KeywordConfig | None:
        """How words are told apart; None for as the store records."""
        if self.language is None:
            return None
        return KeywordConfig(language=None if self.language == "none" else self.language)
