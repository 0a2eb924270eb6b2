"""A search over all sessions as a tool of the Agents SDK."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from agents import function_tool

from llmspell_memory.adapters.awaiting import embed_ahead
from llmspell_memory.adapters.openai_agents.items import SAID
from llmspell_memory.adapters.opened import memory_of
from llmspell_memory.retrieval.context import checked_budget
from llmspell_memory.types import Filter
from llmspell_memory.types.arrays import checked_k

if TYPE_CHECKING:
    from agents import FunctionTool

    from llmspell_memory.manager import DefaultMemoryManager
    from llmspell_memory.memory import EpisodicMemory

_DESCRIPTION: Final = (
    "Search what was said in this and earlier conversations. Returns the messages that answer the query best, in the "
    "order they were said, under the conversation and the date."
)
_NOTHING: Final = "Nothing was found."


def search_tool(
    memory: DefaultMemoryManager | EpisodicMemory,
    *,
    namespace: tuple[str, ...] = (),
    budget_tokens: int = 2_000,
    k: int = 20,
    name: str = "search_memory",
    description: str = _DESCRIPTION,
) -> FunctionTool:
    """Return a tool by which an agent searches the messages of all sessions, by meaning and by words.

    Args:
        memory: holds the sessions.
        namespace: whose sessions: those of this namespace and below it. An agent sees no others.
        budget_tokens: the most that the answer may take; see `EpisodicMemory.context`.
        k: how many messages are tried.
        name: what the model calls the tool.
        description: what the model is told of it.

    Raises:
        ConfigError: `memory` is none.
        InputError: an argument is not acceptable.
    """
    words = memory_of(memory)
    where = Filter(metadata=SAID, namespace=(*words.namespace, *Filter(namespace=namespace).namespace))
    budget, tried = checked_budget(budget_tokens), checked_k(k)

    async def search(query: str) -> str:
        """Search.

        Args:
            query: What to look for, in words as it may have been said.
        """
        if not query.strip():
            return _NOTHING
        await embed_ahead(words.service, [], [query])
        found = await asyncio.to_thread(words.context, query, budget_tokens=budget, k=tried, where=where)
        return found.text or _NOTHING

    return function_tool(search, name_override=name, description_override=description)
