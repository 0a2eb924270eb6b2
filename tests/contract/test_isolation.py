"""Random tenants with hostile names in one store: each sees its own entries, and nobody's calls change another's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmspell_memory import (
    DefaultMemoryManager,
    EmbeddingService,
    EpisodicEntry,
    Filter,
    HNSWConfig,
    InputError,
    NotFoundError,
    RetentionRule,
)
from llmspell_memory.backends import LocalBackend, SQLiteBackend
from llmspell_memory.backends.sqlite.rows import packed_namespace, unpacked_namespace
from llmspell_memory.backends.sqlite.where import condition
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.testing.backends import fields_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace

Namespace: TypeAlias = tuple[str, ...]
Model: TypeAlias = dict[tuple[Namespace, str], EpisodicEntry]

DIMENSIONS = 8
START = datetime(2025, 1, 1, tzinfo=UTC)
VECTORS = list(np.random.default_rng(5).standard_normal((20, DIMENSIONS)).astype(np.float32))
ODD = "a%_*.[]^-/\\'\"`;:|?\x01\x1f\x7f\n \u00e9e\u0301\u200b\u202eA\U0010ffff"
"""Wildcards, separators, quotes, control characters and what looks like something else."""

odd_texts = (
    st.sampled_from(["acme", "acme2", "ac", "acm%", "a_me", "*", "%", "ACME", "a.b", "a", "b", "x" * 3000])
    | st.text(ODD, min_size=1, max_size=3)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=3)
)
ids = st.sampled_from(["x", "y", "z", "%", "_", "' OR 1=1 --", '","', "x\x01"])
moments = st.integers(0, 9).map(lambda minutes: START + timedelta(minutes=minutes))


@st.composite
def namespaces_like(draw: st.DrawFn, known: list[Namespace]) -> Namespace:
    """Draw a namespace that is one of `known`, above or below one, nearly one, none at all, or any other."""
    one = draw(st.sampled_from(known))
    nearly: list[st.SearchStrategy[Namespace]] = [
        st.just(one),
        st.just(one),
        st.integers(0, len(one)).map(lambda length: one[:length]),
        odd_texts.map(lambda text: (*one, text)),
        odd_texts.map(lambda text: (*one[:-1], one[-1] + text)),
        st.sampled_from("./\x1f").map(lambda separator: (separator.join(one),)),
        st.lists(odd_texts, max_size=3).map(tuple),
    ]
    return draw(st.one_of(nearly))


class Call(NamedTuple):
    """What one tenant does: a word of memory with its argument."""

    tenant: int
    word: str
    argument: Any


def arguments(namespaces: st.SearchStrategy[Namespace]) -> dict[str, st.SearchStrategy[Any]]:
    """Return what each word may be given."""
    metadata: st.SearchStrategy[dict[str, int]] = st.just({}) | st.dictionaries(odd_texts, st.just(1), max_size=1)
    vectors = st.sampled_from(VECTORS)
    filters = st.builds(
        Filter,
        session_id=st.none() | odd_texts,
        until=st.none() | moments,
        processed=st.none() | st.booleans(),
        metadata=metadata,
        namespace=namespaces,
        below=st.sampled_from([True, True, False]),
        expired=st.sampled_from([False, False, True, None]),
        ids=st.none() | st.none() | st.frozensets(ids, max_size=4),
    )
    entries = st.builds(
        EpisodicEntry,
        odd_texts,
        st.just("user"),
        odd_texts,
        id=ids,
        namespace=st.just(()) | namespaces,
        timestamp=moments,
        ingestion_time=moments,
        metadata=metadata,
        processed=st.booleans(),
        expires_at=st.sampled_from([None, None, None, START]),
        embedding=vectors,
    )
    return {
        "add": st.lists(entries, min_size=1, max_size=5),
        "mark": st.tuples(st.frozensets(ids, max_size=4), namespaces),
        "delete": filters,
        "forget": filters,
        "delete_before": st.tuples(moments, namespaces),
        "sweep": st.builds(RetentionRule, namespace=namespaces, max_entries=st.integers(1, 3)),
        "get": st.tuples(ids, namespaces),
        "search": st.tuples(filters, st.integers(0, 6), vectors),
        "read": filters,
    }


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Namespace], list[Call]]:
    """Draw tenants, some of which look like others or stand below them, and what they do one after the other."""
    tenants = [draw(st.lists(odd_texts, min_size=1, max_size=2).map(tuple))]
    for _ in range(draw(st.integers(1, 3))):
        tenants.append(draw(namespaces_like(tenants).filter(bool)))
    given_to = arguments(namespaces_like(tenants))
    anyone = st.integers(0, len(tenants) - 1)
    words = ["add", "add", *draw(st.lists(st.sampled_from(["add", *given_to]), min_size=1, max_size=6))]
    return tenants, [Call(draw(anyone), word, draw(given_to[word])) for word in words]


def inside(namespace: Namespace, own: Namespace) -> bool:
    return list(namespace[: len(own)]) == list(own)


class Tenant:
    """A scoped memory beside a model of the whole store; every word is done to both."""

    def __init__(self, store: DefaultMemoryManager, own: Namespace, model: Model) -> None:
        self.own = own
        self.model = model
        self.manager = store.scoped(*own)
        self.memory = self.manager.episodic

    def mine(self) -> Model:
        return {key: one for key, one in self.model.items() if inside(key[0], self.own)}

    def meant(self, where: Filter) -> Model | None:
        """Return the entries that a filter means here; None where it asks for what lies outside."""
        top = where.namespace
        if not top or (where.below and inside(self.own, top)):
            top = self.own
        if not inside(top, self.own):
            return None
        anywhere = replace(where, namespace=(), below=True)
        return {
            key: one
            for key, one in self.model.items()
            if anywhere.matches(one) and inside(key[0], top) and (where.below or len(key[0]) == len(top))
        }

    def both(self, where: Filter, use: Callable[[], Any]) -> tuple[Model, Any]:
        """Return what the filter means and what the memory does, which is refused where it means nothing of ours."""
        meant = self.meant(where)
        if meant is None:
            with pytest.raises(InputError, match="outside"):
                use()
            return {}, None
        return meant, use()

    def drop(self, gone: Model) -> None:
        for key in gone:
            del self.model[key]

    def add(self, batch: list[EpisodicEntry]) -> None:
        if any(one.namespace and not inside(one.namespace, self.own) for one in batch):
            with pytest.raises(InputError, match="outside"):
                self.memory.add_many(batch)
            return
        assert self.memory.add_many(batch) == [one.id for one in batch]
        for one in batch:
            key = (one.namespace or self.own, one.id)
            learned = self.model[key].ingestion_time if key in self.model else one.ingestion_time
            self.model[key] = one.changed(namespace=key[0], ingestion_time=learned)

    def mark(self, argument: tuple[frozenset[str], Namespace]) -> None:
        names, namespace = argument
        where = Filter(ids=names, namespace=namespace, processed=False)
        meant, marked = self.both(where, lambda: self.memory.mark_processed(names, namespace=namespace))
        assert marked in (None, len(meant))
        for key, one in meant.items():
            self.model[key] = one.changed(processed=True)

    def delete(self, where: Filter) -> None:
        meant, deleted = self.both(where, lambda: self.memory.delete(where, everything=True))
        assert deleted in (None, len(meant))
        self.drop(meant)

    def forget(self, where: Filter) -> None:
        wanted = where if where.expired else replace(where, expired=None)  # who asks for what has expired means that
        meant, receipt = self.both(wanted, lambda: self.memory.forget(where, everything=True))
        assert receipt is None or sorted(receipt.ids) == sorted(meant)
        self.drop(meant)

    def delete_before(self, argument: tuple[datetime, Namespace]) -> None:
        moment, namespace = argument
        where = Filter(until=moment, namespace=namespace)
        meant, deleted = self.both(where, lambda: self.memory.delete_before(moment, namespace=namespace))
        assert deleted in (None, len(meant))
        self.drop(meant)

    def sweep(self, rule: RetentionRule) -> None:
        expired, _ = self.both(Filter(expired=True), int)
        ruled, _ = self.both(Filter(namespace=rule.namespace), lambda: self.memory.sweep(rule))
        left = {(one.namespace, one.id) for one in self.memory.scan(Filter(expired=None))}
        gone = self.mine().keys() - left
        assert gone <= ruled.keys() | expired.keys()
        self.drop({key: self.model[key] for key in gone})

    def get(self, argument: tuple[str, Namespace]) -> None:
        entry_id, namespace = argument
        meant = self.meant(Filter(ids=frozenset({entry_id}), namespace=namespace))
        own = [key for key in meant or () if key[0] == (namespace if inside(namespace, self.own) else self.own)]
        if meant is None or (len(meant) > 1 and not own):
            with pytest.raises(InputError):
                self.memory.get(entry_id, namespace=namespace)
        elif not meant:
            with pytest.raises(NotFoundError):
                self.memory.get(entry_id, namespace=namespace)
        else:
            found = self.memory.get(entry_id, namespace=namespace)
            assert fields_of(found) == fields_of(meant[(own or list(meant))[0]])

    def search(self, argument: tuple[Filter, int, Any]) -> None:
        where, k, vector = argument
        meant, hits = self.both(where, lambda: self.memory.search(vector, k, where=where))
        found = {(hit.entry.namespace, hit.entry.id): fields_of(hit.entry) for hit in hits or ()}
        assert len(found) == min(k, len(meant))
        assert found.items() <= {key: fields_of(one) for key, one in meant.items()}.items()

    def read(self, where: Filter) -> None:
        meant, found = self.both(where, lambda: list(self.memory.scan(where)))
        assert same(found or [], meant)
        assert self.both(where, lambda: self.memory.count(where))[1] in (None, len(meant))
        _, lines = self.both(where, lambda: self.memory.sessions(where))
        assert sum(line.entries for line in lines or ()) == len(meant)
        named = {(line.namespace, line.session_id) for line in lines or ()}
        assert named == {(one.namespace, one.session_id) for one in meant.values()}

    def check(self) -> None:
        """See exactly what is one's own, by every way of looking."""
        mine, every = self.mine(), Filter(expired=None)
        assert same(list(self.memory.scan(every)), mine)
        assert same([hit.entry for hit in self.memory.search(VECTORS[0], 1000, where=every)], mine)
        assert self.memory.count(every) == self.manager.stats().entries == len(mine)


def same(found: list[EpisodicEntry], expected: Model) -> bool:
    """Say whether these are the entries of the model, each once and the same in every field."""
    wanted = {key: fields_of(one) for key, one in expected.items()}
    return len(found) == len(wanted) and {(one.namespace, one.id): fields_of(one) for one in found} == wanted


def local(space: EmbeddingSpace, folder: Path) -> EpisodicBackend:  # noqa: ARG001 (it has no files)
    return LocalBackend(space)


def sqlite(space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
    return SQLiteBackend(folder / "memory.db", space, hnsw=HNSWConfig(m=2, ef_construction=8, ef_search=1))


@pytest.mark.parametrize(("make", "examples"), [(local, 400), (sqlite, 200)])
def test_whatever_tenants_do_none_meets_another(make: Any, examples: int, tmp_path: Path) -> None:
    """Each sees exactly its own after every call of anybody; what lies outside is an InputError that changes nothing.

    The store is the same for all histories, emptied in between.
    """
    service = EmbeddingService(HashingProvider(DIMENSIONS))

    @settings(max_examples=examples, deadline=None, print_blob=True)
    @given(history=histories())
    def play(history: tuple[list[Namespace], list[Call]]) -> None:
        namespaces, calls = history
        store.episodic.delete(Filter(expired=None), everything=True)
        model: Model = {}
        tenants = [Tenant(store, namespace, model) for namespace in namespaces]
        for call in calls:
            before = dict(model)
            getattr(tenants[call.tenant], call.word)(call.argument)
            changed = [key for key in before.keys() | model.keys() if before.get(key) is not model.get(key)]
            assert all(inside(namespace, namespaces[call.tenant]) for namespace, _ in changed)
            for tenant in tenants:
                tenant.check()
        assert same(list(store.episodic.scan(Filter(expired=None))), model)

    with DefaultMemoryManager(make(service.space, tmp_path), service) as store:
        play()


any_namespace = st.lists(odd_texts, max_size=3).map(tuple)


@st.composite
def two_namespaces(draw: st.DrawFn) -> tuple[Namespace, Namespace]:
    """Draw two that are likely to have something in common."""
    one = draw(any_namespace.filter(bool))
    return one, draw(namespaces_like([one]))


@settings(max_examples=1000, deadline=None)
@given(pair=two_namespaces())
@example(pair=(("a",), ("a\x01",)))
@example(pair=(("a", "b"), ("a\x01b",)))
@example(pair=(("\U0010ffff",), ("\U0010ffff", "\U0010ffff")))
def test_a_prefix_of_segments_is_a_range_of_bytes(pair: tuple[Namespace, Namespace]) -> None:
    """In SQLite's condition a namespace passes exactly when it begins with the segments asked for, each as it is."""
    for asked, stored in (pair, pair[::-1]):
        packed = packed_namespace(stored)
        assert unpacked_namespace(packed) == stored
        assert (condition(Filter(namespace=asked, below=False), now=None)[1] == [packed]) == (asked == stored)
        sql, bounds = condition(Filter(namespace=asked), now=None)
        if asked:
            assert sql == "namespace >= ? AND namespace < ?"
            assert (bounds[0] <= packed < bounds[1]) == inside(stored, asked)  # type: ignore[operator]  # both are bytes


@settings(max_examples=500, deadline=None)
@given(pair=two_namespaces(), other=any_namespace, below=st.booleans())
def test_narrowing_never_widens(pair: tuple[Namespace, Namespace], other: Namespace, below: bool) -> None:
    """What passes a filter within a namespace lies in it; what passed before and lies in it still does."""
    for asked, scope in (pair, pair[::-1], (pair[0], other)):
        where = Filter(namespace=asked, below=below)
        for stored in (*pair, other, (*scope, "x")):
            entry = EpisodicEntry("s", "user", "x", namespace=stored)
            wanted = where.matches(entry) and inside(stored, scope)
            try:
                passes = where.within(scope).matches(entry)
            except InputError:
                passes = False
            assert passes <= inside(stored, scope)
            assert wanted <= passes
