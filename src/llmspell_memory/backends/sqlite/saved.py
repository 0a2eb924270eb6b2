"""What is made from the rows of a store, in files beside it, so that opening need not make it again.

The rows say which files are theirs: before one is written, its tag, a random number, is recorded among them with the
sequence number it shows. A file whose tag is not there belongs to other rows (a backup that was put back, a store that
was made anew under the old name), and is of no use; so is one that is damaged, of a newer version, or made with other
parameters. Then all is made from the rows again, and no caller sees more of it than a line in the log.
"""

from __future__ import annotations

import logging
import secrets
import weakref
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from llmspell_memory.backends.sqlite.folders import (
    ABANDONED_SECONDS,
    clear_away,
    delete_old,
    folder_to_disk,
    locked,
)
from llmspell_memory.errors import ClosedError, CorruptDataError, StorageError, UnavailableError
from llmspell_memory.types.files import share_as

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from llmspell_memory.backends.sqlite.connection import Connections
    from llmspell_memory.backends.view import View

logger = logging.getLogger(__name__)

_KEPT: Final = 8
"""Tags remembered of each kind: of the last file, and of those that others may be writing at the same time."""

_SHARE: Final = 16
_ENOUGH: Final = 4096
"""A closing store saves an index when one row in `_SHARE`, or `_ENOUGH` of them, would have to be read again."""


class Savable(Protocol):
    """An index that can be written to a file."""

    tag: int

    def __len__(self) -> int:
        """How many rows it shows."""
        ...

    def save(self, path: str | os.PathLike[str], *, tag: int) -> None:
        """Write it to a file, which carries the tag."""
        ...


T = TypeVar("T", bound=Savable)


class SavedFile(Generic[T]):
    """The file of one index of a store, or the files, where it writes several.

    Args:
        path: of the file; what the index is told to open and to save.
        number: under which the rows record its tags: of a space, or 0 for what is made from the rows' texts.
        kind: class of the index.
        suffixes: of its files, behind the path.
    """

    def __init__(self, path: Path, *, number: int, kind: type[T], suffixes: tuple[str, ...] = ("",)) -> None:
        self.path = path
        self._files = tuple(path.with_name(path.name + suffix) for suffix in suffixes)
        self.kind = kind
        self._number = number
        self._shown = 0
        self._saved: weakref.ref[T] | None = None  # the index that is in the file, as it was at `_shown`

    def read(self, db: sqlite3.Connection, opened: Callable[[Path], T]) -> tuple[T, int] | None:
        """Return the index and the sequence number it shows; None where there is none of these rows.

        Args:
            db: the rows.
            opened: reads the file, all of it.
        """
        try:
            index = opened(self.path)
        except StorageError as error:
            missing = isinstance(error.__cause__, FileNotFoundError)
            logger.log(logging.DEBUG if missing else logging.WARNING, "The index is built from the rows: %s", error)
            if isinstance(error, CorruptDataError):
                self._delete_old()
            return None
        except MemoryError:
            return None
        recorded = db.execute(
            "SELECT seq FROM snapshots WHERE tag = ? AND space = ?", (index.tag, self._number)
        ).fetchone()
        if recorded is None:
            logger.warning("The index is built from the rows: %s was written from other ones", self.path)
            self._delete_old()
            return None
        return index, recorded[0]

    def _delete_old(self) -> None:
        """Delete what is of no use, for it may show what was forgotten, unless somebody may have just written it."""
        for file in self._files:
            delete_old(file, older_than=ABANDONED_SECONDS)

    def is_of(self, index: T, seen: int) -> None:
        """Note that the file has this index, as it is at this moment of the rows."""
        self._saved, self._shown = weakref.ref(index), seen

    def alone(self, *, wait: bool) -> AbstractContextManager[None]:
        """Keep other processes from writing or deleting the file, and what is half-written, for the time of a block.

        Raises:
            UnavailableError: another is at it, and it is not to be waited for, or was in vain.
        """
        return locked(self.path.parent, wait=wait)

    def due(self, index: T, seen: int, *, closing: bool) -> bool:
        """Say whether so much has changed since the file was written that writing it again pays."""
        changed = seen - self._shown if self._saved and self._saved() is index else seen  # all, when it was built anew
        if closing:
            return changed > 0 and (changed >= _ENOUGH or changed * _SHARE >= len(index))
        return changed >= _ENOUGH and changed * 2 >= len(index)

    def record(self, db: sqlite3.Connection, seen: int) -> int:
        """Return a new tag, now known to the rows; the caller commits, and then saves what is shown at `seen`."""
        tag = secrets.randbits(63) | 1
        db.execute("INSERT INTO snapshots (tag, seq, space) VALUES (?, ?, ?)", (tag, seen, self._number))
        db.execute(
            "DELETE FROM snapshots WHERE space = ? AND tag NOT IN"
            " (SELECT tag FROM snapshots WHERE space = ? ORDER BY seq DESC, tag = ? DESC LIMIT ?)",
            (self._number, self._number, tag, _KEPT),
        )
        return tag

    def save(self, index: T, seen: int, *, tag: int) -> None:
        """Write the file.

        Raises:
            StorageError: it cannot be written; what was there is still there.
        """
        index.save(self.path, tag=tag)
        self.is_of(index, seen)
        self._clear_away(older_than=ABANDONED_SECONDS)

    def share_as(self, store: Path) -> None:
        """Let those read the file who may read the store.

        Raises:
            StorageError: that cannot be said of it.
        """
        try:
            for file in self._files:
                share_as(file, store)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be shared as {store} is: {error.strerror}") from error

    def remove(self) -> None:
        """Delete the file, if there is one, and all that was half-written.

        Raises:
            StorageError: it cannot be deleted.
        """
        self._shown = 0
        try:
            for file in self._files:
                file.unlink(missing_ok=True)
            folder_to_disk(self.path.parent)  # so that no power cut brings it back
        except OSError as error:
            raise StorageError(f"{self.path} cannot be deleted: {error.strerror}") from error
        self._clear_away(older_than=0.0)

    def _clear_away(self, *, older_than: float) -> None:
        for file in self._files:
            clear_away(file.parent, f"{file.name}.new-", older_than=older_than)

    @property
    def disk_bytes(self) -> int:
        """Size of what is there."""
        return sum(map(_size, self._files))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


class Saving(Generic[T]):
    """Keeps the file of a view up to date.

    Args:
        connections: to the store.
        view: what shows the rows; what it is made of is saved if it is of the file's kind.
        file: where to.
    """

    def __init__(self, connections: Connections, view: View[sqlite3.Connection, Any, Any], file: SavedFile[T]) -> None:
        self._connections = connections
        self._view = view
        self._file = file

    @property
    def disk_bytes(self) -> int:
        """Size of the file."""
        return self._file.disk_bytes

    def follow(self) -> None:
        """Let the view see a write at once. The write is durable already, so a failure is left to the next search."""
        try:
            self._view.catch_up()
        except (StorageError, ClosedError, MemoryError):
            logger.exception(
                "The %s of %s could not read a change; the next search tries again",
                self._view.name,
                self._connections.path,
            )
        else:
            self.save()

    def save(self, *, closing: bool = False) -> None:
        """Save the index where that is due. What fails is logged: the rows have all that is in it."""
        index, moment = self._view.made, self._view.moment
        if not isinstance(index, self._file.kind) or not moment or not self._file.due(index, moment, closing=closing):
            return
        try:
            with self._view.lock:
                if self._view.made is index:  # otherwise a rebuild has taken its place, and saves its own
                    with self._file.alone(wait=False):  # who is saving at this moment saves as much, or nearly
                        self._write(index)
        except (StorageError, ClosedError, MemoryError) as error:
            self._file.is_of(index, moment)  # tried again when as much has changed as would make it due
            others = isinstance(error, UnavailableError)  # who are saving theirs
            level = logging.DEBUG if others else logging.WARNING
            logger.log(
                level,
                "The %s of %s was not saved; the next opening reads the rows: %s",
                self._view.name,
                self._connections.path,
                error,
            )

    def _write(self, index: T) -> None:
        self._view.catch_up()
        with self._connections.write() as db:  # nobody else's change comes between what is shown and its record
            seen = self._view.catch_up(db)
            tag = self._file.record(db, seen)
        self._file.save(index, seen, tag=tag)
        self._file.share_as(self._connections.path)

    def write_anew(self) -> None:
        """Replace the file, and all that is half-written, by one that holds what is there now."""
        with self._view.lock, self._file.alone(wait=True):
            self._file.remove()
            index = self._view.made
            if isinstance(index, self._file.kind) and self._view.moment:
                self._write(index)
