"""A LlamaIndex embedding model as a provider of this library's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.embeddings.checks import as_matrix
from llmspell_memory.types import EmbeddingSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_index.core.base.embeddings.base import BaseEmbedding

    from llmspell_memory.protocols import EmbeddingKind
    from llmspell_memory.types import Matrix


class LlamaIndexEmbeddings:
    """Embeds by any LlamaIndex `BaseEmbedding`: documents as documents, queries as queries, awaited where awaited.

    Args:
        embed_model: who embeds. Its class's name and its `model_name` become part of the embedding space.
        dimensions: width of its vectors; when None, one short text is embedded to find out.

    Raises:
        ConfigError: `dimensions` is out of range.
    """

    def __init__(self, embed_model: BaseEmbedding, dimensions: int | None = None) -> None:
        self.embed_model = embed_model
        self.name = type(embed_model).__name__
        self.model = None if embed_model.model_name in ("", "unknown") else embed_model.model_name
        width = len(embed_model.get_query_embedding("dimensions")) if dimensions is None else dimensions
        self.dimensions = EmbeddingSpace(provider=self.name, model=self.model, dimensions=width).dimensions

    def __repr__(self) -> str:
        return f"LlamaIndexEmbeddings({self.name}, {self.dimensions})"

    def embed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Return one row per text, in order."""
        if kind == "query":
            rows = [self.embed_model.get_query_embedding(text) for text in texts]
        else:
            rows = self.embed_model.get_text_embedding_batch(list(texts))
        return as_matrix(rows, provider=self.name)

    async def aembed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Do what `embed` does, without blocking the event loop."""
        if kind == "query":
            rows = [await self.embed_model.aget_query_embedding(text) for text in texts]
        else:
            rows = await self.embed_model.aget_text_embedding_batch(list(texts))
        return as_matrix(rows, provider=self.name)
