"""A new file that is written beside its place and put there when it is whole, or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from llmspell_memory.backends.sqlite.folders import ABANDONED_SECONDS, clear_away, folder_to_disk, to_disk
from llmspell_memory.errors import InputError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIXES: Final = ("-wal", "-shm", "-journal")
"""Names of the files that SQLite puts beside a database."""


@contextmanager
def written_beside(target: Path, *, source: Path) -> Iterator[Path]:
    """Give a path to write a database to; it becomes `target`, on the disk, when the block ends well.

    Args:
        target: where it is to stand, absolute.
        source: what it is made from, absolute.

    Raises:
        InputError: there is something at `target`, or beside it, that SQLite would take for a part of it.
        StorageError: it cannot be written. Nothing is left behind.
    """
    _check_free(target, source)
    prefix = f".{target.name}.new-"
    clear_away(target.parent, prefix, older_than=ABANDONED_SECONDS)
    beside = target.with_name(f"{prefix}{secrets.token_hex(8)}")
    try:
        yield beside
        _to_disk(beside)
        _put(beside, target)
        folder_to_disk(target.parent)
    except OSError as error:
        raise StorageError(
            f"{target} cannot be written ({error.strerror}); does its folder exist, and may this user write there?"
        ) from error
    finally:
        for suffix in ("", *SUFFIXES):
            beside.with_name(beside.name + suffix).unlink(missing_ok=True)


def _check_free(target: Path, source: Path) -> None:
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{target} is the store itself; name another file")
    for suffix in ("", *SUFFIXES):
        path = target.with_name(target.name + suffix)
        if os.path.lexists(path):
            raise InputError(f"{path} exists; name another file, or move it away")


def _to_disk(path: Path) -> None:
    file = os.open(path, os.O_RDWR)
    try:
        to_disk(file)
    finally:
        os.close(file)


def _put(beside: Path, target: Path) -> None:
    try:
        target.hardlink_to(beside)  # unlike a rename, it takes nobody's place
    except FileExistsError as error:
        raise InputError(f"{target} exists by now; name another file") from error
    except OSError:  # a file system without links
        beside.rename(target)
