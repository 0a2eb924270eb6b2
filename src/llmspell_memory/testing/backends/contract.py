"""The whole contract: derive a class, say how a backend is made, and let pytest collect it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import pytest

from llmspell_memory.embeddings import EmbeddingService, HashingProvider
from llmspell_memory.manager import DefaultMemoryManager
from llmspell_memory.testing.backends.following import FollowingContract, NotesContract
from llmspell_memory.testing.backends.isolation import IsolationContract
from llmspell_memory.testing.backends.life import LifeContract
from llmspell_memory.testing.backends.limits import LimitsContract
from llmspell_memory.testing.backends.material import DIMENSIONS, contents, entry, fields_of
from llmspell_memory.testing.backends.repeats import RepeatsContract
from llmspell_memory.testing.backends.retention import RetentionContract
from llmspell_memory.testing.backends.rows import RowsContract
from llmspell_memory.testing.backends.searching import SearchContract
from llmspell_memory.testing.backends.spaces import SpacesContract
from llmspell_memory.testing.backends.views import ViewContract
from llmspell_memory.types import Filter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmspell_memory.memory import EpisodicMemory
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace


class EntriesContract(
    RowsContract,
    RepeatsContract,
    SearchContract,
    RetentionContract,
    LimitsContract,
    IsolationContract,
    LifeContract,
    FollowingContract,
    ABC,
):
    """All that concerns entries and not the view of them: what a `ScopedBackend` promises, too."""

    @abstractmethod
    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        """Return an empty backend for vectors of `space`; files go into `folder`, which is empty."""

    @pytest.fixture
    def service(self) -> EmbeddingService:
        return EmbeddingService(HashingProvider(DIMENSIONS))

    @pytest.fixture
    def manager(self, service: EmbeddingService, tmp_path: Path) -> Iterator[DefaultMemoryManager]:
        with DefaultMemoryManager(self.make(service.space, tmp_path), service) as manager:
            yield manager

    @pytest.fixture
    def memory(self, manager: DefaultMemoryManager) -> EpisodicMemory:
        return manager.episodic

    @pytest.fixture
    def root(self, memory: EpisodicMemory) -> tuple[str, ...]:
        """Return the namespace that all others are below."""
        return memory.namespace


class BackendContract(EntriesContract, ViewContract, NotesContract, SpacesContract):
    """Derive, implement `make`, and let pytest collect the class."""


class DurableContract(EntriesContract):
    """What a backend that keeps its rows elsewhere promises on top: `make` on the same folder opens them again."""

    def test_a_restart_keeps_everything(self, service: EmbeddingService, tmp_path: Path) -> None:
        """After closing and opening again every field, flag and vector is as before, and so is every search."""
        with DefaultMemoryManager(self.make(service.space, tmp_path), service) as manager:
            ids = manager.episodic.add_many(
                [entry(f"text number {n}", f"s{n % 7}", minute=n, metadata={"n": n}) for n in range(200)]
            )
            manager.episodic.mark_processed(ids[::3])
            manager.episodic.delete(Filter(session_id="s5"))
            manager.episodic.add(entry("changed", id=ids[0], minute=500))
            before = [fields_of(one) for one in manager.episodic.scan()]
            hits = manager.episodic.search("text number 17", 5)
            if not manager.backend.namespace:
                manager.backend.write_note("kept", "over a restart")
            identity = manager.stats().id
        with DefaultMemoryManager(self.make(service.space, tmp_path), service) as manager:
            assert [fields_of(one) for one in manager.episodic.scan()] == before
            assert manager.episodic.search("text number 17", 5) == hits
            assert manager.stats().index.size == len(before)
            assert manager.backend.read_note("kept") == (None if manager.backend.namespace else "over a restart")
            assert manager.stats().id == identity

    def test_two_managers_see_each_other(self, service: EmbeddingService, tmp_path: Path) -> None:
        """What one adds, replaces or deletes, the other finds at its next call."""
        with (
            DefaultMemoryManager(self.make(service.space, tmp_path), service) as one,
            DefaultMemoryManager(self.make(service.space, tmp_path), service) as other,
        ):
            one.episodic.add(entry("from the first", id="x"))
            assert contents(other.episodic.search("first", 5)) == ["from the first"]
            other.episodic.add(entry("from the second", id="y"))
            assert len(one.episodic.search("from", 5)) == 2
            one.episodic.delete(Filter(ids=frozenset(["x"])))
            assert contents(other.episodic.search("from", 5)) == ["from the second"]


class DurableBackendContract(BackendContract, DurableContract):
    """The whole contract for a backend that keeps its rows elsewhere: `make` on the same folder opens them again."""
