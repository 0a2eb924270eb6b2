"""The index is a view, which can be changed while open by whoever has a store to itself."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from llmspell_memory.config import EpisodicBackendType
from llmspell_memory.errors import ConfigError
from llmspell_memory.testing.backends.forks import refused_in_a_child
from llmspell_memory.testing.backends.material import DIMENSIONS, contents, entry
from llmspell_memory.testing.indexes import gaussian
from llmspell_memory.types import HNSWConfig

if TYPE_CHECKING:
    from llmspell_memory.manager import DefaultMemoryManager


class ViewContract:
    """What a backend promises about its view."""

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

    def test_stats_tell_what_memory_it_takes(self, manager: DefaultMemoryManager) -> None:
        """At least what the vectors take."""
        manager.episodic.add_many([entry(f"n{n}") for n in range(9)])
        assert manager.stats().memory_bytes > 9 * DIMENSIONS * 4

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_a_forked_process_cannot_change_the_view(self, manager: DefaultMemoryManager) -> None:
        """That is a StorageError there, like any other use."""
        manager.switch_backend(EpisodicBackendType.HNSW)
        assert refused_in_a_child([lambda: manager.set_ef_search(99), manager.rebuild]) == 2
        assert manager.stats().index.config == HNSWConfig()
