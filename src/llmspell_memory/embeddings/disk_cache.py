"""Vectors kept in a file, so that a restart or another process need not embed again."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from llmspell_memory.embeddings.cache import checked_max
from llmspell_memory.errors import ClosedError, CorruptDataError, SchemaError, StorageError, UnavailableError
from llmspell_memory.types.files import make_private
from llmspell_memory.types.locks import ForkLock

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from llmspell_memory.types import Matrix, Vector

_APPLICATION: Final = (
    0x4C4D5643  # "LMVC"; how the file says that it is ours (sqlite.org/pragma.html#pragma_application_id)
)
_VERSION: Final = 1
_BUSY_SECONDS: Final = 10.0
_KEYS_A_QUERY: Final = 500  # SQLite before 3.32 takes 999 parameters
_CHECK_BYTES: Final = 8

_inherited: Final[list[sqlite3.Connection | None]] = []

_log = logging.getLogger("llmspell_memory.embeddings")


class DiskCache:
    """Vectors in a SQLite file, for any number of threads and processes on one machine.

    Every row carries a checksum over its key and vector. One that does not fit is treated as absent, with a warning in
    the log, and is overwritten when its text has been embedded again: never a wrong vector.

    Args:
        path: the file; made when it is not there, for its owner alone; its folder is not.
        max_entries: the most vectors kept; the ones written longest ago make room. None for no limit.

    Raises:
        ConfigError: `max_entries` is not a positive integer.
        SchemaError: the file is another program's database, or a newer version's cache.
        CorruptDataError: the file is not a database, or is damaged.
        UnavailableError: another process has kept it locked for ten seconds.
        StorageError: the file cannot be opened or written.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_entries: int | None = None) -> None:
        self.path = Path(path)
        self.max_entries = None if max_entries is None else checked_max(max_entries, name="DiskCache.max_entries")
        self._lock = ForkLock()
        self._connection: sqlite3.Connection | None = None
        self._process = os.getpid()
        self._closed = False
        with self._open():
            pass

    def __repr__(self) -> str:
        return f"DiskCache({str(self.path)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        with self._open() as connection:
            return int(connection.execute("SELECT count(*) FROM vectors").fetchone()[0])

    def get_many(self, keys: Sequence[bytes]) -> list[Vector | None]:
        """Return one vector per key, read-only, None where there is none or its row is damaged."""
        rows: dict[bytes, bytes] = {}
        with self._open() as connection:
            for start in range(0, len(keys), _KEYS_A_QUERY):
                some = keys[start : start + _KEYS_A_QUERY]
                marks = ",".join("?" * len(some))
                rows.update(connection.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", some))  # noqa: S608 (marks are question marks)
        return [self._vector(key, rows.get(key)) for key in keys]

    def put_many(self, keys: Sequence[bytes], vectors: Matrix) -> None:
        """Keep one row per key, all or none; the ones written longest ago make room."""
        data = [row.astype("<f4").tobytes() for row in vectors]
        rows = [(key, one + _check(key, one)) for key, one in zip(keys, data, strict=True)]
        with self._open() as connection, _transaction(connection):
            connection.executemany(
                "INSERT INTO vectors (key, vector) VALUES (?, ?)"
                " ON CONFLICT (key) DO UPDATE SET vector = excluded.vector",
                rows,
            )
            if self.max_entries is not None:
                # Row numbers grow with time; counting them off from the last needs no count of the rows.
                connection.execute(
                    "DELETE FROM vectors WHERE id <= (SELECT max(id) FROM vectors) - ?", (self.max_entries,)
                )

    def discard(self, keys: Iterable[bytes]) -> None:
        """Forget these keys; unknown ones are ignored. Afterwards no file has their bytes: the cache's is rewritten.

        Raises:
            UnavailableError: they are forgotten, but another process was reading all the time; the same call again
                erases them.
        """
        with self._open() as connection:
            with _transaction(connection):
                connection.executemany("DELETE FROM vectors WHERE key = ?", [(key,) for key in keys])
            connection.execute("VACUUM")  # where a deleted row had neighbours, copies of it may have been left
            if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise UnavailableError(f"another process reads the embedding cache {self.path}; discard again")

    def close(self) -> None:
        """Close the file; a second call does nothing, any other call afterwards raises ClosedError."""
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
            if connection is not None and self._process == os.getpid():
                connection.close()

    def _vector(self, key: bytes, data: bytes | None) -> Vector | None:
        if data is None:
            return None
        if not isinstance(data, bytes) or data[-_CHECK_BYTES:] != _check(key, data[:-_CHECK_BYTES]):
            _log.warning("a row of the embedding cache %s is damaged; its text will be embedded again", self.path)
            return None
        return np.frombuffer(data[:-_CHECK_BYTES], dtype="<f4").astype(np.float32, copy=False)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Give the connection to one thread at a time, translating what the driver raises."""
        import sqlite3  # noqa: PLC0415 (2 ms, and only for who uses it)

        with self._lock:
            if self._closed:
                raise ClosedError(f"the embedding cache {self.path} was closed")
            if self._process != os.getpid():  # a forked child must not touch its parent's connection, nor close it
                _inherited.append(self._connection)
                self._connection, self._process = None, os.getpid()
            try:
                if self._connection is None:
                    self._connection = _connect(self.path)
                yield self._connection
            except sqlite3.Error as error:
                raise _translated(error, self.path) from error


def _connect(path: Path) -> sqlite3.Connection:
    import sqlite3  # noqa: PLC0415 (as above)

    with suppress(OSError):  # SQLite says what is wrong with the place
        make_private(path)
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.text_factory = bytes  # a damaged row may be of any type; what its bytes are worth the checksum says
    try:
        connection.execute("PRAGMA secure_delete = ON")  # what is discarded is to be gone
        connection.execute("PRAGMA synchronous = NORMAL")  # a crash may lose the last vectors; they can be made again
        with _transaction(connection):
            _prepare(connection, path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # Two processes that open a new file at once: one of them switches, for both.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the table in an empty file; refuse a file that is not ours before anything in it is changed."""
    application, version, tables = (
        connection.execute(question).fetchone()[0]
        for question in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    )
    if (application, version, tables) == (0, 0, 0):
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute(
            "CREATE TABLE vectors ("
            "id INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, vector BLOB NOT NULL)"
        )
    elif application != _APPLICATION:
        raise SchemaError(f"{path} is a database of something else, not an embedding cache; give another path")
    elif version != _VERSION:
        raise SchemaError(
            f"the embedding cache {path} has version {version}, this release reads version {_VERSION}; "
            "give another path, or delete the file: a cache can be made again"
        )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _translated(error: sqlite3.Error, path: Path) -> StorageError:
    import sqlite3  # noqa: PLC0415 (as above)

    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extension in the upper bits
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return UnavailableError(f"the embedding cache {path} is locked by another process: {error}")
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return CorruptDataError(f"the embedding cache {path} is damaged ({error}); delete it, it can be made again")
    return StorageError(f"the embedding cache {path} cannot be used: {error}")


def _check(key: bytes, data: bytes) -> bytes:
    return blake2b(data, key=key, digest_size=_CHECK_BYTES).digest()
