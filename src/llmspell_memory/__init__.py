"""Episodic memory for AI agents: stores what was said and done, and finds what matters.

Importing opens nothing and sends nothing; `AsyncMemoryManager` is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.config import EpisodicBackendType, MemoryConfig
from llmspell_memory.embeddings import EmbeddingService
from llmspell_memory.errors import (
    ClosedError,
    ConfigError,
    CorruptDataError,
    DimensionError,
    EmbeddingError,
    EpisodicError,
    InputError,
    MissingDependencyError,
    NotFoundError,
    NotReadyError,
    SchemaError,
    SpaceChangedError,
    StorageError,
    UnavailableError,
)
from llmspell_memory.manager import DefaultMemoryManager
from llmspell_memory.memory import EpisodicMemory
from llmspell_memory.protocols import Consolidator, EmbeddingProvider, EpisodicBackend, Reranker, VectorIndex
from llmspell_memory.retrieval import Consolidation, Context, Ranking
from llmspell_memory.types import (
    EmbeddingSpace,
    EpisodicEntry,
    Filter,
    ForgetReceipt,
    Hit,
    HNSWConfig,
    KeywordConfig,
    MemoryStats,
    RetentionRule,
    SessionSummary,
    SweepReport,
    Watch,
    new_id,
)

if TYPE_CHECKING:
    from llmspell_memory.aio import AsyncMemoryManager

__all__ = [
    "AsyncMemoryManager",
    "ClosedError",
    "ConfigError",
    "Consolidation",
    "Consolidator",
    "Context",
    "CorruptDataError",
    "DefaultMemoryManager",
    "DimensionError",
    "EmbeddingError",
    "EmbeddingProvider",
    "EmbeddingService",
    "EmbeddingSpace",
    "EpisodicBackend",
    "EpisodicBackendType",
    "EpisodicEntry",
    "EpisodicError",
    "EpisodicMemory",
    "Filter",
    "ForgetReceipt",
    "HNSWConfig",
    "Hit",
    "InputError",
    "KeywordConfig",
    "MemoryConfig",
    "MemoryStats",
    "MissingDependencyError",
    "NotFoundError",
    "NotReadyError",
    "Ranking",
    "Reranker",
    "RetentionRule",
    "SchemaError",
    "SessionSummary",
    "SpaceChangedError",
    "StorageError",
    "SweepReport",
    "UnavailableError",
    "VectorIndex",
    "Watch",
    "new_id",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "AsyncMemoryManager":
        from llmspell_memory.aio import AsyncMemoryManager  # noqa: PLC0415 (asyncio takes 30 ms to import)

        return AsyncMemoryManager
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
