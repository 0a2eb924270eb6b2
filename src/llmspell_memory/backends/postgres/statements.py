"""The SQL of a store; every value is bound, only names of its own tables are written in."""

from __future__ import annotations

from typing import Final

from llmspell_memory.backends.postgres.rows import KEY, READ, WRITTEN

SAME: Final = "{0}.root = {1}.root AND {0}.id_key = {1}.id_key AND {0}.namespace_key = {1}.namespace_key"
"""That two tables' rows are one entry's."""

_CHANGED: Final = (
    "session_key = excluded.session_key, session_id = excluded.session_id, role_key = excluded.role_key,"
    " role = excluded.role, content = excluded.content, happened = excluded.happened, metadata = excluded.metadata,"
    " facts = excluded.facts, processed = excluded.processed, expires = excluded.expires, words = excluded.words,"
    " terms = excluded.terms, seq = excluded.seq"
)
_VALUES: Final = "%s, " * len(WRITTEN.split(",")) + "%s::tsvector, %s, %s"
_ON_CONFLICT: Final = f"ON CONFLICT (id_key, namespace_key, root) DO UPDATE SET {_CHANGED}"

PUT_ENTRY: Final = (
    f"INSERT INTO entries ({WRITTEN}, words, terms, label, seq) VALUES ({_VALUES}, nextval('seq')) {_ON_CONFLICT}"
)
STAGE: Final = (
    "CREATE TEMP TABLE staged (root bytea, id_key bytea, namespace_key bytea, path bytea, namespace bytea, id text,"
    " session_key bytea, session_id text, role_key bytea, role text, content text, happened bigint, learned bigint,"
    " metadata text, facts bytea[], processed boolean, expires bigint, words text, terms int, label bigint,"
    " vector vector, place int) ON COMMIT DROP"
)
COPY_STAGED: Final = f"COPY staged ({WRITTEN}, words, terms, label, vector, place) FROM STDIN WITH (FORMAT BINARY)"
STAGED_TYPES: Final = (
    *("bytea", "bytea", "bytea", "bytea", "bytea", "text", "bytea", "text", "bytea", "text", "text"),
    *("int8", "int8", "text", "bytea[]", "bool", "int8", "text", "int4", "int8", "vector", "int4"),
)
PUT_STAGED_ENTRIES: Final = (
    f"INSERT INTO entries ({WRITTEN}, words, terms, label, seq)"
    f" SELECT {WRITTEN}, words::tsvector, terms, label, nextval('seq') FROM staged"
    f" ORDER BY id_key, namespace_key {_ON_CONFLICT}"
)

TAKE_LABELS: Final = "SELECT nextval('labels') FROM generate_series(1, %s)"
"""Numbers that rise in the order in which the entries of a call come."""

COUNT: Final = "SELECT count(*) FROM entries e WHERE {where}"
IDENTITIES: Final = "SELECT {columns} FROM entries e WHERE {where} FOR UPDATE"
MARK: Final = "UPDATE entries e SET processed = TRUE, seq = nextval('seq') WHERE NOT e.processed AND {where}"
SET_EXPIRY: Final = "UPDATE entries e SET expires = %s, seq = nextval('seq') WHERE {where}"
SESSIONS: Final = (
    "SELECT e.session_id, e.namespace, count(*), count(*) FILTER (WHERE NOT e.processed), min(e.happened),"
    " max(e.happened) FROM entries e WHERE {where} GROUP BY e.namespace, e.session_id"
    " ORDER BY max(e.happened) DESC, e.session_id, e.namespace"
)
BURY: Final = (
    "INSERT INTO gone (root, seq, namespace, id)"
    " SELECT e.root, nextval('seq'), e.namespace, e.id FROM entries e WHERE {where}"
)
SAYING: Final = "SELECT e.role, e.content, e.id FROM entries e WHERE {where} AND e.content = ANY(%s) ORDER BY e.label"
HAS: Final = (
    "SELECT 1 FROM entries WHERE root = %s AND id_key = %s AND namespace_key = %s AND namespace = %s AND id = %s"
)


class Statements:
    """SQL over the vectors of one space.

    Args:
        vectors: name of their table.
    """

    def __init__(self, vectors: str) -> None:
        joined = f"SELECT {READ}, v.vector{{more}} FROM entries e JOIN {vectors} v USING ({KEY})"
        self.row = joined.format(more="")
        self.put_vector = (
            f"INSERT INTO {vectors} ({KEY}, vector) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (id_key, namespace_key, root) DO UPDATE SET vector = excluded.vector"
            f" WHERE {vectors}.vector <> excluded.vector"
        )
        self.put_staged_vectors = (
            f"INSERT INTO {vectors} ({KEY}, vector) SELECT {KEY}, vector FROM staged"
            " WHERE place >= %s AND place < %s ORDER BY place"
            " ON CONFLICT (id_key, namespace_key, root) DO UPDATE SET vector = excluded.vector"
            f" WHERE {vectors}.vector <> excluded.vector"
        )
        self.told = f"{joined.format(more=', e.seq')} WHERE e.seq > %s AND e.seq <= %s ORDER BY e.seq LIMIT %s"
        self.by_label = f"{joined.format(more=', e.label')} WHERE {{where}} AND e.label = ANY(%s)"

    def scan(self, *, newest: bool) -> str:
        """Rows by (timestamp, id); or the newest first."""
        down = " DESC" if newest else ""
        return f"{self.row} WHERE {{where}} ORDER BY e.happened{down}, e.id{down}, e.label{down} LIMIT %s"


def drop_outdated(table: str) -> str:
    """Drop the vector of an entry whose text is about to be replaced by another: root, keys and the new text."""
    return (
        f"DELETE FROM {table} v USING entries e WHERE {SAME.format('v', 'e')} AND e.root = %s AND e.id_key = %s"
        " AND e.namespace_key = %s AND e.content <> %s"
    )


def drop_outdated_staged(table: str) -> str:
    """The same for all rows that are staged."""
    return (
        f"DELETE FROM {table} v USING entries e, staged s WHERE {SAME.format('v', 'e')} AND {SAME.format('e', 's')}"
        " AND e.content <> s.content"
    )
