"""Both backends, through both views, keep the one contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.backends import LocalBackend, SQLiteBackend
from llmspell_memory.testing import BackendContract, DurableBackendContract
from llmspell_memory.types import HNSWConfig

if TYPE_CHECKING:
    from pathlib import Path

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace


class TestLocalExact(BackendContract):
    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:  # noqa: ARG002 (it has no files)
        return LocalBackend(space)


class TestLocalHNSW(BackendContract):
    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:  # noqa: ARG002 (it has no files)
        return LocalBackend(space, hnsw=HNSWConfig())


class TestSQLiteExact(DurableBackendContract):
    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        return SQLiteBackend(folder / "memory.db", space)


class TestSQLiteHNSW(DurableBackendContract):
    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        return SQLiteBackend(folder / "memory.db", space, hnsw=HNSWConfig())
