"""What is forgotten leaves no byte behind, in any file, whatever had been done with it before."""

from __future__ import annotations

import contextlib
import os
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmspell_memory import (
    DefaultMemoryManager,
    EmbeddingService,
    EpisodicEntry,
    Filter,
    HNSWConfig,
    UnavailableError,
)
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.row_view import SUFFIXES, RowIndex
from llmspell_memory.backends.sqlite import connection
from llmspell_memory.embeddings import DiskCache, HashingProvider
from llmspell_memory.index import KeywordIndex, TurnTable
from llmspell_memory.types import Query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WIDTH = 64
SECRET = Filter(namespace=("secret",))


class Store:
    """A store and its embedding cache, which stand in one folder, and what must not be found there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "memory.db"
        self.rows = {suffix: folder / f"memory.db-rows{suffix}" for suffix in SUFFIXES}
        self.cache = DiskCache(folder / "cache.db")
        # Under this metric vectors lie in the files as they were given, so that they can be looked for.
        self.service = EmbeddingService(HashingProvider(WIDTH), cache=self.cache, metric="inner_product")
        self.needles: set[bytes] = set()
        self.open()

    def open(self) -> None:
        backend = SQLiteBackend(self.path, self.service.space, hnsw=HNSWConfig())
        self.manager = DefaultMemoryManager(backend, self.service)
        self.memory = self.manager.episodic

    def reopen(self) -> None:
        self.manager.close()
        self.open()

    def secret(self, number: int) -> EpisodicEntry:
        """An entry in every field of which stands what must be forgotten."""
        word = f"Needle{number:06d}"
        long = f"{word} " * random.Random(number).choice([1, 5, 50, 500])
        self.needles |= {word.encode(), word.lower().encode()}
        self.needles.add(self.service.embed_one(long).tobytes()[: 4 * WIDTH // 2])
        return EpisodicEntry(
            f"session {word}",
            f"role {word}",
            long,
            id=f"id {word}",
            namespace=("secret", word),
            metadata={word: [word]},
        )

    def traces(self) -> dict[str, int]:
        """How many needles each file holds; in that of the turns, which has no texts, how many it has rows of."""
        found = {}
        if self.rows["-turns"].exists():
            turns = TurnTable.open(self.rows["-turns"])
            if rows := turns.select(SECRET, now=datetime.now(UTC)):
                found[self.rows["-turns"].name] = len(rows)
        for file in self.folder.iterdir():
            data = file.read_bytes()
            count = sum(needle in data for needle in self.needles)
            if count:
                found[file.name] = count
        return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    store.memory.add_many(EpisodicEntry(f"s{n % 7}", "user", f"public {n} " * (n % 30 + 1)) for n in range(600))
    yield store
    store.manager.close()
    store.cache.close()


def test_no_file_has_a_byte_of_what_was_forgotten(store: Store) -> None:
    """Texts, ids, sessions, roles, namespaces, metadata and vectors: in store, log, index and cache all are gone."""
    secrets = [store.secret(n) for n in range(200)]
    store.memory.add_many(secrets)
    store.reopen()  # so that the index with them is saved
    files = {"memory.db", "memory.db-index", "memory.db-rows-turns", "memory.db-rows-words", "cache.db-wal"}
    assert files <= store.traces().keys()
    shown = RowIndex.open(store.folder / "memory.db-rows")
    assert len(shown) == 800
    before = [(one.id, one.content) for one in store.memory.scan(Filter(role="user"))]
    receipt = store.memory.forget(SECRET)
    assert receipt.entries == receipt.sessions == 200
    assert store.traces() == {}
    assert [(one.id, one.content) for one in store.memory.scan()] == before
    assert store.manager.stats().index.size == 600
    store.manager.close()
    assert store.traces() == {}
    left, alone = RowIndex.open(store.folder / "memory.db-rows"), KeywordIndex()
    alone.add(range(600), [content for _, content in before])
    assert len(left) == len(left.words) == 600
    assert left.words.stats().terms == alone.stats().terms < shown.words.stats().terms
    assert left.words.search("public 7", 600)[1].tolist() == alone.search("public 7", 600)[1].tolist()
    store.open()
    assert len(store.memory.search("public 7", 600)) == 600


def test_what_was_deleted_and_replaced_before_is_gone_too(store: Store) -> None:
    """Old versions of entries, and entries that were deleted the usual way, are erased by the next forgetting."""
    chance = random.Random(5)
    live: list[EpisodicEntry] = []
    for number in range(300):
        if live and chance.random() < 0.3:
            gone = live.pop(chance.randrange(len(live)))
            store.memory.delete(Filter(ids=frozenset([gone.id])))
        elif live and chance.random() < 0.4:
            old = live.pop()
            store.memory.add(store.secret(number).changed(id="changed", namespace=old.namespace[:1]))
        else:
            live.append(store.secret(number))
            store.memory.add(live[-1])
        if number % 60 == 30:
            store.reopen()
    store.service.forget(
        {store.secret(number).content for number in range(300)}
    )  # their vectors, put there by `secret`
    store.memory.forget(SECRET)
    assert store.traces() == {}


DERIVED = ["memory.db-index", "memory.db-rows-turns", "memory.db-rows-words"]


@pytest.mark.parametrize("file", DERIVED)
def test_half_written_index_files_are_erased(store: Store, file: str) -> None:
    """What a process that was killed while saving has left is deleted, with what it shows."""
    store.memory.add_many([store.secret(n) for n in range(100)])
    store.manager.close()
    half = store.folder / f"{file}.new-12345"
    half.write_bytes((store.folder / file).read_bytes())
    store.open()
    store.memory.forget(SECRET)
    assert not half.exists()
    assert store.traces() == {}


def test_a_store_without_an_index_at_hand_erases_the_saved_one(store: Store) -> None:
    """Opened exactly, or cold, as the command line does, forgetting leaves no index file that shows what is gone."""
    store.memory.add(store.secret(1))
    store.manager.close()
    assert "memory.db-index" in store.traces()
    cold = DefaultMemoryManager(SQLiteBackend(store.path, warm=False), store.service)
    cold.episodic.forget(SECRET)
    assert store.traces() == {}
    cold.close()
    store.open()
    assert store.manager.stats().index.size == 600


def test_another_process_saves_no_trace_later(store: Store) -> None:
    """One that had the store open all along, with an index of its own, closes without bringing anything back."""
    store.memory.add_many([store.secret(n) for n in range(20)])
    other = SQLiteBackend(store.path, store.service.space, hnsw=HNSWConfig(seed=7))
    assert len(other.search(np.ones(WIDTH, np.float32), 700, Filter())) == 620
    store.memory.forget(SECRET)
    other.add([EpisodicEntry("s", "user", f"later {n}", embedding=np.ones(WIDTH, np.float32)) for n in range(100)])
    other.close()
    assert store.traces() == {}
    assert store.memory.count() == 700


def test_an_erasing_that_a_reader_hinders_is_finished_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """While others read an old state it is an error, with the entries deleted; the next opening erases the rest."""
    monkeypatch.setattr(connection, "_WAIT_SECONDS", 0.2)
    store.memory.add(store.secret(1))
    reader = connection.connect(store.path, mode="ro")
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM entries").fetchone()
    with pytest.raises(UnavailableError):
        store.memory.forget(SECRET)
    assert store.memory.count(SECRET) == 0
    assert store.traces() != {}
    reader.close()
    store.reopen()
    assert store.traces() == {}


def test_forgetting_again_finishes_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same call, when the reader is gone, erases what the first could not, though nothing matches any more."""
    monkeypatch.setattr(connection, "_WAIT_SECONDS", 0.2)
    store.memory.add(store.secret(1))
    with contextlib.closing(connection.connect(store.path, mode="ro")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entries").fetchone()
        with pytest.raises(UnavailableError):
            store.memory.forget(SECRET)
    assert store.memory.forget(SECRET).entries == 0
    assert store.traces() == {}


@pytest.mark.parametrize("files", [[one] for one in DERIVED] + [DERIVED[1:], DERIVED], ids="+".join)
def test_an_index_that_came_too_late_is_deleted(store: Store, files: list[str]) -> None:
    """What a killed process put in place after the forgetting is passed over, and deleted when it is old.

    One of the two files that belong together, beside a newer other one, is what a kill between them leaves.
    """
    store.memory.add_many([store.secret(n) for n in range(100)])
    store.manager.close()
    late = {name: (store.folder / name).read_bytes() for name in files}
    store.open()
    store.memory.forget(SECRET)
    store.manager.close()
    for name, data in late.items():
        (store.folder / name).write_bytes(data)
        os.utime(store.folder / name, (0, 0))
    assert set(files) <= store.traces().keys()
    cold = SQLiteBackend(store.path, hnsw=HNSWConfig())
    cold.retrieve(Query(text="public", mode="keyword"), 1, Filter())
    assert store.traces() == {}
    cold.close()
    store.open()
    assert store.manager.stats().index.size == 600
    assert store.memory.search("Needle000001", 5, mode="keyword") == []


def test_an_erasing_that_another_has_begun_meanwhile_is_not_taken_for_done(store: Store) -> None:
    """Who finishes says so of its own erasing alone: what was deleted after it is erased by the next opening."""
    store.memory.add_many([store.secret(1), store.secret(2)])
    other = SQLiteBackend(store.path, store.service.space)
    rewrite = store.manager.backend._connections.rewrite  # type: ignore[attr-defined]

    def overtaken(**options: object) -> None:
        rewrite(**options)
        other._erase = lambda *_, **__: None  # type: ignore[method-assign]  # it dies after its commit
        other.forget(Filter(session_id="session Needle000002"))
        other._connections._writer.execute("PRAGMA wal_checkpoint")

    store.manager.backend._connections.rewrite = overtaken  # type: ignore[attr-defined]
    store.memory.forget(Filter(session_id="session Needle000001"))
    other._connections.close()
    assert store.traces() != {}
    store.service.forget([store.secret(1).content, store.secret(2).content])
    store.reopen()
    assert store.traces() == {}
