"""How an event or a memory of the Agent Development Kit is written as an entry, and read back.

The content stands in the metadata as JSON text, with all of its parts; the entry's own content is what was said. What
was deleted leaves a mark of its id, without text, so that adding its session again does not bring it back.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from google.adk.memory.memory_entry import MemoryEntry
from google.genai import types

from llmspell_memory.errors import InputError
from llmspell_memory.types import EpisodicEntry, json, new_id
from llmspell_memory.types.text import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.adk.events.event import Event

    from llmspell_memory.types.json import JSON

OF: Final[dict[str, JSON]] = {"of": "google-adk"}
"""What the metadata of every memory's entry holds."""

_DELETED: Final[dict[str, JSON]] = {"of": "google-adk.deleted"}
_MEMORIES: Final = "memories"
_UNKNOWN: Final = "unknown"


def of_event(
    event: Event, session_id: str | None, *, namespace: tuple[str, ...], custom: Mapping[str, object]
) -> EpisodicEntry | None:
    """Return the entry of an event, None where it says nothing.

    Raises:
        InputError: `custom` is not JSON.
    """
    said = _said(event.content)
    if event.content is None or not said:
        return None
    session = session_id or _UNKNOWN
    return EpisodicEntry(
        session,
        event.author or "unknown",
        said,
        id=f"{len(session)}:{session}:{event.id}",  # ids of events are their session's alone
        namespace=namespace,
        timestamp=datetime.fromtimestamp(event.timestamp, UTC),
        metadata=_metadata(event.content, custom),
    )


def of_memory(memory: MemoryEntry, *, namespace: tuple[str, ...], custom: Mapping[str, object]) -> EpisodicEntry:
    """Return the entry of a memory that is added as it is: what is known, not what was said.

    Raises:
        InputError: it has no text, its timestamp is no moment in ISO 8601, or its metadata is not JSON.
    """
    said = _said(memory.content)
    if not said:
        raise InputError("a memory must have a part with text")
    return EpisodicEntry(
        _MEMORIES,
        memory.author or "unknown",
        said,
        id=memory.id or new_id(),
        namespace=namespace,
        timestamp=_moment(memory.timestamp),
        metadata=_metadata(memory.content, {**memory.custom_metadata, **custom}),
        processed=True,
    )


def mark_of_deleted(entry: EpisodicEntry) -> EpisodicEntry:
    """Return what stands in the place of an entry that was deleted."""
    return EpisodicEntry(
        entry.session_id,
        "deleted",
        "deleted",
        id=entry.id,
        namespace=entry.namespace,
        timestamp=entry.timestamp,
        metadata=_DELETED,
        processed=True,
    )


def memory_of_entry(entry: EpisodicEntry) -> MemoryEntry:
    """Return what an entry holds."""
    metadata: Any = entry.metadata
    return MemoryEntry(
        id=entry.id,
        content=types.Content.model_validate_json(metadata["content"]),
        author=entry.role,
        timestamp=entry.timestamp.isoformat(),
        custom_metadata=json.copied(metadata["custom"]),
    )


def _metadata(content: types.Content, custom: Mapping[str, object]) -> dict[str, JSON]:
    return {
        **OF,
        "content": content.model_dump_json(exclude_none=True),
        "custom": json.checked_object(custom, name="custom_metadata"),
    }


def _said(content: types.Content | None) -> str:
    """Return the text of a content as every store can keep it, "" where there is none; thoughts were not said."""
    parts = (content.parts if content is not None else None) or []
    text = "\n".join(part.text for part in parts if part.text and not part.thought)
    kept = text.replace("\0", " ").encode(errors="replace").decode()
    return kept if kept.strip() else ""


def _moment(timestamp: str | None) -> datetime:
    if timestamp is None:
        return datetime.now(UTC)
    try:
        return datetime.fromisoformat(timestamp).astimezone(UTC)  # a naive one is local, as the kit writes them
    except (ValueError, OverflowError) as error:
        raise InputError(f"timestamp must be a moment in ISO 8601, got {shortened(timestamp)}") from error
