"""What a manager tells of itself: each operation timed under its name, sizes in few lines, a scope of itself alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmspell_memory import (
    AsyncMemoryManager,
    DefaultMemoryManager,
    EmbeddingService,
    EpisodicEntry,
    Filter,
    InputError,
    MemoryConfig,
    NotFoundError,
)
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.types import EntryCount

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["ram", "sqlite"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryConfig:
    path = tmp_path / "m.db" if request.param == "sqlite" else None
    return MemoryConfig.for_production(EmbeddingService(HashingProvider(16)), path=path)


def counts(manager: DefaultMemoryManager) -> dict[str, int]:
    return {name: one.count for name, one in manager.stats().timings.items()}


def test_each_operation_is_timed_under_its_name(config: MemoryConfig) -> None:
    """Every call counts once, a batch as one; what was never done is not there; parts are no longer than the whole."""
    with DefaultMemoryManager.with_config(config) as manager:
        memory = manager.episodic
        assert counts(manager) == {}
        memory.add(EpisodicEntry("s", "user", "one", id="1"))
        memory.add_many([EpisodicEntry("s", "user", f"{n}") for n in range(5)])
        memory.add(EpisodicEntry("s", "user", "two", embedding=np.ones(16, np.float32)))
        memory.search("one")
        memory.search(np.ones(16, np.float32), where=Filter(session_id="s"))
        memory.get("1")
        memory.mark_processed(["1"])
        memory.set_expiry(Filter(ids=frozenset(["1"])), None)
        memory.delete_before(memory.get("1").timestamp)
        memory.delete(Filter(role="nobody"))
        memory.forget(Filter(ids=frozenset(["1"])))
        manager.sweep()
        told = manager.stats().timings
        assert counts(manager) == {
            "add": 3, "embed": 3, "search": 2, "search.embed": 1, "search.index": 2, "search.rows": 2,
            "get": 2, "mark_processed": 1, "set_expiry": 1, "delete": 2, "forget": 1, "sweep": 1,
        }  # fmt: skip
        assert sum(told[f"search.{part}"].seconds for part in ("embed", "index", "rows")) <= told["search"].seconds
        assert all(one.max > 0 for one in told.values())


def test_failures_are_counted_apart(config: MemoryConfig) -> None:
    """A call that raised is counted as failed, and its time is in no percentile."""
    with DefaultMemoryManager.with_config(config) as manager:
        with pytest.raises(NotFoundError):
            manager.episodic.get("x")
        with pytest.raises(InputError):
            manager.episodic.search("x", -1)
        with pytest.raises(InputError):
            manager.episodic.add(EpisodicEntry("s", "user", "x", embedding=np.zeros(16, np.float32)))
        assert manager.stats().failures == {"get": 1, "search": 1, "add": 1}
        assert counts(manager) == {}


def test_sizes_are_told_in_few_lines(config: MemoryConfig) -> None:
    """The ten largest namespaces and sessions are named, whatever their number, and all are counted."""
    with DefaultMemoryManager.with_config(config) as manager:
        manager.episodic.add_many(
            EpisodicEntry(f"s{session}", "user", "x", namespace=("acme", f"u{session % 12}"))
            for session in range(40)
            for _ in range(session + 1)
        )
        manager.episodic.add(EpisodicEntry("none", "user", "x"))
        told = manager.stats()
        assert (told.entries, told.sessions, told.namespaces) == (821, 41, 13)
        assert [one.session_id for one in told.largest_sessions] == [f"s{n}" for n in range(39, 29, -1)]
        assert told.largest_sessions[0] == EntryCount(namespace=("acme", "u3"), session_id="s39", entries=40)
        assert told.largest_namespaces[0] == EntryCount(namespace=("acme", "u3"), session_id=None, entries=88)
        assert len(told.largest_namespaces) == 10
        sizes = [one.entries for one in told.largest_namespaces]
        assert sizes == sorted(sizes, reverse=True)


def test_both_kinds_of_rows_name_the_same(tmp_path: Path) -> None:
    """Rows in RAM and in a file give the same figures for the same entries, in one order where sizes are equal."""
    service = EmbeddingService(HashingProvider(16))
    names = [("b",), ("a", "x"), ("a",), (), ("ä",), ("a\u0001",)]
    entries = [EpisodicEntry(f"s{n}", "user", "x", namespace=name) for n in (2, 1) for name in names]
    told = []
    for path in (None, tmp_path / "m.db"):
        with DefaultMemoryManager.with_config(MemoryConfig(service=service, path=path)) as manager:
            manager.episodic.add_many(entries)
            stats = manager.stats()
            told.append((stats.largest_namespaces, stats.largest_sessions, stats.namespaces, stats.sessions))
    assert told[0] == told[1]


def test_the_cache_hit_rate(config: MemoryConfig) -> None:
    """Hits over all that was looked up; None before anything was."""
    with DefaultMemoryManager.with_config(config) as manager:
        assert manager.stats().cache_hit_rate is None
        for text in ("a", "a", "a", "b"):
            manager.episodic.search(text)
        assert manager.stats().cache_hit_rate == 0.5


def test_a_scope_tells_of_itself_alone(config: MemoryConfig) -> None:
    """A neighbour's operations show in the whole store's figures and nowhere in a scope's."""
    with DefaultMemoryManager.with_config(config) as manager:
        mine, theirs = manager.scoped("acme", "me"), manager.scoped("acme", "them")
        theirs.episodic.add_many([EpisodicEntry(f"s{n}", "user", f"secret {n}") for n in range(9)])
        for _ in range(7):
            theirs.episodic.search("secret")
        with pytest.raises(NotFoundError):
            theirs.episodic.get("x")
        before = mine.stats()
        assert (before.timings, before.failures, before.recall, before.cache_hit_rate) == ({}, {}, None, None)
        assert (before.namespaces, before.largest_namespaces, before.largest_sessions) == (0, (), ())
        mine.episodic.search("mine")
        assert set(counts(mine)) == {"search", "search.embed", "embed"}
        assert counts(mine)["search"] == 1
        assert counts(manager)["search"] == 8
        assert counts(manager)["search.index"] == 8
        assert manager.stats().failures == {"get": 1}
        below = manager.scoped("acme").scoped("me")
        below.episodic.search("mine")
        assert counts(below)["search"] == 1
        assert counts(mine)["search"] == 1  # what another manager does is its own
        assert counts(manager)["search"] == 9


def test_the_asyncio_face_times_alike(config: MemoryConfig) -> None:
    """Awaited calls are timed as the others are, with the time their embedding was awaited."""

    async def use() -> None:
        async with await AsyncMemoryManager.with_config(config) as manager:
            await manager.episodic.add_many([EpisodicEntry("s", "user", f"{n}") for n in range(3)])
            await manager.episodic.search("1")
            await manager.episodic.search(np.ones(16, np.float32))
            await manager.episodic.delete(Filter(role="nobody"))
            with pytest.raises(InputError):
                await manager.episodic.search("1", -1)
            with pytest.raises(NotFoundError):
                await manager.episodic.get("x")
            scope = manager.scoped("a")
            await scope.episodic.search("1")
            told = await manager.stats()
            assert {name: one.count for name, one in told.timings.items()} == {
                "add": 1, "embed": 3, "search": 3, "search.embed": 2, "search.index": 3, "search.rows": 3, "delete": 1,
            }  # fmt: skip
            assert told.failures == {"search": 1, "get": 1}
            assert (await scope.stats()).timings["search"].count == 1
            assert manager.recall is not None

    asyncio.run(use())


def test_log_lines_carry_their_figures(config: MemoryConfig, caplog: pytest.LogCaptureFixture) -> None:
    """What a line says in words, its extras say as values."""
    caplog.set_level("INFO", logger="llmspell_memory")
    with DefaultMemoryManager.with_config(config) as manager:
        manager.episodic.add(EpisodicEntry("s", "user", "x"))
        manager.rebuild(m=8)
    lines = {one.getMessage().partition(":")[0]: one.__dict__ for one in caplog.records}
    using, parameters = lines["HNSW backend using embedding service"], lines["HNSW parameters"]
    assert (using["provider"], using["dimensions"]) == ("hashing", 16)
    assert (parameters["m"], parameters["ef_construction"], parameters["ef_search"]) == (16, 200, 50)
    rebuilt = lines["Rebuilt the vector index"]
    assert (rebuilt["vectors"], rebuilt["index_kind"]) == (1, "hnsw")
