"""Entries to test with, and what tells two of them apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from llmspell_memory.types import EpisodicEntry, Hit

DIMENSIONS = 64
START = datetime(2025, 3, 1, 12, tzinfo=UTC)


def entry(content: str, session_id: str = "s1", *, minute: int = 0, **fields: Any) -> EpisodicEntry:
    """Return a user's entry, `minute` minutes after START."""
    return EpisodicEntry(session_id, "user", content, timestamp=START + timedelta(minutes=minute), **fields)


def fields_of(one: EpisodicEntry) -> tuple[object, ...]:
    """Return everything an entry holds, its vector as bytes."""
    vector = None if one.embedding is None else np.asarray(one.embedding, np.float32).tobytes()
    return (one, dict(one.metadata), vector)


def contents(found: list[EpisodicEntry] | list[Hit]) -> list[str]:
    """Return the texts of entries or hits."""
    return [one.entry.content if isinstance(one, Hit) else one.content for one in found]
