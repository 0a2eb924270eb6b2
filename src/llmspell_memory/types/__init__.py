"""The values the library speaks in: entries, filters, hits, spaces, settings, figures. No behaviour beyond checks."""

from llmspell_memory.types.arrays import Matrix, Vector
from llmspell_memory.types.care import BackupReport, CheckReport, Finding, Loss, RepairReport
from llmspell_memory.types.changes import Identity, RowChanges
from llmspell_memory.types.entry import EpisodicEntry, Hit
from llmspell_memory.types.figures import (
    BackendStats,
    EntryCount,
    IndexStats,
    KeywordStats,
    MemoryStats,
    RecallEstimate,
    RecallStats,
    SessionSummary,
)
from llmspell_memory.types.filter import Filter
from llmspell_memory.types.histogram import LatencyStats
from llmspell_memory.types.ids import new_id
from llmspell_memory.types.json import JSON
from llmspell_memory.types.query import NamedDate, Part, Query, SearchMode
from llmspell_memory.types.reembedding import (
    BesideCounts,
    ReembeddingEstimate,
    ReembeddingProgress,
    ReembeddingReport,
    RowText,
    SpaceCount,
)
from llmspell_memory.types.retention import Erased, ForgetReceipt, Removal, RetentionRule, SweepReport
from llmspell_memory.types.settings import BatchLimits, Durability, HNSWConfig, KeywordConfig, Telemetry, Watch
from llmspell_memory.types.space import EmbeddingSpace, Metric

__all__ = [
    "JSON",
    "BackendStats",
    "BackupReport",
    "BatchLimits",
    "BesideCounts",
    "CheckReport",
    "Durability",
    "EmbeddingSpace",
    "EntryCount",
    "EpisodicEntry",
    "Erased",
    "Filter",
    "Finding",
    "ForgetReceipt",
    "HNSWConfig",
    "Hit",
    "Identity",
    "IndexStats",
    "KeywordConfig",
    "KeywordStats",
    "LatencyStats",
    "Loss",
    "Matrix",
    "MemoryStats",
    "Metric",
    "NamedDate",
    "Part",
    "Query",
    "RecallEstimate",
    "RecallStats",
    "ReembeddingEstimate",
    "ReembeddingProgress",
    "ReembeddingReport",
    "Removal",
    "RepairReport",
    "RetentionRule",
    "RowChanges",
    "RowText",
    "SearchMode",
    "SessionSummary",
    "SpaceCount",
    "SweepReport",
    "Telemetry",
    "Vector",
    "Watch",
    "new_id",
]
