"""Who may read the files that are made: what was said is for its owner alone, unless somebody has decided otherwise."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE: Final = 0o600
"""Of a new file. SQLite gives its log and shared memory the rights that the database has."""

_RIGHTS: Final = 0o666


def rights_of(path: Path) -> int:
    """Return who may read and write a file; PRIVATE where there is none."""
    try:
        return stat.S_IMODE(path.stat().st_mode) & _RIGHTS
    except FileNotFoundError:
        return PRIVATE


def make_private(path: Path) -> None:
    """Make an empty file for its owner alone; one that is there stays as it is."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE))


def share_as(path: Path, like: Path) -> None:
    """Let those read and write `path` who may do so with `like`, if there are both."""
    wanted = rights_of(like)
    if path.exists() and rights_of(path) != wanted:
        path.chmod(wanted)
