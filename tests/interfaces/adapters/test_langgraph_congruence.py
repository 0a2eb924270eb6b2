"""The same operations on our store and on LangGraph's own: the same results, wherever that one is right."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from langgraph.store.base import GetOp, ListNamespacesOp, MatchCondition, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicBackendType, MemoryConfig
from llmspell_memory.adapters.langgraph import EpisodicStore
from llmspell_memory.embeddings import HashingProvider

if TYPE_CHECKING:
    import unittest
    from collections.abc import Sequence

    from langgraph.store.base import BaseStore, Item, Op, SearchItem

PROVIDER = HashingProvider()
FIELDS = ["text", "tags[*]", "deep"]
NAMESPACES = [
    *[("users",), ("users", "1"), ("users", "10"), ("users", "1", "x"), ("users", "%"), ("users", "_")],
    *[("user",), ("üser", "a.b"), ("users\x01",), ("a",), ("a", "users"), ("users", "1", "x", "*")],
]
KEYS = ["k", "k2", "K", "k%", "", "ключ", "langgraph:k"]
TEXTS = ["tea with milk", "coffee", "the ferry to Kiel", "tea", 'it\'s "quoted" 100%', "long " * 60]


class Corrected(InMemoryStore):
    """LangGraph's store without what it does wrong: each method here is one of its defects."""

    def _insertinmem_store(self, to_embed: Any, embeddings: Any) -> None:
        """Equal texts of one batch are an error there."""
        for places, embedding in zip(to_embed.values(), embeddings, strict=True):
            for namespace, key, path in places:
                self._vectors[namespace][key][path] = embedding

    def _extract_texts(self, put_ops: Any) -> Any:
        """What an item was looked for by before it was put again, it is looked for by for ever there."""
        for namespace, key in put_ops:
            self._vectors[namespace].pop(key, None)
        return super()._extract_texts(put_ops)

    def _handle_list_namespaces(self, op: Any) -> Any:
        """Namespaces that hold nothing, or were read once, are listed there."""
        for namespace in [one for one, items in self._data.items() if not items]:
            del self._data[namespace]
        return super()._handle_list_namespaces(op)


namespaces = st.sampled_from(NAMESPACES)
numbers = st.sampled_from([-1, 0, 1, 1.0, 2.5, 3, 10])
values = st.fixed_dictionaries(
    {"n": numbers},
    optional={
        "text": st.sampled_from(TEXTS),
        "tags": st.lists(st.sampled_from(TEXTS), max_size=3),
        "flag": st.booleans(),
        "deep": st.fixed_dictionaries({"a": st.sampled_from([1, 2]), "b": st.none() | st.sampled_from(TEXTS)}),
        "none": st.none(),
    },
)
operators = st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"])
conditions = st.fixed_dictionaries(
    {},
    optional={
        "n": numbers | st.dictionaries(operators, numbers, min_size=1, max_size=2),
        "text": st.sampled_from(TEXTS) | st.fixed_dictionaries({"$ne": st.sampled_from(TEXTS)}),
        "tags": st.lists(st.sampled_from(TEXTS), max_size=2),
        "flag": st.booleans() | st.fixed_dictionaries({"$eq": st.booleans()}),
        "deep": st.fixed_dictionaries({}, optional={"a": st.sampled_from([1, 2]) | st.just({"$gte": 2})}),
        "none": st.none(),
        "missing": st.none(),
    },
)
puts = st.builds(
    PutOp,
    namespaces,
    st.sampled_from(KEYS),
    values,
    st.sampled_from([None, None, False, ["text"], ["tags[*]", "n"], ["deep.b", "absent"]]),
    st.none(),  # a time to live, which theirs does not know
)
deletes = st.builds(PutOp, namespaces, st.sampled_from(KEYS), *[st.none()] * 3)
gets = st.builds(GetOp, namespaces, st.sampled_from(KEYS), st.booleans())
searches = st.builds(
    SearchOp,
    st.just(()) | namespaces,
    st.none() | conditions,
    st.integers(0, 6),
    st.integers(0, 4),
    st.none() | st.sampled_from([*TEXTS, "milk", ""]),
    st.booleans(),
)
paths = st.lists(st.sampled_from(["users", "1", "x", "*", "a", "%"]), min_size=1, max_size=3).map(tuple)
listings = st.builds(
    ListNamespacesOp,
    st.none()
    | st.lists(st.builds(MatchCondition, st.sampled_from(["prefix", "suffix"]), paths), max_size=2).map(tuple),
    st.none() | st.integers(1, 3),
    st.integers(0, 8),
    st.integers(0, 3),
)


def results_of(store: BaseStore, ops: Sequence[Op]) -> list[Any]:
    """Return results whose kind the reader knows by the operation."""
    return list(store.batch(ops))


def name(item: Item) -> tuple[tuple[str, ...], str]:
    return item.namespace, item.key


def by_namespace(items: Sequence[Item]) -> dict[tuple[str, ...], list[tuple[str, Any]]]:
    """Return keys and values in their order, by namespace: between namespaces ours go by age, theirs by place."""
    found = defaultdict(list)
    for one in items:
        found[one.namespace].append((one.key, one.value))
    return found


class Machine(RuleBasedStateMachine):
    """Runs the same batches on both."""

    durable: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.theirs = Corrected(index={"dims": PROVIDER.dimensions, "embed": self.embed, "fields": FIELDS})
        self.made: dict[tuple[tuple[str, ...], str], tuple[Any, Any]] = {}
        self.open()

    @staticmethod
    def embed(texts: Sequence[str]) -> list[list[float]]:
        rows: list[list[float]] = PROVIDER.embed(texts).tolist()
        return rows

    def open(self) -> None:
        config = MemoryConfig.for_production(EmbeddingService(PROVIDER), path=self.folder / "memory.db")
        if not self.durable:
            config = config.with_path(None).with_backend(EpisodicBackendType.IN_MEMORY)
        self.manager = DefaultMemoryManager.with_config(config)
        self.ours = EpisodicStore(self.manager, fields=FIELDS)

    @precondition(lambda self: self.durable)
    @rule()
    def reopen(self) -> None:
        self.manager.close()
        self.open()

    @rule(ops=st.lists(puts, min_size=1, max_size=6))
    def put(self, ops: list[Op]) -> None:
        self.batch(ops)

    @rule(ops=st.lists(puts | deletes | gets | searches | listings, min_size=1, max_size=8))
    def batch(self, ops: list[Op]) -> None:
        before = [self.everything(op) if isinstance(op, SearchOp) else None for op in ops]
        results = zip(ops, before, results_of(self.ours, ops), results_of(self.theirs, ops), strict=True)
        for op, all_of_it, ours, theirs in results:
            if isinstance(op, SearchOp):
                assert all_of_it is not None
                self.check_page(op, ours, all_of_it)
            elif isinstance(op, GetOp) and ours is not None:
                assert (name(ours), ours.value) == (name(theirs), theirs.value)
                assert (ours.created_at, ours.updated_at) == self.made[name(ours)]
            else:
                assert ours == theirs
        for op in ops:
            if isinstance(op, PutOp):
                self.check_times(op)

    @rule(op=searches)
    def search(self, op: SearchOp) -> None:
        self.batch([op])

    def everything(self, op: SearchOp) -> list[SearchItem]:
        """Return all that a search finds, once both are agreed on it."""
        whole = op._replace(limit=10_000, offset=0)
        (ours,), (theirs,) = results_of(self.ours, [whole]), results_of(self.theirs, [whole])
        scores = {name(one): one.score for one in ours}
        for one in theirs:
            assert (scores[name(one)] is None) == (one.score is None)
            assert scores[name(one)] == pytest.approx(one.score, abs=1e-5)
        for scored in (True, False):
            mine, others = ([one for one in items if (one.score is not None) == scored] for items in (ours, theirs))
            if scored:
                assert [one.score for one in mine] == pytest.approx([one.score for one in others], abs=1e-5)
                assert sorted(map(name, mine)) == sorted(map(name, others))
            else:
                assert by_namespace(mine) == by_namespace(others)
        assert [one.score is None for one in ours] == sorted(one.score is None for one in ours)
        found: list[SearchItem] = ours
        return found

    def check_page(self, op: SearchOp, page: list[SearchItem], whole: list[SearchItem]) -> None:
        """A page is a cut of the whole, and so full wherever there is enough."""
        assert page == whole[op.offset : op.offset + op.limit]

    def check_times(self, op: PutOp) -> None:
        """An item that is put again keeps when it was made; one that was deleted in between is made anew."""
        item = results_of(self.ours, [GetOp(op.namespace, op.key)])[0]
        key, former = (op.namespace, op.key), self.made.pop((op.namespace, op.key), None)
        if item is not None:
            assert item.created_at <= item.updated_at
            if former is not None and former[1] != item.updated_at:
                assert item.created_at == former[0]
                assert item.updated_at > former[1]
            self.made[key] = item.created_at, item.updated_at

    def teardown(self) -> None:
        self.manager.close()
        shutil.rmtree(self.folder)


def case(*, durable: bool) -> type[unittest.TestCase]:
    machine: Any = type("Machine", (Machine,), {"durable": durable})
    machine.TestCase.settings = settings(
        max_examples=25 if durable else 60,
        stateful_step_count=12,
        deadline=None,
        phases=[Phase.reuse, Phase.generate, Phase.shrink],  # explaining takes minutes
        suppress_health_check=list(HealthCheck),
    )
    return machine.TestCase  # type: ignore[no-any-return]  # hypothesis makes it


TestExact = case(durable=False)
TestDurableHNSW = case(durable=True)
