"""What a backend promises beyond its signatures, met as a user meets it: through the words of `EpisodicMemory`."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory.config import EpisodicBackendType
from llmspell_memory.embeddings import EmbeddingService, HashingProvider
from llmspell_memory.errors import ClosedError, ConfigError, DimensionError, InputError, NotFoundError
from llmspell_memory.manager import DefaultMemoryManager
from llmspell_memory.testing.indexes import gaussian, oracle_scores
from llmspell_memory.types import EpisodicEntry, Filter, Hit, HNSWConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmspell_memory.memory import EpisodicMemory
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace

DIMENSIONS = 64
START = datetime(2025, 3, 1, 12, tzinfo=UTC)


def entry(content: str, session_id: str = "s1", *, minute: int = 0, **fields: Any) -> EpisodicEntry:
    """Return a user's entry, `minute` minutes after START."""
    return EpisodicEntry(session_id, "user", content, timestamp=START + timedelta(minutes=minute), **fields)


def fields_of(one: EpisodicEntry) -> tuple[object, ...]:
    """Return everything an entry holds, its vector as bytes."""
    vector = None if one.embedding is None else np.asarray(one.embedding, np.float32).tobytes()
    return (one, dict(one.metadata), vector)


def contents(found: list[EpisodicEntry] | list[Hit]) -> list[str]:
    """Return the texts of entries or hits."""
    return [one.entry.content if isinstance(one, Hit) else one.content for one in found]


class BackendContract(ABC):
    """Derive, implement `make`, and let pytest collect the class."""

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

    # --- adding and reading back

    def test_an_entry_added_is_found(self, memory: EpisodicMemory) -> None:
        """What was added is found by its meaning, unprocessed."""
        memory.add(EpisodicEntry("s1", "user", "What is Rust?"))
        (hit,) = memory.search("Rust", 5)
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

    def test_every_field_comes_back_as_it_was(self, memory: EpisodicMemory) -> None:
        """Ids, times to the microsecond, flags, nested metadata, namespace and vector are equal after a round trip."""
        vector = gaussian(1, DIMENSIONS)[0] * 3
        added = EpisodicEntry(
            "s-ü",
            "assistant",
            "multi\nline\ttext ✓",
            id="own-id",
            namespace=("acme", "alice"),
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

    def test_one_id_in_two_namespaces_is_two_entries(self, memory: EpisodicMemory) -> None:
        """An id belongs to its namespace: neither replaces, marks nor shows the other."""
        memory.add_many([entry("theirs", id="x", namespace=("acme",)), entry("ours", id="x", namespace=("acme2",))])
        assert memory.count() == 2
        assert memory.get("x", namespace=("acme",)).content == "theirs"
        with pytest.raises(InputError, match="several namespaces"):
            memory.get("x")
        assert memory.mark_processed(["x"], namespace=("acme2",)) == 1
        assert not memory.get("x", namespace=("acme",)).processed
        assert contents(memory.get_session("s1", namespace=("acme",))) == ["theirs"]
        assert contents(memory.list_unprocessed(namespace=("acme",))) == ["theirs"]
        assert memory.list_sessions_with_unprocessed(namespace=("acme2",)) == []
        assert memory.delete_before(START + timedelta(days=1), namespace=("acme",)) == 1
        assert contents(list(memory.scan())) == ["ours"]

    def test_an_entry_of_a_parent_namespace_can_be_addressed(self, memory: EpisodicMemory) -> None:
        """Where a namespace itself has the id, that entry is meant, not one further down."""
        memory.add_many([entry("up", id="x", namespace=("acme",)), entry("down", id="x", namespace=("acme", "bob"))])
        assert memory.get("x", namespace=("acme",)).content == "up"
        assert memory.get("x", namespace=("acme", "bob")).content == "down"

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
        assert memory.get("x").metadata == {"k": [1]}
        np.testing.assert_array_equal(memory.get("x").embedding, vector)

    # --- processed, sessions, deletes

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

    def test_deleting_everything_must_be_meant(self, memory: EpisodicMemory) -> None:
        """A filter without conditions deletes nothing unless that is said."""
        memory.add(entry("kept"))
        with pytest.raises(InputError, match="everything=True"):
            memory.delete(Filter())
        assert memory.count() == 1
        assert memory.delete(Filter(), everything=True) == 1
        assert memory.count() == 0

    # --- filters

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            (Filter(), "abcdef"),
            (Filter(session_id="s1"), "ab"),
            (Filter(role="assistant"), "c"),
            (Filter(since=START + timedelta(minutes=3)), "def"),
            (Filter(until=START + timedelta(minutes=3)), "abc"),
            (Filter(since=START + timedelta(minutes=1), until=START + timedelta(minutes=2)), "b"),
            (Filter(known_by=START), "a"),
            (Filter(processed=True), "d"),
            (Filter(metadata={"n": 1}), "ad"),
            (Filter(metadata={"n": 1.0, "t": "x"}), "a"),
            (Filter(metadata={"n": True}), "b"),
            (Filter(metadata={"deep": {"k": [1, 2]}}), "c"),
            (Filter(metadata={"deep": {"k": [1]}}), ""),
            (Filter(metadata={"none": None}), "e"),
            (Filter(metadata={"n": 2**70}), "f"),
            (Filter(metadata={'odd".key': "v%_"}), "e"),
            (Filter(namespace=("acme",)), "ef"),
            (Filter(namespace=("acme", "bob")), "f"),
            (Filter(namespace=("ac",)), ""),
            (Filter(ids=frozenset(["a", "f", "zzz"])), "af"),
            (Filter(ids=frozenset()), ""),
            (Filter(session_id="s1", role="user", metadata={"n": 1}), "a"),
        ],
    )
    def test_filters_choose_the_same_everywhere(self, memory: EpisodicMemory, where: Filter, expected: str) -> None:
        """Scan, count, search, sessions, mark and delete all mean the same entries by a filter."""
        letters: list[dict[str, Any]] = [
            {"session_id": "s1", "metadata": {"n": 1, "t": "x"}, "ingestion_time": START},
            {"session_id": "s1", "metadata": {"n": True}},
            {"session_id": "S1", "role": "assistant", "metadata": {"deep": {"k": [1.0, 2]}}},
            {"session_id": "s%", "metadata": {"n": 1.0}, "processed": True},
            {"session_id": "s_", "metadata": {"none": None, 'odd".key': "v%_"}, "namespace": ("acme", "alice")},
            {"session_id": "s", "metadata": {"n": 2**70}, "namespace": ("acme", "bob")},
        ]
        memory.add_many(
            EpisodicEntry(
                **{"role": "user", "content": f"letter {name}", "id": name, **fields},
                timestamp=START + timedelta(minutes=number),
            )
            for number, (name, fields) in enumerate(zip("abcdef", letters, strict=True))
        )
        assert "".join(one.id for one in memory.scan(where)) == expected
        assert memory.count(where) == len(expected)
        assert "".join(sorted(hit.entry.id for hit in memory.search("letter", 10, where=where))) == expected
        assert sum(line.entries for line in memory.sessions(where)) == len(expected)
        assert memory.delete(where, everything=True) == len(expected)
        assert "".join(one.id for one in memory.scan()) == "".join(sorted(set("abcdef") - set(expected)))

    def test_a_small_session_in_a_big_store_is_found_whole(self, memory: EpisodicMemory) -> None:
        """A search in a session of 5 among 10,000 entries returns those 5, ranked as the definition ranks them."""
        vectors = gaussian(10_000, DIMENSIONS)
        memory.add_many(
            entry(f"n{n}", "small" if n % 2000 == 7 else f"s{n % 50}", embedding=vector)
            for n, vector in enumerate(vectors)
        )
        small = vectors[7::2000]
        for query in gaussian(10, DIMENSIONS, seed=4):
            hits = memory.search(query, 10, where=Filter(session_id="small"))
            order = np.argsort(-oracle_scores(small, query, "cosine"))
            assert contents(hits) == [f"n{7 + 2000 * row}" for row in order]

    def test_a_filtered_search_is_whole_beside_a_writer(self, memory: EpisodicMemory) -> None:
        """While entries are exchanged for others, a search always finds k of those that match, and only such."""
        vectors = gaussian(40, DIMENSIONS)
        where = Filter(metadata={"kind": "kept"}, processed=False)
        done = threading.Event()
        faults: list[str] = []

        def generation(number: int) -> list[EpisodicEntry]:
            return [
                entry(f"{number}", id=f"{number}-{row}", metadata={"kind": "kept"}, embedding=vector)
                for row, vector in enumerate(vectors[:20])
            ]

        def read() -> None:
            while not done.is_set():
                hits = memory.search(vectors[30], 20, where=where)
                if len(hits) != 20:
                    faults.append(f"{len(hits)} hits")
                if any(hit.entry.processed or hit.entry.metadata.get("kind") != "kept" for hit in hits):
                    faults.append("a hit that does not match")

        memory.add_many(entry(f"n{n}", f"s{n}", embedding=vector) for n, vector in enumerate(gaussian(500, DIMENSIONS)))
        memory.add_many(generation(0))
        reader = threading.Thread(target=read)
        reader.start()
        for number in range(1, 100):
            memory.add_many(generation(number))
            gone = frozenset(f"{number - 1}-{row}" for row in range(20))
            memory.mark_processed(gone)
            memory.delete(Filter(ids=gone))
        done.set()
        reader.join()
        assert faults == []

    # --- odd input

    @pytest.mark.parametrize(
        "odd",
        [
            "'",
            '"; DROP TABLE entries; --',
            "%",
            "_",
            "*",
            "..",
            "../../x",
            "a/b.c",
            "\n",
            " ",
            "🦀",
            "é́",
            "\u202e",
            "x" * 10_240,
        ],
        ids=lambda text: repr(text[:12]),
    )
    def test_odd_ids_and_sessions_are_only_texts(self, memory: EpisodicMemory, odd: str) -> None:
        """Quotes, wildcards, paths, emoji, control characters and 10 kB are kept and found as they are."""
        memory.add(entry("plain", "other", id="other"))
        memory.add(EpisodicEntry(odd, odd, odd, id=odd, namespace=(odd,), metadata={odd: odd}, timestamp=START))
        where = Filter(session_id=odd, role=odd, namespace=(odd,), metadata={odd: odd}, ids=frozenset([odd]))
        assert memory.get(odd).content == odd
        assert [hit.entry.id for hit in memory.search(odd, 5, where=where)] == [odd]
        assert memory.mark_processed([odd]) == 1
        assert memory.delete(where) == 1
        assert contents(list(memory.scan())) == ["plain"]

    def test_bad_texts_are_refused(self) -> None:
        """Nothing, NUL and lone surrogates are errors that name the field, before anything is stored."""
        for bad in ("", "a\0b", "\ud800", b"bytes", None):
            with pytest.raises(InputError, match="content"):
                EpisodicEntry("s", "user", bad)  # type: ignore[arg-type]
            with pytest.raises(InputError, match="session_id"):
                Filter(session_id=bad) if bad is not None else EpisodicEntry(bad, "user", "x")  # type: ignore[arg-type]

    def test_nothing_given_is_not_everything(self, memory: EpisodicMemory) -> None:
        """None where an id, a session, a moment or a filter belongs is an error, never "all of them"."""
        memory.add_many([entry("one"), entry("two", "s2")])
        nothing: Any = None
        for use in (
            lambda: memory.get(nothing),
            lambda: memory.get_session(nothing),
            lambda: memory.mark_processed(nothing),
            lambda: memory.mark_processed("one"),
            lambda: memory.delete_before(nothing),
            lambda: memory.delete(nothing),
            lambda: memory.search("one", 1, where=nothing),
            lambda: memory.count(nothing),
            lambda: memory.sessions(nothing),
            lambda: memory.scan(nothing),
            lambda: memory.get_session("s1", namespace=nothing),
        ):
            with pytest.raises(InputError):
                use()
        assert memory.count(Filter(processed=False)) == 2

    def test_queries_and_k_at_their_limits(self, memory: EpisodicMemory) -> None:
        """A k of 0 is nothing, beyond the entries is all, below 0 and an empty query are errors."""
        memory.add_many([entry("one"), entry("two")])
        assert memory.search("one", 0) == []
        assert len(memory.search("one", 1000)) == 2
        for query, k in (
            ("one", -1),
            ("one", 1.5),
            ("one", True),
            ("", 1),
            ("\0", 1),
            ([], 1),
            ([[1.0]], 1),
            ("x", "1"),
        ):
            with pytest.raises(InputError):
                memory.search(query, k)  # type: ignore[arg-type]
        with pytest.raises(DimensionError):
            memory.search([1.0, 2.0], 1)
        with pytest.raises(InputError, match="zeros"):
            memory.search(np.zeros(DIMENSIONS), 1)

    @pytest.mark.parametrize("year", [1, 1969, 9999])
    def test_years_from_1_to_9999_are_kept(self, memory: EpisodicMemory, year: int) -> None:
        """The first and last moments a datetime can tell are stored and compared exactly."""
        moment = datetime(year, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
        memory.add(EpisodicEntry("s", "user", "then", id="x", timestamp=moment))
        assert memory.get("x").timestamp == moment
        assert memory.count(Filter(since=moment)) == 1
        assert memory.count(Filter(until=moment)) == 0

    def test_long_texts_and_deep_metadata_are_kept(self, memory: EpisodicMemory) -> None:
        """100,000 characters and 50 levels come back as they were."""
        deep: Any = "bottom"
        for _ in range(50):
            deep = {"d": [deep]}
        text = "word ünïcode 🦀 " * 7000
        memory.add(entry(text, id="x", metadata={"deep": deep}))
        assert memory.get("x").content == text
        assert memory.get("x").metadata == {"deep": deep}
        assert memory.count(Filter(metadata={"deep": deep})) == 1

    # --- the view

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

    def test_stats_count_what_is_there(self, manager: DefaultMemoryManager) -> None:
        """Counts, space, index and memory are figures of this moment."""
        ids = manager.episodic.add_many([entry(f"n{n}", f"s{n % 3}") for n in range(9)])
        manager.episodic.mark_processed(ids[:4])
        stats = manager.stats()
        assert (stats.entries, stats.unprocessed, stats.sessions, stats.index.size) == (9, 5, 3, 9)
        assert stats.space == manager.service.space
        assert stats.memory_bytes > 9 * DIMENSIONS * 4

    def test_closing_is_final_and_may_be_repeated(self, manager: DefaultMemoryManager) -> None:
        """A second close does nothing; any use afterwards is a ClosedError."""
        manager.episodic.add(entry("x"))
        manager.close()
        manager.close()
        memory = manager.episodic
        for use in (
            lambda: memory.add(entry("y")),
            lambda: memory.search("x", 1),
            lambda: memory.get("x"),
            lambda: manager.switch_backend(EpisodicBackendType.HNSW),
            lambda: list(memory.scan()),
            memory.count,
            memory.sessions,
            lambda: memory.mark_processed(["x"]),
            lambda: memory.delete_before(START),
            manager.stats,
        ):
            with pytest.raises(ClosedError):
                use()


class DurableBackendContract(BackendContract):
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
        with DefaultMemoryManager(self.make(service.space, tmp_path), service) as manager:
            assert [fields_of(one) for one in manager.episodic.scan()] == before
            assert manager.episodic.search("text number 17", 5) == hits
            assert manager.stats().index.size == len(before)

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
