"""From options, or from the space that a store records, to an embedding provider."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NoReturn

from llmspell_memory.cli.settings import ProviderName
from llmspell_memory.embeddings import (
    HashingProvider,
    LocalProvider,
    OllamaProvider,
    OpenAIProvider,
    SentenceTransformersProvider,
)
from llmspell_memory.errors import ConfigError, EpisodicError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmspell_memory.cli.settings import Settings
    from llmspell_memory.protocols import EmbeddingKind, EmbeddingProvider
    from llmspell_memory.types import EmbeddingSpace

_RECORDED_AS: Final = {
    ProviderName.LOCAL: "wordllama",
    ProviderName.HASHING: "hashing",
    ProviderName.OPENAI: "openai",
    ProviderName.OLLAMA: "ollama",
    ProviderName.SENTENCE_TRANSFORMERS: "sentence-transformers",
}
_CLASSES: Final[dict[ProviderName, Callable[..., Any]]] = {
    ProviderName.LOCAL: LocalProvider,
    ProviderName.HASHING: HashingProvider,
    ProviderName.OPENAI: OpenAIProvider,
    ProviderName.OLLAMA: OllamaProvider,
    ProviderName.SENTENCE_TRANSFORMERS: SentenceTransformersProvider,
}
_TAKES: Final = {
    ProviderName.LOCAL: frozenset[str](),
    ProviderName.HASHING: frozenset({"dimensions"}),
    ProviderName.OPENAI: frozenset({"model", "dimensions", "base_url"}),
    ProviderName.OLLAMA: frozenset({"model", "dimensions", "base_url"}),
    ProviderName.SENTENCE_TRANSFORMERS: frozenset({"model"}),
}


class NoProvider:
    """Stands in a provider's place where none could be made or none is needed.

    Args:
        space: whose vectors the memory holds.
        reason: raised when something is to be embedded after all.
    """

    def __init__(self, space: EmbeddingSpace, reason: EpisodicError) -> None:
        self.name, self.model, self.dimensions = space.provider, space.model, space.dimensions
        self._reason = reason

    def embed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> NoReturn:
        """Raise what kept the provider from being made."""
        del texts, kind
        raise self._reason


def provider_for_new(settings: Settings) -> EmbeddingProvider:
    """Return the provider that the options ask for; the local one where they do not say.

    Raises:
        ConfigError: an option is missing, or does not belong to the provider.
        MissingDependencyError: the provider's extra is not installed.
    """
    name = settings.provider or ProviderName.LOCAL
    given = {"model": settings.model, "dimensions": settings.dimensions, "base_url": settings.base_url}
    options = {key: value for key, value in given.items() if value is not None}
    if wrong := sorted(options.keys() - _TAKES[name]):
        raise ConfigError(f"--{wrong[0].replace('_', '-')} has no meaning for the provider {name}; leave it out")
    return _made(name, options)


def provider_for(space: EmbeddingSpace, settings: Settings) -> EmbeddingProvider:
    """Return the provider that a store's vectors were made by; the options may say where its server is.

    Raises:
        SchemaError: the options ask for another one than the store records.
        ConfigError: the command line cannot make that provider.
        MissingDependencyError: its extra is not installed.
    """
    _check_agreement(space, settings)
    name = next((name for name, recorded in _RECORDED_AS.items() if recorded == space.provider), None)
    if name is None:
        raise ConfigError(
            f"the store holds vectors of {space}, a provider that the command line cannot make; commands that embed "
            "nothing work, the others from Python"
        )
    known = {"model": space.model, "dimensions": space.dimensions, "base_url": settings.base_url}
    options = {key: value for key, value in known.items() if value is not None and key in _TAKES[name]}
    provider = _made(name, options)
    if (provider.name, provider.model, provider.dimensions) != (space.provider, space.model, space.dimensions):
        raise SchemaError(
            f"the store holds vectors of {space}; the provider {name} now makes {provider.model} of "
            f"{provider.dimensions} dimensions"
        )
    return provider


def _check_agreement(space: EmbeddingSpace, settings: Settings) -> None:
    wanted = {
        "--provider": (settings.provider and _RECORDED_AS[settings.provider], space.provider),
        "--model": (settings.model, space.model),
        "--dimensions": (settings.dimensions, space.dimensions),
    }
    for option, (asked, recorded) in wanted.items():
        if asked is not None and asked != recorded:
            raise SchemaError(
                f"{settings.db} holds vectors of {space}; {option} asks for others, and the two cannot be compared. "
                f"Leave {option} out, or name another store with --db"
            )


def _made(name: ProviderName, options: dict[str, Any]) -> EmbeddingProvider:
    if name is ProviderName.OPENAI:
        key = os.environ.get("OPENAI_API_KEY")
        if not key and "base_url" not in options:
            raise ConfigError("OPENAI_API_KEY is not set; set it, or name a server that needs no key by --base-url")
        options = options | {"api_key": key or None}
    provider: EmbeddingProvider = _CLASSES[name](**options)
    return provider
