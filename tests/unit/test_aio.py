"""The asyncio face: the same names and arguments, the same answers, and writes that are whole or absent."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory import (
    AsyncMemoryManager,
    ClosedError,
    ConfigError,
    DefaultMemoryManager,
    EmbeddingService,
    EpisodicEntry,
    EpisodicMemory,
    Filter,
    InputError,
    MemoryConfig,
)
from llmspell_memory.aio import AsyncEpisodicMemory
from llmspell_memory.embeddings import CallableProvider, HashingProvider

if TYPE_CHECKING:
    from pathlib import Path

AT_ONCE = {"scoped"}
"""Calls that wait for nothing, so that there is nothing to await."""

BETWEEN = {"from_sync", "sync"}
"""From one face to the other."""


def members(one: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(one) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("sync", "awaited"), [(EpisodicMemory, AsyncEpisodicMemory), (DefaultMemoryManager, AsyncMemoryManager)]
)
def test_names_and_signatures_match(sync: type, awaited: type) -> None:
    """Every public member of one face is a member of the other, with equal parameters and defaults."""
    ours, theirs = members(sync), members(awaited)
    assert ours.keys() == theirs.keys() - BETWEEN
    for name, member in ours.items():
        if isinstance(member, property):
            assert isinstance(theirs[name], property)
            continue
        assert inspect.signature(member).parameters == inspect.signature(theirs[name]).parameters, name
        if name in AT_ONCE:
            continue
        assert inspect.iscoroutinefunction(theirs[name]) or inspect.isasyncgenfunction(theirs[name]), name


async def test_a_program_has_both_faces() -> None:
    """What one face stores the other finds, and closing one closes both."""
    manager = DefaultMemoryManager.new_in_memory()
    awaited = AsyncMemoryManager.from_sync(manager)
    await awaited.episodic.add(EpisodicEntry("s", "user", "Ada barks.", id="a"))
    assert awaited.sync is manager
    assert manager.episodic.get("a").content == "Ada barks."
    await awaited.close()
    with pytest.raises(ClosedError):
        manager.episodic.get("a")


def test_both_faces_answer_alike(tmp_path: Path) -> None:
    """The same calls through either face give the same results."""
    service = EmbeddingService(HashingProvider(32))

    async def use(config: MemoryConfig) -> list[object]:
        async with await AsyncMemoryManager.with_config(config) as manager:
            memory = manager.episodic
            ids = await memory.add_many([EpisodicEntry("s", "user", f"text {n}", id=str(n)) for n in range(20)])
            await memory.add(EpisodicEntry("t", "user", "other", id="x"))
            answers: list[object] = [ids, await memory.mark_processed(["3", "4"]), await memory.count()]
            answers += [[(hit.entry.id, hit.score) for hit in await memory.search("text 7", 5)]]
            answers += [[(hit.entry.id, hit.score) for hit in await memory.search(service.embed_one("other"), 2)]]
            answers += [(await memory.get("7")).content, len(await memory.get_session("s"))]
            answers += [len(await memory.list_unprocessed(limit=3)), await memory.list_sessions_with_unprocessed()]
            answers += [[one.id async for one in memory.scan(Filter(session_id="s"), limit=4)]]
            answers += [[line.entries for line in await memory.sessions()], await memory.delete(Filter(session_id="t"))]
            await manager.set_ef_search(70)
            await manager.rebuild(m=8)
            answers += [(await manager.stats()).index.config, manager.backend_name]
            return answers

    config = MemoryConfig.for_production(service, path=tmp_path / "a.db")
    with DefaultMemoryManager.with_config(config.with_path(tmp_path / "b.db")) as manager:
        memory = manager.episodic
        expected: list[object] = [
            memory.add_many([EpisodicEntry("s", "user", f"text {n}", id=str(n)) for n in range(20)])
        ]
        memory.add(EpisodicEntry("t", "user", "other", id="x"))
        expected += [memory.mark_processed(["3", "4"]), memory.count()]
        expected += [[(hit.entry.id, hit.score) for hit in memory.search("text 7", 5)]]
        expected += [[(hit.entry.id, hit.score) for hit in memory.search(service.embed_one("other"), 2)]]
        expected += [memory.get("7").content, len(memory.get_session("s"))]
        expected += [len(memory.list_unprocessed(limit=3)), memory.list_sessions_with_unprocessed()]
        expected += [[one.id for one in memory.scan(Filter(session_id="s"), limit=4)]]
        expected += [[line.entries for line in memory.sessions()], memory.delete(Filter(session_id="t"))]
        manager.set_ef_search(70)
        manager.rebuild(m=8)
        expected += [manager.stats().index.config, manager.backend_name]
    assert asyncio.run(use(config)) == expected


def test_a_cancelled_add_is_whole_or_absent(tmp_path: Path) -> None:
    """Cancelled at any moment, an add leaves its whole batch or nothing, and the memory goes on."""

    async def embed(texts: list[str]) -> np.ndarray:
        await asyncio.sleep(0.001)
        return np.ones((len(texts), 16))

    config = MemoryConfig(service=EmbeddingService(CallableProvider(embed, 16), cache=None), path=tmp_path / "m.db")

    async def use() -> None:
        async with await AsyncMemoryManager.with_config(config) as manager:
            outcomes = set()
            for attempt in range(60):
                batch = [EpisodicEntry(f"s{attempt}", "user", f"text {n}") for n in range(30)]
                task = asyncio.create_task(manager.episodic.add_many(batch))
                await asyncio.sleep(attempt * 0.0001)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await manager.episodic.add(EpisodicEntry("after", "user", "a later write waits for the one begun"))
                outcomes.add(await manager.episodic.count(Filter(session_id=f"s{attempt}")))
            assert outcomes == {0, 30}, "one kind of outcome never happened"

    asyncio.run(use())


def test_a_network_embedding_is_awaited() -> None:
    """While one text is being embedded by an async provider, the event loop runs other tasks."""

    async def use() -> None:
        started = asyncio.Event()
        release = asyncio.Event()

        async def embed(texts: list[str]) -> np.ndarray:
            started.set()
            await release.wait()
            return np.ones((len(texts), 3))

        service = EmbeddingService(CallableProvider(embed, 3))
        async with await AsyncMemoryManager.new_in_memory_with_embeddings(service) as manager:
            task = asyncio.create_task(manager.episodic.add(EpisodicEntry("s", "user", "x")))
            await started.wait()
            assert await manager.episodic.count() == 0
            release.set()
            await task
            assert await manager.episodic.count() == 1

    asyncio.run(use())


def test_many_tasks_share_one_memory(tmp_path: Path) -> None:
    """Fifty tasks that add and search at once lose nothing."""

    async def use() -> None:
        config = MemoryConfig.for_production(EmbeddingService(HashingProvider(16)), path=tmp_path / "m.db")
        async with await AsyncMemoryManager.with_config(config) as manager:

            async def work(number: int) -> None:
                await manager.episodic.add(EpisodicEntry(f"s{number}", "user", f"text {number}"))
                assert len(await manager.episodic.search("text", 1, where=Filter(session_id=f"s{number}"))) == 1

            await asyncio.gather(*(work(number) for number in range(50)))
            assert await manager.episodic.count() == 50

    asyncio.run(use())


def test_a_cancelled_opening_is_closed_again(tmp_path: Path) -> None:
    """Whoever stops waiting for a memory to open leaves no open file behind."""
    config = MemoryConfig(service=EmbeddingService(HashingProvider(16)), path=tmp_path / "m.db")

    async def use() -> None:
        opening = asyncio.create_task(AsyncMemoryManager.with_config(config))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await asyncio.sleep(0.5)

    asyncio.run(use())
    assert [one.name for one in tmp_path.iterdir()] == ["m.db"]  # the log goes with the last connection


def test_a_scoped_memory_shares_the_thread_that_writes(tmp_path: Path) -> None:
    """Writes of a memory and its scopes keep one order, each scope sees its own, and closing one leaves the others."""

    async def use() -> None:
        config = MemoryConfig.for_production(EmbeddingService(HashingProvider(16)), path=tmp_path / "m.db")
        async with await AsyncMemoryManager.with_config(config) as manager:
            alice, bob = manager.scoped("acme", "alice"), manager.scoped("acme").scoped("bob")
            vector = np.ones(16, np.float32)
            tasks = [
                asyncio.create_task(one.episodic.add(EpisodicEntry("s", "user", f"{n}", id="x", embedding=vector)))
                for n in range(30)
                for one in (alice, bob)
            ]
            await asyncio.sleep(0)
            await alice.close()
            await alice.close()
            await asyncio.gather(*tasks)
            assert alice._worker.executor is bob._worker.executor is manager._worker.executor
            for awaitable in (
                alice.episodic.add(EpisodicEntry("s", "user", "y")),
                alice.episodic.search("x"),
                alice.episodic.count(),
                alice.stats(),
            ):
                with pytest.raises(ClosedError):
                    await awaitable
            assert (await bob.episodic.get("x")).content == "29"
            assert [one.content async for one in bob.episodic.scan()] == ["29"]
            assert (await manager.episodic.get("x", namespace=("acme", "alice"))).content == "29"
            assert await manager.episodic.count() == 2
            with pytest.raises(InputError, match="outside"):
                await bob.episodic.add(EpisodicEntry("s", "user", "y", namespace=("acme", "alice")))
            with pytest.raises(ConfigError):
                await bob.rebuild()
        for use_of in (bob.episodic.add(EpisodicEntry("s", "user", "y")), bob.episodic.count()):
            with pytest.raises(ClosedError):
                await use_of
        await bob.close()

    asyncio.run(use())


def test_closing_is_final() -> None:
    """Close waits for writes, may be repeated, and makes any use a ClosedError."""

    async def use() -> None:
        manager = await AsyncMemoryManager.new_in_memory()
        task = asyncio.create_task(manager.episodic.add(EpisodicEntry("s", "user", "x")))
        await asyncio.sleep(0)
        await manager.close()
        await manager.close()
        await asyncio.gather(task, return_exceptions=True)
        for awaitable in (
            manager.episodic.add(EpisodicEntry("s", "user", "y")),
            manager.episodic.search("x"),
            manager.episodic.count(),
        ):
            with pytest.raises(ClosedError):
                await awaitable

    asyncio.run(use())
