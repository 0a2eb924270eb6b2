"""The HNSW index of a store in a file beside it, so that opening need not build it.

The rows say which file is theirs: before an index is written, its tag, a random number, is recorded among them with the
sequence number it shows. A file whose tag is not there belongs to other rows (a backup that was put back, a store that
was made anew under the old name), and is of no use; so is one that is damaged, of a newer version, or of other
parameters. Then the index is built from the rows, and no caller sees more of it than a line in the log.
"""

from __future__ import annotations

import logging
import secrets
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llmspell_memory.backends.sqlite.folders import (
    ABANDONED_SECONDS,
    clear_away,
    delete_old,
    folder_to_disk,
    locked,
)
from llmspell_memory.errors import StorageError
from llmspell_memory.index import HNSWIndex

if TYPE_CHECKING:
    import sqlite3
    from contextlib import AbstractContextManager

    from llmspell_memory.types import EmbeddingSpace, HNSWConfig

logger = logging.getLogger(__name__)

_KEPT: Final = 8
"""Tags remembered: of the last file, and of those that others may be writing at the same time."""

_SHARE: Final = 16
_ENOUGH: Final = 4096
"""A closing store saves its index when one vector in `_SHARE`, or `_ENOUGH` of them, would have to be read again."""


class IndexFile:
    """One store's index file.

    Args:
        store: path of the store.
        space: of its vectors.
        number: of the space among those of the store.
    """

    def __init__(self, store: Path, space: EmbeddingSpace, *, number: int) -> None:
        self.path = Path(f"{store}-index")
        self._space = space
        self._number = number
        self._shown = 0
        self._saved: weakref.ref[HNSWIndex] | None = None  # the index that is in the file, as it was at `_shown`

    def load(self, db: sqlite3.Connection, config: HNSWConfig) -> tuple[HNSWIndex, int] | None:
        """Return the index and the sequence number it shows; None where there is none to be used."""
        try:
            index = HNSWIndex.open(self.path)
            index.verify()  # all of it, before it answers anything
        except StorageError as error:
            missing = isinstance(error.__cause__, FileNotFoundError)
            logger.log(logging.DEBUG if missing else logging.WARNING, "The index is built from the rows: %s", error)
            return None
        except MemoryError:
            return None
        recorded = db.execute(
            "SELECT seq FROM snapshots WHERE tag = ? AND space = ?", (index.tag, self._number)
        ).fetchone()
        if recorded is None:
            logger.warning("The index is built from the rows: %s was written from other ones", self.path)
            delete_old(self.path, older_than=ABANDONED_SECONDS)  # it may show what was forgotten
            return None
        if (index.dimensions, index.metric) != (self._space.dimensions, self._space.metric) or config != replace(
            index.config, ef_search=config.ef_search
        ):
            logger.info("The index is built from the rows: %s has other parameters, %s", self.path, index.config)
            return None
        index.ef_search = config.ef_search
        self._is_of(index, recorded[0])
        return index, self._shown

    def _is_of(self, index: HNSWIndex, seen: int) -> None:
        self._saved, self._shown = weakref.ref(index), seen

    def alone(self, *, wait: bool) -> AbstractContextManager[None]:
        """Keep other processes from writing or deleting the file, and what is half-written, for the time of a block.

        Raises:
            UnavailableError: another is at it, and it is not to be waited for, or was in vain.
        """
        return locked(self.path.parent, wait=wait)

    def due(self, index: HNSWIndex, seen: int, *, closing: bool) -> bool:
        """Say whether so much has changed since the file was written that writing it again pays."""
        changed = seen - self._shown if self._saved and self._saved() is index else seen  # all, when it was built anew
        if closing:
            return changed > 0 and (changed >= _ENOUGH or changed * _SHARE >= len(index))
        return changed >= _ENOUGH and changed * 2 >= len(index)

    def gave_up(self, index: HNSWIndex, seen: int) -> None:
        """Note that it could not be saved: that is tried again when as much has changed as would make it due."""
        self._is_of(index, seen)

    def record(self, db: sqlite3.Connection, seen: int) -> int:
        """Return a new tag, now known to the rows; the caller commits, and then saves what is shown at `seen`."""
        tag = secrets.randbits(63) | 1
        db.execute("INSERT INTO snapshots (tag, seq, space) VALUES (?, ?, ?)", (tag, seen, self._number))
        db.execute(
            "DELETE FROM snapshots WHERE tag NOT IN"
            " (SELECT tag FROM snapshots ORDER BY seq DESC, tag = ? DESC LIMIT ?)",
            (tag, _KEPT),
        )
        return tag

    def save(self, index: HNSWIndex, seen: int, *, tag: int) -> None:
        """Write the file.

        Raises:
            StorageError: it cannot be written; what was there is still there.
        """
        index.save(self.path, tag=tag)
        self._is_of(index, seen)
        self._clear_away(older_than=ABANDONED_SECONDS)

    def remove(self) -> None:
        """Delete the file, if there is one, and all that was half-written.

        Raises:
            StorageError: it cannot be deleted.
        """
        self._shown = 0
        try:
            self.path.unlink(missing_ok=True)
            folder_to_disk(self.path.parent)  # so that no power cut brings it back
        except OSError as error:
            raise StorageError(f"{self.path} cannot be deleted: {error.strerror}") from error
        self._clear_away(older_than=0.0)

    def _clear_away(self, *, older_than: float) -> None:
        clear_away(self.path.parent, f"{self.path.name}.new-", older_than=older_than)

    @property
    def disk_bytes(self) -> int:
        """Size of the file."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


def saved_parameters(store: Path) -> HNSWConfig | None:
    """Return the parameters of the index saved beside a store; None where there is none that can be opened."""
    try:
        return HNSWIndex.open(f"{store}-index").config
    except StorageError:
        return None
