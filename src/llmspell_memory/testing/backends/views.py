"""The index is a view: it can be changed while open, and closing is final."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from llmspell_memory.config import EpisodicBackendType
from llmspell_memory.errors import ClosedError, ConfigError
from llmspell_memory.testing.backends.material import DIMENSIONS, START, contents, entry
from llmspell_memory.testing.indexes import gaussian
from llmspell_memory.types import HNSWConfig

if TYPE_CHECKING:
    from llmspell_memory.manager import DefaultMemoryManager


class ViewContract:
    """What a backend promises about its view, its figures and its end."""

    def test_the_view_can_be_changed_while_open(self, manager: DefaultMemoryManager) -> None:
        """Exact to HNSW, other parameters and back: every entry stays and every search answers."""
        vectors = gaussian(300, DIMENSIONS)
        manager.episodic.add_many([entry(f"n{n}", embedding=vector) for n, vector in enumerate(vectors)])
        misses = manager.service.misses
        for hnsw in (HNSWConfig(), HNSWConfig(m=4, ef_construction=20, ef_search=300), None):
            manager.switch_backend(EpisodicBackendType.HNSW if hnsw else EpisodicBackendType.IN_MEMORY, hnsw=hnsw)
            stats = manager.stats()
            assert stats.index.config == hnsw
            assert stats.index.size == stats.entries == 300
            assert stats.backend == ("HNSW" if hnsw else "InMemory")
            assert contents(manager.episodic.search(vectors[7], 1)) == ["n7"]
        with pytest.raises(ConfigError, match="no HNSW index"):
            manager.rebuild(m=8)
        manager.switch_backend(EpisodicBackendType.HNSW)
        manager.set_ef_search(77)
        assert manager.stats().index.config == HNSWConfig(ef_search=77)
        manager.rebuild(m=8, ef_construction=50)
        assert manager.stats().index.config == HNSWConfig(m=8, ef_construction=50, ef_search=77)
        assert contents(manager.episodic.search(vectors[8], 1)) == ["n8"]
        assert manager.service.misses == misses

    def test_ef_search_set_during_a_rebuild_stays_set(self, manager: DefaultMemoryManager) -> None:
        """What was asked while the index was being made again holds for the new one."""
        manager.switch_backend(EpisodicBackendType.HNSW)
        manager.episodic.add_many(
            entry(f"n{n}", embedding=vector) for n, vector in enumerate(gaussian(3000, DIMENSIONS))
        )
        rebuild = threading.Thread(target=manager.rebuild, kwargs={"m": 8})
        rebuild.start()
        manager.set_ef_search(777)
        assert rebuild.is_alive(), "the rebuild was over too soon to say anything"
        rebuild.join()
        assert manager.stats().index.config == HNSWConfig(m=8, ef_search=777)

    def test_stats_count_what_is_there(self, manager: DefaultMemoryManager) -> None:
        """Counts, space, index and memory are figures of this moment."""
        ids = manager.episodic.add_many([entry(f"n{n}", f"s{n % 3}") for n in range(9)])
        manager.episodic.mark_processed(ids[:4])
        stats = manager.stats()
        assert (stats.entries, stats.unprocessed, stats.sessions, stats.index.size) == (9, 5, 3, 9)
        assert stats.space == manager.service.space
        assert stats.memory_bytes > 9 * DIMENSIONS * 4

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
            lambda: memory.delete_before(START),
            manager.stats,
        ):
            with pytest.raises(ClosedError):
                use()
