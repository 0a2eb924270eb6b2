"""The LangGraph store beyond what LangGraph's own does: it isolates, it keeps, and it says what is wrong."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.store.base import GetOp, InvalidNamespaceError, ListNamespacesOp, MatchCondition, PutOp, SearchOp

from llmspell_memory import DefaultMemoryManager, EpisodicEntry, Filter
from llmspell_memory.adapters.langgraph import EpisodicStore
from llmspell_memory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = ("users", "ada")


def batch(store: EpisodicStore, ops: Sequence[Any]) -> list[Any]:
    """Return results whose kind the reader knows by the operation."""
    return list(store.batch(ops))


def keys(items: Sequence[Any]) -> list[str]:
    return [one.key for one in items]


class TestNamespaces:
    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            (("users", "1"), ("users", "10")), (("a",), ("ab",)), (("a", "b"), ("ab",)), (("%",), ("x",)),
            (("_",), ("x",)), (("a*",), ("ab",)), (("a", "b"), ("a\x01b",)), (("a.b",), ("a", "b")),
            (("a'; --",), ("a",)), (("\u00e9",), ("e\u0301",)), (("A",), ("a",)), (("a\\",), ("a",)),
            (("a/b",), ("a", "b")),
        ],
    )  # fmt: skip
    def test_neighbours_never_meet(self, store: EpisodicStore, ours: tuple[str, ...], theirs: tuple[str, ...]) -> None:
        """No label, however it looks, lets one namespace be read, searched, listed or deleted through another."""
        for mine, other in ((ours, theirs), (theirs, ours)):
            batch(store, [PutOp(mine, "k", {"text": "tea", "of": list(mine)}), PutOp(mine, "k1", {"text": "tea"})])
            assert [one.namespace for one in batch(store, [SearchOp(mine, query="tea")])[0]] == [mine] * 2
            assert [one.namespace for one in batch(store, [SearchOp(mine)])[0]] == [mine] * 2
            assert batch(store, [GetOp(mine, "k")])[0].value["of"] == list(mine)
            assert batch(store, [GetOp(other, "k")]) == [None]
            if "*" not in "".join(mine):
                listing = ListNamespacesOp((MatchCondition("prefix", mine), MatchCondition("suffix", mine)))
                assert batch(store, [listing]) == [[mine]]
            batch(store, [PutOp(other, "k", {"text": "tea"}), PutOp(mine, "k", None), PutOp(mine, "k1", None)])
            assert batch(store, [GetOp(other, "k"), SearchOp(mine)])[1] == []
            assert batch(store, [GetOp(other, "k")])[0] is not None
            batch(store, [PutOp(other, "k", None)])
        assert store.memory.count(Filter(expired=None)) == 0

    def test_a_scope_confines_a_store(self, manager: DefaultMemoryManager) -> None:
        """A store over a scoped memory sees its namespace as the root, and nothing beside it."""
        inner = EpisodicStore(manager.scoped("acme"), fields=["text"])
        outer = EpisodicStore(manager, fields=["text"])
        inner.put(HERE, "k", {"text": "tea"}, ttl=5)
        outer.put(("acme2", *HERE), "k", {"text": "tea"})
        assert [one.namespace for one in inner.search((), query="tea")] == [HERE]
        assert inner.get(HERE, "k") is not None
        assert inner.list_namespaces() == [HERE]
        assert outer.list_namespaces() == [("acme", *HERE), ("acme2", *HERE)]
        inner.delete(HERE, "k")
        assert outer.list_namespaces() == [("acme2", *HERE)]

    def test_conversations_beside_items_are_left_alone(self, store: EpisodicStore) -> None:
        """Entries of the same namespace, id and words are neither found, listed, replaced nor deleted by the store."""
        turn = EpisodicEntry("k", "user", "tea", id="k", namespace=HERE, metadata={"searched": True})
        store.memory.add(turn)
        store.put(HERE, "k", {"text": "tea", "tags": ["milk"]})
        assert len(store.search(HERE, query="tea")) == len(store.search(HERE)) == 1
        store.delete(HERE, "k")
        assert store.search(HERE, query="tea") == store.list_namespaces() == []
        assert list(store.memory.scan()) == [turn]

    def test_consolidation_reads_no_items(self, store: EpisodicStore) -> None:
        """What is known already is not taken for something said."""
        store.put(HERE, "k", {"text": "tea", "tags": ["a"]})
        store.put(HERE, "k2", {}, index=False)
        assert store.memory.list_unprocessed() == []

    def test_labels_are_checked_as_langgraph_checks_them(self, store: EpisodicStore) -> None:
        """LangGraph's own refusals hold, and ours where an operation goes past them."""
        for namespace in [(), ("langgraph", "x"), ("a.b",), ("",)]:
            with pytest.raises(InvalidNamespaceError):
                store.put(namespace, "k", {})
        for namespace in [("",), ("a\0b",), ("\ud800",)]:
            with pytest.raises(InputError):
                batch(store, [PutOp(namespace, "k", {})])


class TestItems:
    def test_values_come_back_as_they_were(self, store: EpisodicStore) -> None:
        """Any JSON object is kept whole, and what a caller does to theirs leaves the store alone."""
        value = {
            "": 0, "updated_at": 1, "searched": False, "value.x": [1, 2.0, {"a": None}], "ttl": 1, "t": "ü\n",
            "b": True,
        }  # fmt: skip
        store.put(HERE, "k", value)
        value["b"] = False
        got = store.get(HERE, "k")
        assert got is not None
        assert got.value == {**value, "b": True}
        assert type(got.value["value.x"][1]) is float
        got.value["b"] = 5
        assert store.get(HERE, "k").value["b"] is True  # type: ignore[union-attr]  # it is there
        store.put(HERE, "empty", {})
        assert store.get(HERE, "empty").value == {}  # type: ignore[union-attr]  # it is there

    def test_equal_texts_in_one_batch(self, store: EpisodicStore) -> None:
        """Items with one and the same text are each found by it, with the same score."""
        batch(store, [PutOp(HERE, f"k{n}", {"text": "tea", "tags": ["tea", "tea"]}) for n in range(5)])
        found = store.search(HERE, query="tea")
        assert sorted(keys(found)) == [f"k{n}" for n in range(5)]
        assert {one.score for one in found} == {found[0].score}

    def test_what_an_item_is_looked_for_by_changes_with_it(self, store: EpisodicStore) -> None:
        """Each put leaves the vectors of its own texts and no others, and `index` says of which."""
        texts = ["one apple", "two pears", "three plums"]
        store.put(HERE, "k", {"text": "tea", "tags": texts})
        assert store.memory.count() == 4
        assert store.search(HERE, query="two pears")[0].score == pytest.approx(1)
        store.put(HERE, "k", {"text": "tea", "tags": texts[:1]})
        assert store.memory.count() == 2
        assert store.search(HERE, query="two pears")[0].score < 0.9  # type: ignore[operator]  # it has one
        store.put(HERE, "k", {"text": "tea", "tags": texts}, index=False)
        assert store.search(HERE, query="tea")[0].score is None
        store.put(HERE, "k", {"text": "tea", "note": {"of": ["coffee"]}}, index=["note.of[*]"])
        assert store.search(HERE, query="coffee")[0].score == pytest.approx(1)
        store.put(HERE, "k", {"text": "tea"}, index=["$"])
        assert store.search(HERE, query='{"text": "tea"}')[0].score == pytest.approx(1)
        assert store.memory.count() == 1

    def test_pages_are_full_under_every_filter(self, store: EpisodicStore) -> None:
        """Where enough items pass, a page has as many as were asked for, and pages together are the whole."""
        store.batch(
            [PutOp(HERE, f"k{n:03}", {"text": f"tea number {n}", "tags": ["tea", "cup"], "n": n}) for n in range(120)]
        )
        batch(store, [PutOp(HERE, f"x{n}", {"text": "tea", "n": n}, index=False) for n in range(5)])
        wanted: list[tuple[dict[str, Any], int]] = [
            ({"n": {"$gte": 100}}, 20),
            ({"n": {"$lt": 3}}, 6),
            ({"n": 4}, 2),
            ({}, 125),
        ]
        for query, (conditions, count) in itertools.product(("tea", None), wanted):
            pages = [store.search(HERE, query=query, filter=conditions, limit=7, offset=at) for at in range(0, 130, 7)]
            assert [len(page) for page in pages] == [max(0, min(7, count - at)) for at in range(0, 130, 7)]
            assert len({one.key for page in pages for one in page}) == count

    @pytest.mark.parametrize("limit", [10**6, 2**62, 10**30])
    def test_a_limit_beyond_all_is_no_limit(self, store: EpisodicStore, limit: int) -> None:
        """Whoever wants everything may say any large number."""
        store.batch([PutOp(HERE, f"k{n}", {"text": "tea", "n": n}) for n in range(3)])
        for query, conditions in itertools.product(("tea", None), ({"n": {"$gt": 0}}, {"n": 1}, None)):
            assert len(store.search(HERE, query=query, filter=conditions, limit=limit)) > 0
            assert store.search(HERE, query=query, filter=conditions, limit=limit, offset=limit) == []
        assert store.list_namespaces(limit=limit) == [HERE]

    def test_a_batch_reads_before_it_writes(self, store: EpisodicStore) -> None:
        """Reads see what was there before the batch; of two puts the last counts; results keep their places."""
        store.put(HERE, "k", {"n": 1})
        ops = [PutOp(HERE, "k", {"n": 2}), GetOp(HERE, "k"), PutOp(HERE, "k", {"n": 3}), SearchOp(HERE)]
        first, got, second, found = batch(store, ops)
        assert (first, second) == (None, None)
        assert got.value == found[0].value == {"n": 1}
        assert store.get(HERE, "k").value == {"n": 3}  # type: ignore[union-attr]  # it is there

    def test_a_batch_that_is_refused_writes_nothing(self, store: EpisodicStore) -> None:
        """One value that cannot be kept, and none of its batch is; the message says what is wrong."""
        good = PutOp(HERE, "good", {"text": "tea"})
        bad: list[Any] = [
            PutOp(HERE, "k", {"at": datetime.now(UTC)}), PutOp(HERE, "k", {"n": float("nan")}),
            PutOp(HERE, "k", {"text": "a\0b"}), PutOp(HERE, "k\0", {}), PutOp(HERE, 5, {}),  # type: ignore[arg-type]
            PutOp(HERE, "k", {}, ttl=-1), PutOp(HERE, "k", {}, ttl=1e12), PutOp(HERE, "k", {}, ttl=float("nan")),
            SearchOp(HERE, limit=-1), SearchOp(HERE, offset=-1), SearchOp(HERE, filter={"n": {"$in": []}}),
            ListNamespacesOp((MatchCondition("infix", ("a",)),)), "get",  # type: ignore[arg-type]
        ]  # fmt: skip
        for op in bad:
            with pytest.raises(InputError):
                batch(store, [good, op])
            with pytest.raises(InputError):
                asyncio.run(store.abatch([good, op]))
        assert store.memory.count(Filter(expired=None)) == 0

    def test_a_part_left_behind_is_of_no_item(self, store: EpisodicStore) -> None:
        """A process that dies between putting an item anew and dropping its former parts leaves nothing to be found."""
        store.put(HERE, "k", {"text": "tea", "tags": ["apple"]})
        parts = [one for one in store.memory.scan() if one.role == "langgraph.part"]
        store.put(HERE, "k", {"text": "tea"})
        store.put(HERE, "other", {"text": "pear"})
        store.memory.add_many(parts)
        found = store.search(HERE, query="apple", limit=2)
        assert sorted(keys(found)) == ["k", "other"]
        assert all(one.score < 0.9 for one in found)  # type: ignore[operator]  # they have one
        store.delete(HERE, "k")
        assert [one.role for one in store.memory.scan()] == ["langgraph"]

    def test_without_fields_nothing_is_searched_by_meaning(self, manager: DefaultMemoryManager) -> None:
        """A store without an index ignores queries, as LangGraph's own does, and embeds nothing."""
        store = EpisodicStore(manager, fields=None)
        store.put(HERE, "k", {"text": "tea"}, index=["text"])
        assert [one.score for one in store.search(HERE, query="tea")] == [None]
        assert manager.stats().cache_misses == 0
