"""The SQLite file: what it records, what it refuses, and how its driver's errors are told."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory import (
    ConfigError,
    CorruptDataError,
    EmbeddingSpace,
    EpisodicEntry,
    Filter,
    InputError,
    SchemaError,
    StorageError,
)
from llmspell_memory import UnavailableError as Unavailable
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.sqlite import connection, recent
from llmspell_memory.testing.backends import entry
from llmspell_memory.testing.indexes import gaussian
from llmspell_memory.types import HNSWConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from llmspell_memory.backends.view import Changes
    from llmspell_memory.types import Durability

SPACE = EmbeddingSpace(provider="test", model=None, dimensions=4)
EVERYTHING = Filter()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SQLiteBackend]:
    backend = SQLiteBackend(path, SPACE)
    yield backend
    backend.close()


def some(count: int) -> list[EpisodicEntry]:
    return [entry(f"n{n}", id=f"n{n}", minute=n, embedding=v) for n, v in enumerate(gaussian(count, 4))]


def ids(backend: SQLiteBackend, where: Filter = EVERYTHING) -> list[str]:
    return [one.id for one in backend.scan(where)]


def changes(backend: SQLiteBackend, since: int = 0) -> list[Changes]:
    """Read the feed of changes to its end."""
    batches: list[Changes] = []
    with backend._connections.read() as db:
        while batch := backend._using.view._source.changes(db, since):
            batches.append(batch)
            since = batch.reached
    return batches


def test_a_file_can_be_opened_without_knowing_its_space(path: Path, backend: SQLiteBackend) -> None:
    """Given no space, the recorded one is taken; a file that is not there is not made."""
    backend.add(some(3))
    again = SQLiteBackend(path)
    assert again.space == SPACE
    assert ids(again) == ["n0", "n1", "n2"]
    again.close()
    with pytest.raises(StorageError, match="there is no store at"):
        SQLiteBackend(path.with_name("other.db"))
    assert not path.with_name("other.db").exists()


def test_other_files_are_refused_unharmed(tmp_path: Path) -> None:
    """Another application's database, a text and a folder are typed errors, and stay as they were."""
    theirs, text = tmp_path / "theirs.db", tmp_path / "notes.txt"
    with sqlite3.connect(theirs) as db:
        db.execute("CREATE TABLE precious (x)")
    db.close()
    text.write_text("not a database " * 100)
    before = theirs.read_bytes()
    with pytest.raises(SchemaError, match="another application"):
        SQLiteBackend(theirs, SPACE)
    with pytest.raises(CorruptDataError, match="not a SQLite file"):
        SQLiteBackend(text, SPACE)
    with pytest.raises(StorageError, match="cannot be opened"):
        SQLiteBackend(tmp_path, SPACE)
    with pytest.raises(StorageError, match="does its folder exist"):
        SQLiteBackend(tmp_path / "no" / "folder.db", SPACE)
    assert text.read_text() == "not a database " * 100
    assert theirs.read_bytes() == before
    assert {one.name for one in tmp_path.iterdir()} == {"theirs.db", "notes.txt"}


def test_a_file_of_a_newer_version_is_refused(path: Path, backend: SQLiteBackend) -> None:
    """A schema version beyond this one is a SchemaError that says to upgrade."""
    backend.close()
    with connection.connect(path, mode="rw") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(SchemaError, match=r"version 99.*upgrade"):
        SQLiteBackend(path, SPACE)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("UPDATE entries SET metadata = '{' WHERE id = 'n1'", "n1"),
        ("UPDATE entries SET metadata = '[]' WHERE id = 'n1'", "n1"),
        ("UPDATE entries SET timestamp = 9e18 WHERE id = 'n1'", "n1"),
        ("UPDATE entries SET namespace = x'ff00' WHERE id = 'n1'", "n1"),
        ("UPDATE vectors_1 SET vector = x'0102030405' WHERE label = 2", "n1"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(path: Path, backend: SQLiteBackend, damage: str, named: str) -> None:
    """A damaged row is a CorruptDataError with the entry's id, never a wrong entry."""
    backend.add(some(3))
    with connection.connect(path, mode="rw") as db:
        db.execute(damage)
    db.close()
    with pytest.raises(CorruptDataError, match=named):
        ids(backend)
    with pytest.raises(CorruptDataError, match=named):
        backend.search(np.ones(4, np.float32), 3, EVERYTHING)


@pytest.mark.parametrize("blob", ["x'0102030405'", "x'0000c07f0000c07f0000c07f0000c07f'", "'0123456789abcdef'"])
def test_a_damaged_vector_stops_the_index_with_its_label(path: Path, backend: SQLiteBackend, blob: str) -> None:
    """Building the index over a vector of the wrong size, or of NaN, is a CorruptDataError, not a wrong index."""
    backend.add(some(3))
    backend.close()
    with connection.connect(path, mode="rw") as db:
        db.execute(f"UPDATE vectors_1 SET vector = {blob} WHERE label = 2")  # noqa: S608 (the test's own)
    db.close()
    with pytest.raises(CorruptDataError, match="label 2"):
        SQLiteBackend(path, SPACE)


def test_damaged_metadata_is_told_by_a_filter_too(path: Path, backend: SQLiteBackend) -> None:
    """A metadata filter that meets unreadable metadata raises CorruptDataError rather than passing the row over."""
    backend.add(some(3))
    with connection.connect(path, mode="rw") as db:
        db.execute("""UPDATE entries SET metadata = '{"k":"v"' WHERE id = 'n1'""")
    db.close()
    with pytest.raises(CorruptDataError, match="metadata"):
        backend.count(Filter(metadata={"k": "v"}))


def test_a_failed_batch_leaves_nothing(path: Path, backend: SQLiteBackend) -> None:
    """A batch that fails in the middle is rolled back whole, and the store goes on."""
    backend.add(some(2))
    with connection.connect(path, mode="rw") as db:
        db.execute("CREATE TRIGGER no BEFORE INSERT ON entries WHEN NEW.id = 'n4' BEGIN SELECT RAISE(ABORT, 'no'); END")
    db.close()
    with pytest.raises(StorageError, match="no"):
        backend.add(some(6))
    assert ids(backend) == ["n0", "n1"]
    assert len(backend.search(np.ones(4, np.float32), 10, EVERYTHING)) == 2
    backend.add(some(4))
    assert ids(backend) == ["n0", "n1", "n2", "n3"]


def test_a_locked_file_is_unavailable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another process keeps the file locked, a write is an UnavailableError, and works again afterwards."""
    monkeypatch.setattr(connection, "_WAIT_SECONDS", 0.05)
    impatient = SQLiteBackend(path, SPACE)
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="busy"):
        impatient.add(some(1))
    assert ids(impatient) == []
    locker.execute("ROLLBACK")
    locker.close()
    impatient.add(some(1))
    assert ids(impatient) == ["n0"]
    impatient.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, Unavailable),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Unavailable),
        (sqlite3.SQLITE_LOCKED, Unavailable),
        (sqlite3.SQLITE_CORRUPT, CorruptDataError),
        (sqlite3.SQLITE_NOTADB, CorruptDataError),
        (sqlite3.SQLITE_FULL, StorageError),
        (sqlite3.SQLITE_READONLY, StorageError),
        (sqlite3.SQLITE_IOERR_WRITE, StorageError),
        (sqlite3.SQLITE_INTERNAL, StorageError),
    ],
)
def test_every_driver_error_is_translated(path: Path, code: int, kind: type[Exception]) -> None:
    """Whatever sqlite3 raises leaves as one of our errors, its cause kept."""
    error = sqlite3.OperationalError("what SQLite said")
    error.sqlite_errorcode = code
    with pytest.raises(kind) as caught, connection.translated(path):
        raise error
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error


def test_a_replaced_entry_with_the_same_vector_does_not_touch_the_index(backend: SQLiteBackend) -> None:
    """Adding what is already there again changes the row, but gives the index no work."""
    backend.add(some(3))
    before = changes(backend)[-1]
    backend.add([one.changed(content="edited") for one in some(3)])
    assert [batch.labels.tolist() for batch in changes(backend, before.reached)] == [[]]
    assert [one.content for one in backend.scan(EVERYTHING)] == ["edited"] * 3


def test_changes_are_told_in_pages_that_can_be_continued(backend: SQLiteBackend) -> None:
    """The feed of changes tells every live vector once, the gone ones as gone, and can be taken up at any page."""
    backend.add(some(1500))
    backend.delete(Filter(ids=frozenset({"n3", "n1499"})))
    pages = changes(backend)
    assert [len(page.labels) for page in pages] == [512, 512, 474]
    labels = np.concatenate([page.labels for page in pages]).tolist()
    assert len(labels) == len(set(labels)) == 1498
    assert {4, 1500} <= {label for page in pages for label in page.gone.tolist()}
    rest = changes(backend, pages[0].reached)
    assert np.concatenate([page.labels for page in rest]).tolist() == labels[512:]


def test_threads_share_one_backend(path: Path) -> None:
    """Writers and readers in eight threads: everything written is there, and every search is whole."""
    backend = SQLiteBackend(path, SPACE, hnsw=HNSWConfig(m=4, ef_construction=10))
    backend.add(some(50))
    faults: list[str] = []

    def write(writer: int) -> None:
        chance = np.random.default_rng(writer)
        for n in range(60):
            one = entry("x", f"w{writer}", id=f"{writer}-{n}", embedding=chance.standard_normal(4))
            backend.add([one])
            if n % 3 == 0:
                backend.delete(Filter(ids=frozenset({one.id})))

    def read(reader: int) -> None:
        for vector in gaussian(60, 4, seed=reader):
            if len(backend.search(vector, 10, EVERYTHING)) != 10:
                faults.append("fewer than k")
            if len(backend.search(vector, 50, Filter(session_id="s1"))) != 50:
                faults.append("fewer than the session holds")

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    threads += [threading.Thread(target=read, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert backend.count(EVERYTHING) == 50 + 4 * 40
    assert backend.stats().index.size == 50 + 4 * 40
    backend.close()


def test_processes_share_one_file(path: Path, backend: SQLiteBackend) -> None:
    """Three processes add to one file at once; all their entries are there, and are found by this one."""
    script = (
        "import sys, numpy as np\n"
        "from llmspell_memory import EmbeddingSpace, EpisodicEntry\n"
        "from llmspell_memory.backends import SQLiteBackend\n"
        "backend = SQLiteBackend(sys.argv[1], EmbeddingSpace(provider='test', model=None, dimensions=4))\n"
        "for n in range(100):\n"
        "    backend.add([EpisodicEntry('s', 'user', 'x', id=f'{sys.argv[2]}-{n}', embedding=np.ones(4))])\n"
        "backend.close()\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), str(n)]) for n in range(3)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert backend.count(EVERYTHING) == 300
    assert len(backend.search(np.ones(4, np.float32), 300, EVERYTHING)) == 300


ROW_FILES = ["memory.db-rows-turns", "memory.db-rows-words"]

NEAR = np.array([1, 0.01, 0, 0], np.float32)
FAR = np.array([-1, 0, 0, 0], np.float32)


@pytest.mark.parametrize("where", [EVERYTHING, Filter(processed=False), Filter(ids=frozenset({"a", "b", "c", "new"}))])
@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda other: other.add([entry("new", id="new", embedding=NEAR)]), ["new", "a"]),
        (lambda other: other.add([entry("a", id="a", embedding=FAR)]), ["b", "c"]),
        (lambda other: other.add([entry("a", id="a", processed=True, embedding=NEAR)]), None),
        (lambda other: other.delete(Filter(ids=frozenset({"a"}))), ["b", "c"]),
        (lambda other: other.delete(EVERYTHING), []),
    ],
)
@pytest.mark.parametrize("begin", ["before the search", "before the rows are read"])
@pytest.mark.parametrize("searched_before", [False, True])
def test_a_write_of_others_is_never_half_seen(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    begin: str,
    searched_before: bool,
    where: Filter,
    write: Callable[[SQLiteBackend], object],
    expected: list[str] | None,
) -> None:
    """Whatever another process writes while a search runs, k hits match, with the scores of their own vectors."""
    backend, other = SQLiteBackend(path, SPACE), SQLiteBackend(path, SPACE)
    turned = [np.array([1, turn, 0, 0], np.float32) for turn in (0.1, 0.2, 0.3)]
    backend.add([entry(name, id=name, embedding=vector) for name, vector in zip("abc", turned, strict=True)])
    query = np.array([1, 0, 0, 0], np.float32)
    if searched_before:
        backend.search(query, 3, EVERYTHING)
    search = backend._using.view.search
    pending = [write]

    def overtaken(*arguments: Any, **named: Any) -> Any:
        found = search(*arguments, **named)
        if pending:
            pending.pop()(other)
        return found

    if begin == "before the search":
        pending.pop()(other)
    monkeypatch.setattr(backend._using.view, "search", overtaken)
    hits = backend.search(query, 2, where)
    whole_before = where.ids is not None and begin != "before the search"  # a transaction's rows are all of its begin
    if expected is None:
        expected = ["a", "b"] if where.processed is None else ["b", "c"]
    assert [hit.entry.id for hit in hits] == (["a", "b"] if whole_before else expected)
    for hit in hits:
        assert where.matches(hit.entry)
        assert hit.entry.embedding is not None
        vector = hit.entry.embedding / np.linalg.norm(hit.entry.embedding)
        assert hit.score == pytest.approx(float(vector[0]))
    backend.close()
    other.close()


def test_a_mark_of_others_is_seen_at_once(path: Path, backend: SQLiteBackend) -> None:
    """What another process has marked comes back marked from the next search, and passes no filter it should not."""
    backend.add(some(3))
    query = np.ones(4, np.float32)
    assert not any(hit.entry.processed for hit in backend.search(query, 3, EVERYTHING))
    other = SQLiteBackend(path, SPACE)
    other.mark_processed(Filter(ids=frozenset({"n1"})))
    assert [hit.entry.id for hit in backend.search(query, 3, EVERYTHING) if hit.entry.processed] == ["n1"]
    assert [hit.entry.id for hit in backend.search(query, 3, Filter(processed=True))] == ["n1"]
    other.add([one.changed(content="edited") for one in some(3)])
    assert {hit.entry.content for hit in backend.search(query, 3, EVERYTHING)} == {"edited"}
    other.close()


def test_entries_read_before_are_not_read_again(path: Path, backend: SQLiteBackend) -> None:
    """A search takes entries it has met from memory until they change; what other processes add leaves them there."""
    backend.add(some(5))
    query = np.ones(4, np.float32)
    first = {hit.entry.id: hit.entry for hit in backend.search(query, 5, EVERYTHING)}
    other = SQLiteBackend(path, SPACE)
    other.add([entry("new", id="new", embedding=np.ones(4))])
    other.delete(Filter(ids=frozenset({"n1"})))
    second = {hit.entry.id: hit.entry for hit in backend.search(query, 5, EVERYTHING)}
    assert sorted(second) == ["n0", "n2", "n3", "n4", "new"]
    assert all(second[name] is first[name] for name in first.keys() & second.keys())
    other.add([some(3)[2].changed(content="edited")])
    third = {hit.entry.id: hit.entry.content for hit in backend.search(query, 5, EVERYTHING)}
    assert third == {"n0": "n0", "n2": "edited", "n3": "n3", "n4": "n4", "new": "new"}
    other.close()


def test_entries_kept_in_memory_are_bounded(backend: SQLiteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is searched, what is kept of it stays within its bound, is counted, and is gone after close."""
    monkeypatch.setattr(recent, "_MOST_BYTES", 40_000)
    backend.add([*some(100), entry("x" * 50_000, id="long", embedding=np.ones(4))])
    empty = backend.stats().memory_bytes
    for one in gaussian(50, 4, seed=3):
        assert len(backend.search(one, 7, EVERYTHING)) == 7
        assert backend.stats().memory_bytes - empty <= 40_000
    assert backend.stats().memory_bytes > empty
    assert backend.search(np.ones(4, np.float32), 1, EVERYTHING)[0].entry.id == "long"
    backend.close()
    assert backend._using.recent.memory_bytes == 0


def test_what_was_read_before_a_change_is_not_kept_after_it(
    path: Path, backend: SQLiteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow search that read a row, and keeps it only when a rebuild has passed the row's change, revives nothing."""
    backend.add(some(3))
    query = np.ones(4, np.float32)
    stale = dict(enumerate(some(3), start=1))
    moment = backend._using.view.moment
    other = SQLiteBackend(path, SPACE)
    other.add([one.changed(content="edited") for one in some(3)])
    read_into = backend._using.view._read_into

    def overtaken(index: Any, seen: int, rows: Any = None) -> int:
        reached = read_into(index, seen, rows)
        backend._using.recent.keep(stale, if_still=lambda: backend._using.view.moment == moment)
        return reached

    monkeypatch.setattr(backend._using.view, "_read_into", overtaken)
    backend.configure(None, rebuild=True)
    assert {hit.entry.content for hit in backend.search(query, 3, EVERYTHING)} == {"edited"}
    other.close()


@pytest.mark.parametrize("k", [0, 1, 512, 513, 2000, 10**9])
def test_any_k_is_answered(backend: SQLiteBackend, k: int) -> None:
    """However many are wanted, that many come, each with its own row, best first; SQLite's limits do not show."""
    assert backend.search(np.ones(4, np.float32), k, EVERYTHING) == []
    backend.add(some(1200))
    hits = backend.search(np.ones(4, np.float32), k, EVERYTHING)
    assert len({hit.entry.id for hit in hits}) == len(hits) == min(k, 1200)
    assert [hit.score for hit in hits] == sorted([hit.score for hit in hits], reverse=True)
    for hit in hits:
        assert hit.entry.embedding is not None
        cosine = hit.entry.embedding.sum() / np.linalg.norm(hit.entry.embedding) / 2
        assert hit.score == pytest.approx(float(cosine), abs=1e-5)


def test_a_scan_can_be_written_beside(backend: SQLiteBackend) -> None:
    """A long scan holds no lock: writes go on between its entries, and no entry comes twice."""
    backend.add(some(1200))
    seen = []
    for one in backend.scan(EVERYTHING):
        seen.append(one.id)
        if len(seen) % 100 == 0:
            backend.delete(Filter(ids=frozenset({one.id})))
    assert len(seen) == len(set(seen)) == 1200
    assert backend.count(EVERYTHING) == 1188


def test_closing_leaves_one_file(path: Path, backend: SQLiteBackend) -> None:
    """After the last close the log is folded into the file, which alone is the memory."""
    backend.add(some(10))
    assert backend.stats().disk_bytes >= path.stat().st_size
    backend.close()
    assert sorted(one.name for one in path.parent.iterdir()) == ["memory.db", *ROW_FILES]


def test_a_path_means_what_it_meant_when_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is settled on opening: changing the working directory later changes no file."""
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    backend = SQLiteBackend("memory.db", SPACE, warm=False)
    monkeypatch.chdir(tmp_path / "other")
    backend.add(some(3))
    assert ids(backend) == ["n0", "n1", "n2"]
    backend.close()
    assert list((tmp_path / "other").iterdir()) == []


def test_memory_is_no_file() -> None:
    """SQLite's ":memory:" would give every connection a store of its own, so it is refused with the alternative."""
    with pytest.raises(ConfigError, match="LocalBackend"):
        SQLiteBackend(":memory:", SPACE)


def test_an_existing_file_opens_beside_a_writer(path: Path, backend: SQLiteBackend) -> None:
    """Opening a store that is up to date waits for no writer."""
    backend.add(some(3))
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    again = SQLiteBackend(path, SPACE)
    assert len(ids(again)) == 3
    again.close()
    writer.execute("ROLLBACK")
    writer.close()


def test_a_scan_is_of_one_moment(backend: SQLiteBackend) -> None:
    """Entries moved in time, added and deleted while a scan runs neither come twice nor go missing."""
    backend.add(some(1200))
    scan = backend.scan(EVERYTHING)
    seen = [next(scan).id]
    moved = [one.changed(timestamp=entry("x", minute=2000 if one.id == "n3" else -5).timestamp) for one in some(1101)]
    backend.add([moved[3], moved[1100]])
    backend.delete(Filter(ids=frozenset({"n1150"})))
    seen += [one.id for one in scan]
    assert seen == [f"n{n}" for n in range(1200)]


def test_changing_ef_search_of_a_cold_backend_builds_nothing(path: Path) -> None:
    """A backend that waits for its first search goes on waiting."""
    backend = SQLiteBackend(path, SPACE, hnsw=HNSWConfig(), warm=False)
    backend.configure(HNSWConfig(ef_search=99))
    backend.add(some(20))
    assert backend.stats().index.size == 0
    assert len(backend.search(np.ones(4, np.float32), 20, EVERYTHING)) == 20
    assert backend.stats().index.config == HNSWConfig(ef_search=99)
    backend.close()


@pytest.mark.parametrize(("durability", "level"), [("normal", 1), ("full", 2)])
def test_durability_decides_what_a_commit_waits_for(path: Path, durability: Durability, level: int) -> None:
    """SQLite is told to wait for the disk in every commit exactly where that was asked for."""
    backend = SQLiteBackend(path, SPACE, durability=durability)
    with backend._connections.write() as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (level,)
    backend.close()
    with pytest.raises(ConfigError, match='"normal" or "full"'):
        SQLiteBackend(path, SPACE, durability="paranoid")  # type: ignore[arg-type]


def test_a_long_log_is_folded_in_beside_readers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that come and go all the time do not let the write-ahead log grow without end."""
    monkeypatch.setattr(connection, "_LOG_BYTES", 400_000)
    backend = SQLiteBackend(path, SPACE)
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            backend.count(EVERYTHING)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    log = path.with_name("memory.db-wal")
    longest = 0
    for number in range(150):
        backend.add([entry("x" * 40_000, id=f"{number}", embedding=np.ones(4))])
        longest = max(longest, log.stat().st_size)
    done.set()
    for reader in readers:
        reader.join()
    assert longest < 3_000_000, "all that was written is six million bytes"
    assert backend.count(EVERYTHING) == 150
    backend.close()


def test_a_file_that_was_replaced_is_not_written_to(path: Path, backend: SQLiteBackend) -> None:
    """When another file, or none, stands in its place, every call says so; with the file back, all goes on."""
    backend.add(some(3))
    away = path.with_name("away.db")
    path.rename(away)
    uses: list[Callable[[], object]] = [
        lambda: backend.add(some(4)),
        lambda: backend.count(EVERYTHING),
        lambda: backend.search(np.ones(4, np.float32), 1, EVERYTHING),
        lambda: ids(backend),
    ]
    for use in uses:
        with pytest.raises(StorageError, match="removed or replaced"):
            use()
    path.write_bytes(b"another")
    for use in uses:
        with pytest.raises(StorageError, match="removed or replaced"):
            use()
    assert path.read_bytes() == b"another"
    path.unlink()
    away.rename(path)
    backend.add(some(4))
    assert ids(backend) == ["n0", "n1", "n2", "n3"]


def test_a_vector_that_the_index_cannot_keep_is_not_stored(path: Path) -> None:
    """Numbers too large for a float16 index are refused before the row is written, not after."""
    space = EmbeddingSpace(provider="test", model=None, dimensions=4, metric="inner_product")
    backend = SQLiteBackend(path, space, hnsw=HNSWConfig(dtype="float16"))
    with pytest.raises(InputError, match="float16"):
        backend.add([entry("x", id="x", embedding=np.full(4, 1e5, np.float32))])
    assert backend.count(EVERYTHING) == 0
    backend.close()
    exact = SQLiteBackend(path, space)
    exact.add([entry("x", id="x", embedding=np.full(4, 1e5, np.float32))])
    exact.close()
    with pytest.raises(StorageError, match="cannot show what is stored"):
        SQLiteBackend(path, space, hnsw=HNSWConfig(dtype="float16"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_scan_that_was_forked_off_ends_without_touching_what_it_inherited(backend: SQLiteBackend) -> None:
    """A child that lets go of a half-read scan neither hangs nor disturbs the parent's."""
    backend.add(some(1200))
    scan = backend.scan(EVERYTHING)
    next(scan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forking beside threads
        child = os.fork()
    if child == 0:
        scan.close()  # type: ignore[attr-defined]  # it is a generator
        os._exit(len(backend._connections._idle))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == len(backend._connections._idle)
    assert sum(1 for _ in scan) == 1199


def test_an_index_that_cannot_be_saved_is_not_tried_at_every_write(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a failed save writes go on as quickly as before; the log tells of it once, and not a thousand times."""
    path.with_name("memory.db-index").mkdir()
    (path.with_name("memory.db-index") / "inhabitant").touch()
    backend = SQLiteBackend(path, SPACE, hnsw=HNSWConfig(m=4, ef_construction=10))
    vectors = gaussian(5000, 4)
    backend.add([entry(f"n{n}", id=f"n{n}", embedding=vectors[n]) for n in range(4500)])
    for n in range(4500, 4550):
        backend.add([entry(f"n{n}", id=f"n{n}", embedding=vectors[n])])
    assert caplog.text.count("was not saved") == 1
    backend.close()
