"""Pages of a database file carry checksums: damage is told, wherever it is, and nothing else is taken for damage."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import warnings
from pathlib import Path

import pytest

from llmspell_memory import CorruptDataError, EmbeddingSpace, EpisodicEntry, Filter, StorageError, UnavailableError
from llmspell_memory import _pages as native
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.sqlite import folders, pages
from llmspell_memory.testing.backends import entry
from llmspell_memory.testing.indexes import gaussian

SPACE = EmbeddingSpace(provider="test", model=None, dimensions=64)
EVERYTHING = Filter()
PAGE = 4096


def some(count: int) -> list[EpisodicEntry]:
    texts = (f"text {n} " + "long " * (n % 7 * 300) for n in range(count))
    vectors = gaussian(count, 64)
    return [
        entry(text, f"s{n % 9}", id=f"n{n}", embedding=v)
        for n, (text, v) in enumerate(zip(texts, vectors, strict=True))
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "memory.db"
    backend = SQLiteBackend(path, SPACE)
    backend.add(some(300))
    backend.close()
    return path


def sums(path: Path) -> list[int]:
    """Numbers of the pages whose checksum is wrong."""
    data = path.read_bytes()
    found = [data[at : at + PAGE] for at in range(0, len(data), PAGE)]
    return [
        number
        for number, page in enumerate(found, start=1)
        if int.from_bytes(page[-8:], "little") != native.checksum(page, number)
    ]


def read_all(path: Path) -> list[EpisodicEntry]:
    backend = SQLiteBackend(path, SPACE)
    try:
        backend.search(gaussian(1, 64)[0], 5, EVERYTHING)
        return list(backend.scan(EVERYTHING))
    finally:
        backend.close()


def test_every_page_is_summed(path: Path) -> None:
    """After adds, replacements, deletes and erasing, each page of the file has the checksum of what is in it."""
    assert pages.unavailable() == ""
    backend = SQLiteBackend(path, SPACE)
    backend.add([one.changed(content=one.content * 3) for one in some(100)])
    backend.delete(Filter(session_id="s3"))
    backend.close()
    assert path.stat().st_size > 100 * PAGE
    assert sums(path) == []
    backend = SQLiteBackend(path, SPACE)
    backend.forget(Filter(session_id="s4"))
    assert sums(path) == []
    backend.close()
    assert sums(path) == []


@pytest.mark.parametrize("damage", ["a bit", "zeros", "swapped", "another page's"])
def test_a_damaged_page_is_named(path: Path, damage: str) -> None:
    """A flipped bit, a page of zeros, two pages in each other's places, a page copied over another: each is told."""
    whole = bytearray(path.read_bytes())
    first, second = 20 * PAGE, 31 * PAGE
    if damage == "a bit":
        whole[first + 1234] ^= 4
    elif damage == "zeros":
        whole[first : first + PAGE] = bytes(PAGE)
    else:
        one, other = whole[first : first + PAGE], whole[second : second + PAGE]
        whole[first : first + PAGE] = other
        if damage == "swapped":
            whole[second : second + PAGE] = one
    path.write_bytes(whole)
    with pytest.raises(CorruptDataError, match=r"page (21|32) \(at byte .*\) is not what was written"):
        read_all(path)


@pytest.mark.parametrize("at", [16, 20, 68, 69, 24, 28, 52, 99, 110, 2000, 4090])
def test_a_damaged_header_is_told(path: Path, at: int) -> None:
    """The first page, on which all else depends, cannot be damaged unseen, nor can the signs that pages are summed."""
    whole = bytearray(path.read_bytes())
    whole[at] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CorruptDataError):
        read_all(path)


def test_a_file_cut_short_is_told(path: Path) -> None:
    """A file that has lost its end, at a page's border or within one, is damaged, and not a smaller file."""
    for size in (path.stat().st_size - PAGE, path.stat().st_size // 2 // PAGE * PAGE + 17):
        os.truncate(path, size)
        with pytest.raises(CorruptDataError):
            read_all(path)


def test_other_tools_can_read_a_store(path: Path) -> None:
    """To plain SQLite it is a plain database, whole by its own checks."""
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    assert db.execute("SELECT count(*) FROM entries").fetchone() == (300,)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


def test_nothing_half_made_stands_beside_a_new_file(path: Path) -> None:
    """What it was written to before it took its place is gone."""
    rows = ["memory.db-rows-turns", "memory.db-rows-words"]
    assert sorted(one.name for one in path.parent.iterdir()) == ["memory.db", *rows]


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    """A file that somebody has made, and written nothing to, is used like one that is not there."""
    path = tmp_path / "memory.db"
    path.touch()
    backend = SQLiteBackend(path, SPACE)
    backend.add(some(3))
    backend.close()
    assert len(read_all(path)) == 3
    assert sums(path) == []


@pytest.mark.parametrize("left", ["memory.db-index", "memory.db-rows-turns", "memory.db-rows-words"])
def test_an_emptied_store_is_not_taken_for_a_new_one(path: Path, left: str) -> None:
    """A file of no length beside anything that was made from its rows has lost them; nothing is made."""
    for file in path.parent.glob("memory.db-*"):
        file.unlink()
    path.with_name(left).write_bytes(b"made from the rows")
    os.truncate(path, 0)
    with pytest.raises(CorruptDataError, match=f"is empty, but .*{left}"):
        SQLiteBackend(path, SPACE)
    assert path.stat().st_size == 0
    path.with_name(left).unlink()
    assert read_all(path) == []


def test_a_checksum_depends_on_every_bit_and_on_the_place() -> None:
    """No single changed bit, and no other page number, gives the same checksum."""
    page = bytearray(os.urandom(PAGE))
    seen = {native.checksum(bytes(page), 1), native.checksum(bytes(page), 2)}
    for bit in range(0, (PAGE - 8) * 8, 7):
        page[bit // 8] ^= 1 << bit % 8
        seen.add(native.checksum(bytes(page), 1))
        page[bit // 8] ^= 1 << bit % 8
    assert len(seen) == 2 + len(range(0, (PAGE - 8) * 8, 7))
    with pytest.raises(ValueError, match="4096"):
        native.checksum(b"short", 1)


def test_without_the_layer_files_are_plain_and_checksums_are_not_spoilt(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where SQLite takes no layer, new files work without checksums; one that has them is refused, and left alone."""
    monkeypatch.setattr(pages, "_outcome", ["this Python's SQLite does not show sqlite3_vfs_register"])
    plain, before = tmp_path / "plain.db", path.read_bytes()
    backend = SQLiteBackend(plain, SPACE)
    backend.add(some(20))
    backend.close()
    assert len(read_all(plain)) == 20
    assert plain.read_bytes()[20] == 0
    with pytest.raises(StorageError, match=r"has checksums.*does not show sqlite3_vfs_register"):
        SQLiteBackend(path, SPACE)
    assert path.read_bytes() == before
    monkeypatch.undo()
    assert len(read_all(plain)) == 20


def test_a_library_without_sqlite_is_a_reason(tmp_path: Path) -> None:
    """What has no SQLite to give is an error that says so, and not a crash."""
    with pytest.raises(RuntimeError, match="is not loaded"):
        native.register_vfs(str(tmp_path / "none.so"))
    with pytest.raises(RuntimeError, match="does not show"):
        native.register_vfs(native.__file__.replace("_pages", "_core"))


def test_a_folder_is_held_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one holds a folder others wait, and give up with an error; afterwards it is free."""
    monkeypatch.setattr(folders, "_WAIT_SECONDS", 0.05)
    with folders.locked(tmp_path):
        for wait in (True, False):
            with pytest.raises(UnavailableError, match="locked by another"), folders.locked(tmp_path, wait=wait):
                pass
    with folders.locked(tmp_path):
        pass
    with pytest.raises(StorageError, match="cannot be opened"), folders.locked(tmp_path / "none"):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_lock_that_a_fork_has_inherited_is_given_back(tmp_path: Path) -> None:
    """A living fork of who holds a folder keeps nobody out."""
    with folders.locked(tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forking beside threads
            fork = os.fork()
        if fork == 0:
            signal.pause()
    with folders.locked(tmp_path, wait=False):
        pass
    os.kill(fork, signal.SIGKILL)
    os.waitpid(fork, 0)


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    """It does so whole, and where the system does not permit it, that is told after some patience."""
    new, place = tmp_path / "new", tmp_path / "place"
    new.write_text("new", encoding="utf-8")
    place.write_text("old", encoding="utf-8")
    folders.put_in_place(new, place)
    assert (place.read_text(encoding="utf-8"), new.exists()) == ("new", False)
    with pytest.raises(FileNotFoundError):
        folders.put_in_place(new, place, patience=60)


@pytest.mark.skipif(sys.platform != "linux", reason="where even root may not rename is known of Linux")
def test_who_may_not_rename_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again until the time is over, as Windows wants where a file is open, and then the error is told."""
    pauses: list[float] = []
    monkeypatch.setattr("llmspell_memory.backends.sqlite.folders.time.sleep", pauses.append)
    with pytest.raises(PermissionError):
        folders.put_in_place(Path("/proc/self/comm"), Path("/proc/self/limits"), patience=0.05)
    assert pauses
    pauses.clear()
    with pytest.raises(PermissionError):
        folders.put_in_place(Path("/proc/self/comm"), Path("/proc/self/limits"), patience=0)
    assert not pauses


def test_the_layer_is_under_pythons_own_sqlite() -> None:
    """Whether it is there is asked of Python's SQLite: another one in the same process may have been found."""
    assert pages.unavailable() == ""
    assert pages.is_known(native.VFS)
    assert not pages.is_known("none-such")
