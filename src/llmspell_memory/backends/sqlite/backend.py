"""The verbs of a backend over one SQLite file."""

from __future__ import annotations

import logging
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llmspell_memory.backends.checks import checked_vector
from llmspell_memory.backends.sqlite.connection import Connections
from llmspell_memory.backends.sqlite.recent import RecentEntries
from llmspell_memory.backends.sqlite.rows import (
    COLUMNS,
    moment,
    packed_vector,
    to_entry,
    to_row,
    unpacked_namespace,
    unpacked_vectors,
)
from llmspell_memory.backends.sqlite.schema import check_ours, settle, settled_space
from llmspell_memory.backends.sqlite.where import condition
from llmspell_memory.backends.view import Changes, IndexView
from llmspell_memory.errors import ClosedError, ConfigError, StorageError
from llmspell_memory.types import BackendStats, Hit, SessionSummary
from llmspell_memory.types.entry import own

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from llmspell_memory.types import EmbeddingSpace, EpisodicEntry, Filter, HNSWConfig, Vector

logger = logging.getLogger(__name__)

_PAGE: Final = 512
"""Rows taken at a time while scanning or by their labels, vectors while catching up."""


class SQLiteBackend:
    """Entries in one file, durable when a call returns; any number of threads and processes may use it at once.

    Args:
        path: of the file, made when it does not exist; beside it stand its write-ahead log and shared memory.
        space: of the vectors; recorded in a new file, compared with the record of an old one. None: as recorded.
        hnsw: parameters of an HNSW index; None for exact search.
        warm: build the index now; otherwise at the first search.

    Raises:
        SchemaError: the file holds another embedding space, or belongs to a newer version or another application.
        StorageError: the file cannot be opened; CorruptDataError when it is damaged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        space: EmbeddingSpace | None = None,
        *,
        hnsw: HNSWConfig | None = None,
        warm: bool = True,
    ) -> None:
        if str(path) == ":memory:":
            raise ConfigError("a SQLiteBackend needs a file; leave the path out (LocalBackend) to keep rows in RAM")
        self._path = Path(path).absolute()
        if space is None and not self._path.exists():
            raise StorageError(f"there is no store at {self._path}")
        name = str(self._path)
        self._connections = Connections(self._path, check=partial(check_ours, name=name))
        try:
            with self._connections.read() as db:
                settled = settled_space(db, space, name=name)
            if settled is None:
                with self._connections.write() as db:
                    settled = settle(db, space, name=name)
            number, self._space = settled
            self._sql = _Statements(number)
            self._recent = RecentEntries()
            self._view = IndexView(self._space, hnsw, rows=self._connections.read, changes=self._changes)
            self._warm = warm
            if warm:
                self._view.catch_up()
        except BaseException:
            self._connections.close()
            raise

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of the file."""
        return self._space

    @property
    def hnsw(self) -> HNSWConfig | None:
        """Parameters of the index; None when it is exact."""
        return self._view.hnsw

    def _changes(self, db: sqlite3.Connection, since: int) -> Changes | None:
        reached = _seq(db)
        if reached <= since:
            return None
        page = db.execute(self._sql.changed, (since, _PAGE)).fetchall()
        if len(page) == _PAGE:
            reached = page[-1][0]
        gone = [label for (label,) in db.execute(self._sql.gone, (since, reached))]
        labels = [label for _, label, _ in page]
        if len(gone) + len(labels) == reached - since:  # every number is told of, so nothing but these has changed
            self._recent.forget(gone + labels)
        else:
            self._recent.clear()
        return Changes(
            reached=reached,
            gone=np.array(gone, np.int64),
            labels=np.array(labels, np.int64),
            vectors=unpacked_vectors([(label, blob) for _, label, blob in page], self._space.dimensions),
        )

    def _catch_up(self) -> None:
        """Let the index see a write at once. The write is durable already, so a failure is left to the next search."""
        if self._warm:
            try:
                self._view.catch_up()
            except (StorageError, ClosedError):
                logger.exception("The index of %s could not read a change; the next search tries again", self._path)

    def add(self, entries: Sequence[EpisodicEntry]) -> None:
        """Store all or none, durable on return; a known identity is replaced but keeps its ingestion_time."""
        with self._connections.write() as db:
            first = _take_seqs(db, len(entries))
            for seq, entry in enumerate(entries, start=first):
                row = to_row(entry)
                db.execute(self._sql.put_entry, row)
                vector = checked_vector(entry, self._space)
                db.execute(self._sql.put_vector, (seq, packed_vector(vector), row[1], row[0]))
        self._catch_up()

    def scan(self, where: Filter, *, limit: int | None = None) -> Iterator[EpisodicEntry]:
        """Yield matching entries ordered by (timestamp, id), as they were when the scan began."""
        clause, parameters = condition(where)
        with self._connections.read() as db:
            rows = db.execute(self._sql.scan.format(where=clause), (*parameters, -1 if limit is None else limit))
            while page := rows.fetchmany(_PAGE):
                for row in page:
                    yield to_entry(row, dimensions=self._space.dimensions)

    def search(self, vector: Vector, k: int, where: Filter) -> list[Hit]:
        """Return the k entries nearest to `vector` among those that match, best first."""
        self._warm = True
        self._connections.check_open()
        hits = self._by_one_statement(vector, k) if where.is_everything and k <= _PAGE else None
        if hits is None:
            hits = self._by_one_transaction(vector, k, where)
        if hits is None:  # the index was behind, or a write came between
            with self._view.lock, self._connections.read() as db:
                self._view.catch_up(db)
                hits = self._hits(db, vector, k, where)
        return hits

    def _by_one_statement(self, vector: Vector, k: int) -> list[Hit] | None:
        """Search, and read rows and sequence number at once; None where the index may have shown another moment.

        The rows are of the index's moment if theirs is the number it had before and after: of what was acknowledged
        before the search began nothing is missing, and what came later is in neither.
        """
        moment = self._view.moment
        if moment is None:
            return None
        labels, scores = self._view.search(vector, k, None)
        found = labels.tolist()
        known = self._recent.find(found)
        unknown = [label for label in found if label not in known]
        rows = self._connections.fetch(self._sql.some(len(unknown)), unknown)
        if not rows or not rows[0][-1] == moment == self._view.moment:
            return None
        if unknown:
            read = self._entries(rows)
            self._recent.keep(read, if_still=lambda: self._view.moment == moment)
            known |= read
        return _joined(known, found, scores)

    def _by_one_transaction(self, vector: Vector, k: int, where: Filter) -> list[Hit] | None:
        """Find what matches, search among it and read the rows; None where the index may have shown another moment."""
        with self._connections.read() as db:
            moment = _seq(db)
            if self._view.moment != moment:
                return None
            hits = self._hits(db, vector, k, where)
            return hits if self._view.moment == moment else None

    def _hits(self, db: sqlite3.Connection, vector: Vector, k: int, where: Filter) -> list[Hit]:
        among = None
        if not where.is_everything:
            clause, parameters = condition(where)
            rows = db.execute(f"SELECT label FROM entries WHERE {clause}", parameters).fetchall()  # noqa: S608 (bound)
            among = np.fromiter(chain.from_iterable(rows), np.int64, len(rows))
        labels, scores = self._view.search(vector, k, among)
        found = labels.tolist()
        entries = self._recent.find(found)
        unknown = [label for label in found if label not in entries]
        for start in range(0, len(unknown), _PAGE):
            page = unknown[start : start + _PAGE]
            entries |= self._entries(db.execute(self._sql.some(len(page)), page))
        return _joined(entries, found, scores)

    def _entries(self, rows: Iterable[tuple[Any, ...]]) -> dict[int, EpisodicEntry]:
        return {row[-2]: to_entry(row[:-2], dimensions=self._space.dimensions) for row in rows}

    def mark_processed(self, where: Filter) -> int:
        """Mark what matches; return how many were not marked before."""
        clause, parameters = condition(where)
        with self._connections.write() as db:
            sql = f"UPDATE entries SET processed = 1 WHERE processed = 0 AND {clause}"  # noqa: S608 (bound)
            marked = db.execute(sql, parameters).rowcount
            if marked:
                _take_seqs(db, 1)  # that no vector has: it tells every process to read its recent entries again
        self._catch_up()
        return marked

    def delete(self, where: Filter) -> int:
        """Delete what matches; return how many there were."""
        clause, parameters = condition(where)
        with self._connections.write() as db:
            labels = db.execute(f"SELECT label FROM entries WHERE {clause}", parameters).fetchall()  # noqa: S608 (bound)
            first = _take_seqs(db, len(labels))
            db.executemany(self._sql.bury, [(seq, label) for seq, (label,) in enumerate(labels, start=first)])
            db.executemany(self._sql.drop_vector, labels)
            db.executemany("DELETE FROM entries WHERE label = ?", labels)
        self._catch_up()
        return len(labels)

    def count(self, where: Filter) -> int:
        """Return how many entries match."""
        clause, parameters = condition(where)
        with self._connections.read() as db:
            found = db.execute(f"SELECT count(*) FROM entries WHERE {clause}", parameters)  # noqa: S608 (bound)
            return int(found.fetchone()[0])

    def sessions(self, where: Filter) -> list[SessionSummary]:
        """Return one line per session, counting the entries that match, latest activity first."""
        clause, parameters = condition(where)
        with self._connections.read() as db:
            rows = db.execute(self._sql.sessions.format(where=clause), parameters).fetchall()
        return [
            SessionSummary(
                session_id=session_id,
                namespace=unpacked_namespace(namespace),
                entries=entries,
                unprocessed=unprocessed,
                first=moment(first),
                last=moment(last),
            )
            for session_id, namespace, entries, unprocessed, first, last in rows
        ]

    def configure(self, hnsw: HNSWConfig | None, *, rebuild: bool = False) -> None:
        """Change the index's parameters or kind; reads go on meanwhile."""
        self._connections.check_open()
        if self._view.configure(hnsw, rebuild=rebuild):
            self._warm = True

    def stats(self) -> BackendStats:
        """Return figures about rows, index and file."""
        with self._connections.read() as db:
            entries, unprocessed = db.execute("SELECT count(*), ifnull(sum(processed = 0), 0) FROM entries").fetchone()
            sessions = db.execute(
                "SELECT count(*) FROM (SELECT DISTINCT namespace, session_id FROM entries)"
            ).fetchone()
        index = self._view.stats()
        return BackendStats(
            rows="sqlite",
            path=self._path,
            entries=entries,
            unprocessed=unprocessed,
            sessions=sessions[0],
            space=self._space,
            index=index,
            memory_bytes=index.memory_bytes + self._recent.memory_bytes,
            disk_bytes=self._connections.disk_bytes(),
        )

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._connections.close()
        self._view.release()
        self._recent.clear()


def _joined(entries: dict[int, EpisodicEntry], labels: list[int], scores: Vector) -> list[Hit]:
    """Hits in the order of `labels`. One is missing only where the index moved on, and the caller asks again."""
    return [
        Hit(own(entries[label]), score)
        for label, score in zip(labels, scores.tolist(), strict=True)
        if label in entries
    ]


def _seq(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT seq FROM state").fetchone()[0])


def _take_seqs(db: sqlite3.Connection, count: int) -> int:
    """Reserve `count` sequence numbers and return the first."""
    first = _seq(db) + 1
    db.execute("UPDATE state SET seq = seq + ?", (count,))
    return first


class _Statements:
    """SQL over the vectors of one space; every value is bound, only the space's number is written in."""

    def __init__(self, space: int) -> None:
        vectors = f"vectors_{space}"
        row = f"SELECT {COLUMNS}, vector FROM entries JOIN {vectors} USING (label)"  # noqa: S608
        self._some = row.replace("vector FROM", "vector, label, (SELECT seq FROM state) FROM")
        self.scan = f"{row} WHERE {{where}} ORDER BY timestamp, id, label LIMIT ?"
        self.put_entry = (
            f"INSERT INTO entries ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
            " ON CONFLICT (id, namespace) DO UPDATE SET session_id = excluded.session_id,"
            " role = excluded.role, content = excluded.content, timestamp = excluded.timestamp,"
            " metadata = excluded.metadata, processed = excluded.processed"
        )
        self.put_vector = (
            f"INSERT INTO {vectors} (label, seq, vector)"  # noqa: S608
            " SELECT label, ?, ? FROM entries WHERE id = ? AND namespace = ?"
            " ON CONFLICT (label) DO UPDATE SET seq = excluded.seq, vector = excluded.vector"
            " WHERE vector <> excluded.vector"
        )
        self.drop_vector = f"DELETE FROM {vectors} WHERE label = ?"  # noqa: S608
        self.bury = "INSERT INTO tombstones (seq, label) VALUES (?, ?)"
        self.changed = f"SELECT seq, label, vector FROM {vectors} WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
        self.gone = "SELECT label FROM tombstones WHERE seq > ? AND seq <= ?"
        self.sessions = (
            "SELECT session_id, namespace, count(*), sum(processed = 0), min(timestamp), max(timestamp)"
            " FROM entries WHERE {where} GROUP BY namespace, session_id"
            " ORDER BY max(timestamp) DESC, session_id, namespace"
        )

    def some(self, count: int) -> str:
        """Rows of `count` labels, each with its label and the sequence number of the moment it was read at."""
        if not count:
            return "SELECT seq FROM state"
        return f"{self._some} WHERE label IN ({', '.join('?' * count)})"
