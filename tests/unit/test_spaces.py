"""Several embedding spaces of one store, when others drop them, move the store or configure it at a bad moment."""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest

from llmspell_memory import (
    DefaultMemoryManager,
    EmbeddingService,
    EmbeddingSpace,
    EpisodicBackendType,
    EpisodicEntry,
    Filter,
    HNSWConfig,
    SpaceChangedError,
    StorageError,
)
from llmspell_memory.backends import LocalBackend, SQLiteBackend
from llmspell_memory.backends.local.rows import Rows
from llmspell_memory.embeddings import HashingProvider, MemoryCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from llmspell_memory.protocols import EmbeddingKind, EpisodicBackend
    from llmspell_memory.types import Matrix


class Named(HashingProvider):
    """A provider of a space of its own, though of the same width as others, that does something before each call."""

    def __init__(self, model: str, dimensions: int = 32) -> None:
        super().__init__(dimensions)
        self.model = model
        self.before: Callable[[], object] = lambda: None

    def embed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        self.before()
        return super().embed(texts, kind=kind)


def service(model: str, dimensions: int = 32) -> EmbeddingService:
    return EmbeddingService(Named(model, dimensions), cache=None)


A, B, C = map(service, "abc")


@pytest.fixture(params=["ram", "sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EpisodicBackend]:
    made: EpisodicBackend = (
        LocalBackend(A.space) if request.param == "ram" else SQLiteBackend(tmp_path / "m.db", A.space)
    )
    yield made
    made.close()


def said(count: int) -> list[EpisodicEntry]:
    return [EpisodicEntry("s", "user", f"text number {n}", id=f"n{n}") for n in range(count)]


def others_move(path: Path, *, drop: bool) -> None:
    """Move a store from B to A and on to C, as another process would, and drop B between."""
    with DefaultMemoryManager(SQLiteBackend(path, B.space), B) as others:
        others.reembed(A).wait()
        if drop:
            others.drop_space(B.space)
        others.reembed(C).wait()


@pytest.mark.parametrize("drop", [False, True])
def test_a_new_space_is_never_taken_for_one_that_was_dropped(tmp_path: Path, *, drop: bool) -> None:
    """Who has the store open in a space that others have dropped mixes no vectors of it into the next one."""
    path = tmp_path / "m.db"
    with DefaultMemoryManager(SQLiteBackend(path, A.space), A) as first:
        first.episodic.add_many(said(8))
        first.reembed(B).wait()
    with DefaultMemoryManager(SQLiteBackend(path, B.space), B) as left_behind:
        assert len(left_behind.episodic.search("text number 3", 3)) == 3
        others_move(path, drop=drop)
        with pytest.raises(SpaceChangedError):
            left_behind.episodic.search("text number 3", 3)
        with pytest.raises(SpaceChangedError):
            left_behind.episodic.search("text number 3", 3, where=Filter(session_id="s"))
        with pytest.raises(SpaceChangedError):
            left_behind.episodic.add(EpisodicEntry("s", "user", "of space B"))
        with pytest.raises(SpaceChangedError):
            list(left_behind.episodic.scan())
    with DefaultMemoryManager(SQLiteBackend(path, C.space), C) as last:
        assert last.episodic.count() == 8


def test_a_space_dropped_while_a_store_is_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others move a store and drop its vectors between two looks at it, the error says what has happened."""
    path = tmp_path / "m.db"
    with DefaultMemoryManager(SQLiteBackend(path, A.space), A) as first:
        first.episodic.add_many(said(8))
        first.reembed(B).wait()

    def meanwhile(_: SQLiteBackend) -> None:
        monkeypatch.undo()
        others_move(path, drop=True)

    monkeypatch.setattr(SQLiteBackend, "_resume_erasing", meanwhile)
    with pytest.raises(SpaceChangedError):
        SQLiteBackend(path)


def test_a_new_space_of_an_empty_store_has_a_number_of_its_own(tmp_path: Path) -> None:
    """Where no row has moved the sequence number, spaces are told apart all the same."""
    path = tmp_path / "m.db"
    with DefaultMemoryManager(SQLiteBackend(path, A.space), A) as first:
        first.reembed(B).wait()
    with DefaultMemoryManager(SQLiteBackend(path, B.space), B) as left_behind:
        others_move(path, drop=True)
        with pytest.raises(SpaceChangedError):
            left_behind.episodic.add(EpisodicEntry("s", "user", "of space B"))


def test_a_space_dropped_while_it_is_made_is_made_anew(backend: EpisodicBackend) -> None:
    """Vectors dropped by others are missing again, and an index of the dropped ones is not used."""
    manager = DefaultMemoryManager(backend, A)
    manager.episodic.add_many(said(20))
    beside = backend.beside(B.space)
    rows = beside.missing(20)
    beside.put(rows, B.embed([text for _, _, text in rows]))
    assert list(beside.overlap(5, 3))
    backend.beside(B.space).drop()
    manager.episodic.delete(Filter(ids=frozenset({"n7"})))
    rows = beside.missing(20)
    assert len(rows) == 19
    beside.put(rows, B.embed([text for _, _, text in rows]))
    assert beside.take_over()
    found = backend.search(B.embed_one("text number 7"), 20, Filter())
    assert sorted(hit.entry.id for hit in found) == sorted({f"n{n}" for n in range(20)} - {"n7"})


def test_a_view_chosen_while_vectors_are_made_is_kept(backend: EpisodicBackend) -> None:
    """A change of the view holds after the move, whenever in it the change was made."""
    manager = DefaultMemoryManager(backend, A)
    manager.episodic.add_many(said(20))
    moving = manager.reembed(B, switch=False)
    moving.wait()
    manager.switch_backend(EpisodicBackendType.HNSW, hnsw=HNSWConfig(m=8, ef_search=33))
    moving.switch()
    assert backend.hnsw == HNSWConfig(m=8, ef_search=33)
    assert manager.episodic.search("text number 3", 1)[0].entry.id == "n3"


def test_a_view_chosen_at_the_very_switch_is_kept(backend: EpisodicBackend) -> None:
    """Parameters set while the last vectors are made, and writers wait, hold afterwards as well."""
    manager = DefaultMemoryManager(backend, A)
    manager.episodic.add_many(said(20))
    beside = backend.beside(B.space)

    def embed(texts: Sequence[str]) -> Matrix:
        backend.configure(HNSWConfig(ef_search=33))
        return B.embed(texts)

    assert beside.take_over(embed) or beside.take_over(embed)
    assert backend.space == B.space
    assert backend.hnsw == HNSWConfig(ef_search=33)


def test_two_may_move_one_store_at_once(backend: EpisodicBackend) -> None:
    """Who comes second finds the vectors made, and makes none of his own beside those in use."""
    manager, other = DefaultMemoryManager(backend, A), DefaultMemoryManager(backend, A)
    manager.episodic.add_many(said(20))
    second = other.reembed(B, switch=False)
    second.wait()
    manager.reembed(B).wait()
    made = second.switch()
    assert made.switched
    assert [one.space for one in backend.stats().beside] == [A.space]
    manager.episodic.add(EpisodicEntry("s", "user", "written afterwards", id="last"))
    assert manager.episodic.search("written afterwards", 1)[0].entry.id == "last"
    assert len(backend.search(B.embed_one("text number 3"), 30, Filter())) == 21


def test_an_entry_embedded_before_the_switch_is_embedded_again(backend: EpisodicBackend) -> None:
    """A write whose vector was made before the store moved to a space of another width is done in that one."""
    slow = Named("slow")
    old, wide = EmbeddingService(slow, cache=None), service("wide", 48)
    empty = backend.beside(old.space)
    assert empty.take_over()
    manager = DefaultMemoryManager(backend, old)
    inside, on = threading.Event(), threading.Event()

    def before() -> None:
        inside.set()
        assert on.wait(10)

    slow.before = before
    writing = threading.Thread(target=lambda: manager.episodic.add(EpisodicEntry("s", "user", "one", id="one")))
    writing.start()
    assert inside.wait(10)
    manager.reembed(wide).wait()
    on.set()
    writing.join()
    assert [hit.entry.id for hit in manager.episodic.search("one", 3)] == ["one"]


def test_a_vector_of_the_former_space_is_not_stored_in_the_new_one(backend: EpisodicBackend) -> None:
    """Also who gives a backend no space of the vectors stores none of another than it had when the call began."""
    started = threading.Event()

    class Slow(list[EpisodicEntry]):
        def __iter__(self) -> Iterator[EpisodicEntry]:
            yield from super().__iter__()
            if not started.is_set():
                started.set()
                assert backend.beside(B.space).take_over()

    with pytest.raises(SpaceChangedError):
        backend.add(Slow(one.changed(embedding=A.embed_one(one.content)) for one in said(3)))
    assert backend.count(Filter()) == 0


def test_a_switch_that_is_rolled_back_leaves_nothing_in_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors that the last transaction made and lost are read again, when the same move goes on."""
    backend = SQLiteBackend(tmp_path / "m.db", A.space)
    manager = DefaultMemoryManager(backend, A)
    manager.episodic.add_many(said(4))
    beside = backend.beside(B.space)

    def failing() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(beside, "_adopt", failing)
        with pytest.raises(StorageError):
            beside.take_over(B.embed)
    manager.episodic.delete(Filter(ids=frozenset({"n0", "n1", "n2"})))
    assert beside.take_over(B.embed)
    assert [hit.entry.id for hit in backend.search(B.embed_one("text number 3"), 9, Filter())] == ["n3"]
    backend.close()


def test_what_is_forgotten_while_it_is_embedded_is_in_no_cache(backend: EpisodicBackend) -> None:
    """An entry erased after its text was given to the new provider leaves nothing in the new service's cache."""
    provider = Named("cached")
    cached = EmbeddingService(provider, cache=MemoryCache())
    manager = DefaultMemoryManager(backend, A)
    manager.episodic.add_many(said(6))
    inside, on = threading.Event(), threading.Event()

    def before() -> None:
        inside.set()
        assert on.wait(10)

    provider.before = before
    moving = manager.reembed(cached)
    assert inside.wait(10)
    manager.episodic.forget(Filter(ids=frozenset({"n3"})))
    manager.episodic.mark_processed(["n4"])
    on.set()
    moving.wait()
    hits = cached.hits
    cached.embed(["text number 3"])
    assert cached.hits == hits
    cached.embed(["text number 4"])
    assert cached.hits == hits + 1


def test_a_search_amid_a_switch_in_ram_sees_one_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the rows' move and the view's, a search by text neither fails nor compares vectors of two spaces."""
    backend = LocalBackend(A.space)
    found: list[str] = []
    with DefaultMemoryManager(backend, A) as memory:
        memory.episodic.add_many(EpisodicEntry("s", "user", f"text {n}") for n in range(50))
        use, searchers = Rows.use, []

        def search() -> None:
            found.extend(hit.entry.content for hit in memory.episodic.search("text 7", 1))

        def used(rows: Rows, space: EmbeddingSpace) -> None:
            use(rows, space)
            assert backend.space == A.space, "the view has not moved yet"
            searchers.append(threading.Thread(target=search))
            searchers[0].start()

        monkeypatch.setattr(Rows, "use", used)
        assert memory.reembed(B, sample=0).wait(30).switched
        searchers[0].join(30)
    assert found == ["text 7"]
