"""While it is open: its figures, those who share it, what was forked off; and that closing is final."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from llmspell_memory.aio import AsyncEpisodicMemory, AsyncMemoryManager
from llmspell_memory.config import EpisodicBackendType
from llmspell_memory.errors import ClosedError
from llmspell_memory.testing.backends.forks import refused_in_a_child
from llmspell_memory.testing.backends.material import DIMENSIONS, START, contents, entry
from llmspell_memory.testing.indexes import gaussian
from llmspell_memory.types import Filter

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmspell_memory.manager import DefaultMemoryManager
    from llmspell_memory.memory import EpisodicMemory
    from llmspell_memory.types import Vector


class LifeContract:
    """What a backend promises about its figures, about sharing it, and about its end."""

    def test_stats_count_what_is_there(self, manager: DefaultMemoryManager) -> None:
        """Counts, space and index are figures of this moment."""
        ids = manager.episodic.add_many([entry(f"n{n}", f"s{n % 3}") for n in range(9)])
        manager.episodic.mark_processed(ids[:4])
        stats = manager.stats()
        assert (stats.entries, stats.unprocessed, stats.sessions, stats.index.size) == (9, 5, 3, 9)
        assert stats.space == manager.service.space

    def test_threads_and_tasks_share_one_backend(self, manager: DefaultMemoryManager) -> None:
        """Four threads and twenty tasks add, replace, mark, delete and search at once: each finds all of its own."""
        names = [*(f"thread {n}" for n in range(4)), *(f"task {n}" for n in range(20))]
        vectors = dict(zip(names, gaussian(24, DIMENSIONS, seed=7), strict=True))

        async def tasks() -> list[list[str]]:
            memory = AsyncMemoryManager(manager.backend, manager.service).episodic
            return await asyncio.gather(*(faults_of_a_task(memory, name, vectors[name]) for name in names[4:]))

        with ThreadPoolExecutor(4) as threads:
            begun = [threads.submit(faults_of_a_thread, manager.episodic, name, vectors[name]) for name in names[:4]]
            assert asyncio.run(tasks()) == [[]] * 20
            assert [one.result() for one in begun] == [[]] * 4
        memory = manager.episodic
        assert memory.count() == len(memory.search(vectors["task 0"], 1000)) == 24 * TURNS * 3
        assert memory.count(Filter(processed=True)) == 24 * TURNS * 2

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_a_forked_process_is_told_to_open_its_own(self, manager: DefaultMemoryManager) -> None:
        """Forked off in the midst of writes and searches, every use is a StorageError that says so, and none hangs.

        Closing there leaves this process's store as it was.
        """
        memory = manager.episodic
        vectors = gaussian(60, DIMENSIONS)
        memory.add_many(entry("kept", "kept", id=f"kept-{n}", embedding=one) for n, one in enumerate(vectors))
        done = threading.Event()

        def write() -> None:
            turn = 0
            while not done.is_set():
                memory.add(entry("busy", "busy", id=f"busy-{turn % 9}", minute=turn, embedding=vectors[turn % 60]))
                turn += 1

        def search() -> None:
            while not done.is_set():
                memory.search(vectors[0], 5)

        busy = [threading.Thread(target=write), threading.Thread(target=search)]
        for thread in busy:
            thread.start()
        uses: list[Callable[[], object]] = [
            lambda: memory.add(entry("x", embedding=vectors[0])),
            lambda: memory.search(vectors[0], 2),
            lambda: memory.search(vectors[0], 2, where=Filter(session_id="kept")),
            lambda: memory.get("kept-1"),
            lambda: list(memory.scan()),
            lambda: memory.mark_processed(["kept-1"]),
            lambda: memory.set_expiry(Filter(session_id="kept"), None),
            lambda: memory.delete(Filter(session_id="kept")),
            lambda: memory.forget(Filter(session_id="kept")),
            memory.sweep,
            memory.count,
            memory.sessions,
            manager.stats,
        ]
        try:
            refused = [refused_in_a_child(uses, then=manager.close) for _ in range(5)]
        finally:
            done.set()
            for thread in busy:
                thread.join()
        assert refused == [len(uses)] * 5
        memory.add(entry("after"))
        assert contents(memory.search("after", 1)) == ["after"]
        assert memory.count(Filter(session_id="kept", processed=False)) == 60

    def test_closing_is_final_and_may_be_repeated(self, manager: DefaultMemoryManager) -> None:
        """A second close does nothing; any use afterwards is a ClosedError."""
        manager.episodic.add(entry("x"))
        manager.close()
        manager.close()
        memory = manager.episodic
        for use in (
            lambda: memory.add(entry("y")),
            lambda: memory.search("x", 1),
            lambda: memory.get("x"),
            lambda: manager.switch_backend(EpisodicBackendType.HNSW),
            lambda: list(memory.scan()),
            memory.count,
            memory.sessions,
            lambda: memory.mark_processed(["x"]),
            lambda: memory.set_expiry(Filter(session_id="kept"), None),
            lambda: memory.delete_before(START),
            lambda: memory.forget(Filter(session_id="s1")),
            memory.sweep,
            manager.stats,
        ):
            with pytest.raises(ClosedError):
                use()


TURNS = 5


def faults_of_a_thread(memory: EpisodicMemory, own: str, vector: Vector) -> list[str]:
    """Add, replace, mark and delete in a session of one's own, and return what was not as it must be."""
    faults = []
    for turn in range(TURNS):
        ids = memory.add_many([entry(own, own, id=f"{own} {turn} {n}", minute=turn) for n in range(4)])
        memory.add(entry("again", own, id=ids[0], minute=turn, embedding=vector))
        done = memory.mark_processed(ids[:2]), memory.delete(Filter(ids=frozenset(ids[2:3])))
        found = memory.search(vector, 1000, where=Filter(session_id=own))
        if (*done, len(found)) != (2, 1, 3 * (turn + 1)) or found[0].entry.content != "again":
            faults.append(f"{own}, turn {turn}: {done}, {len(found)} found")
    return faults


async def faults_of_a_task(memory: AsyncEpisodicMemory, own: str, vector: Vector) -> list[str]:
    """Do the same, awaited."""
    faults = []
    for turn in range(TURNS):
        ids = await memory.add_many([entry(own, own, id=f"{own} {turn} {n}", minute=turn) for n in range(4)])
        await memory.add(entry("again", own, id=ids[0], minute=turn, embedding=vector))
        done = await memory.mark_processed(ids[:2]), await memory.delete(Filter(ids=frozenset(ids[2:3])))
        found = await memory.search(vector, 1000, where=Filter(session_id=own))
        if (*done, len(found)) != (2, 1, 3 * (turn + 1)) or found[0].entry.content != "again":
            faults.append(f"{own}, turn {turn}: {done}, {len(found)} found")
    return faults
