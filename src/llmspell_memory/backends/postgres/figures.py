"""How many rows there are, and how they are spread over namespaces and sessions, in one pass over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llmspell_memory.backends.figures import LARGEST, Sizes
from llmspell_memory.backends.postgres.rows import unpacked
from llmspell_memory.types import EntryCount

if TYPE_CHECKING:
    from llmspell_memory.backends.postgres.connections import Cursor

_SQL: Final = f"""
    WITH by_session AS MATERIALIZED (
        SELECT namespace, session_id, count(*) AS size, count(*) FILTER (WHERE NOT processed) AS fresh
        FROM entries GROUP BY 1, 2
    ),
    by_namespace AS MATERIALIZED (
        SELECT namespace, count(*) AS sessions, sum(size) AS size, sum(fresh) AS fresh FROM by_session GROUP BY 1
    )
    SELECT NULL::bytea, NULL, coalesce(sum(size), 0)::bigint, count(*), coalesce(sum(sessions), 0)::bigint,
        coalesce(sum(fresh), 0)::bigint FROM by_namespace
    UNION ALL
    (SELECT namespace, NULL, size::bigint, 0, 0, 0 FROM by_namespace ORDER BY size DESC, namespace LIMIT {LARGEST})
    UNION ALL
    (SELECT namespace, session_id, size, 0, 0, 0 FROM by_session ORDER BY size DESC, namespace, session_id
        LIMIT {LARGEST})
"""
"""The first row counts all; then come the largest."""

_STATE: Final = "SELECT store, (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM seq) FROM state"


class RowFigures(Sizes):
    """The fields of `BackendStats` that are known of rows."""

    entries: int
    unprocessed: int
    seq: int
    id: str


def row_figures(db: Cursor) -> RowFigures:
    """Return the figures, all of one moment where the transaction is."""
    store, seq = db.execute(_STATE).fetchone() or ("", 0)
    (_, _, entries, namespaces, sessions, unprocessed), *largest = db.execute(_SQL).fetchall()
    named = [
        EntryCount(namespace=unpacked(bytes(namespace)), session_id=session_id, entries=size)
        for namespace, session_id, size, *_ in largest
    ]
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
