"""A database file read beside SQLite, without taking SQLite's locks away.

POSIX drops all locks that a process has on a file as soon as the process closes it anywhere
(sqlite.org/howtocorrupt.html, section 2.2). Another process would then take itself for the last one that has the store
open, and remove its log. So what was opened here stays open: one descriptor for each file that was ever looked at.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_STAYS_OPEN: Final = sys.platform != "win32"
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0)

_guard = threading.Lock()
_kept: Final[dict[tuple[int, int], int]] = {}
"""Descriptors by device and inode."""


class Reader:
    """The bytes of one file.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = _kept_open(path) if _STAYS_OPEN else os.open(path, _FLAGS)

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return os.fstat(self._descriptor).st_size

    def read(self, at: int, size: int) -> bytes:
        """Return `size` bytes from `at` on, fewer at the end of the file."""
        if sys.platform == "win32":
            os.lseek(self._descriptor, at, os.SEEK_SET)
            return os.read(self._descriptor, size)
        else:  # noqa: RET505 (of which mypy sees one branch on each system)
            return os.pread(self._descriptor, size, at)

    def close(self) -> None:
        """Close the file, where that harms nobody."""
        if not _STAYS_OPEN:
            os.close(self._descriptor)


def _kept_open(path: Path) -> int:
    with _guard:
        found = path.stat()
        known = _kept.get((found.st_dev, found.st_ino))
        if known is not None:
            return known
        opened = os.open(path, _FLAGS)
        found = os.fstat(opened)  # of what was opened, should another have taken its place just now
        _kept.setdefault((found.st_dev, found.st_ino), opened)
        return opened
