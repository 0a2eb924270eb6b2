"""The folder that files stand in: who may replace them, when their names are on the disk, what the killed have left."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from llmspell_memory.backends.row_view import SUFFIXES
from llmspell_memory.errors import StorageError, UnavailableError

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INDEX: Final = "-index"
"""Of the file with the HNSW index of a store, behind the store's path."""

ROWS: Final = "-rows"
"""Of the files with what filters and searches by words look at."""

DERIVED: Final = (INDEX, *(f"{ROWS}{suffix}" for suffix in SUFFIXES))
"""Of all files that are made from the rows of a store."""

ABANDONED_SECONDS: Final = 3600.0
"""Age of a file that nobody will finish, or record: who began it was killed."""

_WAIT_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.002


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Keep out others that make or replace files in this folder; a killed process keeps nobody out.

    Where the system has no such locks, nobody is kept out.

    Raises:
        UnavailableError: another has held it for too long; or holds it at all, without `wait`.
        StorageError: the folder cannot be opened.
    """
    if sys.platform == "win32":
        yield
        return
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StorageError(f"{folder} cannot be opened ({error.strerror})") from error
    try:
        _lock(opened, folder, _WAIT_SECONDS if wait else 0.0)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_UN)  # closing would not do where a fork has inherited it
        os.close(opened)


def _lock(opened: int, folder: Path, wait: float) -> None:
    until = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise UnavailableError(f"{folder} is locked by another process; try again") from error
            time.sleep(_PAUSE_SECONDS)
        except OSError:  # this file system has no locks
            return
        else:
            return


def folder_to_disk(folder: Path) -> None:
    """A file's name is on the disk once its folder is."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
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
