"""The Agent Development Kit's `BaseMemoryService` over an episodic memory."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from google.adk.memory.base_memory_service import BaseMemoryService, SearchMemoryResponse

from llmspell_memory.adapters.awaiting import embed_ahead, finished
from llmspell_memory.adapters.google_adk.memories import OF, mark_of_deleted, memory_of_entry, of_event, of_memory
from llmspell_memory.adapters.opened import memory_of
from llmspell_memory.types import Filter
from llmspell_memory.types.arrays import checked_k
from llmspell_memory.types.text import checked_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.adk.events.event import Event
    from google.adk.memory.memory_entry import MemoryEntry
    from google.adk.sessions.session import Session

    from llmspell_memory.manager import DefaultMemoryManager
    from llmspell_memory.memory import EpisodicMemory
    from llmspell_memory.types import EpisodicEntry

_NOTHING: Final[Mapping[str, object]] = {}


class EpisodicMemoryService(BaseMemoryService):
    """A memory service whose memories are entries: found by meaning and by words, and durable where the memory is.

    What a user of an app has lies in the namespace of both, and no other user or app finds it. Events are kept that say
    something, whole, each once however often its session is added. A write once begun is finished, whoever cancels it.

    Args:
        memory: holds the memories.
        namespace: where they lie, below the memory's own; the app's name and the user's id come below that.
        k: how many memories a search returns at most.

    Raises:
        ConfigError: `memory` is none.
        InputError: an argument is not acceptable.
    """

    def __init__(
        self, memory: DefaultMemoryManager | EpisodicMemory, *, namespace: tuple[str, ...] = (), k: int = 10
    ) -> None:
        self._memory = memory_of(memory)
        self._base = (*self._memory.namespace, *Filter(namespace=namespace).namespace)
        self._k = checked_k(k)
        self._lock = threading.Lock()

    @property
    def memory(self) -> EpisodicMemory:
        """What holds the memories."""
        return self._memory

    async def add_session_to_memory(self, session: Session) -> None:
        """Keep the events of a session that say something and are not kept yet.

        Raises:
            EmbeddingError: a text could not be embedded. Nothing is stored.
            StorageError: the store failed. Nothing is stored.
        """
        await self.add_events_to_memory(
            app_name=session.app_name, user_id=session.user_id, events=session.events, session_id=session.id
        )

    async def add_events_to_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        events: Sequence[Event],
        session_id: str | None = None,
        custom_metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Keep some events of a session, all or none; see `add_session_to_memory`.

        Args:
            app_name: of which app.
            user_id: of whom.
            events: what happened.
            session_id: in which session; when None, one called "unknown".
            custom_metadata: JSON that comes back with each.

        Raises:
            InputError: an argument is not acceptable.
        """
        where, custom = self._where(app_name, user_id), custom_metadata or _NOTHING
        entries = [of_event(one, session_id, namespace=where.namespace, custom=custom) for one in events]
        await self._add([one for one in entries if one is not None], where, known_too=False)

    async def add_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        memories: Sequence[MemoryEntry],
        custom_metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Keep memories as they are, all or none; a known id is replaced.

        Raises:
            InputError: a memory has no text, or a timestamp or metadata that is not acceptable. Nothing is stored.
        """
        where, custom = self._where(app_name, user_id), custom_metadata or _NOTHING
        entries = [of_memory(one, namespace=where.namespace, custom=custom) for one in memories]
        await self._add(entries, where, known_too=True)

    async def _add(self, entries: list[EpisodicEntry], where: Filter, *, known_too: bool) -> None:
        def add() -> None:
            with self._lock:
                self._memory.add_many(entries if known_too else self._new(entries, where))

        new = entries if known_too else await asyncio.to_thread(self._new, entries, where)
        if new:
            await embed_ahead(self._memory.service, [one.content for one in new], [])
            await finished(add)

    def _new(self, entries: list[EpisodicEntry], where: Filter) -> list[EpisodicEntry]:
        """Return the entries whose ids are not known, neither as kept nor as deleted."""
        wanted = replace(where, ids=frozenset(one.id for one in entries), metadata={}, expired=None)
        known = {one.id for one in self._memory.scan(wanted)}
        return [one for one in entries if one.id not in known]

    async def search_memory(self, *, app_name: str, user_id: str, query: str) -> SearchMemoryResponse:
        """Return the memories of a user that answer a query best, best first.

        Raises:
            InputError: an argument is not acceptable.
            EmbeddingError: the query could not be embedded.
        """
        where = self._where(app_name, user_id)
        if not query.strip():
            return SearchMemoryResponse()
        await embed_ahead(self._memory.service, [], [query])
        hits = await asyncio.to_thread(self._memory.search, query, self._k, where=where)
        return SearchMemoryResponse(memories=[memory_of_entry(hit.entry) for hit in hits])

    async def delete_memory(self, *, app_name: str, user_id: str, memory_id: str | None = None) -> None:
        """Delete a memory by the id that a search has told; adding its session again does not bring it back.

        An unknown id, or none, is ignored. Of the memory its id stays, without its text.
        """
        where = self._where(app_name, user_id)
        if memory_id:
            await finished(self._delete, replace(where, ids=frozenset([memory_id])))

    def _delete(self, where: Filter) -> None:
        with self._lock:
            self._memory.add_many([mark_of_deleted(one) for one in self._memory.scan(where)])

    def _where(self, app_name: str, user_id: str) -> Filter:
        names = (checked_text(app_name, name="app_name"), checked_text(user_id, name="user_id"))
        return Filter(namespace=(*self._base, *names), below=False, metadata=OF)
