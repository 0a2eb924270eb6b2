"""Checksums of a database file's pages: the native layer under SQLite, and the first page of a file with room for them.

Where this Python's SQLite cannot be given such a layer, new files have no checksums.
"""

from __future__ import annotations

import _sqlite3
import logging
import os
import secrets
import sqlite3
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from llmspell_memory import _pages
from llmspell_memory.backends.sqlite.folders import DERIVED, folder_to_disk, locked, put_in_place, to_disk
from llmspell_memory.errors import CorruptDataError, StorageError
from llmspell_memory.types.files import PRIVATE, make_private, share_as

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

CHECKSUMMED: Final = _pages.APPLICATION_ID
"""The application id of a file with checksums."""

PAGE_BYTES: Final = _pages.PAGE_BYTES
CHECKSUM_BYTES: Final = _pages.CHECKSUM_BYTES
"""The end of a page in such a file."""

_EMPTY_LEAF: Final = 0x0D

_registering = threading.Lock()
_outcome: list[str] = []


def unavailable() -> str:
    """Return why pages cannot have checksums here, "" where they can. Asked first, it puts the layer under SQLite."""
    if not _outcome:  # later the lock need not be had, which a fork may find held for ever
        with _registering:
            _register()
    return _outcome[0]


def _register() -> None:
    if _outcome:
        return
    try:
        _pages.register_vfs(getattr(_sqlite3, "__file__", ""))
    except RuntimeError as error:
        reason = str(error)
    else:  # where Python hides its own, the system's may have been found in the same process
        reason = "" if is_known(_pages.VFS) else "the SQLite that was found is not the one that Python uses"
    if reason:
        logger.warning("Pages of SQLite files get no checksums: %s", reason)
    _outcome.append(reason)


def is_known(vfs: str) -> bool:
    """Say whether Python's SQLite has a file system of this name."""
    try:
        sqlite3.connect(f"file:?mode=memory&vfs={vfs}", uri=True).close()
    except sqlite3.OperationalError:
        return False
    return True


def vfs() -> str:
    """Return what a file's URI says to choose the layer."""
    return "" if unavailable() else f"&vfs={_pages.VFS}"


def make_file(path: Path) -> None:
    """Make an empty database with room for checksums, whole or not at all, unless a file with content is there.

    It is its owner's alone; an empty file that is there passes on who may read and write it.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        if _has_content(path):
            return
        _check_alone(path)
        if unavailable():
            make_private(path)
            return
        with _written_beside(path, first_page()) as complete, locked(path.parent):
            if not _has_content(path):  # another process may have been quicker
                put_in_place(complete, path)
    except OSError as error:
        raise StorageError(
            f"{path}: the file cannot be opened ({error.strerror}); does its folder exist, and may this user write "
            "there?"
        ) from error


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _check_alone(path: Path) -> None:
    """Raise a StorageError where what stands beside tells of a file that was here, and would be taken for a new one's.

    The order matters, for another process may make the file, and then what stands beside it, meanwhile.
    """
    log, *derived = (path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", *DERIVED))
    left = next((file for file in derived if _has_content(file)), None) if path.exists() else None
    if _has_content(log) and not _has_content(path):
        raise StorageError(
            f"{path} is gone, but its log {log} is still there; put the file back, or delete the log with what is in it"
        )
    if left is not None and not _has_content(path):
        raise CorruptDataError(f"{path} is empty, but {left}, made of it, is not; put the file back, or delete {left}")


@contextmanager
def _written_beside(path: Path, data: bytes) -> Iterator[Path]:
    beside = path.with_name(f".{path.name}.new-{secrets.token_hex(8)}")
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), PRIVATE)
    try:
        try:
            os.write(file, data)
            to_disk(file)
        finally:
            os.close(file)
        share_as(beside, path)
        yield beside
        folder_to_disk(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def keep(kept: object) -> None:
    """Keep an object for ever: what SQLite would do when it is let go must not happen, not even when Python ends."""
    _pages.keep(kept)


def damage() -> str:
    """Return which page this thread has just read that is not what was written; "" if none, or said before."""
    page = _pages.take_damaged_page()
    return f"page {page} (at byte {(page - 1) * _pages.PAGE_BYTES:,}) is not what was written" if page else ""


def is_right(page: bytes, number: int) -> bool:
    """Say whether a page, with its checksum, is what was written as page `number`."""
    stored = int.from_bytes(page[-CHECKSUM_BYTES:], "little")
    return len(page) == PAGE_BYTES and _pages.checksum(page, number) == stored


def first_page() -> bytes:
    """Return an empty database in WAL mode: its header, a table of tables without rows, and the checksum.

    The format is SQLite's (sqlite.org/fileformat2.html, sections 1.3 and 1.6).
    """
    size, reserved = _pages.PAGE_BYTES, _pages.CHECKSUM_BYTES
    header = b"SQLite format 3\0" + struct.pack(
        ">HBBBBBB 4I 4I 4I 20x 2I",
        *(size, 2, 2, reserved, 64, 32, 32),  # written and read by a write-ahead log
        *(1, 1, 0, 0),  # how often changed, pages, free pages
        *(0, 4, 0, 0),  # the schema's cookie and format
        *(1, 0, 0, CHECKSUMMED),  # UTF-8, user_version, no vacuuming by itself, application_id
        *(1, 0),  # the number of pages above holds for this change
    )
    leaf = struct.pack(">BHHHB", _EMPTY_LEAF, 0, 0, size - reserved, 0)
    page = (header + leaf).ljust(size, b"\0")
    return page[:-reserved] + struct.pack("<Q", _pages.checksum(page, 1))
