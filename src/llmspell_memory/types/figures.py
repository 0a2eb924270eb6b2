"""Figures that a store gives about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from llmspell_memory.types.histogram import LatencyStats
    from llmspell_memory.types.reembedding import SpaceCount
    from llmspell_memory.types.settings import HNSWConfig, KeywordConfig
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
    """A vector index: its kind, how many vectors it holds, its parameters (None when exact), bytes in memory.

    Attributes:
        kind: how it searches.
        size: vectors that are searched.
        config: its parameters.
        memory_bytes: that it takes.
        built: the share of it that is made, from 0 to 1; below 1 a server compares all vectors, which is exact.
    """

    kind: Literal["exact", "hnsw"]
    size: int
    config: HNSWConfig | None
    memory_bytes: int
    built: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordStats:
    """A keyword index: how many texts it holds, how many different words, its parameters, bytes in memory."""

    size: int
    terms: int
    config: KeywordConfig
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryCount:
    """How many entries a namespace holds itself, without those below it; or one of its sessions (None: all of them)."""

    namespace: tuple[str, ...]
    session_id: str | None
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendStats:
    """A backend: where its rows live, how many, in which space, with which index, and what that costs.

    A scope tells of its own entries: the path is None, and bytes and numbers are 0, since they are of the whole store.

    Attributes:
        rows: "ram", "sqlite", "postgres" or "milvus".
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
        namespaces: distinct namespaces that hold entries themselves.
        largest_namespaces: up to 10 of them with the most entries, largest first.
        largest_sessions: up to 10 sessions with the most entries, largest first.
        timings: how long searches took so far in each of their parts, "search.index" and "search.rows".
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
    namespaces: int = 0
    largest_namespaces: tuple[EntryCount, ...] = ()
    largest_sessions: tuple[EntryCount, ...] = ()
    timings: Mapping[str, LatencyStats] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallEstimate:
    """Which share of the k best the index finds, estimated from searches that were run again exactly.

    Attributes:
        recall: mean over the comparisons.
        low: where the 95 % confidence interval begins.
        high: where it ends.
        comparisons: how many searches it is from, the last 1,000 at most.
    """

    recall: float
    low: float
    high: float
    comparisons: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallStats(RecallEstimate):
    """Recall over all searches that were compared since the index last got other parameters or was rebuilt.

    Attributes:
        by_filter: the same by the conditions that searches had, joined by "+" ("none" without any); of at most 16
            kinds, the rest together under "other".
        sampled: searches chosen to be compared, since the memory was opened.
        dropped: of these, those that were not: the budget did not allow it, or a write came between.
        failed: of these, those whose second search failed.
        cpu_share: processor time spent on comparisons, as a share of the time since the first (0 for a scope).
    """

    by_filter: Mapping[str, RecallEstimate] = field(hash=False)
    sampled: int
    dropped: int
    failed: int
    cpu_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStats(BackendStats):
    """What `stats()` of a manager returns: its backend's figures, and what this manager has done since it was opened.

    A scope tells of what was done through it alone. The memory it was made from tells of all its scopes, too.

    Attributes:
        backend: "HNSW" or "InMemory", whichever view answers searches.
        cache_hits: texts whose vector was found in the cache since the service was made (0 for a scope).
        cache_misses: texts that went to the provider (0 for a scope).
        timings: how long each operation took: "add", "search", "get", "mark_processed", "set_expiry", "delete",
            "forget" and "sweep"; "embed" for getting the vectors of texts, in adds and searches; and the parts of a
            search, "search.embed", "search.index" and "search.rows". What was never done is not there.
        failures: how many calls of each operation raised an error; only where some did.
        recall: of searches through an HNSW index; None where nothing was compared yet.
        unfinished: "migration" or "rollback" where one was begun and not finished, so that entries may be missing.
    """

    backend: str
    cache_hits: int
    cache_misses: int
    failures: Mapping[str, int] = field(default_factory=dict, hash=False)
    recall: RecallStats | None = None
    unfinished: str | None = None

    @property
    def cache_hit_rate(self) -> float | None:
        """Share of texts whose vector was found in the cache; None where none was looked up."""
        asked = self.cache_hits + self.cache_misses
        return self.cache_hits / asked if asked else None
