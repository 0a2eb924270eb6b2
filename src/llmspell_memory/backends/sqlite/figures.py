"""How many rows there are, and how they are spread over namespaces and sessions, in one pass over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llmspell_memory.backends.figures import LARGEST, Sizes
from llmspell_memory.backends.sqlite.rows import unpacked_namespace
from llmspell_memory.types import EntryCount

if TYPE_CHECKING:
    import sqlite3

_SQL: Final = f"""
    WITH by_session AS MATERIALIZED (
        SELECT namespace, session_id, count(*) AS size, sum(processed = 0) AS fresh FROM entries GROUP BY 1, 2
    ),
    by_namespace AS MATERIALIZED (
        SELECT namespace, count(*) AS sessions, sum(size) AS size, sum(fresh) AS fresh FROM by_session GROUP BY 1
    )
    SELECT count(*), ifnull(sum(sessions), 0), ifnull(sum(size), 0), ifnull(sum(fresh), 0), (SELECT seq FROM state),
        (SELECT store FROM state) FROM by_namespace
    UNION ALL
    SELECT * FROM (
        SELECT namespace, NULL, size, 0, 0, '' FROM by_namespace ORDER BY size DESC, namespace LIMIT {LARGEST}
    )
    UNION ALL
    SELECT * FROM (
        SELECT namespace, session_id, size, 0, 0, '' FROM by_session ORDER BY size DESC, namespace, session_id
        LIMIT {LARGEST}
    )
"""  # noqa: S608 (a number is written in)
"""The first row counts all, with the moment it is of; then come the largest. Many groups are kept by SQLite on disk."""


class RowFigures(Sizes):
    """The fields of `BackendStats` that are known of rows."""

    entries: int
    unprocessed: int
    seq: int
    id: str


def row_figures(db: sqlite3.Connection) -> RowFigures:
    """Return the figures, all of one moment."""
    (namespaces, sessions, entries, unprocessed, seq, store), *largest = db.execute(_SQL)
    named = [EntryCount(namespace=unpacked_namespace(row[0]), session_id=row[1], entries=row[2]) for row in largest]
    return RowFigures(
        entries=entries,
        unprocessed=unprocessed,
        sessions=sessions,
        namespaces=namespaces,
        largest_namespaces=tuple(one for one in named if one.session_id is None),
        largest_sessions=tuple(one for one in named if one.session_id is not None),
        seq=seq,
        id=store,
    )
