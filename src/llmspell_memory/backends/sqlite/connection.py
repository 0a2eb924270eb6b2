"""Connections to one SQLite file: how they are set up, shared between threads, and how SQLite's errors are told."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from llmspell_memory.backends.checks import Birthplace
from llmspell_memory.backends.sqlite import pages
from llmspell_memory.backends.sqlite.forks import Connection, remembered
from llmspell_memory.errors import ClosedError, CorruptDataError, SpaceChangedError, StorageError, UnavailableError
from llmspell_memory.types import json
from llmspell_memory.types.locks import ForkLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from llmspell_memory.types import Durability

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_WAIT_SECONDS: Final = 30.0
"""How long one process waits for another before `UnavailableError`."""

_PAUSES: Final = (0.0002, 0.004)
"""Seconds between two tries for the lock, drawn at random: of several writers none is always the last to look."""

_MOST_IDLE: Final = 8
"""Connections kept for readers to come."""

_LOG_BYTES: Final = 64 * 2**20
"""A write-ahead log longer than this is folded into the file even where that waits for readers, up to `_FOLD_MS`."""

_FOLD_MS: Final = 250

_MODES: Final = {"still": "ro&immutable=1"}
_EFFECTIVE: Final = os.access in os.supports_effective_ids

_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_FOREIGN: Final = (sqlite3.Error, MemoryError, UnicodeDecodeError)
"""What the driver raises; the last where a damaged schema stands in the text of an error."""

VECTORS: Final = "vectors_"
"""What the name of a table with the vectors of a space begins with; its number follows."""

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
    except _FOREIGN as error:
        raise _ours(error, path) from error


def _ours(error: sqlite3.Error | MemoryError | UnicodeDecodeError, path: Path) -> StorageError:
    if isinstance(error, MemoryError):
        return UnavailableError(f"{path}: not enough memory; try again when there is more")
    code = sqlite3.SQLITE_CORRUPT if isinstance(error, UnicodeDecodeError) else _code(error)
    if code == sqlite3.SQLITE_IOERR and (found := pages.damage()):
        return CorruptDataError(
            f"{path} is damaged: {found}. `llmspell-memory check` says what else; if another SQLite tool has written "
            "to the file, `llmspell-memory backup --foreign` takes it over"
        )
    if code in _BUSY:
        return UnavailableError(f"{path} is busy: another process holds it for writing; try again")
    if code in _DAMAGED:
        return CorruptDataError(f"{path} is damaged or not a SQLite file: {error}")
    return _told_by_text(error, path) or StorageError(f"{path}: {_CAUSES.get(code, error)}")


def _told_by_text(error: Exception, path: Path) -> StorageError | None:
    """Return what only the text of an error tells: a code it shares with others."""
    if f"no such table: {VECTORS}" in str(error):  # nobody but who drops an embedding space drops a table
        return SpaceChangedError(
            f"vectors were dropped from {path} while they were in use here; open it anew, with the embedding service "
            "that it was moved to"
        )
    if "user-defined function" in str(error):
        return CorruptDataError(f"{path}: the metadata of a row cannot be read")
    return None


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code


class Connections:
    """One connection for writing and as many as there are readers at a time, on one file in WAL mode.

    A process made by fork must open its own: SQLite's locks and its write-ahead log do not survive being shared so.

    Args:
        path: of the file, absolute; made when it does not exist.
        durability: whether a commit waits for the disk ("full") or for the operating system alone ("normal").
        check: looks at the file, and raises, before anything in it is changed.
    """

    def __init__(
        self, path: Path, *, durability: Durability = "normal", check: Callable[[sqlite3.Connection], object]
    ) -> None:
        self.path = path
        self._log = f"{path}-wal"
        self._fold_at = _LOG_BYTES
        self._birthplace = Birthplace()
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._writing = ForkLock()  # a fork in the midst of a write could not write itself
        self._closed = False
        pages.make_file(path)
        with translated(path):
            self._writer = connect(path, mode="rwc")
        try:
            with translated(path):
                self._identity = _identity(path)
                _patiently(lambda: _look(self._writer, check))
                _patiently(lambda: _use_write_ahead_log(self._writer, path))
                _set_up_writer(self._writer, durability)
                self._beside = {name: _identity(name) for name in (self._log, f"{path}-shm")}
        except BaseException:
            self._writer.close()
            raise

    @property
    def usable(self) -> bool:
        """Whether it is open, in this very process."""
        return not self._closed and self._birthplace.is_here

    def check_open(self) -> None:
        """Raise ClosedError after `close`, StorageError in a process that was forked since."""
        if self._closed:
            raise ClosedError(f"{self.path} is closed")
        self._birthplace.check(self.path)

    def _check_usable(self) -> None:
        """Raise what `check_open` does, and a StorageError where another file, or none, stands in this one's place."""
        self.check_open()
        if _identity(self.path) != self._identity:
            raise StorageError(
                f"{self.path} was removed or replaced while it was open; put it back, or open the memory anew"
            )

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
        except _FOREIGN as error:
            raise _ours(error, self.path) from error

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """The writing connection inside a transaction: committed at the end, rolled back when anything is raised."""
        with self._exclusively() as db:
            _patiently(lambda: db.execute("BEGIN IMMEDIATE"))
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
            self._keep_log_short(db)

    @contextmanager
    def _exclusively(self) -> Iterator[sqlite3.Connection]:
        """The writing connection, with other threads of this process kept from it."""
        self._check_usable()  # before the lock: in a forked process that may be held for ever
        with self._writing, translated(self.path):
            self._check_usable()
            self._check_beside()
            yield self._writer

    def _check_beside(self) -> None:
        """Raise a StorageError where what is written now would be in no file that anybody could find again."""
        for name, first in self._beside.items():
            found = _identity(name)
            self._beside[name] = first or found
            if found != self._beside[name]:
                raise StorageError(
                    f"{name} was removed or replaced while it was in use; put it back, or close the memory in every "
                    "process, which keeps what it holds, and open it anew"
                )

    def _keep_log_short(self, db: sqlite3.Connection) -> None:
        """Fold in a long log. SQLite does so by itself, but only while no reader looks at it, which may be never.

        It keeps other writers waiting, so where readers prevent it, it is tried again only when the log has grown. The
        write before it is stored already, whatever happens here.
        """
        size = _size(self._log)
        if size <= _LOG_BYTES:
            self._fold_at = _LOG_BYTES
        if size <= self._fold_at:
            return
        db.execute(f"PRAGMA busy_timeout = {_FOLD_MS}")
        try:
            busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as error:
            busy = True
            logger.warning("The write-ahead log of %s was not folded in: %s", self.path, error)
        finally:
            db.execute("PRAGMA busy_timeout = 0")
        self._fold_at = size * 5 // 4 if busy else _LOG_BYTES

    def rewrite(self, *, wait: float | None = None) -> None:
        """Write the file anew from its rows, so that nothing else is left in it, and empty the log.

        Args:
            wait: how many seconds others may be in the way; as long as a write waits when None.

        Raises:
            UnavailableError: others have been reading all the time; what they may still see is still there.
        """
        with self._exclusively() as db:
            _patiently(lambda: db.execute("VACUUM"), wait)
            _patiently(lambda: _empty_log(db), wait)

    def _take(self) -> sqlite3.Connection:
        self._check_usable()  # before the lock, which in a forked process may be held for ever
        with self._guard:
            if self._closed:
                self.check_open()
            if self._idle:
                return self._idle.pop()
        return connect(self.path, mode="rw", wait=_WAIT_SECONDS)

    def _give_back(self, db: sqlite3.Connection) -> None:
        if not self._birthplace.is_here:
            return  # a scan that was forked off in its midst: what it inherited must not be touched
        if db.in_transaction:
            db.execute("ROLLBACK")
        with self._guard:
            if not self._closed and len(self._idle) < _MOST_IDLE:
                self._idle.append(db)
                return
        db.close()

    def close(self) -> bool:
        """Close every connection not in use, those in use when they are given back; waits for a writer.

        Returns:
            False in a forked process, where nothing that it inherited may be touched.
        """
        if not self._birthplace.is_here:
            self._closed = True
            return False
        with self._writing, self._guard:
            if self._closed:
                return True
            self._closed = True
            for db in self._idle:
                db.close()
            self._writer.close()
        return True

    def disk_bytes(self) -> int:
        """Size of the file with its write-ahead log and shared memory."""
        return sum(_size(f"{self.path}{suffix}") for suffix in ("", "-wal", "-shm"))


def connect(
    path: Path, *, mode: Literal["still", "ro", "rw", "rwc"], wait: float = 0.0, compared: bool = True
) -> sqlite3.Connection:
    """Open a connection to the file at `path`, absolute; transactions are begun by hand.

    It may move between threads but must be used by one at a time. Only the first one of a store may make the file:
    should it vanish, the others must not put an empty one in its place.

    Args:
        path: of the file.
        mode: "ro" to read, "rw" to write, "rwc" to make the file where there is none; "still" to read what nobody can
            write to, without a log or locks.
        wait: how many seconds it waits for a lock of others.
        compared: whether pages are compared with their checksums, and get them; False is for reading what has none.

    Raises:
        StorageError: the file cannot be written to. SQLite would open it for reading only, for as long as the
            connection lives, and leave files beside it that keep others from writing, too.
    """
    there = os.access(path, os.F_OK, effective_ids=_EFFECTIVE)
    if mode in {"rw", "rwc"} and there and not os.access(path, os.W_OK, effective_ids=_EFFECTIVE):
        raise StorageError(f"{path}: {_CAUSES[sqlite3.SQLITE_READONLY]}")
    db = remembered(
        sqlite3.connect(
            f"{path.as_uri()}?mode={_MODES.get(mode, mode)}{pages.vfs() if compared else ''}",
            uri=True,
            timeout=wait,
            isolation_level=None,
            check_same_thread=False,
            factory=Connection,
        )
    )
    try:
        _patiently(lambda: db.execute("PRAGMA synchronous = NORMAL"))  # it reads, so others may be in its way
        db.execute("PRAGMA cell_size_check = ON")
        db.create_function("json_contains", 2, _json_contains, deterministic=True)
    except BaseException:
        db.close()
        raise
    return db


def connect_to_look(path: Path, *, compared: bool = True) -> sqlite3.Connection:
    """Open a connection that changes nothing at `path` or beside it, not even what a killed process has left."""
    log = Path(f"{path}-wal")
    writable = os.access(path, os.W_OK, effective_ids=_EFFECTIVE)
    if log.exists() and log.stat().st_size:
        return connect(path, mode="ro", wait=_WAIT_SECONDS, compared=compared)  # which does not fold it in at the end
    return connect(path, mode="rw" if writable else "still", wait=_WAIT_SECONDS, compared=compared)


def _look(db: sqlite3.Connection, check: Callable[[sqlite3.Connection], object]) -> None:
    """Let `check` see one moment: between two, another process may have made the file, and it would look like none."""
    db.execute("BEGIN")
    try:
        check(db)
    finally:
        db.execute("ROLLBACK")


def _set_up_writer(db: sqlite3.Connection, durability: Durability) -> None:
    if durability == "full":
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")  # where fsync alone does not reach the disk: macOS
        db.execute("PRAGMA checkpoint_fullfsync = ON")


def _use_write_ahead_log(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
        raise StorageError(f"{path}: its file system cannot hold a write-ahead log; choose a local disk")


def _empty_log(db: sqlite3.Connection) -> None:
    busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        error = sqlite3.OperationalError("readers hold the write-ahead log")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error


def _patiently(action: Callable[[], _T], wait: float | None = None) -> _T:
    """Do something that others may be in the way of, again and again until it succeeds or the time is over."""
    until = time.monotonic() + (_WAIT_SECONDS if wait is None else wait)
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if _code(error) not in _BUSY or time.monotonic() >= until:
                raise
        time.sleep(random.uniform(*_PAUSES))  # noqa: S311 (no secret)


def _json_contains(document: str, wanted: str) -> bool:
    return json.contains(json.parsed(document), json.parsed(wanted))


def _identity(path: str | Path) -> tuple[int, int] | None:
    """What tells this file from another at the same path; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 (half the time of Path.stat, before every call)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 (a path with a suffix beside the name)
    except FileNotFoundError:
        return 0
