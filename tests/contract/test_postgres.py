"""A store in PostgreSQL keeps the one contract, through its index and without it, and so does a scope over it."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, ClassVar

import pytest

from llmspell_memory import DefaultMemoryManager
from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig
from llmspell_memory.testing import DurableBackendContract
from llmspell_memory.testing.backends import DurableContract
from llmspell_memory.types import EpisodicEntry, Filter, HNSWConfig
from tests.contract.test_backends import Scoped
from tests.postgres import PostgresServer, replica_of, shared, wait_until_level

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace


CLUSTER = os.environ.get("LLMSPELL_TEST_CITUS_DSN")
"""Of a database with the extension, on a cluster that may be written to."""


def opened(
    folder: Path,
    space: EmbeddingSpace | None,
    hnsw: HNSWConfig | None = None,
    dsn: str | None = None,
    read_dsn: str | None = None,
) -> PostgresBackend:
    """Return a store of this folder's name."""
    schema = f"t_{hashlib.sha256(str(folder).encode()).hexdigest()[:24]}"
    config = PostgresConfig(
        dsn=dsn or shared().dsn, schema=schema, index_from=0, read_dsn=read_dsn, replica_seconds=10.0
    )
    return PostgresBackend(config, space, hnsw=hnsw)


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


class TestPostgresWithReplica(DurableBackendContract):
    """Reads are the replica's, which is 5 ms behind, and show every write before them."""

    replica: ClassVar[PostgresServer]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _replica(cls) -> Iterator[None]:
        with replica_of(shared(), fsync="off", recovery_min_apply_delay="5ms") as cls.replica:
            yield
            read = "SELECT sum(seq_scan + idx_scan) FROM pg_stat_user_tables WHERE relname = 'entries'"
            assert cls.replica.one(read) > 100, "reads are not the replica's"

    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        return opened(folder, space, read_dsn=self.replica.dsn)

    def test_two_managers_see_each_other(self, service: EmbeddingService, tmp_path: Path) -> None:
        """What one adds or deletes, the other finds when the replica has it."""
        with (
            DefaultMemoryManager(self.make(service.space, tmp_path), service) as one,
            DefaultMemoryManager(self.make(service.space, tmp_path), service) as other,
        ):
            one.episodic.add(EpisodicEntry("s", "user", "from the first", id="x"))
            wait_until_level(self.replica, shared())
            assert [hit.entry.id for hit in other.episodic.search("first", 5)] == ["x"]
            other.episodic.add(EpisodicEntry("s", "user", "from the second", id="y"))
            wait_until_level(self.replica, shared())
            assert len(one.episodic.search("from", 5)) == 2
            one.episodic.delete(Filter(ids=frozenset(["x"])))
            wait_until_level(self.replica, shared())
            assert [hit.entry.id for hit in other.episodic.search("from", 5)] == ["y"]


if CLUSTER:

    class TestClusterHNSW(DurableBackendContract):
        def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
            return opened(folder, space, HNSWConfig(), CLUSTER)
