"""The SQL of a backend over the vectors of one space; every value is bound, only the space's number is written in."""

from __future__ import annotations

from llmspell_memory.backends.sqlite.connection import VECTORS
from llmspell_memory.backends.sqlite.rows import COLUMNS


def table_of(space: int) -> str:
    """Return the name of the table with a space's vectors."""
    return f"{VECTORS}{space}"


class Statements:
    """SQL, by what it does.

    Args:
        space: number of the space in use.
    """

    def __init__(self, space: int) -> None:
        self.vectors = vectors = table_of(space)
        row = f"SELECT {COLUMNS}, vector FROM entries JOIN {vectors} USING (label)"  # noqa: S608
        self.moment = f"SELECT seq FROM state WHERE space = {space}"  # noqa: S608 (nothing, where another is in use)
        moment = f"({self.moment}), ({self.next_expiry})"
        self._some = row.replace("vector FROM", f"vector, label, {moment} FROM")
        self._none = f"SELECT {moment}"
        self._vectors = f"SELECT label, vector FROM {vectors}"  # noqa: S608
        self._row = row
        self.put_entry = (
            f"INSERT INTO entries ({COLUMNS}, seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
            " ON CONFLICT (id, namespace) DO UPDATE SET session_id = excluded.session_id,"
            " role = excluded.role, content = excluded.content, timestamp = excluded.timestamp,"
            " metadata = excluded.metadata, processed = excluded.processed, expires_at = excluded.expires_at,"
            " seq = excluded.seq"
        )
        self.put_vector = (
            f"INSERT INTO {vectors} (label, seq, vector)"  # noqa: S608
            " SELECT label, ?, ? FROM entries WHERE id = ? AND namespace = ?"
            " ON CONFLICT (label) DO UPDATE SET seq = excluded.seq, vector = excluded.vector"
            " WHERE vector <> excluded.vector"
        )
        self.changed = f"SELECT seq, label, vector FROM {vectors} WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
        self.told = (
            f"{row.replace('vector FROM', 'vector, entries.seq FROM')}"
            " WHERE entries.seq > ? ORDER BY entries.seq LIMIT ?"
        )
        self.pending = f"SELECT count(*) FROM {vectors} WHERE seq > ?"  # noqa: S608

    def scan(self, *, newest: bool, by_ids: bool) -> str:
        """Rows by (timestamp, id); or the newest first."""
        down = " DESC" if newest else ""
        # The plus keeps SQLite from walking a whole namespace in this order to find a few ids in it.
        time = "+timestamp" if by_ids else "timestamp"
        return f"{self._row} WHERE {{where}} ORDER BY {time}{down}, id{down}, label{down} LIMIT ?"

    next_expiry = "SELECT min(expires_at) FROM entries WHERE expires_at IS NOT NULL"
    drop_entry = "DELETE FROM entries WHERE label = ?"
    bury = (
        "INSERT INTO tombstones (seq, label, namespace, id) SELECT ?, label, namespace, id FROM entries WHERE label = ?"
    )
    has = "SELECT 1 FROM entries WHERE id = ? AND namespace = ?"
    # The plus keeps SQLite from reading a whole namespace to find one session in it.
    saying = (
        "SELECT role, content, id FROM entries WHERE {where} AND +namespace = ?"
        " AND content IN (SELECT value FROM json_each(?)) ORDER BY label"
    )
    forget_names = "UPDATE tombstones SET namespace = NULL, id = NULL WHERE id IS NOT NULL"
    gone = "SELECT label FROM tombstones WHERE seq > ? AND seq <= ?"
    buried = "SELECT seq, namespace, id FROM tombstones WHERE seq > ? ORDER BY seq LIMIT ?"
    of_ids = "SELECT label FROM entries WHERE id IN (SELECT value FROM json_each(?))"
    turns_changed = (
        "SELECT seq, label, namespace, session_id, role, timestamp, ingestion_time, processed, expires_at, metadata,"
        " content FROM entries WHERE seq > ? ORDER BY seq LIMIT ?"
    )
    rows_pending = "SELECT count(*) FROM entries WHERE seq > ?"
    changed_labels = "SELECT label FROM entries WHERE seq > ? AND seq <= ? LIMIT ?"
    mark = "UPDATE entries SET processed = 1, seq = ? WHERE label = ?"
    set_expiry = "UPDATE entries SET expires_at = ?, seq = ? WHERE label = ?"
    sessions = (
        "SELECT session_id, namespace, count(*), sum(processed = 0), min(timestamp), max(timestamp)"
        " FROM entries WHERE {where} GROUP BY namespace, session_id"
        " ORDER BY max(timestamp) DESC, session_id, namespace"
    )

    def some(self, count: int) -> str:
        """Rows of `count` labels, each with its label, the moment it was read at, and when the next entry expires."""
        return f"{self._some} WHERE label IN ({', '.join('?' * count)})" if count else self._none

    def vectors_of(self, count: int) -> str:
        """The vectors of `count` labels, each after its label."""
        return f"{self._vectors} WHERE label IN ({', '.join('?' * count)})"
