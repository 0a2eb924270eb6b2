"""The folder that files stand in: who may replace them, when their names are on the disk, what the killed have left."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from llmspell_memory.backends.row_view import SUFFIXES
from llmspell_memory.errors import StorageError, UnavailableError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INDEX: Final = "-index"
"""Of the file with the HNSW index of a store, behind the store's path."""

ROWS: Final = "-rows"
"""Of the files with what filters and searches by words look at."""

DERIVED: Final = (INDEX, *(f"{ROWS}{suffix}" for suffix in SUFFIXES))
"""Of all files that are made from the rows of a store."""

ABANDONED_SECONDS: Final = 3600.0
"""Age of a file that nobody will finish, or record: who began it was killed."""

LOCK: Final = ".llmspell-memory.lock"
"""Of the file that is locked in place of a folder, where folders cannot be: under Windows. It stays there, empty."""

_WAIT_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.002

_IN_THE_WAY_SECONDS: Final = 1.0 if sys.platform == "win32" else 0.0
"""How long a file may be in the way of another that takes its place. Only Windows minds that a file is open, and what
looks for viruses there opens each one that is new."""


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Keep out others that make or replace files in this folder; a killed process keeps nobody out.

    Where the file system has no such locks, nobody is kept out.

    Raises:
        UnavailableError: another has held it for too long; or holds it at all, without `wait`.
        StorageError: the folder cannot be opened.
    """
    try:
        opened = _to_lock(folder)
    except OSError as error:
        raise StorageError(f"{folder} cannot be opened ({error.strerror})") from error
    try:
        _patiently(lambda: _take(opened), folder, until=time.monotonic() + (_WAIT_SECONDS if wait else 0.0))
        yield
    finally:
        with suppress(OSError):
            _give_back(opened)  # closing would not do where a fork has inherited it
        os.close(opened)


if sys.platform == "win32":

    def _to_lock(folder: Path) -> int:
        return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOINHERIT)

    def _take(opened: int) -> None:
        msvcrt.locking(opened, msvcrt.LK_NBLCK, 1)

    def _give_back(opened: int) -> None:
        msvcrt.locking(opened, msvcrt.LK_UNLCK, 1)

else:

    def _to_lock(folder: Path) -> int:
        return os.open(folder, os.O_RDONLY)

    def _take(opened: int) -> None:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _give_back(opened: int) -> None:
        fcntl.flock(opened, fcntl.LOCK_UN)


def _patiently(take: Callable[[], None], folder: Path, *, until: float) -> None:
    while True:
        try:
            take()
        except (BlockingIOError, PermissionError) as error:  # what flock says, and what Windows does
            if time.monotonic() >= until:
                raise UnavailableError(f"{folder} is locked by another process; try again") from error
            time.sleep(_PAUSE_SECONDS)
        except OSError:  # this file system has no locks
            return
        else:
            return


def put_in_place(file: Path, path: Path, *, patience: float = _IN_THE_WAY_SECONDS) -> None:
    """Give `file` the name `path`, in one step; a file that has it already is replaced.

    Args:
        file: stands in the same folder.
        path: of what it becomes.
        patience: for how many seconds to try again where the system says that this is not permitted.

    Raises:
        OSError: it cannot be; both are as they were.
    """
    until = time.monotonic() + patience
    while True:
        try:
            file.replace(path)
        except PermissionError:
            if time.monotonic() >= until:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def to_disk(opened: int) -> None:
    """Wait until the disk has what was written to an open file or folder.

    After an fsync macOS has told the drive so; another call waits until the drive has done it.
    """
    if sys.platform == "darwin":
        with suppress(OSError):  # a file system that knows no such call
            fcntl.fcntl(opened, fcntl.F_FULLFSYNC)
            return
    os.fsync(opened)


def folder_to_disk(folder: Path) -> None:
    """A file's name is on the disk once its folder is. Windows sees to that by itself, and opens no folders."""
    if sys.platform != "win32":
        opened = os.open(folder, os.O_RDONLY)
        try:
            to_disk(opened)
        finally:
            os.close(opened)


def clear_away(folder: Path, prefix: str, *, older_than: float) -> None:
    """Delete what processes that were killed have left half-written; who is still writing can do so again.

    Args:
        folder: where it stands.
        prefix: what its name begins with.
        older_than: its age in seconds.
    """
    with suppress(OSError):  # the folder is not there, as whoever writes into it will say
        for one in folder.iterdir():
            if one.name.startswith(prefix):
                delete_old(one, older_than=older_than)


def delete_old(path: Path, *, older_than: float) -> None:
    """Delete a file that was last written to so many seconds ago, or more."""
    with suppress(OSError):  # others may have been quicker
        if path.stat().st_mtime <= time.time() - older_than:
            path.unlink()
