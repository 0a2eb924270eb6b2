"""LangChain's retriever over an episodic memory: what was said and done, found as the memory itself finds it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from llmspell_memory.adapters.awaiting import embed_ahead
from llmspell_memory.adapters.opened import memory_of
from llmspell_memory.errors import ConfigError
from llmspell_memory.retrieval import Ranking
from llmspell_memory.types import Filter
from llmspell_memory.types.query import checked_mode

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun

    from llmspell_memory.types import Hit


class EpisodicRetriever(BaseRetriever):
    """Finds entries of a memory, each as a document whose metadata also names session, role, time and score.

    Attributes:
        memory: what is searched, a `DefaultMemoryManager` or `EpisodicMemory`.
        k: how many; `invoke(query, k=...)` asks for another number.
        where: a `Filter`, applied before the best are chosen.
        mode: "semantic", "keyword" or "hybrid"; the memory's own when None.
        ranking: a `Ranking`: how hits are weighed beyond that.

    Raises:
        pydantic.ValidationError: one is of the wrong kind; that is a ValueError, as `ConfigError` is.
    """

    # Any, and checked below: pydantic would copy what it knows the fields of.
    memory: Any
    k: int = 4
    where: Any = Filter()
    mode: Any = None
    ranking: Any = None

    def model_post_init(self, context: Any, /) -> None:
        """Check what pydantic does not."""
        super().model_post_init(context)
        self.memory = memory_of(self.memory)
        if not isinstance(self.where, Filter):
            raise ConfigError(f"where must be a Filter, got {type(self.where).__name__}")
        if not isinstance(self.ranking, Ranking | None):
            raise ConfigError(f"ranking must be a Ranking or None, got {type(self.ranking).__name__}")
        if self.mode is not None:
            checked_mode(self.mode)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        del run_manager  # the memory tells its own observers
        return self._search(query, k)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        del run_manager
        if self.mode == "semantic":  # otherwise what is embedded is known only when it is known who is named
            await embed_ahead(self.memory.service, [], [query])
        return await asyncio.to_thread(self._search, query, k)

    def _search(self, query: str, k: int | None) -> list[Document]:
        count = self.k if k is None else k
        hits = self.memory.search(query, count, where=self.where, mode=self.mode, ranking=self.ranking)
        return [_document(hit) for hit in hits]


def _document(hit: Hit) -> Document:
    entry = hit.entry
    told = {
        "session_id": entry.session_id,
        "role": entry.role,
        "timestamp": entry.timestamp.isoformat(),
        "score": hit.score,
    }
    return Document(id=entry.id, page_content=entry.content, metadata={**entry.metadata, **told})
