"""Two tenants in one store, whose names look alike and whose ids are the same, never meet."""

from __future__ import annotations

import inspect
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory.config import EpisodicBackendType
from llmspell_memory.errors import ClosedError, ConfigError, InputError, NotFoundError
from llmspell_memory.manager import DefaultMemoryManager
from llmspell_memory.protocols import EpisodicBackend
from llmspell_memory.testing.backends.material import DIMENSIONS, START, contents, entry, fields_of
from llmspell_memory.types import Filter, Query, RetentionRule

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.memory import EpisodicMemory

LOOKALIKES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("acme",), ("acme2",)),
    (("acme",), ("ac",)),
    (("acme",), ("acm%",)),
    (("acme",), ("a_me",)),
    (("acme",), ("*",)),
    (("acme",), ("%",)),
    (("acme",), ("[a]cme",)),
    (("acme",), ("ACME",)),
    (("acme",), ("acme ",)),
    (("acme",), ("acme\n",)),
    (("acme",), ("acme\x01",)),
    (("acme",), ("acme\U0010ffff",)),
    (("acme",), ("acme\u200b",)),
    (("acme",), ("\u0430cme",)),  # a Cyrillic letter
    (("caf\u00e9",), ("cafe\u0301",)),  # one text in two normal forms
    (("a", "b"), ("a.b",)),
    (("a", "b"), ("a/b",)),
    (("a", "b"), ("a\x1fb",)),
    (("a", "b"), ("ab",)),
    (("a", "b"), ("b", "a")),
    (("a", "b"), ("a", "b%")),
    (("'",), ("''",)),
    (("x" * 10_000,), ("x" * 10_001,)),
    (("d",) * 100, (*("d",) * 99, "e")),
)
"""Pairs of namespaces that some way of comparing would take for one, or one for a part of the other."""


def short(namespace: object) -> str:
    """Return a name for a test about `namespace`."""
    return ascii(namespace).replace("/", "|")[:40]


class IsolationContract:
    """What a backend promises about namespaces: a memory scoped to one has no way to another."""

    @pytest.mark.parametrize(("left", "right"), LOOKALIKES, ids=short)
    def test_tenants_with_names_alike_never_meet(
        self, manager: DefaultMemoryManager, left: tuple[str, ...], right: tuple[str, ...]
    ) -> None:
        """Same ids, sessions, texts and times: each reads, finds, counts, marks and deletes its own and no other."""
        for ours, theirs in ((left, right), (right, left)):
            mine, other = manager.scoped(*ours), manager.scoped(*theirs)
            for tenant, texts in ((mine, ("mine x", "mine y")), (other, ("theirs x", "theirs y", "theirs z"))):
                tenant.episodic.add_many(
                    entry(text, id=text[-1], minute=n, metadata={"k": 1}) for n, text in enumerate(texts)
                )
            before, stored = everything(other), rows_and_hits(other)
            check_what_is_seen(mine, other.backend.namespace)
            assert everything(other) == before
            changes: list[Callable[[EpisodicMemory], object]] = [
                lambda memory: memory.add(entry("mine again", id="x", processed=True)),
                lambda memory: memory.mark_processed(["x", "y", "z"]),
                lambda memory: memory.set_expiry(Filter(), START + timedelta(days=9999)),
                lambda memory: memory.delete(Filter(ids=frozenset({"z"}))),
                lambda memory: memory.delete(Filter(session_id="s1", metadata={"k": 1})),
                lambda memory: memory.delete_before(START + timedelta(days=1)),
                lambda memory: memory.add_many([entry("theirs x", id=name) for name in "xyz"]),
                lambda memory: memory.forget(Filter(ids=frozenset({"x"}))),
                lambda memory: memory.add(entry("mine", id="z", expires_at=START)),
                lambda memory: memory.sweep(RetentionRule(max_entries=1), RetentionRule(max_age=timedelta(days=1))),
                lambda memory: memory.add(entry("mine", id="z")),
                lambda memory: memory.delete(Filter(), everything=True),
            ]
            for change in changes:
                change(mine.episodic)
                assert rows_and_hits(other) == stored
            assert everything(other) == before
            assert mine.episodic.count(Filter(expired=None)) == 0
            other.episodic.delete(Filter(), everything=True)

    def test_every_verb_of_the_backend_is_narrowed(self, manager: DefaultMemoryManager) -> None:
        """Without the words of memory before it, a scope's backend keeps to its namespace in every verb."""
        acme, other = manager.scoped("acme"), manager.scoped("acme2")
        vector = manager.service.embed_one("x")
        query = Query(text="x", vector=vector)
        verbs: dict[str, Callable[[Filter], object]] = {
            "scan": lambda where: contents(list(acme.backend.scan(where))),
            "search": lambda where: contents(acme.backend.search(vector, 9, where)),
            "retrieve": lambda where: contents(acme.backend.retrieve(query, 9, where)),
            "named_roles": lambda where: acme.backend.named_roles({"user", "assistant"}, where),
            "count": acme.backend.count,
            "sessions": lambda where: [line.entries for line in acme.backend.sessions(where)],
            "mark_processed": acme.backend.mark_processed,
            "set_expiry": lambda where: acme.backend.set_expiry(where, None),
            "delete": acme.backend.delete,
            "forget": lambda where: [one.id for one in acme.backend.forget(where)],
        }
        assert verbs.keys() == {
            name
            for name, verb in vars(EpisodicBackend).items()
            if callable(verb) and "where" in inspect.signature(verb).parameters
        }
        other.episodic.add_many([entry("theirs", id="x"), entry("theirs", id="y")])
        before = everything(other)
        expected = {
            **{verb: ["x"] for verb in ("scan", "search", "retrieve", "forget")},
            "sessions": [1],
            "named_roles": ["user"],
        }
        for name, verb in verbs.items():
            acme.episodic.add(entry("x", id="x"))
            assert verb(Filter()) == expected.get(name, 1), name
            with pytest.raises(InputError, match="outside"):
                verb(Filter(namespace=other.backend.namespace))
            assert everything(other) == before

    def test_a_text_that_claims_to_be_any_is_only_its_characters(self, manager: DefaultMemoryManager) -> None:
        """A segment or an id of a class that compares equal to everything opens nothing."""
        acme, other = manager.scoped("acme"), manager.scoped("acme2")
        acme.episodic.add(entry("x", id="x"))
        other.episodic.add_many([entry("theirs", id="x"), entry("theirs", id="y")])
        theirs = (*other.backend.namespace[:-1], Anything("acme2"))
        check_that_others_are_refused(acme.episodic, theirs)
        assert acme.episodic.count(Filter(ids=frozenset({Anything("y")}))) == 0
        assert contents(list(manager.scoped(Anything("acme")).episodic.scan())) == ["x"]
        assert other.episodic.count() == 2

    def test_what_lies_below_belongs_to_it(self, manager: DefaultMemoryManager) -> None:
        """A scope holds the namespaces below its own; a scope of a scope narrows further, and never widens."""
        acme = manager.scoped("acme")
        alice, bob = acme.scoped("alice"), acme.scoped("bob")
        for one, text in ((manager, "root"), (acme, "acme"), (alice, "alice"), (bob, "bob")):
            one.episodic.add(entry(text, id=text))
        assert sorted(contents(list(acme.episodic.scan()))) == ["acme", "alice", "bob"]
        assert contents(list(alice.episodic.scan())) == ["alice"]
        assert alice.backend.namespace == (*manager.backend.namespace, "acme", "alice")
        above = acme.backend.namespace
        assert contents(alice.episodic.search("bob", 9, where=Filter(namespace=above))) == ["alice"]
        assert alice.episodic.count(Filter(namespace=above)) == alice.episodic.delete(
            Filter(namespace=above), everything=True
        )
        assert sorted(contents(list(manager.episodic.scan()))) == ["acme", "bob", "root"]

    def test_an_entry_goes_where_it_says(self, service: EmbeddingService, manager: DefaultMemoryManager) -> None:
        """Without a namespace it gets the scope's, below it stays; elsewhere nothing is embedded or stored."""
        acme = manager.scoped("acme")
        here, below, above = (
            acme.backend.namespace,
            (*acme.backend.namespace, "alice"),
            manager.backend.namespace,
        )
        acme.episodic.add_many([entry("one", id="1"), entry("two", id="2", namespace=below)])
        acme.episodic.add(entry("three", id="3", namespace=here))
        assert {one.id: one.namespace for one in manager.episodic.scan()} == {"1": here, "2": below, "3": here}
        misses = service.misses
        for outside in (here[:-1], (*above, "acme2"), (*above, "acme2", "alice"), ("else",), (*here[:-1], "acm")):
            if outside:
                with pytest.raises(InputError, match="outside"):
                    acme.episodic.add_many([entry("new", id="4"), entry("new too", id="1", namespace=outside)])
                with pytest.raises(InputError, match="outside"):
                    acme.backend.add([entry("new", id="4", namespace=outside, embedding=np.ones(DIMENSIONS))])
        assert service.misses == misses
        assert sorted(contents(list(manager.episodic.scan()))) == ["one", "three", "two"]

    def test_an_id_is_read_as_in_a_store_of_its_own(self, manager: DefaultMemoryManager) -> None:
        """The scope's own entry comes before those below; of several below, one has to be named."""
        acme = manager.scoped("acme")
        here = acme.backend.namespace
        manager.episodic.add(entry("root", id="x"))
        manager.scoped("acme2").episodic.add(entry("acme2", id="x"))
        with pytest.raises(NotFoundError):
            acme.episodic.get("x")
        acme.scoped("alice").episodic.add(entry("alice", id="x"))
        assert acme.episodic.get("x").content == "alice"
        acme.scoped("bob").episodic.add(entry("bob", id="x"))
        with pytest.raises(InputError, match="several namespaces"):
            acme.episodic.get("x")
        assert acme.episodic.get("x", namespace=(*here, "bob")).content == "bob"
        acme.episodic.add(entry("acme", id="x"))
        assert acme.episodic.get("x").content == acme.episodic.get("x", namespace=here).content == "acme"

    def test_deleting_all_of_a_scope_must_be_meant(self, manager: DefaultMemoryManager) -> None:
        """Its own namespace, or one above, is no condition there."""
        acme = manager.scoped("acme")
        acme.episodic.add_many([entry("one"), entry("two")])
        for where in (Filter(), Filter(namespace=acme.backend.namespace), Filter(namespace=manager.backend.namespace)):
            for one in (where, replace(where, expired=None)):
                with pytest.raises(InputError, match="everything=True"):
                    acme.episodic.delete(one)
                with pytest.raises(InputError, match="everything=True"):
                    acme.episodic.forget(one)
        assert acme.episodic.delete(Filter(processed=False)) == 2

    def test_a_namespace_above_is_the_scope_only_with_what_is_below_it(self, manager: DefaultMemoryManager) -> None:
        """Without `below`, no namespace means the scope's own entries, and one above is refused: they are outside."""
        acme = manager.scoped("acme")
        alice = acme.scoped("alice")
        acme.episodic.add(entry("acme"))
        alice.episodic.add(entry("alice"))
        assert contents(list(acme.episodic.scan(Filter(below=False)))) == ["acme"]
        assert contents(list(alice.episodic.scan(Filter(below=False)))) == ["alice"]
        assert acme.episodic.delete(Filter(below=False)) == 1
        with pytest.raises(InputError, match="outside"):
            alice.episodic.count(Filter(namespace=acme.backend.namespace, below=False))

    def test_a_sweep_stays_in_its_scope(self, manager: DefaultMemoryManager) -> None:
        """It deletes what has expired there, and keeps to the rules of its own namespaces, also those of the store."""
        here = manager.backend.namespace
        rules = (
            RetentionRule(namespace=(*here, "acme"), max_entries=2),
            RetentionRule(namespace=(*here, "acme2"), max_entries=1),
            RetentionRule(namespace=(*here, "acme", "alice"), max_entries=1),
        )
        store = DefaultMemoryManager(manager.backend, manager.service, retention=rules)
        acme, other, alice = store.scoped("acme"), store.scoped("acme2"), store.scoped("acme", "alice")
        for one in (acme, other, alice):
            one.episodic.add_many(entry(f"{n}", minute=n) for n in range(3))
            one.episodic.add(entry("gone", expires_at=START))
        assert (store.retention, acme.retention, alice.retention) == (rules, rules[::2], rules[::2])
        report = acme.sweep()
        assert {(one.reason, one.namespace[len(here) :], one.entries) for one in report.removals} == {
            ("expired", ("acme",), 1),
            ("expired", ("acme", "alice"), 1),
            ("too many", ("acme",), 1),
            ("too many", ("acme", "alice"), 1),
            ("too many", ("acme", "alice"), 1),
        }
        assert report.entries == 5
        assert contents(list(alice.episodic.scan())) == ["2"]
        assert other.episodic.count(Filter(expired=None)) == 4

    def test_a_scope_forgets_its_own_alone(self, manager: DefaultMemoryManager) -> None:
        """The receipt names the scope's entries and no others, which stay as they were, and are found as before."""
        acme, other = manager.scoped("acme"), manager.scoped("acme2")
        for one in (acme, other):
            one.episodic.add_many(entry(f"text {n}", id=f"{n}") for n in range(5))
        before = everything(other)
        receipt = acme.episodic.forget(Filter(ids=frozenset({"1", "2", "9"})))
        assert receipt.ids == ((acme.backend.namespace, "1"), (acme.backend.namespace, "2"))
        assert receipt.where.namespace == acme.backend.namespace
        assert everything(other) == before
        assert acme.episodic.forget(Filter(), everything=True).entries == 3
        assert everything(other) == before

    @pytest.mark.parametrize(
        "segments",
        [(), ("",), ("a\0b",), ("a", ""), ("a", None), (b"a",), (("a", "b"),), ("\ud800",), (1,)],
        ids=short,
    )
    def test_what_is_no_namespace_is_no_scope(self, manager: DefaultMemoryManager, segments: tuple[Any, ...]) -> None:
        """Nothing, an empty text, NUL, a lone surrogate and what is no text are errors, never a wider scope."""
        with pytest.raises(InputError):
            manager.scoped(*segments)

    def test_the_index_is_not_the_scopes_to_change(self, manager: DefaultMemoryManager) -> None:
        """Every change of view is a ConfigError in a scope, also of `ef_search` alone."""
        acme = manager.scoped("acme")
        uses: list[Callable[[], object]] = [
            lambda: acme.switch_backend(EpisodicBackendType.HNSW),
            lambda: acme.switch_backend(EpisodicBackendType.IN_MEMORY),
            lambda: acme.set_ef_search(10),
            acme.rebuild,
        ]
        for use in uses:
            with pytest.raises(ConfigError):
                use()
        assert acme.backend_name == manager.backend_name

    def test_figures_tell_nothing_of_others(self, manager: DefaultMemoryManager) -> None:
        """Whatever others add, mark and have embedded, a scope's figures stay the same."""
        acme = manager.scoped("acme")
        acme.episodic.add_many([entry("one", "s1"), entry("two", "s2"), entry("three", "s2", processed=True)])
        before = acme.stats()
        assert (before.entries, before.unprocessed, before.sessions, before.index.size) == (3, 2, 2, 3)
        other = manager.scoped("acme2")
        other.episodic.add_many(entry(f"other {n}", f"s{n}") for n in range(100))
        other.episodic.search("a new text", 5)
        other.episodic.mark_processed([one.id for one in other.episodic.list_unprocessed(limit=50)])
        assert acme.stats() == before

    def test_closing_a_scope_closes_no_more(self, manager: DefaultMemoryManager) -> None:
        """Afterwards the scope and what was made of it are closed, the store and other scopes are open."""
        acme, other = manager.scoped("acme"), manager.scoped("acme2")
        alice = acme.scoped("alice")
        alice.episodic.add(entry("x", id="x"))
        begun = acme.episodic.scan()
        acme.close()
        acme.close()
        for use in uses_of(acme) + uses_of(alice) + [lambda: list(begun)]:
            with pytest.raises(ClosedError):
                use()
        assert contents(list(manager.episodic.scan())) == ["x"]
        other.episodic.add(entry("y"))
        assert contents(other.episodic.search("y", 5)) == ["y"]

    def test_a_closed_store_ends_its_scopes(self, manager: DefaultMemoryManager) -> None:
        """Once the store is closed, every use of a scope is a ClosedError, but closing it."""
        acme = manager.scoped("acme")
        acme.episodic.add(entry("x", id="x"))
        manager.close()
        for use in uses_of(acme):
            with pytest.raises(ClosedError):
                use()
        acme.close()


class Anything(str):
    """A text that compares equal to every other."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


def rows_and_hits(manager: DefaultMemoryManager) -> tuple[object, ...]:
    """Return what a memory stores, and what it finds by a vector."""
    memory, vector = manager.episodic, manager.service.embed_one("theirs x")
    return [fields_of(one) for one in memory.scan()], memory.search(vector, 100)


def everything(manager: DefaultMemoryManager) -> tuple[object, ...]:
    """Return all that a memory tells of itself."""
    memory = manager.episodic
    return (
        [fields_of(one) for one in memory.scan()],
        memory.search("theirs x", 100),
        memory.count(),
        memory.sessions(),
        memory.list_unprocessed(),
        memory.list_sessions_with_unprocessed(),
        manager.stats().entries,
    )


def check_what_is_seen(mine: DefaultMemoryManager, theirs: tuple[str, ...]) -> None:
    """Ask every question to a memory that holds "mine x" and "mine y"; `theirs` is another's namespace."""
    memory, here = mine.episodic, mine.backend.namespace
    vector = mine.service.embed_one("theirs x")
    for where in (
        Filter(),
        Filter(namespace=here),
        Filter(namespace=here[:-1]),
        Filter(session_id="s1"),
        Filter(ids=frozenset("xyz")),
        Filter(metadata={"k": 1.0}),
        Filter(processed=False),
        Filter(below=False),
        Filter(expired=None),
        Filter(role="user", since=START, until=START + timedelta(days=1)),
    ):
        assert contents(list(memory.scan(where))) == ["mine x", "mine y"]
        assert sorted(contents(memory.search("theirs x", 100, where=where))) == ["mine x", "mine y"]
        assert sorted(contents(memory.search(vector, 2, where=where))) == ["mine x", "mine y"]
        assert memory.count(where) == 2
        assert [(line.session_id, line.namespace, line.entries) for line in memory.sessions(where)] == [("s1", here, 2)]
    for namespace in ((), here):
        assert memory.get("x", namespace=namespace).content == "mine x"
        with pytest.raises(NotFoundError):
            memory.get("z", namespace=namespace)
        assert contents(memory.get_session("s1", namespace=namespace)) == ["mine x", "mine y"]
        assert contents(memory.list_unprocessed("s1", namespace=namespace)) == ["mine x", "mine y"]
        assert memory.list_sessions_with_unprocessed(namespace=namespace) == ["s1"]
    assert mine.stats().entries == 2
    check_that_others_are_refused(memory, theirs)


def check_that_others_are_refused(memory: EpisodicMemory, theirs: tuple[str, ...]) -> None:
    """Name another's namespace to every word: an InputError each time."""
    where = Filter(namespace=theirs)
    for use in (
        lambda: memory.get("x", namespace=theirs),
        lambda: memory.get_session("s1", namespace=theirs),
        lambda: memory.list_unprocessed(namespace=theirs),
        lambda: memory.list_sessions_with_unprocessed(namespace=theirs),
        lambda: memory.mark_processed(["x"], namespace=theirs),
        lambda: memory.set_expiry(where, None),
        lambda: memory.delete_before(START + timedelta(days=1), namespace=theirs),
        lambda: memory.search("theirs x", 5, where=where),
        lambda: memory.scan(where),
        lambda: memory.count(where),
        lambda: memory.sessions(where),
        lambda: memory.delete(where),
        lambda: memory.delete(where, everything=True),
        lambda: memory.forget(where),
        lambda: memory.forget(where, everything=True),
        lambda: memory.sweep(RetentionRule(namespace=theirs, max_entries=1)),
        lambda: memory.count(Filter(namespace=theirs, below=False)),
        lambda: memory.count(Filter(namespace=theirs, expired=None)),
        lambda: memory.add(entry("mine x", id="x", namespace=theirs)),
    ):
        with pytest.raises(InputError, match="outside"):
            use()


def uses_of(manager: DefaultMemoryManager) -> list[Callable[[], object]]:
    """Return every use of an open memory."""
    memory = manager.episodic
    return [
        lambda: memory.add(entry("y")),
        lambda: memory.search("x", 1),
        lambda: memory.search("x", 1, where=Filter(session_id="s1")),
        lambda: memory.get("x"),
        lambda: list(memory.scan()),
        lambda: memory.mark_processed(["x"]),
        lambda: memory.delete(Filter(session_id="s1")),
        lambda: memory.delete_before(START),
        lambda: memory.forget(Filter(session_id="s1")),
        memory.sweep,
        memory.count,
        memory.sessions,
        manager.stats,
    ]
