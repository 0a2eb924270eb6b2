"""Connections to one SQLite file: how they are set up, shared between threads, and how SQLite's errors are told."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

from llmspell_memory.errors import ClosedError, CorruptDataError, StorageError, UnavailableError
from llmspell_memory.types import json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_WAIT_SECONDS: Final = 30.0
"""How long a writer waits for another process's transaction before `UnavailableError`."""

_MOST_IDLE: Final = 8
"""Connections kept for readers to come."""

_ABANDONED: Final[list[Connections]] = []
"""What a forked process inherited and must neither use nor close."""

_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_CAUSES: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the file or its folder is read-only",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; does its folder exist, and may this user write there?",
    sqlite3.SQLITE_PERM: "permission denied",
    sqlite3.SQLITE_IOERR: "the medium failed",
    sqlite3.SQLITE_TOOBIG: "a text is larger than SQLite can store",
}


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """The border to sqlite3: every error of the driver leaves as one of ours, with the cause kept."""
    try:
        yield
    except sqlite3.Error as error:
        raise _ours(error, path) from error


def _ours(error: sqlite3.Error, path: Path) -> StorageError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    if code in _BUSY:
        return UnavailableError(f"{path} is busy: another process holds it for writing; try again")
    if code in _DAMAGED:
        return CorruptDataError(f"{path} is damaged or not a SQLite file: {error}")
    if "user-defined function" in str(error):
        return CorruptDataError(f"{path}: the metadata of a row cannot be read")
    return StorageError(f"{path}: {_CAUSES.get(code, error)}")


class Connections:
    """One connection for writing and as many as there are readers at a time, on one file in WAL mode.

    A process made by fork must open its own: SQLite's locks and its write-ahead log do not survive being shared so.

    Args:
        path: of the file, absolute; made when it does not exist.
        check: looks at the file, and raises, before anything in it is changed.
    """

    def __init__(self, path: Path, *, check: Callable[[sqlite3.Connection], object]) -> None:
        self.path = path
        self._process = os.getpid()
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._writing = threading.Lock()
        self._closed = False
        with translated(path):
            self._writer = _connect(path, mode="rwc")
        try:
            with translated(path):
                check(self._writer)
                _use_write_ahead_log(self._writer, path)
        except BaseException:
            self._writer.close()
            raise

    def check_open(self) -> None:
        """Raise ClosedError after `close`, StorageError in a process that was forked since."""
        if self._closed:
            raise ClosedError(f"{self.path} is closed")
        if os.getpid() != self._process:
            raise StorageError(f"{self.path} was opened before this process was forked; open it again in this process")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection inside one read transaction: all it reads is of one moment."""
        with translated(self.path):
            db = self._take()
            try:
                db.execute("BEGIN")
                yield db
            finally:
                self._give_back(db)

    def fetch(self, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        """Return the rows of one statement, which alone are of one moment: no transaction need be begun and ended."""
        try:
            db = self._take()
            try:
                return db.execute(sql, parameters).fetchall()
            finally:
                self._give_back(db)
        except sqlite3.Error as error:
            raise _ours(error, self.path) from error

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """The writing connection inside a transaction: committed at the end, rolled back when anything is raised."""
        self.check_open()  # in a forked process the lock below may be held for ever
        with self._writing, translated(self.path):
            self.check_open()
            db = self._writer
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def _take(self) -> sqlite3.Connection:
        self.check_open()  # before the lock, which in a forked process may be held for ever
        with self._guard:
            self.check_open()
            if self._idle:
                return self._idle.pop()
        return _connect(self.path, mode="rw")

    def _give_back(self, db: sqlite3.Connection) -> None:
        if db.in_transaction:
            db.execute("ROLLBACK")
        with self._guard:
            if not self._closed and len(self._idle) < _MOST_IDLE:
                self._idle.append(db)
                return
        db.close()

    def close(self) -> None:
        """Close every connection not in use, those in use when they are given back; waits for a writer."""
        if os.getpid() != self._process:
            _ABANDONED.append(self)  # closing would meddle with the log of the process that opened it
            self._closed = True
            return
        with self._writing, self._guard:
            if self._closed:
                return
            self._closed = True
            for db in self._idle:
                db.close()
            self._writer.close()

    def disk_bytes(self) -> int:
        """Size of the file with its write-ahead log and shared memory."""
        return sum(_size(f"{self.path}{suffix}") for suffix in ("", "-wal", "-shm"))


def _connect(path: Path, *, mode: Literal["rw", "rwc"]) -> sqlite3.Connection:
    # Transactions are begun by hand; a connection moves between threads but is used by one at a time. Only the first
    # one may make the file: should it vanish, the others must not put an empty one in its place.
    db = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}", uri=True, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        db.execute("PRAGMA synchronous = NORMAL")
        db.create_function("json_contains", 2, _json_contains, deterministic=True)
    except BaseException:
        db.close()
        raise
    return db


def _use_write_ahead_log(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
        raise StorageError(f"{path}: its file system cannot hold a write-ahead log; choose a local disk")


def _json_contains(document: str, wanted: str) -> bool:
    return json.contains(json.parsed(document), json.parsed(wanted))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 (a path with a suffix beside the name)
    except FileNotFoundError:
        return 0
