"""A store in PostgreSQL keeps the one contract, through its index and without it, and so does a scope over it."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, ClassVar

from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig
from llmspell_memory.testing import DurableBackendContract
from llmspell_memory.testing.backends import DurableContract
from llmspell_memory.types import HNSWConfig
from tests.contract.test_backends import Scoped
from tests.postgres import shared

if TYPE_CHECKING:
    from pathlib import Path

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace


CLUSTER = os.environ.get("LLMSPELL_TEST_CITUS_DSN")
"""Of a database with the extension, on a cluster that may be written to."""


def opened(
    folder: Path, space: EmbeddingSpace | None, hnsw: HNSWConfig | None = None, dsn: str | None = None
) -> PostgresBackend:
    """Return a store of this folder's name."""
    schema = f"t_{hashlib.sha256(str(folder).encode()).hexdigest()[:24]}"
    return PostgresBackend(PostgresConfig(dsn=dsn or shared().dsn, schema=schema, index_from=0), space, hnsw=hnsw)


class TestPostgresExact(DurableBackendContract):
    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        return opened(folder, space)


class TestPostgresHNSW(DurableBackendContract):
    hnsw: ClassVar = HNSWConfig()

    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        return opened(folder, space, self.hnsw)


class TestScopedPostgresHNSW(Scoped, DurableContract):
    def store(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        return opened(folder, space, HNSWConfig())


if CLUSTER:

    class TestClusterHNSW(DurableBackendContract):
        def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
            return opened(folder, space, HNSWConfig(), CLUSTER)
