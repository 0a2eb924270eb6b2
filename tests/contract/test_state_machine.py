"""Random histories of adds, replacements, deletes, marks, filters, rebuilds and reopenings against a dictionary."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, Filter, HNSWConfig
from llmspell_memory.backends import LocalBackend, SQLiteBackend
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.testing.backends import fields_of
from llmspell_memory.testing.indexes import oracle_scores

if TYPE_CHECKING:
    import unittest

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace

DIMENSIONS = 8
START = datetime(2025, 1, 1, tzinfo=UTC)
TINY_GRAPH = HNSWConfig(m=2, ef_construction=8, ef_search=1)
"""So narrow that from 13 vectors on searches go through the graph; its recall is then poor, but its hits are true."""

SETTINGS = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)

names = st.sampled_from(["a", "b", "%", "a%", "_"])
namespaces = st.lists(names, max_size=2).map(tuple)
moments = st.integers(0, 30).map(lambda minutes: START + timedelta(minutes=minutes))
values = st.sampled_from([1, 1.0, True, "1", None, [1], {"x": 1}])
metadata = st.dictionaries(st.sampled_from(["k", "l", 'k":']), values, max_size=2)
vectors = st.integers(0, 40).map(
    lambda seed: np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
)
filters = st.builds(
    Filter,
    session_id=st.none() | names,
    role=st.none() | st.sampled_from(["user", "assistant"]),
    since=st.none() | moments,
    until=st.none() | moments,
    known_by=st.none() | moments,
    processed=st.none() | st.booleans(),
    metadata=st.just({}) | metadata,
    namespace=st.just(()) | namespaces,
    ids=st.none() | st.frozensets(st.integers(0, 60).map(str), max_size=20),
)
entries = st.builds(
    EpisodicEntry,
    names,
    st.sampled_from(["user", "assistant"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20),
    id=st.integers(0, 60).map(str),
    namespace=namespaces,
    timestamp=moments,
    ingestion_time=moments,
    metadata=metadata,
    processed=st.booleans(),
    embedding=vectors,
)


class Memory(RuleBasedStateMachine):
    """The model is a dictionary from (namespace, id) to entry."""

    hnsw: ClassVar[HNSWConfig | None] = None
    durable: ClassVar[bool] = False
    filters_seen = Bundle("filters")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.service = EmbeddingService(HashingProvider(DIMENSIONS))
        self.model: dict[tuple[tuple[str, ...], str], EpisodicEntry] = {}
        self.exact = self.hnsw is None
        self.open()

    def open(self) -> None:
        space = self.service.space
        self.manager = DefaultMemoryManager(self.backend(space), self.service)
        self.memory = self.manager.episodic

    def backend(self, space: EmbeddingSpace) -> EpisodicBackend:
        if self.durable:
            return SQLiteBackend(self.folder / "memory.db", space, hnsw=self.hnsw)
        return LocalBackend(space, hnsw=self.hnsw)

    def matching(self, where: Filter) -> list[EpisodicEntry]:
        found = [one for one in self.model.values() if where.matches(one)]
        return sorted(found, key=lambda one: (one.timestamp, one.id))

    @rule(batch=st.lists(entries, min_size=1, max_size=12))
    def add(self, batch: list[EpisodicEntry]) -> None:
        assert self.memory.add_many(batch) == [one.id for one in batch]
        for one in batch:
            known = self.model.get((one.namespace, one.id))
            self.model[one.namespace, one.id] = one.changed(ingestion_time=known.ingestion_time) if known else one

    @rule(where=filters)
    def mark(self, where: Filter) -> None:
        fresh = [one for one in self.matching(where) if not one.processed]
        assert self.manager.backend.mark_processed(where) == len(fresh)
        for one in fresh:
            self.model[one.namespace, one.id] = one.changed(processed=True)

    @rule(where=filters, hours=st.sampled_from([-1, 1, None]))
    def set_expiry(self, where: Filter, hours: int | None) -> None:
        expires_at = None if hours is None else datetime.now(UTC) + timedelta(hours=hours)
        found = self.matching(where)
        assert self.memory.set_expiry(where, expires_at) == len(found)
        for one in found:
            self.model[one.namespace, one.id] = one.changed(expires_at=expires_at)

    @rule(where=filters)
    def delete(self, where: Filter) -> None:
        gone = self.matching(where)
        assert self.memory.delete(where, everything=True) == len(gone)
        for one in gone:
            del self.model[one.namespace, one.id]

    @rule(target=filters_seen, where=filters)
    def think_of_a_filter(self, where: Filter) -> Filter:
        return where

    @rule(where=consumes(filters_seen) | filters, query=vectors, k=st.integers(0, 8))
    def search(self, where: Filter, query: Any, k: int) -> None:
        matching = {(one.namespace, one.id): one for one in self.matching(where)}
        hits = self.memory.search(query, k, where=where)
        assert len(hits) == min(k, len(matching))
        identities = [(hit.entry.namespace, hit.entry.id) for hit in hits]
        assert len(set(identities)) == len(identities)
        assert all(fields_of(hit.entry) == fields_of(matching[one]) for hit, one in zip(hits, identities, strict=True))
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        if hits:
            truth = oracle_scores(np.array([one.embedding for one in matching.values()]), query, "cosine")
            expected = dict(zip(matching, truth, strict=True))
            np.testing.assert_allclose(scores, [expected[one] for one in identities], atol=1e-5)
            if self.exact:
                np.testing.assert_allclose(scores, np.sort(truth)[::-1][: len(hits)], atol=1e-5)

    @rule(where=filters)
    def read(self, where: Filter) -> None:
        expected = self.matching(where)
        key = lambda one: (one.timestamp, one.id, one.namespace)  # noqa: E731 (used twice, here only)
        found = list(self.memory.scan(where))
        assert [(one.timestamp, one.id) for one in found] == [(one.timestamp, one.id) for one in expected]
        assert list(map(fields_of, sorted(found, key=key))) == list(map(fields_of, sorted(expected, key=key)))
        assert self.memory.count(where) == len(expected)
        lines = self.memory.sessions(where)
        assert sum(line.entries for line in lines) == len(expected)
        assert sum(line.unprocessed for line in lines) == sum(not one.processed for one in expected)
        lasts = [line.last for line in lines]
        assert lasts == sorted(lasts, reverse=True)

    @rule(exact=st.booleans())
    def change_the_view(self, exact: bool) -> None:
        self.manager.backend.configure(None if exact else TINY_GRAPH)
        self.exact = exact

    @precondition(lambda self: self.durable)
    @rule()
    def reopen(self) -> None:
        self.manager.close()
        self.open()
        self.exact = self.hnsw is None

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.memory.count() == len(self.matching(Filter()))

    def teardown(self) -> None:
        self.manager.close()
        shutil.rmtree(self.folder)


class LocalHNSW(Memory):
    hnsw = TINY_GRAPH


class SQLite(Memory):
    durable = True


class SQLiteHNSW(Memory):
    durable = True
    hnsw = TINY_GRAPH


def case(machine: type[Memory]) -> type[unittest.TestCase]:
    """Return the test that plays a machine's histories."""
    test: type[unittest.TestCase] = machine.TestCase
    test.settings = SETTINGS  # type: ignore[attr-defined]  # it is hypothesis's own class
    return test


TestLocal = case(Memory)
TestLocalHNSW = case(LocalHNSW)
TestSQLite = case(SQLite)
TestSQLiteHNSW = case(SQLiteHNSW)
