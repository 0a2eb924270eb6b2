"""LlamaIndex's `BasePydanticVectorStore` over an episodic memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from llmspell_memory.adapters.awaiting import embed_ahead, finished
from llmspell_memory.adapters.finding import best
from llmspell_memory.adapters.llama_index.conditions import condition, pushed
from llmspell_memory.adapters.llama_index.nodes import DOCUMENT, ROLE, entry_of, node_of
from llmspell_memory.adapters.opened import memory_of
from llmspell_memory.errors import InputError
from llmspell_memory.memory import EpisodicMemory  # noqa: TC001 (pydantic reads the types of fields)
from llmspell_memory.types import Filter
from llmspell_memory.types.arrays import checked_k

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_index.core.schema import BaseNode
    from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQuery

    from llmspell_memory.manager import DefaultMemoryManager
    from llmspell_memory.types import EpisodicEntry, Hit, SearchMode

_MODES: Final[dict[VectorStoreQueryMode, SearchMode]] = {
    VectorStoreQueryMode.DEFAULT: "semantic",
    VectorStoreQueryMode.MMR: "semantic",
    VectorStoreQueryMode.TEXT_SEARCH: "keyword",
    VectorStoreQueryMode.SPARSE: "keyword",
    VectorStoreQueryMode.HYBRID: "hybrid",
    VectorStoreQueryMode.SEMANTIC_HYBRID: "hybrid",
}
_MANY: Final = 4
"""Times as many as are wanted are looked at for variety."""


class EpisodicVectorStore(BasePydanticVectorStore):
    """A LlamaIndex vector store whose nodes are entries of one namespace of an episodic memory.

    Nodes come back whole, with text, metadata and relationships. Those that bring a vector keep it, and the memory
    embeds the others, so let both be of one model: `EmbeddingService(LlamaIndexEmbeddings(embed_model))`. A known id
    is replaced.

    Queries of the modes `default` and `mmr` go by the query's vector; `text_search` and `sparse` by the words of its
    text, and `hybrid` and `semantic_hybrid` by both, for which the memory embeds the text. Filters may nest; k nodes
    come back where k pass.

    Args:
        memory: holds the nodes.
        namespace: where they lie, below the memory's own; what lies deeper is none of this store's.

    Raises:
        ConfigError: `memory` is none.
        InputError: `namespace` is no tuple of texts.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    _memory: EpisodicMemory = PrivateAttr()
    _all: Filter = PrivateAttr()

    def __init__(
        self, memory: DefaultMemoryManager | EpisodicMemory, *, namespace: tuple[str, ...] = ("nodes",)
    ) -> None:
        super().__init__(stores_text=True)
        self._memory = memory_of(memory)
        checked = Filter(namespace=namespace).namespace
        self._all = Filter(namespace=(*self._memory.namespace, *checked), below=False, role=ROLE)

    @classmethod
    def class_name(cls) -> str:
        """Return the class's name."""
        return "EpisodicVectorStore"

    @property
    def client(self) -> EpisodicMemory:
        """What holds the nodes."""
        return self._memory

    # Writing.

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Store nodes, all or none, and return their ids.

        Raises:
            InputError: a node's text, metadata or vector is not acceptable. Nothing is stored.
        """
        _refuse(kwargs)
        return self._memory.add_many([entry_of(one, self._all.namespace) for one in nodes])

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Do what `add` does without blocking the event loop; once begun, the write is finished."""
        _refuse(kwargs)
        entries = [entry_of(one, self._all.namespace) for one in nodes]
        await embed_ahead(self._memory.service, [one.content for one in entries if one.embedding is None], [])
        return await finished(self._memory.add_many, entries)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes of a document."""
        _refuse(delete_kwargs)
        self._memory.delete(replace(self._all, metadata={DOCUMENT: ref_doc_id}))

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Do what `delete` does without blocking the event loop."""
        await finished(self.delete, ref_doc_id, **delete_kwargs)

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete the nodes that have one of the ids and pass the filters; `clear` deletes all.

        Raises:
            InputError: there are neither ids nor filters.
        """
        _refuse(delete_kwargs)
        if node_ids is None and (filters is None or not filters.filters):
            raise InputError("say which nodes, by node_ids or filters; clear() deletes all")
        found = [one.id for one in self._passing(node_ids, filters)]
        self._memory.delete(replace(self._all, ids=frozenset(found)))

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Do what `delete_nodes` does without blocking the event loop."""
        await finished(self.delete_nodes, node_ids, filters, **delete_kwargs)

    def clear(self) -> None:
        """Delete all nodes of this store."""
        self._memory.delete(self._all)

    async def aclear(self) -> None:
        """Do what `clear` does without blocking the event loop."""
        await finished(self.clear)

    # Reading.

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Return the nodes that have one of the ids and pass the filters: in the ids' order, or as they were added."""
        found = self._passing(node_ids, filters)
        if node_ids is not None:
            place = {name: n for n, name in enumerate(dict.fromkeys(node_ids))}
            found.sort(key=lambda one: place[one.id])
        return [node_of(one) for one in found]

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Do what `get_nodes` does without blocking the event loop."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    def _passing(self, node_ids: list[str] | None, filters: MetadataFilters | None) -> list[EpisodicEntry]:
        passes = condition(filters)
        ids = None if node_ids is None else frozenset(node_ids)
        found = self._memory.scan(replace(self._all, ids=ids, metadata=pushed(filters)))
        return [one for one in found if passes is None or passes(one.metadata)]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Return the nodes that answer a query best among those that pass its filters and ids, best first.

        Raises:
            InputError: the mode is not among those above, or the query lacks the vector or the text that it needs.
            EmbeddingError: the text could not be embedded.
        """
        threshold = kwargs.pop("mmr_threshold", query.mmr_threshold)
        _refuse(kwargs)
        wanted = checked_k(query.similarity_top_k)
        if query.mode == VectorStoreQueryMode.MMR:
            hits = _varied(self._hits(query, _MANY * wanted), _vector(query), wanted, threshold)
        else:
            hits = self._hits(query, wanted)
        return VectorStoreQueryResult(
            nodes=[node_of(hit.entry) for hit in hits],
            similarities=[hit.score for hit in hits],
            ids=[hit.entry.id for hit in hits],
        )

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Do what `query` does without blocking the event loop."""
        if _MODES.get(query.mode) == "hybrid" and query.query_str:
            await embed_ahead(self._memory.service, [], [query.query_str])
        return await asyncio.to_thread(self.query, query, **kwargs)

    def _hits(self, query: VectorStoreQuery, wanted: int) -> list[Hit]:
        mode = _MODES.get(query.mode)
        if mode is None:
            raise InputError(f"there is no mode {query.mode}; there are {', '.join(one.value for one in _MODES)}")
        asked = _vector(query) if mode == "semantic" else _text(query)
        # LlamaIndex's retrievers pass empty lists where they mean no condition.
        passes, documents = condition(query.filters), frozenset(query.doc_ids or ()) or None
        ids = frozenset(query.node_ids or ()) or None
        where = replace(self._all, ids=ids, metadata=pushed(query.filters))

        def search(k: int) -> list[Hit]:
            return self._memory.search(asked, k, where=where, mode=mode)

        def passing(hits: list[Hit]) -> list[Hit]:
            return [
                hit
                for hit in hits
                if (passes is None or passes(hit.entry.metadata))
                and (documents is None or hit.entry.metadata.get(DOCUMENT) in documents)
            ]

        return best(search, passing, wanted, first=wanted)


def _vector(query: VectorStoreQuery) -> Any:
    if query.query_embedding is None:
        raise InputError(f"a query of the mode {query.mode.value} needs its query_embedding")
    return np.asarray(query.query_embedding, dtype=np.float32)


def _text(query: VectorStoreQuery) -> str:
    if not query.query_str:
        raise InputError(f"a query of the mode {query.mode.value} needs its query_str")
    return query.query_str


def _varied(hits: list[Hit], vector: Any, wanted: int, threshold: float | None) -> list[Hit]:
    """Return hits chosen for variety, too, by LlamaIndex's own choice."""
    vectors = [one.entry.embedding.tolist() for one in hits if one.entry.embedding is not None]
    if not vectors:
        return []
    scores, chosen = get_top_k_mmr_embeddings(
        vector.tolist(), vectors, similarity_top_k=wanted, mmr_threshold=threshold
    )
    return [replace(hits[at], score=float(score)) for score, at in zip(scores, chosen, strict=True)]


def _refuse(options: dict[str, Any]) -> None:
    """Raise an InputError for options that would be ignored."""
    if options:
        raise InputError(f"there is no option {', '.join(options)}")
