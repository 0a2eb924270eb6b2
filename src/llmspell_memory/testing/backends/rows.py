"""Entries are kept whole: added, replaced, read back, marked and deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmspell_memory.errors import DimensionError, InputError, NotFoundError
from llmspell_memory.testing.backends.material import DIMENSIONS, START, contents, entry, fields_of
from llmspell_memory.testing.indexes import gaussian
from llmspell_memory.types import EpisodicEntry, Filter

if TYPE_CHECKING:
    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.manager import DefaultMemoryManager
    from llmspell_memory.memory import EpisodicMemory


class RowsContract:
    """What a backend promises about the entries it keeps."""

    def test_an_entry_added_is_found(self, memory: EpisodicMemory) -> None:
        """What was added is found by its meaning, unprocessed."""
        memory.add(EpisodicEntry("s1", "user", "What is Rust?"))
        (hit,) = memory.search("Rust", 5, mode="semantic")
        assert hit.entry.content == "What is Rust?"
        assert hit.entry.processed is False
        assert 0 < hit.score <= 1

    def test_an_empty_store_answers(self, memory: EpisodicMemory) -> None:
        """Every question to an empty store has an empty answer."""
        assert memory.search("anything", 5) == []
        assert memory.search("anything", 5, where=Filter(session_id="none")) == []
        assert list(memory.scan()) == memory.get_session("none") == memory.list_unprocessed() == []
        assert memory.sessions() == []
        assert memory.list_sessions_with_unprocessed() == []
        assert memory.count() == memory.mark_processed(["none"]) == memory.delete_before(START) == 0
        with pytest.raises(NotFoundError, match="no entry has the id 'none'"):
            memory.get("none")

    def test_every_field_comes_back_as_it_was(self, memory: EpisodicMemory, root: tuple[str, ...]) -> None:
        """Ids, times to the microsecond, flags, nested metadata, namespace and vector are equal after a round trip."""
        vector = gaussian(1, DIMENSIONS)[0] * 3
        added = EpisodicEntry(
            "s-ü",
            "assistant",
            "multi\nline\ttext ✓",
            id="own-id",
            namespace=(*root, "acme", "alice"),
            timestamp=datetime(2025, 1, 2, 3, 4, 5, 678_901, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            ingestion_time=datetime(2025, 6, 7, 8, 9, 10, 111_213, tzinfo=UTC),
            metadata={"a": [1, 2.5, None, True, {"b": "ü"}], "": "", "n": -(2**70), "big": 1e300},
            processed=True,
            embedding=vector,
        )
        memory.add(added)
        for found in (memory.get("own-id"), *memory.scan(), memory.search(vector, 1)[0].entry):
            assert fields_of(found) == fields_of(added)
            assert found.timestamp.tzinfo is UTC
            assert type(found.metadata["a"][3]) is bool  # type: ignore[index]

    def test_a_given_vector_is_kept_and_not_embedded(self, service: EmbeddingService, memory: EpisodicMemory) -> None:
        """An entry that carries a vector is found by that vector, and its text never goes to the provider."""
        vector = gaussian(1, DIMENSIONS)[0]
        memory.add(entry("some text", embedding=vector))
        assert service.misses == 0
        (hit,) = memory.search(vector, 1)
        assert hit.score == pytest.approx(1, abs=1e-5)
        np.testing.assert_array_equal(hit.entry.embedding, vector)

    def test_a_wrong_width_stores_nothing(self, memory: EpisodicMemory) -> None:
        """A vector of another width is refused with both widths named, and the rest of the batch with it."""
        with pytest.raises(DimensionError, match="expected a vector of 64 dimensions, got 3"):
            memory.add_many([entry("good"), entry("bad", embedding=np.ones(3))])
        with pytest.raises(InputError, match="zeros"):
            memory.add(entry("zero", embedding=np.zeros(DIMENSIONS)))
        assert memory.count() == 0

    def test_a_backend_takes_only_vectors_of_its_space(self, manager: DefaultMemoryManager) -> None:
        """Given an entry without a vector, or with one of another width, a backend stores nothing of the batch."""
        good = entry("good", embedding=gaussian(1, DIMENSIONS)[0])
        with pytest.raises(InputError, match="has no vector"):
            manager.backend.add([good, entry("bare")])
        with pytest.raises(DimensionError):
            manager.backend.add([good, entry("narrow", embedding=np.ones(3))])
        assert manager.episodic.count() == 0

    def test_an_id_added_again_is_replaced(self, memory: EpisodicMemory) -> None:
        """One entry is left, with the new text, session and vector, and the time it was first learned."""
        first, second = np.eye(DIMENSIONS)[:2]
        learned = START - timedelta(days=3)
        memory.add(entry("old", "s1", id="x", ingestion_time=learned, embedding=first, processed=True))
        memory.add(entry("new", "s2", id="x", minute=5, embedding=second))
        assert memory.count() == 1
        found = memory.get("x")
        assert (found.content, found.session_id, found.processed) == ("new", "s2", False)
        assert found.ingestion_time == learned
        assert memory.search(second, 1)[0].score == pytest.approx(1)
        assert memory.search(first, 1)[0].score == pytest.approx(0)
        assert memory.get_session("s1") == []
        assert contents(memory.get_session("s2")) == ["new"]

    def test_an_id_twice_in_one_batch_keeps_the_last(self, memory: EpisodicMemory) -> None:
        """Within one call the later entry wins, too."""
        assert memory.add_many([entry("one", id="x"), entry("two", id="x")]) == ["x", "x"]
        assert contents(list(memory.scan())) == ["two"]

    def test_one_id_in_two_namespaces_is_two_entries(self, memory: EpisodicMemory, root: tuple[str, ...]) -> None:
        """An id belongs to its namespace: neither replaces, marks nor shows the other."""
        acme, acme2 = (*root, "acme"), (*root, "acme2")
        memory.add_many([entry("theirs", id="x", namespace=acme), entry("ours", id="x", namespace=acme2)])
        assert memory.count() == 2
        assert memory.get("x", namespace=acme).content == "theirs"
        with pytest.raises(InputError, match="several namespaces"):
            memory.get("x")
        assert memory.mark_processed(["x"], namespace=acme2) == 1
        assert not memory.get("x", namespace=acme).processed
        assert contents(memory.get_session("s1", namespace=acme)) == ["theirs"]
        assert contents(memory.list_unprocessed(namespace=acme)) == ["theirs"]
        assert memory.list_sessions_with_unprocessed(namespace=acme2) == []
        assert memory.delete_before(START + timedelta(days=1), namespace=acme) == 1
        assert contents(list(memory.scan())) == ["ours"]

    def test_an_entry_of_a_parent_namespace_can_be_addressed(
        self, memory: EpisodicMemory, root: tuple[str, ...]
    ) -> None:
        """Where a namespace itself has the id, that entry is meant, not one further down."""
        acme, bob = (*root, "acme"), (*root, "acme", "bob")
        memory.add_many([entry("up", id="x", namespace=acme), entry("down", id="x", namespace=bob)])
        assert memory.get("x", namespace=acme).content == "up"
        assert memory.get("x", namespace=bob).content == "down"
        memory.add(entry("top", id="x"))
        assert memory.get("x").content == "top"

    def test_what_callers_do_to_their_objects_leaves_the_store_alone(self, memory: EpisodicMemory) -> None:
        """Neither metadata nor vectors of entries given in or handed out are the store's own."""
        given = entry("x", id="x", metadata={"k": [1]})
        memory.add(given)
        vector = np.array(memory.get("x").embedding)
        for one in (given, memory.get("x"), memory.search("x", 1)[0].entry, next(memory.scan())):
            one.metadata["k"].append(2)  # type: ignore[union-attr]
            if one.embedding is not None:
                with pytest.raises(ValueError, match="read-only"):
                    one.embedding[:] = 0
        assert memory.get("x").metadata == memory.search("x", 1)[0].entry.metadata == {"k": [1]}
        np.testing.assert_array_equal(memory.get("x").embedding, vector)

    def test_marking_processed_hides_nothing(self, memory: EpisodicMemory) -> None:
        """Marked entries leave the list of unprocessed ones, but are still searched, read and counted."""
        ids = memory.add_many([entry(f"note {n}", minute=n) for n in range(3)])
        assert [one.id for one in memory.list_unprocessed()] == ids
        assert contents(memory.list_unprocessed("s1", limit=2)) == ["note 0", "note 1"]
        assert memory.list_unprocessed("other") == []
        assert memory.mark_processed(ids[:1]) == 1
        assert memory.mark_processed([*ids, "unknown"]) == 2
        assert memory.list_unprocessed() == []
        assert contents(memory.get_session("s1")) == ["note 0", "note 1", "note 2"]
        assert sorted(contents(memory.search("note", 10))) == ["note 0", "note 1", "note 2"]
        assert memory.count(Filter(processed=True)) == 3

    def test_sessions_come_by_last_activity(self, memory: EpisodicMemory) -> None:
        """Sessions with unprocessed entries are listed by their newest entry, latest first, each once."""
        ids = memory.add_many(
            [
                entry("a", "alpha", minute=1),
                entry("b", "beta", minute=9),
                entry("c", "alpha", minute=3),
                entry("d", "gamma", minute=5),
                entry("e", "delta", minute=7),
            ]
        )
        memory.mark_processed([ids[1]])
        assert memory.list_sessions_with_unprocessed() == ["delta", "gamma", "alpha"]
        lines = {line.session_id: line for line in memory.sessions()}
        assert list(lines) == ["beta", "delta", "gamma", "alpha"]
        assert (lines["alpha"].entries, lines["alpha"].unprocessed, lines["beta"].unprocessed) == (2, 2, 0)
        assert lines["alpha"].first == START + timedelta(minutes=1)
        assert lines["alpha"].last == START + timedelta(minutes=3)
        assert [line.entries for line in memory.sessions(Filter(session_id="alpha", until=lines["alpha"].last))] == [1]

    def test_a_session_is_read_in_the_order_it_happened(self, memory: EpisodicMemory) -> None:
        """Order follows time, then id; never the order of adding."""
        memory.add_many([entry(str(n), id=f"id-{n}", minute=n // 2) for n in (5, 0, 3, 2, 4, 1)])
        assert contents(memory.get_session("s1")) == ["0", "1", "2", "3", "4", "5"]
        assert contents(list(memory.scan(limit=2))) == ["0", "1"]
        assert list(memory.scan(limit=0)) == []

    def test_deleted_entries_never_return(self, memory: EpisodicMemory) -> None:
        """After a delete, searches give k live hits, and none of the deleted."""
        vectors = gaussian(400, DIMENSIONS)
        memory.add_many([entry(f"n{n}", minute=n, embedding=vector) for n, vector in enumerate(vectors)])
        assert memory.delete_before(START + timedelta(minutes=200)) == 200
        assert memory.count() == 200
        for query in vectors[::20]:
            hits = memory.search(query, 10)
            assert len(hits) == 10
            assert all(hit.entry.timestamp >= START + timedelta(minutes=200) for hit in hits)
        assert memory.delete(Filter(session_id="s1")) == 200
        assert memory.search(vectors[0], 10) == []
        memory.add(entry("again"))
        assert contents(memory.search("again", 3)) == ["again"]

    def test_equal_moments_and_ids_keep_their_order(self, memory: EpisodicMemory) -> None:
        """One id at one moment in two namespaces: the one added first comes first, though it was replaced since."""
        for name in ("a", "b", "a"):
            memory.add(entry(name, id="x", namespace=(*memory.namespace, name)))
        assert contents(list(memory.scan())) == ["a", "b"]

    def test_deleting_everything_must_be_meant(self, memory: EpisodicMemory) -> None:
        """A filter without conditions deletes nothing unless that is said."""
        memory.add(entry("kept"))
        for where in (Filter(), Filter(expired=None)):
            with pytest.raises(InputError, match="everything=True"):
                memory.delete(where)
            with pytest.raises(InputError, match="everything=True"):
                memory.forget(where)
        assert memory.count() == 1
        assert memory.delete(Filter(), everything=True) == 1
        assert memory.count() == 0
