"""A memory moves to a server and back, is tried beside the one that serves, and its recall is told while it is used."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, Filter, HNSWConfig, Watch
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.operations import Rollout, migrate, rollback
from llmspell_memory.types.entry import same
from tests.postgres import shared
from tests.stores import NAMESPACES, equal, made, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SERVICE = EmbeddingService(HashingProvider(32))
HNSW = HNSWConfig(m=8, ef_construction=32)


@pytest.fixture
def server() -> Iterator[Callable[[str], PostgresBackend]]:
    opened: list[PostgresBackend] = []

    def make(schema: str) -> PostgresBackend:
        shared().execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        opened.append(
            PostgresBackend(PostgresConfig(dsn=shared().dsn, schema=schema, index_from=0), SERVICE.space, hnsw=HNSW)
        )
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def filled(path: Path, count: int = 700) -> SQLiteBackend:
    backend = SQLiteBackend(path, SERVICE.space, hnsw=HNSW)
    backend.add([made(n, 32, namespace=NAMESPACES[n % 4]) for n in range(count)])
    backend.mark_processed(Filter(session_id="session-1"))
    backend.delete(Filter(ids=frozenset(["id-3", "id-5"])))
    return backend


def test_a_memory_moves_to_a_server_and_back(tmp_path: Path, server: Callable[[str], PostgresBackend]) -> None:
    """Every entry keeps every field, its vector to the bit; each move is verified, and the last store is the first."""
    first, there, last = filled(tmp_path / "a.db"), server("moved"), SQLiteBackend(tmp_path / "b.db", SERVICE.space)
    for source, target in ((first, there), (there, last)):
        report = migrate(source, target)
        assert report.verified
        assert equal(source, target)
    ours, theirs = stored(first), stored(last)
    assert len(ours) == 698
    assert all(same(one, theirs[identity]) for identity, one in ours.items())
    for one in (first, last):
        one.close()


def test_a_move_can_be_undone(tmp_path: Path, server: Callable[[str], PostgresBackend]) -> None:
    """What was written to the server since comes back, what was deleted there goes."""
    home, there = filled(tmp_path / "a.db"), server("undone")
    assert migrate(home, there).verified
    there.add([made(2001, 32), made(7, 32).changed(content="changed on the server")])
    there.delete(Filter(session_id="session-2"))
    rollback(there, home)
    assert equal(home, there)
    assert "id-2001" in {name for _, name in stored(home)}
    home.close()


def test_a_server_is_tried_beside_a_file(tmp_path: Path, server: Callable[[str], PostgresBackend]) -> None:
    """It follows the one that serves, is compared with it, takes over, and the file can be gone back to."""
    rollout = Rollout(filled(tmp_path / "a.db", 300), server("tried"), share=1.0)
    with DefaultMemoryManager(rollout, SERVICE) as memory:
        for n in range(30):
            memory.episodic.add(EpisodicEntry("s", "user", f"written meanwhile as {n}", id=f"new-{n}"))
            found = memory.episodic.search(f"written meanwhile as {n}", 1, mode="semantic")
            assert found[0].entry.id == f"new-{n}"
        rollout.promote(force=True)
        assert memory.stats().rows == "postgres"
        assert memory.episodic.count() == 328
        memory.episodic.add(EpisodicEntry("s", "user", "written on the server", id="there"))
        rollout.rollback(force=True)
        assert memory.stats().rows == "sqlite"
        assert memory.episodic.get("there").content == "written on the server"


def test_recall_is_told_while_it_is_used(server: Callable[[str], PostgresBackend]) -> None:
    """A share of the searches is run again without the index, here all of them."""
    with DefaultMemoryManager(server("watched"), SERVICE, watch=Watch(share=1.0, budget=1.0)) as memory:
        memory.episodic.add_many(EpisodicEntry(f"s{n % 9}", "user", f"text number {n}") for n in range(500))
        for n in range(40):
            memory.episodic.search(memory.service.embed_one(f"text number {n}"), 10)
        until = time.monotonic() + 30
        while (recall := memory.stats().recall) is None or recall.comparisons < 20:
            assert time.monotonic() < until, "nothing was compared"
            time.sleep(0.05)
        assert recall.recall > 0.9
