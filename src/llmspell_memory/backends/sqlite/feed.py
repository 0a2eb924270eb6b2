"""What happened to the rows of a store, told in order to whatever is a view of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from llmspell_memory.backends.row_view import RowBatch
from llmspell_memory.backends.sqlite.rows import to_turn, told_as_damage, unpacked_vectors
from llmspell_memory.backends.sqlite.statements import Statements
from llmspell_memory.backends.view import Changes

if TYPE_CHECKING:
    import sqlite3
    from contextlib import AbstractContextManager

    from llmspell_memory.backends.sqlite.connection import Connections
    from llmspell_memory.backends.sqlite.recent import RecentEntries

_PAGE: Final = 512
"""Rows read at a time."""


class _Told(NamedTuple):
    """A page of rows that were put, their numbers first, the labels of what has gone, and the number reached by it."""

    reached: int
    gone: list[int]
    page: list[tuple[Any, ...]]


class _Feed:
    """What both feeds have in common.

    Args:
        connections: to the store.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def open(self) -> AbstractContextManager[sqlite3.Connection]:
        """Return a connection inside a read transaction."""
        return self._connections.read()

    def _told(self, db: sqlite3.Connection, since: int, sql: str) -> _Told | None:
        """Return the next page of what `sql` reads after a sequence number, None where nothing happened."""
        reached = last_seq(db)
        if reached <= since:
            return None
        page = db.execute(sql, (since, _PAGE)).fetchall()
        if len(page) == _PAGE:
            reached = page[-1][0]
        return _Told(reached, [label for (label,) in db.execute(Statements.gone, (since, reached))], page)


class Feed(_Feed):
    """The rows as the index sees them, a `Source`. Reading changes drops the recent entries that have changed.

    Args:
        connections: to the store.
        sql: over the space in use.
        recent: entries in memory.
        dimensions: width of the vectors.
    """

    def __init__(self, connections: Connections, sql: Statements, recent: RecentEntries, *, dimensions: int) -> None:
        super().__init__(connections)
        self._sql = sql
        self._recent = recent
        self._dimensions = dimensions

    def changes(self, db: sqlite3.Connection, since: int) -> Changes | None:
        """Return the next batch of what happened to vectors after a sequence number, None where nothing did."""
        told = self._told(db, since, self._sql.changed)
        if told is None:
            return None
        changed = db.execute(self._sql.changed_labels, (since, told.reached, _PAGE + 1)).fetchall()
        if len(changed) <= _PAGE:
            self._recent.forget([*told.gone, *(label for (label,) in changed)])
        else:
            self._recent.clear()
        return Changes(
            reached=told.reached,
            gone=np.array(told.gone, np.int64),
            labels=np.array([label for _, label, _ in told.page], np.int64),
            vectors=unpacked_vectors([(label, blob) for _, label, blob in told.page], self._dimensions),
        )

    def pending(self, db: sqlite3.Connection, since: int) -> int:
        """Return how many vectors were put after a sequence number."""
        return int(db.execute(self._sql.pending, (since,)).fetchone()[0])


class RowFeed(_Feed):
    """The rows without their vectors, a `Source`."""

    def changes(self, db: sqlite3.Connection, since: int) -> RowBatch | None:
        """Return the next batch of what happened to rows after a sequence number, None where nothing did."""
        told = self._told(db, since, Statements.turns_changed)
        if told is None:
            return None
        with told_as_damage(self._connections.path):
            turns = [to_turn(row) for _, *row in told.page]
        return RowBatch(told.reached, np.array(told.gone, np.int64), turns, [row[-1] for row in told.page])

    def pending(self, db: sqlite3.Connection, since: int) -> int:
        """Return how many rows were put after a sequence number."""
        return int(db.execute(Statements.rows_pending, (since,)).fetchone()[0])


def last_seq(db: sqlite3.Connection) -> int:
    """Return the number of the last change."""
    return int(db.execute("SELECT seq FROM state").fetchone()[0])


def take_seqs(db: sqlite3.Connection, count: int) -> int:
    """Reserve `count` sequence numbers and return the first."""
    first = last_seq(db) + 1
    db.execute("UPDATE state SET seq = seq + ?", (count,))
    return first
