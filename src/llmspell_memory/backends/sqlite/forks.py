"""Connections that a fork inherits are never closed in it, not even when the forked process ends.

To close one means to fold in the write-ahead log and remove it, or to roll back: in shared memory, and by a path where
another's log may stand by now. So what was open when the process was forked is kept for ever there.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from typing import Final

from llmspell_memory.backends.sqlite import pages


class Connection(sqlite3.Connection):
    """A connection that is known as long as it lives."""


_open: Final[weakref.WeakSet[Connection]] = weakref.WeakSet()
_held: Final[list[list[Connection]]] = []


def remembered(connection: Connection) -> Connection:
    """Remember a connection that was just opened, and return it."""
    _open.add(connection)
    return connection


def _hold() -> None:
    """Before a fork: the frames of other threads, which have some connections alone, do not live on in the child."""
    while True:
        try:
            _held.append(list(_open))
        except RuntimeError:  # another thread has opened one meanwhile
            continue
        return


def _let_go() -> None:
    _held.pop()


def _keep() -> None:
    pages.keep([*_held, list(_open)])
    _held.clear()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_keep)
