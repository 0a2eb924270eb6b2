"""A copy of a store while it is in use."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llmspell_memory.backends.sqlite.beside import written_beside
from llmspell_memory.backends.sqlite.connection import connect, connect_to_look, translated
from llmspell_memory.backends.sqlite.pages import CHECKSUMMED, make_file
from llmspell_memory.backends.sqlite.schema import check_ours
from llmspell_memory.errors import CorruptDataError, StorageError
from llmspell_memory.types import BackupReport
from llmspell_memory.types.files import make_private

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

_PAGES: Final = 4096
"""Pages copied between two words about progress; all of them are of one moment, whatever is written meanwhile."""


def backup(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    compared: bool = True,
    on_progress: Callable[[int, int], object] | None = None,
) -> BackupReport:
    """Copy the store at `path` to `target` as it is at one moment; others may read and write it meanwhile.

    The copy is a store like any other: opening it restores it.

    Args:
        path: of the store.
        target: of the copy; its folder must exist, the file must not.
        compared: False takes a store that another SQLite tool has copied or written to, whose pages have old checksums
            or none, if it is whole by SQLite's own check; pages of the copy have theirs.
        on_progress: called with how many pages are copied, and how many there are.

    Raises:
        InputError: something is at `target`.
        StorageError: there is no store at `path`, it is damaged, or the copy cannot be written; nothing is left of it.
    """
    began = time.monotonic()
    source, copy = Path(path).absolute(), Path(target).absolute()
    if not source.is_file():
        raise StorageError(f"there is no store at {source}")
    with written_beside(copy, source=source) as beside:
        with (
            translated(source),
            closing(connect_to_look(source, compared=compared)) as db,
        ):
            if not check_ours(db, name=str(source)):
                raise StorageError(f"there is no store at {source}, the file is empty")
            db.execute("BEGIN")
            if not compared:
                _check_whole(db, source)
            (entries,) = db.execute("SELECT count(*) FROM entries").fetchone()
            _copy(db, beside, on_progress)
            db.execute("ROLLBACK")
        size = beside.stat().st_size
    return BackupReport(path=source, target=copy, entries=entries, bytes=size, seconds=time.monotonic() - began)


def _check_whole(db: sqlite3.Connection, source: Path) -> None:
    found = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise CorruptDataError(f"{source} is damaged: {found}")


def _copy(db: sqlite3.Connection, beside: Path, on_progress: Callable[[int, int], object] | None) -> None:
    """Copy what `db` sees in its transaction; pages with checksums into a file that has room for them."""
    if has_checksums(db):
        make_file(beside)
    else:
        make_private(beside)
    with closing(connect(beside, mode="rwc")) as copy:
        copy.execute("PRAGMA journal_mode = OFF")  # nobody needs what a failure leaves half-written
        copy.execute("PRAGMA synchronous = OFF")
        try:
            db.backup(
                copy,
                pages=_PAGES,
                progress=on_progress and (lambda _, left, total: on_progress(total - left, total)),
            )
        except sqlite3.Error as error:
            error.add_note(f"while it was copied to {beside.parent}")
            raise


def has_checksums(db: sqlite3.Connection) -> bool:
    """Say whether a store's pages have checksums."""
    return bool(db.execute("PRAGMA application_id").fetchone()[0] == CHECKSUMMED)
