"""The Agents SDK's `Session` over an episodic memory."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from agents.memory import SessionSettings

from llmspell_memory.adapters.awaiting import embed_ahead, finished
from llmspell_memory.adapters.openai_agents.items import OF, entries_of, item_of
from llmspell_memory.adapters.opened import memory_of
from llmspell_memory.types import Filter

if TYPE_CHECKING:
    from agents.items import TResponseInputItem

    from llmspell_memory.manager import DefaultMemoryManager
    from llmspell_memory.memory import EpisodicMemory
    from llmspell_memory.types import EpisodicEntry

_TICK = timedelta(microseconds=1)


class EpisodicSession:
    """A session of the Agents SDK whose items are entries of an episodic memory, of the same session id.

    Items of every kind come back as they were given, in that order. Those given together are stored all or none, and
    stay together; they are stored when `add_items` returns, and a write once begun is finished, whoever cancels it. Any
    number of sessions may lie in one memory, and one session may be used by several tasks, threads and processes.

    Args:
        session_id: which conversation this is.
        memory: holds the items; other entries of it are left alone.
        namespace: whose conversation it is, such as ("users", "ada"), below the memory's own; the same id in another
            namespace is another session.
        session_settings: the SDK's; their `limit` holds where `get_items` is given none.

    Raises:
        ConfigError: `memory` is none.
        InputError: `session_id` is empty or no text, or `namespace` is no tuple of texts.
    """

    def __init__(
        self,
        session_id: str,
        memory: DefaultMemoryManager | EpisodicMemory,
        *,
        namespace: tuple[str, ...] = (),
        session_settings: SessionSettings | None = None,
    ) -> None:
        self._memory = memory_of(memory)
        asked = Filter(session_id=session_id, namespace=namespace)
        self._all = Filter(
            session_id=session_id, metadata=OF, namespace=(*self._memory.namespace, *asked.namespace), below=False
        )
        self.session_id = session_id
        self.session_settings: SessionSettings | None = session_settings or SessionSettings()

    @property
    def memory(self) -> EpisodicMemory:
        """What holds the items."""
        return self._memory

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the session's items, oldest first; with a limit, the newest so many. A negative one is none."""
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        return [item_of(entry) for entry in await asyncio.to_thread(self._newest, limit)]

    def _newest(self, limit: int | None) -> list[EpisodicEntry]:
        if limit is None or limit < 0:
            return list(self._memory.scan(self._all))
        return self._memory.recent(limit, where=self._all)

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Add items after those that are there, all or none.

        Raises:
            InputError: an item is not an object of JSON. Nothing is stored.
            EmbeddingError: a text could not be embedded. Nothing is stored.
            StorageError: the store failed. Nothing is stored.
        """
        entries = self._entries(items, datetime.now(UTC))
        if entries:
            await embed_ahead(self._memory.service, [entry.content for entry in entries], [])
            await finished(self._add, items)

    def _entries(self, items: list[TResponseInputItem], now: datetime) -> list[EpisodicEntry]:
        return entries_of(items, self.session_id, namespace=self._all.namespace, now=now)

    def _add(self, items: list[TResponseInputItem]) -> None:
        # Clocks of processes differ, and are set back; what is added later comes later all the same.
        last = [entry.timestamp + _TICK for entry in self._newest(1)]
        self._memory.add_many(self._entries(items, max([datetime.now(UTC), *last])))

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove the newest item and return it, None where there is none; no two callers get the same one."""
        entry = await finished(self._pop)
        return None if entry is None else item_of(entry)

    def _pop(self) -> EpisodicEntry | None:
        while newest := self._newest(1):
            where = Filter(ids=frozenset([newest[0].id]), namespace=self._all.namespace, below=False)
            if self._memory.delete(where):
                return newest[0]
        return None

    async def clear_session(self) -> None:
        """Remove all of the session's items."""
        await finished(self._clear)

    def _clear(self) -> int:
        return self._memory.delete(self._all)
