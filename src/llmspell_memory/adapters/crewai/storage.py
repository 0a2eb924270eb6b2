"""CrewAI's `StorageBackend` over an episodic memory."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from crewai.memory.types import ScopeInfo

from llmspell_memory.adapters.awaiting import embed_ahead, finished
from llmspell_memory.adapters.crewai.conditions import Condition, condition, possible, within
from llmspell_memory.adapters.crewai.records import ROLE, categories_of, entry_of, record_of
from llmspell_memory.adapters.crewai.scopes import children_of, path_of
from llmspell_memory.adapters.finding import best
from llmspell_memory.adapters.opened import memory_of
from llmspell_memory.config import MemoryConfig
from llmspell_memory.manager import DefaultMemoryManager
from llmspell_memory.types import Filter

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from datetime import datetime
    from types import TracebackType

    from crewai.memory.types import MemoryRecord

    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.memory import EpisodicMemory
    from llmspell_memory.types import EpisodicEntry, Hit


class EpisodicStorage:
    """Where CrewAI's `Memory` keeps its records: `Memory(storage=storage, embedder=storage.embedder)`.

    Does what CrewAI's own storage does, and returns the scores that it would. A scope is compared segment by segment,
    so that "/app" has nothing of "/apple"; all conditions hold together, and before the best are chosen. What `save`
    and `update` were given is stored when they return, all or none. To be found changes nothing: a record's
    `last_accessed` is what CrewAI wrote.

    May be used by several threads; several processes may open one file.

    Args:
        memory: holds the records.
        namespace: where they lie, below the memory's own.

    Raises:
        ConfigError: `memory` is none.
        InputError: `namespace` is no tuple of texts.
    """

    def __init__(
        self, memory: DefaultMemoryManager | EpisodicMemory, *, namespace: tuple[str, ...] = ("crewai",)
    ) -> None:
        self._manager: DefaultMemoryManager | None = None
        self._memory = memory_of(memory)
        checked = Filter(namespace=namespace).namespace
        self._every = Filter(namespace=(*self._memory.namespace, *checked), below=False, role=ROLE)
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str | os.PathLike[str], service: EmbeddingService) -> Self:
        """Return one with a memory of its own in a SQLite file, searched through HNSW.

        `close` closes it, which `Memory.close` of CrewAI calls; so does `with`.
        """
        manager = DefaultMemoryManager.with_config(MemoryConfig.for_production(service, path=path))
        opened = cls(manager)
        opened._manager = manager
        return opened

    @property
    def memory(self) -> EpisodicMemory:
        """What holds the records."""
        return self._memory

    def embedder(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the memory's vectors of texts: what to give CrewAI as `embedder`, so that both use one model.

        Raises:
            EmbeddingError: a text could not be embedded.
        """
        rows: list[list[float]] = self._memory.service.embed(list(texts)).tolist()
        return rows

    # Writing.

    def save(self, records: list[MemoryRecord]) -> None:
        """Store records, all or none; a known id is replaced, and what says nothing is not kept.

        A record without a vector is embedded by the memory.

        Raises:
            InputError: a record is not acceptable, such as metadata that is not JSON; a DimensionError for a vector
                that is not as wide as the memory's. Nothing is stored.
            StorageError: the store failed. Nothing is stored.
        """
        self._add([entry_of(one, self._every.namespace) for one in records if one.content.strip()])

    def update(self, record: MemoryRecord) -> None:
        """Store a record in place of the one with its id; see `save`.

        Raises:
            InputError: it is not acceptable, such as one without a text.
        """
        self._add([entry_of(record, self._every.namespace)])

    def _add(self, entries: list[EpisodicEntry]) -> None:
        with self._lock:
            self._memory.add_many(entries)

    def delete(
        self,
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        record_ids: list[str] | None = None,
        older_than: datetime | None = None,
        metadata_filter: dict[str, Any] | None = None,
    ) -> int:
        """Delete the records that meet every condition given, and return how many; without a condition, all.

        Args:
            scope_prefix: of this scope or below it.
            categories: of one of these.
            record_ids: with one of these ids; an empty list is none.
            older_than: made before this moment; a naive one is UTC.
            metadata_filter: with these values; a missing one counts as None.

        Raises:
            InputError: an argument is not acceptable. Nothing is deleted.
        """
        asked = condition(
            self._every,
            scope=scope_prefix,
            categories=categories,
            metadata=metadata_filter,
            ids=record_ids,
            older_than=older_than,
        )
        with self._lock:
            return sum(self._memory.delete(self._whole(where, asked)) for where in asked.wheres)

    def _whole(self, where: Filter, asked: Condition) -> Filter:
        """Return a filter that says all: with the ids of those that have the values that the store is not asked for."""
        if not asked.values:
            return where
        return replace(where, ids=frozenset(one.id for one in self._memory.scan(where) if asked.passes(one)))

    def reset(self, scope_prefix: str | None = None) -> None:
        """Delete the records of a scope and of those below it; all of them, if it is None."""
        with self._lock:
            self._memory.delete(within(self._every, scope_prefix))

    # Reading.

    def search(
        self,
        query_embedding: list[float],
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        metadata_filter: dict[str, Any] | None = None,
        limit: int = 10,
        min_score: float = 0.0,
    ) -> list[tuple[MemoryRecord, float]]:
        """Return the records nearest to a vector among those that meet every condition, best first, with their scores.

        A score is that of CrewAI's own storage for vectors of length 1: 1 / (1 + the squared distance), so 1 for what
        is equal and 1/3 for what has nothing to do with it. Thresholds of `Memory` mean the same.

        Args:
            query_embedding: the vector.
            scope_prefix: of this scope or below it.
            categories: of one of these.
            metadata_filter: with these values; a missing one counts as None.
            limit: how many at most.
            min_score: the least score.

        Raises:
            InputError: an argument is not acceptable; a DimensionError for a vector of another width.
        """
        asked = condition(self._every, scope=scope_prefix, categories=categories, metadata=metadata_filter)
        wanted = max(0, limit)
        found = {
            hit.entry.id: hit for where in asked.wheres for hit in self._best(query_embedding, where, asked, wanted)
        }
        hits = sorted(found.values(), key=lambda hit: -hit.score)[:wanted]
        scored = [(record_of(hit.entry), self._score(hit)) for hit in hits]
        return [(record, score) for record, score in scored if score >= min_score]

    def _best(self, vector: list[float], where: Filter, asked: Condition, wanted: int) -> list[Hit]:
        def search(k: int) -> list[Hit]:
            return self._memory.search(vector, k, where=where, mode="semantic")

        return best(search, lambda hits: [hit for hit in hits if asked.passes(hit.entry)], wanted, first=wanted)

    def _score(self, hit: Hit) -> float:
        if self._memory.service.space.metric == "euclidean":
            return 1 / (1 + hit.score * hit.score)
        return 1 / (3 - 2 * min(1.0, hit.score))  # between vectors of length 1, the squared distance is 2 - 2 cos

    def get_record(self, record_id: str) -> MemoryRecord | None:
        """Return a record by its id, None where there is none."""
        found = next(self._memory.scan(replace(self._every, ids=possible([record_id]))), None)
        return None if found is None else record_of(found)

    def list_records(self, scope_prefix: str | None = None, limit: int = 200, offset: int = 0) -> list[MemoryRecord]:
        """Return a page of the records of a scope and of those below it, newest first."""
        where = within(self._every, scope_prefix)
        if limit <= 0 or offset < 0:
            return []
        newest = self._memory.recent(offset + limit, where=where)[::-1]
        return [record_of(one) for one in newest[offset:]]

    def get_scope_info(self, scope: str) -> ScopeInfo:
        """Return how many records a scope and those below it have, with their categories, dates and next scopes."""
        entries = list(self._memory.scan(within(self._every, scope)))  # oldest first
        path = path_of(scope)
        return ScopeInfo(
            path=path,
            record_count=len(entries),
            categories=sorted({name for one in entries for name in categories_of(one)}),
            oldest_record=record_of(entries[0]).created_at if entries else None,
            newest_record=record_of(entries[-1]).created_at if entries else None,
            child_scopes=children_of(path, [one.session_id for one in entries]),
        )

    def list_scopes(self, parent: str = "/") -> list[str]:
        """Return the scopes right below one that hold records, or have some below them."""
        lines = self._memory.sessions(within(self._every, parent))
        return children_of(path_of(parent), [line.session_id for line in lines])

    def list_categories(self, scope_prefix: str | None = None) -> dict[str, int]:
        """Return how many records of a scope and of those below it are of each category."""
        entries = self._memory.scan(within(self._every, scope_prefix))
        return dict(Counter(name for one in entries for name in categories_of(one)))

    def count(self, scope_prefix: str | None = None) -> int:
        """Return how many records a scope and those below it have; all, if it is None."""
        return self._memory.count(within(self._every, scope_prefix))

    # The same, awaited.

    async def asave(self, records: list[MemoryRecord]) -> None:
        """Do what `save` does without blocking the event loop; once begun, it is finished."""
        texts = [one.content for one in records if one.content.strip() and not one.embedding]
        await embed_ahead(self._memory.service, texts, [])
        await finished(self.save, records)

    async def asearch(
        self,
        query_embedding: list[float],
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        metadata_filter: dict[str, Any] | None = None,
        limit: int = 10,
        min_score: float = 0.0,
    ) -> list[tuple[MemoryRecord, float]]:
        """Do what `search` does without blocking the event loop."""
        return await asyncio.to_thread(
            self.search, query_embedding, scope_prefix, categories, metadata_filter, limit, min_score
        )

    async def adelete(
        self,
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        record_ids: list[str] | None = None,
        older_than: datetime | None = None,
        metadata_filter: dict[str, Any] | None = None,
    ) -> int:
        """Do what `delete` does without blocking the event loop; once begun, it is finished."""
        return await finished(self.delete, scope_prefix, categories, record_ids, older_than, metadata_filter)

    # Its life.

    def close(self) -> None:
        """Close the memory if `open` has opened it."""
        if self._manager is not None:
            self._manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # CrewAI copies a crew with its memory, and a copy remembers the same
