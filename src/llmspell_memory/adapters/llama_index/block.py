"""LlamaIndex's `BaseMemoryBlock` over an episodic memory: what fell out of the short-term memory, found again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.memory import BaseMemoryBlock

from llmspell_memory.adapters.awaiting import embed_ahead, finished
from llmspell_memory.adapters.opened import memory_of
from llmspell_memory.memory import EpisodicMemory  # noqa: TC001 (pydantic reads the types of fields)
from llmspell_memory.retrieval.context import checked_budget
from llmspell_memory.types import EpisodicEntry, Filter
from llmspell_memory.types.arrays import checked_k

if TYPE_CHECKING:
    from llama_index.core.base.llms.types import ChatMessage

    from llmspell_memory.manager import DefaultMemoryManager


class EpisodicMemoryBlock(BaseMemoryBlock[str]):
    """A block of LlamaIndex's `Memory`: keeps messages as entries, and tells what of them answers the newest best.

    What it tells has sessions and dates, in the order it happened, within a budget. Messages without text are not kept.

    Args:
        memory: holds the messages.
        namespace: whose they are, such as ("users", "ada"), below the memory's own. The block tells of this namespace
            and those below it.
        name: of the block.
        budget_tokens: the most that it tells; see `EpisodicMemory.context`.
        k: how many messages are tried.
        this_session: tell of the session that asks alone, instead of all.
        messages_asked: how many of the newest messages are the question.
        options: LlamaIndex's own, such as `priority`.

    Raises:
        ConfigError: `memory` is none.
        InputError: an argument is not acceptable.
    """

    name: str = "EpisodicMemory"
    budget_tokens: int = Field(default=2_000)
    k: int = Field(default=20)
    this_session: bool = Field(default=False)
    messages_asked: int = Field(default=1)
    _memory: EpisodicMemory = PrivateAttr()
    _namespace: tuple[str, ...] = PrivateAttr()

    def __init__(
        self, memory: DefaultMemoryManager | EpisodicMemory, *, namespace: tuple[str, ...] = (), **options: Any
    ) -> None:
        super().__init__(**options)
        checked_budget(self.budget_tokens)
        checked_k(self.k)
        checked_k(self.messages_asked)
        self._memory = memory_of(memory)
        self._namespace = (*self._memory.namespace, *Filter(namespace=namespace).namespace)

    async def _aget(
        self, messages: list[ChatMessage] | None = None, session_id: str | None = None, **block_kwargs: Any
    ) -> str:
        del block_kwargs  # other blocks'
        asked = (messages or [])[-self.messages_asked :] if self.messages_asked else []
        query = "\n".join(text for one in asked if (text := _text(one)))
        if not query:
            return ""
        await embed_ahead(self._memory.service, [], [query])
        where = Filter(namespace=self._namespace, session_id=session_id if self.this_session else None)
        found = await asyncio.to_thread(
            self._memory.context, query, budget_tokens=self.budget_tokens, k=self.k, where=where
        )
        return found.text

    async def _aput(self, messages: list[ChatMessage]) -> None:
        entries = [
            EpisodicEntry(
                # LlamaIndex hands the session over in the message, where it is not to stay.
                one.additional_kwargs.pop("session_id", None) or self.name,
                one.role.value,
                text,
                namespace=self._namespace,
            )
            for one in messages
            if (text := _text(one))
        ]
        if entries:
            await embed_ahead(self._memory.service, [one.content for one in entries], [])
            await finished(self._memory.add_many, entries)


def _text(message: ChatMessage) -> str:
    """Return a message's text as every store can keep it, "" where it is blank."""
    text = (message.content or "").replace("\0", " ").encode(errors="replace").decode()
    return text if text.strip() else ""
