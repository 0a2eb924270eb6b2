"""A backup is a store of one moment, taken while others go on, and nothing is left of one that failed."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from llmspell_memory import (
    CorruptDataError,
    EmbeddingService,
    Filter,
    HNSWConfig,
    InputError,
    SchemaError,
    StorageError,
)
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.operations import backup, check, repair
from llmspell_memory.testing.backends import entry
from llmspell_memory.testing.backends.material import fields_of
from llmspell_memory.testing.indexes import gaussian

GOLDEN = Path(__file__).parents[2] / "golden" / "store-v1.db"
BATCH = 20

WRITER = f"""
import sys, numpy as np
from llmspell_memory import EpisodicEntry, Filter
from llmspell_memory.backends import SQLiteBackend
backend = SQLiteBackend(sys.argv[1], warm=False)
print("ready", flush=True)
for n in range(10**9):
    vectors = np.full(({BATCH}, 64), n + 1, np.float32)
    backend.add([EpisodicEntry(f"b{{n}}", "user", "x" * (n % 50 * 100 + 1), embedding=v) for v in vectors])
    backend.mark_processed(Filter(session_id=f"b{{n}}"))
    if n > 20:
        backend.delete(Filter(session_id=f"b{{n - 20}}"))
"""

STORE_FILES = ["memory.db", "memory.db-index", "memory.db-rows-turns", "memory.db-rows-words"]


@pytest.fixture
def path(tmp_path: Path, service: EmbeddingService) -> Path:
    path = tmp_path / "memory.db"
    backend = SQLiteBackend(path, service.space, hnsw=HNSWConfig())
    backend.add([entry(f"text {n}", id=f"n{n}", embedding=v) for n, v in enumerate(gaussian(300, 64))])
    backend.close()
    return path


def test_opening_a_backup_restores_it(path: Path) -> None:
    """Every entry and vector is there, its pages have their checksums, and it goes on as a store of its own."""
    target = path.with_name("backup.db")
    told: list[tuple[int, int]] = []
    source = SQLiteBackend(path, warm=False)
    report = backup(path, target, on_progress=lambda done, total: told.append((done, total)))
    assert (report.path, report.target, report.entries) == (path, target, 300)
    assert report.bytes == target.stat().st_size
    assert told[-1] == (report.bytes // 4096,) * 2
    assert not Path(f"{target}-wal").exists()
    seen = check(target)
    assert (seen.sound, seen.checksums, seen.snapshot, seen.entries) == (True, True, "absent", 300)
    copy = SQLiteBackend(target, hnsw=HNSWConfig())
    everything = Filter()
    assert [fields_of(one) for one in copy.scan(everything)] == [fields_of(one) for one in source.scan(everything)]
    copy.delete(everything)
    assert (copy.count(everything), source.count(everything)) == (0, 300)
    copy.close()
    source.close()


def test_a_copy_by_another_tool_can_be_taken(path: Path) -> None:
    """What plain SQLite has copied or written counts as damaged, until a backup that does not compare takes it over."""
    theirs, ours = path.with_name("theirs.db"), path.with_name("ours.db")
    with contextlib.closing(sqlite3.connect(path)) as store, contextlib.closing(sqlite3.connect(theirs)) as copy:
        store.backup(copy)
        copy.execute("UPDATE entries SET role = 'edited' WHERE id = 'n7'")
        copy.commit()
    with pytest.raises(CorruptDataError, match="page"):
        backup(theirs, ours)
    assert not ours.exists()
    assert backup(theirs, ours, compared=False).entries == 300
    assert check(ours).sound
    assert check(ours).checksums
    backend = SQLiteBackend(ours)
    assert [one.id for one in backend.scan(Filter(role="edited"))] == ["n7"]
    backend.close()
    whole = bytearray(theirs.read_bytes())
    whole[5 * 4096 : 5 * 4096 + 12] = bytes(12)
    theirs.write_bytes(whole)
    with pytest.raises(CorruptDataError):
        backup(theirs, path.with_name("other.db"), compared=False)


def test_a_backup_put_in_the_stores_place_does_not_believe_a_later_index(path: Path) -> None:
    """Restored over a store that went on, the index file beside it is of other rows, and is passed over."""
    kept = path.with_name("backup.db")
    backup(path, kept)
    backend = SQLiteBackend(path, hnsw=HNSWConfig())
    backend.add([entry(f"later {n}", id=f"l{n}", embedding=v) for n, v in enumerate(gaussian(300, 64, seed=2))])
    backend.close()
    shutil.move(kept, path)
    assert check(path).snapshot == "foreign"
    backend = SQLiteBackend(path, hnsw=HNSWConfig())
    assert backend.stats().index.size == 300
    assert {hit.entry.id[0] for hit in backend.search(gaussian(1, 64, seed=2)[0], 50, Filter())} == {"n"}
    backend.close()


def test_a_backup_while_a_process_writes_is_of_one_moment(path: Path) -> None:
    """Each batch is there whole or not at all, in rows and vectors, and the writer is not kept waiting."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            for n in range(8):
                time.sleep(0.05)
                backup(path, path.with_name(f"backup-{n}.db"))
        finally:
            writer.kill()
    last: set[str] = set()
    for n in range(8):
        target = path.with_name(f"backup-{n}.db")
        assert check(target).sound
        copy = SQLiteBackend(target)
        found = [one for one in copy.scan(Filter()) if one.session_id != "s1"]
        copy.close()
        assert set(Counter(one.session_id for one in found).values()) <= {BATCH}
        for session in {one.session_id for one in found}:
            batch = [one for one in found if one.session_id == session]
            assert len({one.processed for one in batch}) == 1
            vectors = {one.embedding.tobytes() for one in batch if one.embedding is not None}
            assert vectors == {np.full(64, int(session[1:]) + 1, np.float32).tobytes()}
        sessions = {one.session_id for one in found}
        assert sessions != last, "the writer stood still"
        last = sessions


def test_a_writer_in_the_same_process_goes_on_meanwhile(path: Path) -> None:
    """Between two words of progress others write; the copy is as it was at the beginning."""
    backend = SQLiteBackend(path, warm=False)
    backend.add([entry("long " * 5000, id=f"long{n}", embedding=v) for n, v in enumerate(gaussian(1500, 64))])
    writing = threading.Event()

    def write(*_: int) -> None:
        if not writing.is_set():
            writing.set()
            backend.add([entry("meanwhile", id="meanwhile", embedding=np.ones(64, np.float32))])

    target = path.with_name("backup.db")
    report = backup(path, target, on_progress=write)
    assert writing.is_set()
    assert report.entries == 1800
    copy = SQLiteBackend(target, warm=False)
    assert copy.count(Filter(ids=frozenset(["meanwhile"]))) == 0
    copy.close()
    assert backend.count(Filter()) == 1801
    backend.close()


def test_a_store_of_schema_1_is_copied_as_it_is(tmp_path: Path) -> None:
    """Its pages have no checksums, and neither have those of the copy; opening either brings it up to date."""
    source = Path(shutil.copy(GOLDEN, tmp_path / "memory.db"))
    backup(source, tmp_path / "backup.db")
    report = check(tmp_path / "backup.db")
    assert (report.schema, report.checksums, report.entries, report.sound) == (1, False, 10, True)
    backend = SQLiteBackend(tmp_path / "backup.db")
    assert backend.count(Filter()) == 10
    backend.close()


def test_nothing_takes_the_place_of_what_is_there(path: Path) -> None:
    """A target that exists, the store itself under any name, and a log left at the target's name are refused."""
    before = path.read_bytes()
    other = path.with_name("other.db")
    other.write_text("mine")
    link = path.with_name("link.db")
    link.hardlink_to(path)
    for target in (path, link):
        with pytest.raises(InputError, match="the store itself"):
            backup(path, target)
    with pytest.raises(InputError, match="exists"):
        backup(path, other)
    with pytest.raises(InputError, match="exists"):
        backup(path, path.parent)
    Path(f"{path.with_name('new.db')}-wal").write_bytes(b"of a store that is gone")
    with pytest.raises(InputError, match=r"new\.db-wal exists"):
        backup(path, path.with_name("new.db"))
    assert (path.read_bytes(), other.read_text()) == (before, "mine")


def test_a_backup_that_fails_leaves_nothing(path: Path, tmp_path: Path) -> None:
    """No store, an empty file, another application's, a damaged page, no folder: typed errors, and no file."""
    target = tmp_path / "backup.db"
    with pytest.raises(StorageError, match="no store"):
        backup(tmp_path / "nothing.db", target)
    (tmp_path / "empty.db").touch()
    with pytest.raises(StorageError, match="no store"):
        backup(tmp_path / "empty.db", target)
    theirs = sqlite3.connect(tmp_path / "theirs.db")
    theirs.execute("CREATE TABLE precious (x)")
    theirs.close()
    with pytest.raises(SchemaError, match="another application"):
        backup(tmp_path / "theirs.db", target)
    with pytest.raises(StorageError, match="folder"):
        backup(path, tmp_path / "no" / "backup.db")
    names = {one.name for one in tmp_path.iterdir()}
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptDataError, match=rf"page {len(data) // 4096} "):
        backup(path, target)
    assert {one.name for one in tmp_path.iterdir()} == names == {*STORE_FILES, "empty.db", "theirs.db"}


def test_what_the_callback_raises_ends_it(path: Path) -> None:
    """An interrupted backup leaves nothing behind, and the store as it was."""

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        backup(path, path.with_name("backup.db"), on_progress=stop)
    assert sorted(one.name for one in path.parent.iterdir()) == STORE_FILES
    assert path.read_bytes() == before


NO_ROOM = """
import resource, sys
from llmspell_memory import StorageError
from llmspell_memory.operations import backup, repair
most = int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
try:
    {"backup": backup, "repair": repair}[sys.argv[1]](sys.argv[2], sys.argv[3])
except StorageError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no limits of a file's size")
@pytest.mark.parametrize("verb", ["backup", "repair"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_without_room_for_the_copy_nothing_is_left(path: Path, verb: str, share: float) -> None:
    """A file that cannot grow, as on a full disk, is a StorageError; the folder is as before."""
    before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    most = str(int(path.stat().st_size * share))
    command = [sys.executable, "-c", NO_ROOM, verb, str(path), str(path.with_name("new.db")), most]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.startswith("StorageError"), done
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == before


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are others here")
@pytest.mark.parametrize("folder_too", [False, True])
def test_a_store_that_may_only_be_read_is_copied_checked_and_repaired(
    path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, folder_too: bool
) -> None:
    """On a read-only medium nothing need be written beside the store."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path.chmod(0o444)
    if folder_too:
        path.parent.chmod(0o555)
    if os.geteuid() == 0:  # who may write everywhere; SQLite itself is kept from it by the way it is asked to open
        access = os.access
        monkeypatch.setattr(
            os, "access", lambda one, mode, **how: (one != path or mode != os.W_OK) and access(one, mode, **how)
        )
    try:
        assert backup(path, elsewhere / "copy.db").entries == 300
        report = check(path)
        assert (report.sound, report.snapshot) == (True, "whole")
        assert repair(path, elsewhere / "new.db").entries == 300
        assert sorted(one.name for one in path.parent.iterdir()) == STORE_FILES
    finally:
        path.parent.chmod(0o755)


def test_what_a_killed_backup_has_left_is_cleared_away(path: Path) -> None:
    """The next backup to the same name deletes a half-written copy that is an hour old, and leaves a younger one."""
    old, young = path.with_name(".backup.db.new-0123"), path.with_name(".backup.db.new-4567")
    for one in (old, young):
        one.write_bytes(b"half a copy")
    os.utime(old, (0, 0))
    backup(path, path.with_name("backup.db"))
    assert (old.exists(), young.exists()) == (False, True)
