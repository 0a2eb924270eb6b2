"""Embeddings as LangChain and LangGraph take them, made into a service of this library's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from langchain_core.embeddings import Embeddings

from llmspell_memory.embeddings import CallableProvider, EmbeddingService
from llmspell_memory.embeddings.checks import as_matrix
from llmspell_memory.errors import ConfigError
from llmspell_memory.protocols import EmbeddingProvider
from llmspell_memory.types import EmbeddingSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmspell_memory.protocols import EmbeddingKind
    from llmspell_memory.types import Matrix


class LangChainEmbeddings:
    """Embeds by any LangChain `Embeddings`: documents as documents, queries as queries, awaited where it is awaited.

    Args:
        embeddings: who embeds. Its class's name, and its `model` or `model_name`, become part of the embedding space.
        dimensions: width of its vectors; when None, one short text is embedded to find out.

    Raises:
        ConfigError: `dimensions` is out of range.
    """

    def __init__(self, embeddings: Embeddings, dimensions: int | None = None) -> None:
        self.embeddings = embeddings
        self.name = type(embeddings).__name__
        self.model = _model(embeddings)
        width = len(embeddings.embed_query("dimensions")) if dimensions is None else dimensions
        self.dimensions = EmbeddingSpace(provider=self.name, model=self.model, dimensions=width).dimensions

    def __repr__(self) -> str:
        return f"LangChainEmbeddings({self.name}, {self.dimensions})"

    def embed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Return one row per text, in order."""
        if kind == "query":
            rows = [self.embeddings.embed_query(text) for text in texts]
        else:
            rows = self.embeddings.embed_documents(list(texts))
        return as_matrix(rows, provider=self.name)

    async def aembed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Do what `embed` does, without blocking the event loop."""
        if kind == "query":
            rows = list(await asyncio.gather(*[self.embeddings.aembed_query(text) for text in texts]))
        else:
            rows = await self.embeddings.aembed_documents(list(texts))
        return as_matrix(rows, provider=self.name)


def embedding_service(embed: Any, dimensions: int | None = None) -> EmbeddingService:
    """Return a service that embeds by `embed`.

    Args:
        embed: an `EmbeddingService`, a provider of this library, a LangChain `Embeddings`, or a function, async or not,
            that takes a list of texts and returns a vector for each.
        dimensions: width of its vectors; needed for a function.

    Raises:
        ConfigError: it is nothing of that kind, or its vectors are known to have another width.
    """
    if isinstance(embed, EmbeddingService):
        service = embed
    elif isinstance(embed, Embeddings):
        service = EmbeddingService(LangChainEmbeddings(embed, dimensions))
    elif isinstance(embed, EmbeddingProvider):
        service = EmbeddingService(embed)
    elif not callable(embed) or isinstance(embed, type):
        raise ConfigError(
            f"embed must be an EmbeddingService, a provider, a LangChain Embeddings or a function, got {embed!r}"
        )
    elif dimensions is None:
        raise ConfigError("the width of a function's vectors must be said: dims, or dimensions=")
    else:
        service = EmbeddingService(CallableProvider(embed, dimensions))
    if dimensions is not None and service.dimensions != dimensions:
        raise ConfigError(f"{dimensions} dimensions are asked for, but {service} makes {service.dimensions}")
    return service


def _model(embeddings: Embeddings) -> str | None:
    for name in ("model", "model_name"):
        if isinstance(model := getattr(embeddings, name, None), str) and model:
            return model
    return None
