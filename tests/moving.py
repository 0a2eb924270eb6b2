"""A memory that moves to a server and back, whichever server it is."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, Filter, HNSWConfig, Watch
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.operations import Rollout, migrate, rollback
from llmspell_memory.types.entry import same
from tests.stores import NAMESPACES, equal, made, stored

if TYPE_CHECKING:
    from pathlib import Path

    from llmspell_memory import EpisodicBackend

SERVICE = EmbeddingService(HashingProvider(32))
HNSW = HNSWConfig(m=8, ef_construction=32)


def filled(path: Path, count: int) -> SQLiteBackend:
    """A file of so many entries but two, a third of them marked."""
    backend = SQLiteBackend(path, SERVICE.space, hnsw=HNSW)
    backend.add([made(n, 32, namespace=NAMESPACES[n % 4]) for n in range(count)])
    backend.mark_processed(Filter(session_id="session-1"))
    backend.delete(Filter(ids=frozenset(["id-3", "id-5"])))
    return backend


def check_journey(*stores: EpisodicBackend, count: int) -> None:
    """Move a memory from store to store: each move is verified, and the last has every field of the first."""
    for source, target in pairwise(stores):
        report = migrate(source, target)
        assert report.verified
        assert report.verification is not None
        assert report.verification.checksums[0] == report.verification.checksums[1]
        assert equal(source, target)
    ours, theirs = stored(stores[0]), stored(stores[-1])
    assert len(ours) == count - 2
    assert all(same(one, theirs[identity]) for identity, one in ours.items())


def check_undone(home: SQLiteBackend, there: EpisodicBackend) -> None:
    """What was written to the server since comes back, what was deleted there goes."""
    assert migrate(home, there).verified
    there.add([made(2001, 32), made(7, 32).changed(content="changed on the server")])
    there.delete(Filter(session_id="session-2"))
    rollback(there, home)
    assert equal(home, there)
    assert "id-2001" in {name for _, name in stored(home)}


def check_tried(home: SQLiteBackend, there: EpisodicBackend, *, kind: str, writes: int) -> None:
    """It follows the one that serves, is compared with it, takes over, and the file can be gone back to."""
    entries = home.count(Filter())
    rollout = Rollout(home, there, share=1.0)
    with DefaultMemoryManager(rollout, SERVICE) as memory:
        for n in range(writes):
            memory.episodic.add(EpisodicEntry("s", "user", f"written meanwhile as {n}", id=f"new-{n}"))
            found = memory.episodic.search(f"written meanwhile as {n}", 1, mode="semantic")
            assert found[0].entry.id == f"new-{n}"
        rollout.promote(force=True)
        assert memory.stats().rows == kind
        assert memory.episodic.count() == entries + writes
        memory.episodic.add(EpisodicEntry("s", "user", "written on the server", id="there"))
        rollout.rollback(force=True)
        assert memory.stats().rows == "sqlite"
        assert memory.episodic.get("there").content == "written on the server"


def check_watched(there: EpisodicBackend, *, entries: int, searches: int, seconds: float) -> None:
    """Recall is told: a share of the searches is run again without the index, here all of them."""
    with DefaultMemoryManager(there, SERVICE, watch=Watch(share=1.0, budget=1.0)) as memory:
        memory.episodic.add_many(EpisodicEntry(f"s{n % 9}", "user", f"text number {n}") for n in range(entries))
        for n in range(searches):
            memory.episodic.search(memory.service.embed_one(f"text number {n}"), 10)
        until = time.monotonic() + seconds
        while (recall := memory.stats().recall) is None or recall.comparisons < searches // 2:
            assert time.monotonic() < until, "nothing was compared"
            time.sleep(0.05)
        assert recall.recall > 0.9
