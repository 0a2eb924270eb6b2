"""Rows for stores, and whether two stores hold the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from llmspell_memory import EpisodicEntry, Filter
from llmspell_memory.types.entry import same

if TYPE_CHECKING:
    from llmspell_memory import EpisodicBackend
    from llmspell_memory.types import Identity

ALL = Filter(expired=None)
NOON = datetime(2025, 1, 5, 12, tzinfo=UTC)
NAMESPACES: list[tuple[str, ...]] = [(), ("acme",), ("acme", "alice"), ("zeta",)]


def made(number: int, dimensions: int, **fields: Any) -> EpisodicEntry:
    """Return the entry of a number."""
    given: dict[str, Any] = {
        "id": f"id-{number}",
        "timestamp": NOON + timedelta(seconds=number % 7),
        "ingestion_time": NOON + timedelta(days=number),
        "metadata": {"number": number, "list": [1, 1.5, None]},
        "embedding": np.random.default_rng(number).standard_normal(dimensions).astype(np.float32),
    } | fields
    return EpisodicEntry(f"session-{number % 3}", "user", f"what was said as {number}", **given)


def stored(backend: EpisodicBackend, where: Filter = ALL) -> dict[Identity, EpisodicEntry]:
    """Return what a store holds."""
    return {one.identity: one for one in backend.scan(where)}


def equal(left: EpisodicBackend, right: EpisodicBackend, where: Filter = ALL) -> bool:
    """Say whether two stores hold the same rows in every field."""
    ours, theirs = stored(left, where), stored(right, where)
    return ours.keys() == theirs.keys() and all(same(one, theirs[name]) for name, one in ours.items())
