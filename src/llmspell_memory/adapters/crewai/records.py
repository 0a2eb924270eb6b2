"""How a memory record of CrewAI is written as an entry, and read back.

A record is an entry of one namespace, whatever its scope: its id stays its own when the scope changes. The scope is the
entry's session. What records are looked for by stands in the metadata, each with a key of its own: every path that the
scope lies in, every category, every value. All are marked as processed: they are what is known, not what was said.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from crewai.memory.types import MemoryRecord

from llmspell_memory.adapters.crewai.scopes import path_of, paths_to
from llmspell_memory.types import EpisodicEntry, json

if TYPE_CHECKING:
    from llmspell_memory.types.json import JSON

ROLE: Final = "crewai"
"""The role of a record's entry."""

WITHIN: Final = "within."
"""Before each path that the scope lies in."""

CATEGORY: Final = "category."
"""Before each category."""

VALUE: Final = "value."
"""Before each key of the record's metadata."""


def entry_of(record: MemoryRecord, namespace: tuple[str, ...]) -> EpisodicEntry:
    """Return a record's entry, with its vector if it has one.

    Raises:
        InputError: the record's text is empty, or its metadata is not JSON, or a name in it is not acceptable.
    """
    scope = path_of(record.scope)
    vector: Any = record.embedding
    metadata: dict[str, JSON] = {
        "categories": list(record.categories),
        "importance": record.importance,
        "created_at": record.created_at.isoformat(),
        "last_accessed": record.last_accessed.isoformat(),
        "source": record.source or None,
        "private": record.private,
    }
    given = json.checked_object(record.metadata, name="metadata")
    return EpisodicEntry(
        scope,
        ROLE,
        _keepable(record.content),
        id=record.id,
        namespace=namespace,
        timestamp=in_utc(record.created_at),
        metadata=metadata
        | {WITHIN + path: True for path in paths_to(scope)}
        | {CATEGORY + name: True for name in record.categories}
        | {VALUE + key: value for key, value in given.items()},
        processed=True,
        embedding=None if vector is None or len(vector) == 0 else vector,
    )


def record_of(entry: EpisodicEntry) -> MemoryRecord:
    """Return the record that an entry holds, with its vector."""
    metadata: Any = entry.metadata
    return MemoryRecord(
        id=entry.id,
        content=entry.content,
        scope=entry.session_id,
        categories=categories_of(entry),
        metadata=values_of(entry),
        importance=metadata["importance"],
        created_at=datetime.fromisoformat(metadata["created_at"]),
        last_accessed=datetime.fromisoformat(metadata["last_accessed"]),
        embedding=None if entry.embedding is None else entry.embedding.tolist(),
        source=metadata["source"],
        private=metadata["private"],
    )


def categories_of(entry: EpisodicEntry) -> list[str]:
    """Return the categories of a record."""
    metadata: Any = entry.metadata
    return list(metadata["categories"])


def values_of(entry: EpisodicEntry) -> dict[str, JSON]:
    """Return a copy of a record's own metadata."""
    return {
        name.removeprefix(VALUE): json.copied(value) for name, value in entry.metadata.items() if name.startswith(VALUE)
    }


def in_utc(moment: datetime) -> datetime:
    """Return an aware moment; CrewAI's own are naive, and mean UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _keepable(text: str) -> str:
    """Return a text as every store can keep it: models write what they like."""
    return text.replace("\0", " ").encode(errors="replace").decode()
