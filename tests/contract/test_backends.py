"""Both backends, through both views, keep the one contract, and so does a scope over each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llmspell_memory.backends import LocalBackend, ScopedBackend, SQLiteBackend
from llmspell_memory.operations import Rollout
from llmspell_memory.testing import BackendContract, DurableBackendContract
from llmspell_memory.testing.backends import DurableContract, EntriesContract, entry, fields_of
from llmspell_memory.testing.backends.material import DIMENSIONS, START
from llmspell_memory.testing.indexes import gaussian
from llmspell_memory.types import Filter, HNSWConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace, EpisodicEntry


class TestLocalExact(BackendContract):
    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:  # noqa: ARG002 (it has no files)
        return LocalBackend(space)


class TestLocalHNSW(BackendContract):
    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:  # noqa: ARG002 (it has no files)
        return LocalBackend(space, hnsw=HNSWConfig())


class TestSQLiteExact(DurableBackendContract):
    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        return SQLiteBackend(folder / "memory.db", space)


class TestSQLiteHNSW(DurableBackendContract):
    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        return SQLiteBackend(folder / "memory.db", space, hnsw=HNSWConfig())


class TestRolloutLocal(BackendContract):
    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:  # noqa: ARG002 (it has no files)
        return Rollout(LocalBackend(space), LocalBackend(space), share=0.5)


class TestRolloutSQLite(BackendContract):
    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        primary = SQLiteBackend(folder / "memory.db", space)
        return Rollout(primary, SQLiteBackend(folder / "candidate.db", space, hnsw=HNSWConfig()), share=0.5)


class TestRolloutPromoted(BackendContract):
    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        primary = SQLiteBackend(folder / "memory.db", space)
        rollout = Rollout(primary, SQLiteBackend(folder / "candidate.db", space, hnsw=HNSWConfig()), share=0.5)
        rollout.promote(force=True)
        return rollout


SCOPE = ("acme", "alice")
NEIGHBOURS = [
    (),
    ("acme",),
    ("acme2",),
    ("acme", "alice2"),
    ("acme", "alic"),
    ("acme", "%"),
    ("alice",),
    ("acme.alice",),
]


def neighbours() -> list[EpisodicEntry]:
    """Entries of other tenants, with ids, sessions and texts of the contract's own."""
    vectors = iter(gaussian(100, DIMENSIONS))
    same = [("x", "s1", "x"), ("a", "small", "letter a"), ("n0", "kept", "note 0"), ("own-id", "s-ü", "text number 17")]
    return [
        entry(
            text,
            session,
            id=name,
            namespace=namespace,
            minute=n,
            ingestion_time=START,
            metadata={"n": 1},
            embedding=next(vectors),
        )
        for namespace in NEIGHBOURS
        for n, (name, session, text) in enumerate(same)
    ]


class Scoped:
    """A scope in a store that others use, too; what they have is the same when a test has ended."""

    def store(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def stores(self) -> Iterator[None]:
        self.opened: list[EpisodicBackend] = []
        yield
        if not self.opened:
            return
        left = {fields_key(one) for one in self.opened[-1].scan(Filter()) if one.namespace[: len(SCOPE)] != SCOPE}
        assert left == {fields_key(one) for one in neighbours()}
        for store in self.opened:
            store.close()

    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        store = self.store(space, folder)
        self.opened.append(store)
        if store.count(Filter()) == 0:
            store.add(neighbours())
        return ScopedBackend(store, SCOPE)


def fields_key(one: EpisodicEntry) -> object:
    """Return what `fields_of` does, as it may be put into a set."""
    whole, metadata, vector = fields_of(one)
    return (repr(whole), repr(metadata), vector)


class TestScopedLocalExact(Scoped, EntriesContract):
    def store(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:  # noqa: ARG002 (it has no files)
        return LocalBackend(space)


class TestScopedLocalHNSW(Scoped, EntriesContract):
    def store(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:  # noqa: ARG002 (it has no files)
        return LocalBackend(space, hnsw=HNSWConfig())


class TestScopedSQLiteExact(Scoped, DurableContract):
    def store(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        return SQLiteBackend(folder / "memory.db", space)


class TestScopedSQLiteHNSW(Scoped, DurableContract):
    def store(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        return SQLiteBackend(folder / "memory.db", space, hnsw=HNSWConfig())
