"""Whoever follows a store by its sequence numbers is told of everything, and can be judged by an exact answer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from llmspell_memory.errors import ConfigError, SpaceChangedError
from llmspell_memory.testing.backends.material import DIMENSIONS, START, contents, entry, fields_of
from llmspell_memory.testing.indexes import gaussian
from llmspell_memory.types import EmbeddingSpace, Filter

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.manager import DefaultMemoryManager
    from llmspell_memory.memory import EpisodicMemory
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EpisodicEntry, Identity

_ALL = Filter(expired=None)


class Copy:
    """What a follower makes of the changes it is told of."""

    def __init__(self, backend: EpisodicBackend) -> None:
        self.backend = backend
        self.rows: dict[Identity, EpisodicEntry] = {}
        self.at = 0
        self.forgotten = False

    def follow(self, limit: int = 7) -> None:
        while (batch := self.backend.changes(self.at, limit=limit)).reached > self.at:
            assert len(batch.put) <= limit
            for name in batch.gone:
                self.rows.pop(name, None)
            for one in batch.put:
                self.rows[one.namespace, one.id] = one
            self.forgotten |= batch.forgotten
            self.at = batch.reached

    def check(self) -> None:
        stored = {(one.namespace, one.id): fields_of(one) for one in self.backend.scan(_ALL)}
        assert {name: fields_of(one) for name, one in self.rows.items()} == stored


class FollowingContract:
    """What a backend promises those who follow it."""

    def test_a_follower_is_told_of_everything(self, manager: DefaultMemoryManager, root: tuple[str, ...]) -> None:
        """Adds, replacements, marks, expired entries, deletes and ids added again: page by page, a copy is made."""
        memory, copy = manager.episodic, Copy(manager.backend)
        memory.add_many([entry(f"text {n}", f"s{n % 3}", id=f"n{n}", metadata={"n": n}) for n in range(40)])
        copy.follow()
        copy.check()
        assert len(copy.rows) == 40
        memory.add(entry("other words", id="n3"))
        memory.add(entry("text 4", "s1", id="n4", metadata={"changed": True}))
        memory.add(entry("expired", id="old", expires_at=START))
        memory.add(entry("elsewhere", id="n5", namespace=(*root, "below")))
        memory.mark_processed(["n6", "n7"])
        memory.delete(Filter(ids=frozenset(["n8", "n9", "n10"])))
        memory.add(entry("again", id="n9", ingestion_time=START))
        copy.follow()
        copy.check()
        assert copy.rows[root, "n9"].ingestion_time == START
        assert not copy.forgotten
        reached = copy.at
        copy.follow()
        assert copy.at == reached

    def test_a_follower_may_come_late(self, manager: DefaultMemoryManager) -> None:
        """What was deleted before it began is no concern of it."""
        manager.episodic.add_many([entry(f"text {n}", id=f"n{n}") for n in range(30)])
        manager.episodic.delete(Filter(ids=frozenset(["n1", "n29"])))
        copy = Copy(manager.backend)
        copy.follow()
        copy.check()

    def test_what_is_forgotten_has_no_name(self, manager: DefaultMemoryManager) -> None:
        """A follower is told that something was erased, and not what; ids of earlier deletes are gone with it."""
        memory, copy = manager.episodic, Copy(manager.backend)
        memory.add_many([entry(f"text {n}", id=f"n{n}") for n in range(10)])
        copy.follow()
        memory.delete(Filter(ids=frozenset(["n1"])))
        memory.forget(Filter(ids=frozenset(["n2"])))
        batch = manager.backend.changes(copy.at)
        assert batch.forgotten
        assert batch.gone == ()

    def test_a_follower_keeps_up_with_writers(self, manager: DefaultMemoryManager) -> None:
        """While others write, what it is told in the end is what is there."""
        memory, copy = manager.episodic, Copy(manager.backend)
        vectors = gaussian(60, DIMENSIONS)

        def write() -> None:
            for n, vector in enumerate(vectors):
                memory.add(entry(f"text {n}", id=f"n{n % 25}", embedding=vector))
                if n % 5 == 4:
                    memory.delete(Filter(ids=frozenset([f"n{n - 3}"])))

        writer = threading.Thread(target=write)
        writer.start()
        while writer.is_alive():
            copy.follow()
        writer.join()
        copy.follow()
        copy.check()

    def test_an_exact_search_is_exact(self, manager: DefaultMemoryManager, memory: EpisodicMemory) -> None:
        """Whatever the view, `exact` finds the nearest, with filters and without."""
        vectors = gaussian(400, DIMENSIONS)
        memory.add_many(
            [entry(f"n{n}", "odd" if n % 2 else "even", embedding=vector) for n, vector in enumerate(vectors)]
        )
        scores = vectors / ((vectors**2).sum(axis=1) ** 0.5)[:, None]
        for query in scores[:20] + 0.1:
            order = (scores @ query).argsort()[::-1]
            every = manager.backend.search(query, 10, Filter(), exact=True)
            assert contents(every) == [f"n{n}" for n in order[:10]]
            some = manager.backend.search(query, 10, Filter(session_id="odd"), exact=True)
            assert contents(some) == [f"n{n}" for n in order if n % 2][:10]

    def test_vectors_of_another_space_are_refused(self, manager: DefaultMemoryManager) -> None:
        """Who says of which space a vector is gets an error where it is not the store's."""
        (vector,) = gaussian(1, DIMENSIONS)
        other = EmbeddingSpace(provider="other", model=None, dimensions=DIMENSIONS)
        mine = manager.backend.space
        whole = entry("n", embedding=vector)
        if manager.backend.namespace:
            whole = whole.changed(namespace=manager.backend.namespace)
        with pytest.raises(SpaceChangedError):
            manager.backend.add([whole], space=other)
        with pytest.raises(SpaceChangedError):
            manager.backend.search(vector, 3, Filter(), space=other)
        assert manager.backend.count(_ALL) == 0
        manager.backend.add([whole], space=mine)
        assert len(manager.backend.search(vector, 3, Filter(), space=mine)) == 1


class NotesContract:
    """What a backend that is no scope promises about notes, its id and its numbers."""

    def test_a_store_keeps_notes_about_itself(self, manager: DefaultMemoryManager, service: EmbeddingService) -> None:
        """A note is read back as it was written, replaced and removed; it is no entry."""
        del service
        backend = manager.backend
        assert backend.read_note("migration") is None
        backend.write_note("migration", '{"state": "unfinished", "ü": 1}')
        backend.write_note("other", "text")
        backend.write_note("migration", "finished")
        assert backend.read_note("migration") == "finished"
        backend.write_note("migration", None)
        backend.write_note("never there", None)
        assert backend.read_note("migration") is None
        assert backend.read_note("other") == "text"
        assert backend.count(_ALL) == 0

    def test_every_change_moves_the_number(self, manager: DefaultMemoryManager) -> None:
        """`stats` tells the number of the last change, and that the index has seen it after a search."""
        memory, numbers = manager.episodic, [manager.stats().seq]
        changes: list[Callable[[], object]] = [
            lambda: memory.add(entry("text", id="a")),
            lambda: memory.add(entry("text", id="a", metadata={"n": 1})),
            lambda: memory.mark_processed(["a"]),
            lambda: memory.set_expiry(Filter(ids=frozenset(["a"])), None),
            lambda: memory.delete(Filter(ids=frozenset(["a"]))),
        ]
        for change in changes:
            change()
            numbers.append(manager.stats().seq)
        assert numbers == sorted(set(numbers))
        memory.search("text")
        assert manager.stats().lag == 0
        assert manager.stats().id == manager.stats().id != ""

    def test_a_follower_is_told_of_an_older_state(self, manager: DefaultMemoryManager) -> None:
        """Asked from a number that the store has not come to, it says how far it has."""
        manager.episodic.add(entry("text"))
        seq = manager.stats().seq
        assert manager.backend.changes(seq + 100).reached == seq

    def test_a_scope_keeps_no_notes(self, manager: DefaultMemoryManager) -> None:
        """They are about the store that it shares."""
        manager.backend.write_note("secret", "of all")
        scope = manager.scoped("acme").backend
        assert scope.read_note("secret") is None
        with pytest.raises(ConfigError, match="note"):
            scope.write_note("secret", None)
        assert manager.backend.read_note("secret") == "of all"
