"""LangChain's `VectorStore` over an episodic memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import numpy as np
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from llmspell_memory.adapters.awaiting import embed_ahead
from llmspell_memory.adapters.embeddings import LangChainEmbeddings, embedding_service
from llmspell_memory.adapters.filters import DocumentFilter
from llmspell_memory.adapters.finding import best
from llmspell_memory.adapters.opened import memory_of
from llmspell_memory.config import MemoryConfig
from llmspell_memory.errors import InputError
from llmspell_memory.manager import DefaultMemoryManager
from llmspell_memory.types import EpisodicEntry, Filter, new_id
from llmspell_memory.types.arrays import checked_k

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from langchain_core.embeddings import Embeddings
    from numpy.typing import ArrayLike

    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.memory import EpisodicMemory
    from llmspell_memory.protocols import EmbeddingProvider
    from llmspell_memory.types import Hit, SearchMode

DocumentCondition: TypeAlias = Filter | Mapping[str, Any] | Callable[[Document], bool]
"""Which documents pass: a `Filter`; values and operators by key of the metadata; or a function that says so."""

_SESSION: Final = "documents"
_ROLE: Final = "document"


class EpisodicVectorStore(VectorStore):
    """A LangChain vector store whose documents are entries of one namespace of an episodic memory.

    A document's id, text and metadata are the entry's. Where searches take `filter=`, that is a `Filter`; an object
    such as `{"year": {"$gte": 2020}}` over the metadata; or a function of a document. In each case k documents come
    back where k pass. Where they take `mode=`, that is "semantic", which is the default and what similarity means, or
    "keyword" or "hybrid". Higher scores are better; by meaning they are cosine similarities.

    Args:
        memory: holds the documents.
        namespace: where they lie, below the memory's own; what lies deeper is none of this store's.

    Raises:
        ConfigError: `memory` is none.
        InputError: `namespace` is no tuple of texts.
    """

    def __init__(
        self, memory: DefaultMemoryManager | EpisodicMemory, *, namespace: tuple[str, ...] = ("documents",)
    ) -> None:
        self._manager: DefaultMemoryManager | None = None
        self._memory = memory_of(memory)
        checked = Filter(namespace=namespace).namespace
        self._all = Filter(namespace=(*self._memory.namespace, *checked), below=False)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | EmbeddingService | EmbeddingProvider,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        path: str | os.PathLike[str] | None = None,
        namespace: tuple[str, ...] = ("documents",),
        **kwargs: Any,
    ) -> Self:
        """Return a store with a memory of its own that holds these texts, to be closed by `close`.

        Args:
            texts: the documents' texts.
            embedding: who embeds: a LangChain `Embeddings`, or a service or provider of this library.
            metadatas: of each document.
            ids: of each document.
            path: a SQLite file, searched through HNSW; None keeps all in RAM.
            namespace: as above.
            kwargs: none.
        """
        _refuse(kwargs)
        config = MemoryConfig.for_production(embedding_service(embedding), path=path)
        manager = DefaultMemoryManager.with_config(config)
        try:
            store = cls(manager, namespace=namespace)
            store._manager = manager
            store.add_texts(texts, metadatas, ids=ids)
        except BaseException:
            manager.close()
            raise
        return store

    @property
    def memory(self) -> EpisodicMemory:
        """What holds the documents."""
        return self._memory

    @property
    def embeddings(self) -> Embeddings | None:
        """The LangChain `Embeddings` that embeds, None where the memory embeds by something else."""
        provider = self._memory.service.provider
        return provider.embeddings if isinstance(provider, LangChainEmbeddings) else None

    def close(self) -> None:
        """Close the memory if `from_texts` or `from_documents` has opened it."""
        if self._manager is not None:
            self._manager.close()

    # Writing.

    def add_documents(self, documents: list[Document], *, ids: list[str] | None = None, **kwargs: Any) -> list[str]:
        """Store documents, all or none, and return their ids; a known id is replaced.

        Args:
            documents: texts with metadata, which is JSON.
            ids: of each; where None, or where one is, the document's own or a new one.
            kwargs: none.

        Raises:
            InputError: a text is empty, metadata is not JSON, or there are not as many ids. Nothing is stored.
        """
        _refuse(kwargs)
        return self._memory.add_many(self._entries(documents, ids))

    async def aadd_documents(
        self, documents: list[Document], *, ids: list[str] | None = None, **kwargs: Any
    ) -> list[str]:
        """Do what `add_documents` does without blocking the event loop. Cancelled, it has stored all or none."""
        _refuse(kwargs)
        entries = self._entries(documents, ids)
        await embed_ahead(self._memory.service, [one.content for one in entries], [])
        return await asyncio.to_thread(self._memory.add_many, entries)

    def _entries(self, documents: Sequence[Document], ids: Sequence[str | None] | None) -> list[EpisodicEntry]:
        if ids is not None and len(ids) != len(documents):
            raise InputError(f"there must be as many ids as documents, got {len(ids)} for {len(documents)}")
        names = [one.id for one in documents] if ids is None else ids
        return [
            EpisodicEntry(
                _SESSION,
                _ROLE,
                document.page_content,
                id=name or document.id or new_id(),
                namespace=self._all.namespace,
                timestamp=datetime.now(UTC),
                metadata=document.metadata,
                processed=True,  # it is what is known, not what was said
            )
            for document, name in zip(documents, names, strict=True)
        ]

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents by their ids, all of this store's when None; unknown ids are ignored."""
        _refuse(kwargs)
        self._memory.delete(
            self._all if ids is None else replace(self._all, ids=frozenset(ids)), everything=ids is None
        )
        return True

    # Reading.

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents with these ids, in their order; unknown ones are left out."""
        found = {one.id: one for one in self._memory.scan(replace(self._all, ids=frozenset(ids)))}
        return [_document(found[name]) for name in ids if name in found]

    def similarity_search(
        self,
        query: str,
        k: int = 4,
        *,
        filter: DocumentCondition | None = None,  # noqa: A002 (LangChain's name)
        mode: SearchMode = "semantic",
        **kwargs: Any,
    ) -> list[Document]:
        """Return the k documents that answer a text best, best first.

        Raises:
            InputError: an argument is not acceptable.
            EmbeddingError: the text could not be embedded.
        """
        _refuse(kwargs)
        return [_document(hit.entry) for hit in self._found(query, k, filter, mode)]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        *,
        filter: DocumentCondition | None = None,  # noqa: A002 (LangChain's name)
        mode: SearchMode = "semantic",
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """Return the same, each with its score."""
        _refuse(kwargs)
        return [(_document(hit.entry), hit.score) for hit in self._found(query, k, filter, mode)]

    def similarity_search_by_vector(
        self,
        embedding: ArrayLike,
        k: int = 4,
        *,
        filter: DocumentCondition | None = None,  # noqa: A002 (LangChain's name)
        **kwargs: Any,
    ) -> list[Document]:
        """Return the k documents nearest to a vector, best first."""
        _refuse(kwargs)
        return [_document(hit.entry) for hit in self._found(np.asarray(embedding), k, filter, "semantic")]

    def similarity_search_with_score_by_vector(
        self,
        embedding: ArrayLike,
        k: int = 4,
        *,
        filter: DocumentCondition | None = None,  # noqa: A002 (LangChain's name)
    ) -> list[tuple[Document, float]]:
        """Return the same, each with its score."""
        hits = self._found(np.asarray(embedding), k, filter, "semantic")
        return [(_document(hit.entry), hit.score) for hit in hits]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: DocumentCondition | None = None,  # noqa: A002 (LangChain's name)
        **kwargs: Any,
    ) -> list[Document]:
        """Return k of the `fetch_k` nearest to a text, chosen for variety, too (Carbonell & Goldstein 1998)."""
        _refuse(kwargs)
        vector = self._memory.service.embed_one(query, kind="query")
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, filter=filter)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: ArrayLike,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: DocumentCondition | None = None,  # noqa: A002 (LangChain's name)
        **kwargs: Any,
    ) -> list[Document]:
        """Do the same for a vector."""
        _refuse(kwargs)
        vector = np.asarray(embedding, dtype=np.float32)
        hits = self._found(vector, max(fetch_k, k), filter, "semantic")
        vectors = [hit.entry.embedding.tolist() for hit in hits if hit.entry.embedding is not None]
        if not vectors:
            return []
        chosen = maximal_marginal_relevance(vector, vectors, lambda_mult=lambda_mult, k=k)
        return [_document(hits[at].entry) for at in chosen]

    def _found(
        self, query: str | ArrayLike, k: int, condition: DocumentCondition | None, mode: SearchMode
    ) -> list[Hit]:
        where, passes = self._condition(condition)

        def search(count: int) -> list[Hit]:
            return self._memory.search(query, count, where=where, mode=mode)

        wanted = checked_k(k)
        if passes is None:
            return search(wanted)
        return best(search, lambda hits: [hit for hit in hits if passes(hit.entry)], wanted, first=2 * wanted)

    def _condition(self, condition: DocumentCondition | None) -> tuple[Filter, Callable[[EpisodicEntry], bool] | None]:
        """Return what the store looks for, and what is left to be looked at, None where nothing is."""
        if condition is None:
            return self._all, None
        if isinstance(condition, Filter):
            if condition.namespace:
                raise InputError("filter must not name a namespace: this store's documents lie in one")
            return replace(condition, namespace=self._all.namespace, below=False), None
        if isinstance(condition, Mapping):
            asked = DocumentFilter(condition)
            where = replace(self._all, metadata=asked.pushed)
            return where, None if asked.is_pushed else lambda entry: asked.matches(entry.metadata)
        if not callable(condition):
            raise InputError(f"filter must be a Filter, a mapping or a function, got {type(condition).__name__}")
        return self._all, lambda entry: bool(condition(_document(entry)))

    # Awaited: what embeds is awaited, and the rest is done in a thread.

    async def _ahead(self, query: str, options: Mapping[str, Any]) -> None:
        if options.get("mode", "semantic") == "semantic":
            await embed_ahead(self._memory.service, [], [query])

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """Do what `similarity_search` does without blocking the event loop."""
        await self._ahead(query, kwargs)
        return await asyncio.to_thread(self.similarity_search, query, k, **kwargs)

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Do what `similarity_search_with_score` does without blocking the event loop."""
        await self._ahead(query, kwargs)
        return await asyncio.to_thread(self.similarity_search_with_score, query, k, **kwargs)

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Do what `max_marginal_relevance_search` does without blocking the event loop."""
        await self._ahead(query, kwargs)
        return await asyncio.to_thread(self.max_marginal_relevance_search, query, k, fetch_k, lambda_mult, **kwargs)

    # What LangChain makes relevance of.

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Return what brings a score by meaning to 0..1: a cosine below 0 is as little relevant as 0."""
        if self._memory.service.metric == "euclidean":
            return lambda score: 1 / (1 - score)  # the score is the distance, negated
        return lambda score: min(1.0, max(0.0, score))

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        _check_relevant(kwargs)
        return super()._similarity_search_with_relevance_scores(query, k, **kwargs)

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        _check_relevant(kwargs)
        return await super()._asimilarity_search_with_relevance_scores(query, k, **kwargs)


def _check_relevant(options: Mapping[str, Any]) -> None:
    if options.get("mode", "semantic") != "semantic":
        raise InputError(f"only scores by meaning are between 0 and 1; leave out mode={options['mode']!r}")


def _refuse(options: Mapping[str, Any]) -> None:
    """Raise an InputError for options that would be ignored."""
    if options:
        raise InputError(f"there is no option {', '.join(options)}")


def _document(entry: EpisodicEntry) -> Document:
    return Document(id=entry.id, page_content=entry.content, metadata=dict(entry.metadata))
