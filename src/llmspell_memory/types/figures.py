"""Figures that a store gives about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from llmspell_memory.types.reembedding import SpaceCount
    from llmspell_memory.types.settings import HNSWConfig
    from llmspell_memory.types.space import EmbeddingSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSummary:
    """A session in one line: how many entries, how many unprocessed, and its first and last moment."""

    session_id: str
    namespace: tuple[str, ...]
    entries: int
    unprocessed: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStats:
    """A vector index: its kind, how many vectors it holds, its parameters (None when exact), bytes in memory."""

    kind: Literal["exact", "hnsw"]
    size: int
    config: HNSWConfig | None
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendStats:
    """A backend: where its rows live, how many, in which space, with which index, and what that costs.

    A scope tells of its own entries: the path is None, and bytes and numbers are 0, since they are of the whole store.

    Attributes:
        rows: "ram" or "sqlite".
        path: the file, None when there is none.
        entries: rows stored.
        unprocessed: rows not yet marked processed.
        sessions: distinct sessions over all namespaces.
        space: the embedding space.
        index: the vector index; of size 0 while it waits for the first search.
        memory_bytes: held in memory by the index, and by the rows where they live there (estimated from their texts).
        disk_bytes: size of the file with its write-ahead log.
        id: of the store, made at random when it was; a backup has its store's.
        seq: the sequence number of the last change.
        lag: how many numbers the index is behind; it catches up at the next search.
        beside: embedding spaces kept beside the one in use, and how many vectors there are of each.
    """

    rows: str
    path: Path | None
    entries: int
    unprocessed: int
    sessions: int
    space: EmbeddingSpace
    index: IndexStats
    memory_bytes: int
    disk_bytes: int
    id: str
    seq: int
    lag: int
    beside: tuple[SpaceCount, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStats(BackendStats):
    """What `stats()` of a manager returns: its backend's figures, and those of the embedding cache (0 for a scope).

    Attributes:
        backend: "HNSW" or "InMemory", whichever view answers searches.
        cache_hits: texts whose vector was found in the cache since the service was made.
        cache_misses: texts that went to the provider.
    """

    backend: str
    cache_hits: int
    cache_misses: int
