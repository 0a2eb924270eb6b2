"""A memory outgrows one server after the other and comes home; it is tried, told of its recall, and re-embedded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, Filter, HNSWConfig, Watch
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.milvus import MilvusBackend, MilvusConfig
from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.operations import Rollout, migrate, rollback
from llmspell_memory.types.entry import same
from tests import postgres
from tests.milvus.server import shared
from tests.stores import NAMESPACES, equal, made, stored

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVICE = EmbeddingService(HashingProvider(32))
HNSW = HNSWConfig(m=8, ef_construction=32)


@pytest.fixture
def milvus(request: pytest.FixtureRequest) -> Iterator[MilvusBackend]:
    prefix = f"moving_{abs(hash(request.node.name)) % 10**8}_{time.time_ns()}"
    backend = MilvusBackend(MilvusConfig(uri=shared().uri, prefix=prefix), SERVICE.space, hnsw=HNSW)
    yield backend
    backend.close()


@pytest.fixture
def server() -> Iterator[PostgresBackend]:
    config = PostgresConfig(dsn=postgres.shared().dsn, schema="on_the_way", index_from=0)
    backend = PostgresBackend(config, SERVICE.space, hnsw=HNSW)
    yield backend
    backend.close()
    postgres.shared().execute("DROP SCHEMA on_the_way CASCADE")


def filled(path: Path, count: int = 300) -> SQLiteBackend:
    backend = SQLiteBackend(path, SERVICE.space, hnsw=HNSW)
    backend.add([made(n, 32, namespace=NAMESPACES[n % 4]) for n in range(count)])
    backend.mark_processed(Filter(session_id="session-1"))
    backend.delete(Filter(ids=frozenset(["id-3", "id-5"])))
    return backend


def test_a_memory_goes_from_server_to_server_and_home(
    tmp_path: Path, server: PostgresBackend, milvus: MilvusBackend
) -> None:
    """From a file to PostgreSQL, to Milvus, to a file: each move is verified, and every field is the first one's."""
    first, last = filled(tmp_path / "a.db"), SQLiteBackend(tmp_path / "b.db", SERVICE.space, hnsw=HNSW)
    for source, target in ((first, server), (server, milvus), (milvus, last)):
        report = migrate(source, target)
        assert report.verified
        assert report.verification is not None
        assert report.verification.checksums[0] == report.verification.checksums[1]
        assert equal(source, target)
    ours, theirs = stored(first), stored(last)
    assert len(ours) == 298
    assert all(same(one, theirs[identity]) for identity, one in ours.items())
    for one in (first, last):
        one.close()


def test_a_move_to_milvus_can_be_undone(tmp_path: Path, milvus: MilvusBackend) -> None:
    """What was written there since comes back, what was deleted there goes."""
    home = filled(tmp_path / "a.db", 60)
    assert migrate(home, milvus).verified
    milvus.add([made(2001, 32), made(7, 32).changed(content="changed on the server")])
    milvus.delete(Filter(session_id="session-2"))
    rollback(milvus, home)
    assert equal(home, milvus)
    assert "id-2001" in {name for _, name in stored(home)}
    home.close()


def test_milvus_is_tried_beside_a_file(tmp_path: Path, milvus: MilvusBackend) -> None:
    """It follows the one that serves, is compared with it, takes over, and the file can be gone back to."""
    rollout = Rollout(filled(tmp_path / "a.db", 60), milvus, share=1.0)
    with DefaultMemoryManager(rollout, SERVICE) as memory:
        for n in range(5):
            memory.episodic.add(EpisodicEntry("s", "user", f"written meanwhile as {n}", id=f"new-{n}"))
            found = memory.episodic.search(f"written meanwhile as {n}", 1, mode="semantic")
            assert found[0].entry.id == f"new-{n}"
        rollout.promote(force=True)
        assert memory.stats().rows == "milvus"
        memory.episodic.add(EpisodicEntry("s", "user", "written on the server", id="there"))
        rollout.rollback(force=True)
        assert memory.stats().rows == "sqlite"
        assert memory.episodic.get("there").content == "written on the server"


def test_recall_is_told_while_milvus_is_used(milvus: MilvusBackend) -> None:
    """A share of the searches is run again without the index, here all of them."""
    with DefaultMemoryManager(milvus, SERVICE, watch=Watch(share=1.0, budget=1.0)) as memory:
        memory.episodic.add_many(EpisodicEntry(f"s{n % 9}", "user", f"text number {n}") for n in range(200))
        for n in range(10):
            memory.episodic.search(memory.service.embed_one(f"text number {n}"), 10)
        until = time.monotonic() + 60
        while (recall := memory.stats().recall) is None or recall.comparisons < 5:
            assert time.monotonic() < until, "nothing was compared"
            time.sleep(0.1)
        assert recall.recall > 0.9
