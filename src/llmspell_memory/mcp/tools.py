"""The six tools: what each is called, what it says about itself, and what it does with a memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mcp.types import ToolAnnotations

from llmspell_memory.errors import InputError, NotFoundError
from llmspell_memory.mcp import arguments, results
from llmspell_memory.types import EpisodicEntry, Filter
from llmspell_memory.types.text import shortened

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

    from llmspell_memory.memory import EpisodicMemory

Answer: TypeAlias = "BaseModel | str"
"""What a tool returns: something with a schema, or a text for a prompt."""


def add_memory(memory: EpisodicMemory, given: arguments.AddMemory) -> results.Added:
    """Store an entry; a session that has the same words of the same role already keeps the one that it has."""
    optional = {"timestamp": given.timestamp, "metadata": given.metadata, "expires_at": given.expires_at}
    entry = EpisodicEntry(
        given.session_id,
        given.role,
        given.content,
        **{name: value for name, value in optional.items() if value is not None},  # type: ignore[arg-type]  # each its own
    )
    return results.Added(id=memory.add(entry, on_duplicate="skip"))


def search_memories(memory: EpisodicMemory, given: arguments.SearchMemories) -> results.Found:
    """Find what answers a query best."""
    hits = memory.search(given.query, given.limit, where=given.where(), mode=given.mode)
    return results.Found(memories=[results.FoundMemory.found(hit) for hit in hits])


def get_context(memory: EpisodicMemory, given: arguments.GetContext) -> str:
    """Write what answers a query best as a text."""
    context = memory.context(given.query, budget_tokens=given.budget_tokens, where=given.where())
    return context.text or "Nothing that is remembered fits: no memory meets the conditions, or none the budget."


def list_sessions(memory: EpisodicMemory, given: arguments.ListSessions) -> results.Sessions:
    """List sessions, the latest first."""
    found = memory.sessions(Filter(since=given.since, until=given.until))
    return results.Sessions(sessions=[results.Session.of(one) for one in found[: given.limit]], total=len(found))


def get_session(memory: EpisodicMemory, given: arguments.GetSession) -> results.SessionMemories:
    """Read a session from its end.

    Raises:
        NotFoundError: there is no such session.
    """
    where = Filter(session_id=given.session_id)
    total = memory.count(where)
    if not total:
        raise NotFoundError(f"there is no session {shortened(given.session_id)}; list_sessions names those there are")
    newest = memory.recent(min(given.limit + given.skip, total), where=where)
    shown = newest[: max(0, len(newest) - given.skip)]
    return results.SessionMemories(
        session_id=given.session_id, memories=[results.Memory.of(one) for one in shown], total=total
    )


def delete_memories(memory: EpisodicMemory, given: arguments.DeleteMemories) -> results.Deleted:
    """Delete what has one of the ids, or is of a session.

    Raises:
        InputError: neither is given.
    """
    if not given.ids and given.session_id is None:
        raise InputError("nothing was deleted: name memories by ids, or a session by session_id, or both")
    return results.Deleted(deleted=memory.delete(given.where(given.ids)))


@dataclass(frozen=True, slots=True)
class MemoryTool:
    """A tool.

    Attributes:
        title: its name for people.
        description: what a language model reads.
        arguments: what it takes.
        result: what it returns; None for a text.
        annotations: whether it reads alone, whether it destroys, whether doing it twice does more.
        call: what it does.
    """

    title: str
    description: str
    arguments: type[arguments.Arguments]
    result: type[BaseModel] | None
    annotations: ToolAnnotations
    call: Callable[[EpisodicMemory, Any], Answer]


_READS: Final = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)

TOOLS: Final[dict[str, MemoryTool]] = {
    "add_memory": MemoryTool(
        "Add a memory",
        "Remember something that was said or done, for later conversations: a fact about the user, a preference, a "
        "decision, an event. It is stored for good when this returns. The same words of the same role in the same "
        "session are stored once, so that a call may be repeated.",
        arguments.AddMemory,
        results.Added,
        ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False),
        add_memory,
    ),
    "search_memories": MemoryTool(
        "Search memories",
        "Find memories that answer a question, by meaning and by words, the best first. Use it before you answer "
        "whatever earlier conversations may tell. Conditions narrow the search before the best are chosen.",
        arguments.SearchMemories,
        results.Found,
        _READS,
        search_memories,
    ),
    "get_context": MemoryTool(
        "Get context for a question",
        "Return what answers a question best as one text within a budget of tokens, in the order it happened, under "
        "headings of sessions and dates. Use it instead of search_memories where ids and scores do not matter.",
        arguments.GetContext,
        None,
        _READS,
        get_context,
    ),
    "list_sessions": MemoryTool(
        "List sessions",
        "List sessions (conversations) with their numbers of memories and their first and last moment, latest first.",
        arguments.ListSessions,
        results.Sessions,
        _READS,
        list_sessions,
    ),
    "get_session": MemoryTool(
        "Read a session",
        "Return the newest memories of one session in the order they happened, and how many it has altogether.",
        arguments.GetSession,
        results.SessionMemories,
        _READS,
        get_session,
    ),
    "delete_memories": MemoryTool(
        "Delete memories",
        "Delete memories for good: those with the given ids, or those of a session. Further conditions narrow what is "
        "deleted: all that are given must be met. It takes ids or session_id, and never deletes everything.",
        arguments.DeleteMemories,
        results.Deleted,
        ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False),
        delete_memories,
    ),
}
