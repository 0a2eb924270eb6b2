"""The verbs of a backend over one SQLite file."""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from llmspell_memory.backends.checks import check_space, checked_vector
from llmspell_memory.backends.sqlite.connection import Connections, translated
from llmspell_memory.backends.sqlite.feed import Feed, last_seq, take_seqs
from llmspell_memory.backends.sqlite.index_file import IndexFile
from llmspell_memory.backends.sqlite.recent import RecentEntries
from llmspell_memory.backends.sqlite.rows import (
    microseconds,
    moment,
    packed_vector,
    to_entry,
    to_row,
    told_as_damage,
    unpacked_namespace,
)
from llmspell_memory.backends.sqlite.schema import check_ours, settle, settled_space
from llmspell_memory.backends.sqlite.statements import Statements
from llmspell_memory.backends.sqlite.where import condition
from llmspell_memory.backends.view import IndexView
from llmspell_memory.errors import ClosedError, ConfigError, CorruptDataError, StorageError, UnavailableError
from llmspell_memory.index import HNSWIndex
from llmspell_memory.types import BackendStats, Erased, Hit, RowChanges, SessionSummary
from llmspell_memory.types.entry import own
from llmspell_memory.types.settings import checked_durability

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from llmspell_memory.backends.sqlite.where import Parameter
    from llmspell_memory.types import Durability, EmbeddingSpace, EpisodicEntry, Filter, HNSWConfig, Vector
    from llmspell_memory.types.arrays import Labels

logger = logging.getLogger(__name__)

_PAGE: Final = 512
"""Rows taken at a time while scanning or by their labels."""


class _Wanted(NamedTuple):
    """What a search is asked for."""

    vector: Vector
    k: int
    where: Filter
    exact: bool


class SQLiteBackend:
    """Entries in one file, durable when a call returns; any number of threads and processes may use it at once.

    Args:
        path: of the file, made when it does not exist; beside it stand its write-ahead log and shared memory.
        space: of the vectors; recorded in a new file, compared with the record of an old one. None: as recorded.
        hnsw: parameters of an HNSW index; None for exact search.
        warm: load or build the index now; otherwise at the first search.
        durability: with "normal", what a call has written survives the death of the process; with "full" a power cut,
            too, at the price of a wait for the disk in every write.
        on_progress: called while vectors are read into the index, with how many are done and how many there are.

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
        durability: Durability = "normal",
        on_progress: Callable[[int, int], object] | None = None,
    ) -> None:
        if str(path) == ":memory:":
            raise ConfigError("a SQLiteBackend needs a file; leave the path out (LocalBackend) to keep rows in RAM")
        self._path = Path(path).absolute()
        if space is None and not self._path.exists():
            raise StorageError(f"there is no store at {self._path}")
        name = str(self._path)
        self._connections = Connections(
            self._path, durability=checked_durability(durability), check=partial(check_ours, name=name)
        )
        try:
            with self._connections.read() as db:
                settled = settled_space(db, space, name=name)
            if settled is None:
                with self._connections.write() as db:
                    settled = settle(db, space, name=name)
            number, self._space = settled
            self._sql = Statements(number)
            self._recent = RecentEntries()
            feed = Feed(self._connections, self._sql, self._recent, dimensions=self._space.dimensions)
            self._file = IndexFile(self._path, self._space, number=number)
            self._view = IndexView(self._space, hnsw, source=feed, saved=self._file.load, on_progress=on_progress)
            self._warm = warm
            self._resume_erasing()
            if warm:
                with translated(self._path):
                    self._view.catch_up()
                self._save_index()
        except BaseException:
            self._connections.close()
            raise

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of the file."""
        return self._space

    @property
    def namespace(self) -> tuple[str, ...]:
        """(): it shows every namespace; a `ScopedBackend` over it shows one."""
        return ()

    @property
    def hnsw(self) -> HNSWConfig | None:
        """Parameters of the index; None when it is exact."""
        return self._view.hnsw

    def _catch_up(self) -> None:
        """Let the index see a write at once. The write is durable already, so a failure is left to the next search."""
        if not self._warm:
            return
        try:
            self._view.catch_up()
        except (StorageError, ClosedError, MemoryError):
            logger.exception("The index of %s could not read a change; the next search tries again", self._path)
        else:
            self._save_index()

    def _save_index(self, *, closing: bool = False) -> None:
        """Save an HNSW index where that is due. What fails is logged: the rows have all that is in it."""
        index, moment = self._view.index, self._view.moment
        if not isinstance(index, HNSWIndex) or not moment or not self._file.due(index, moment, closing=closing):
            return
        try:
            with self._view.lock:
                if self._view.index is index:  # otherwise a rebuild has taken its place, and saves its own
                    with self._file.alone(wait=False):  # who is saving at this moment saves as much, or nearly
                        self._write_index(index)
        except (StorageError, ClosedError, MemoryError) as error:
            self._file.gave_up(index, moment)
            others = isinstance(error, UnavailableError)  # who are saving theirs
            level = logging.DEBUG if others else logging.WARNING
            logger.log(level, "The index of %s was not saved; the next opening reads the rows: %s", self._path, error)

    def _write_index(self, index: HNSWIndex) -> None:
        self._view.catch_up()
        with self._connections.write() as db:  # nobody else's change comes between what is shown and its record
            seen = self._view.catch_up(db)
            tag = self._file.record(db, seen)
        self._file.save(index, seen, tag=tag)

    def add(self, entries: Sequence[EpisodicEntry], *, space: EmbeddingSpace | None = None) -> None:
        """Store all or none, durable on return; a known identity is replaced but keeps its ingestion_time."""
        check_space(self._space, space)
        vectors = [checked_vector(entry, self._space, self.hnsw) for entry in entries]
        with self._connections.write() as db:
            first = take_seqs(db, len(entries))
            for seq, (entry, vector) in enumerate(zip(entries, vectors, strict=True), start=first):
                row = to_row(entry)
                db.execute(self._sql.put_entry, (*row, seq))
                db.execute(self._sql.put_vector, (seq, packed_vector(vector), row[1], row[0]))
        self._catch_up()

    def scan(self, where: Filter, *, limit: int | None = None) -> Iterator[EpisodicEntry]:
        """Yield matching entries ordered by (timestamp, id), as they were when the scan began."""
        with self._connections.read() as db:
            clause, parameters = self._condition(db, where)
            rows = db.execute(self._sql.scan.format(where=clause), (*parameters, -1 if limit is None else limit))
            while page := rows.fetchmany(_PAGE):
                for row in page:
                    yield to_entry(row, dimensions=self._space.dimensions)

    def search(
        self, vector: Vector, k: int, where: Filter, *, exact: bool = False, space: EmbeddingSpace | None = None
    ) -> list[Hit]:
        """Return the k entries nearest to `vector` among those that match, best first."""
        self._connections.check_open()  # the index is searched before the rows are read
        check_space(self._space, space)
        self._warm = True
        wanted = _Wanted(vector, k, where, exact)
        with translated(self._path):
            hits = self._by_one_statement(wanted) if where.is_everything and k <= _PAGE else None
            if hits is None:
                hits = self._by_one_transaction(wanted)
            if hits is None:  # the index was behind, or a write came between
                with self._view.lock, self._connections.read() as db:
                    self._view.catch_up(db)
                    hits = self._hits(db, wanted)
        if hits is None:
            raise CorruptDataError(
                f"{self._path} is damaged: its index and its rows do not have the same entries; run "
                "`llmspell-memory check`, which says what is wrong"
            )
        return hits

    def _by_one_statement(self, wanted: _Wanted) -> list[Hit] | None:
        """Search, and read rows and sequence number at once; None where the index may have shown another moment.

        The rows are of the index's moment if theirs is the number it had before and after: of what was acknowledged
        before the search began nothing is missing, and what came later is in neither. Where something has expired, not
        all that the index knows may be shown, and that is None, too.
        """
        moment = self._view.moment
        if moment is None:
            return None
        labels, scores = self._view.search(wanted.vector, wanted.k, None, exact=wanted.exact)
        found = labels.tolist()
        known = self._recent.find(found)
        unknown = [label for label in found if label not in known]
        rows = self._connections.fetch(self._sql.some(len(unknown)), unknown)
        if not rows:
            return None
        *_, read_at, next_expiry = rows[0]
        if not read_at == moment == self._view.moment or (next_expiry is not None and next_expiry <= _now()):
            return None
        if unknown:
            read = self._entries(rows)
            self._recent.keep(read, if_still=lambda: self._view.moment == moment)
            known |= read
        return _joined(known, found, scores)

    def _by_one_transaction(self, wanted: _Wanted) -> list[Hit] | None:
        """Find what matches, search among it and read the rows; None where the index may have shown another moment."""
        with self._connections.read() as db:
            moment = last_seq(db)
            if self._view.moment != moment:
                return None
            hits = self._hits(db, wanted)
            return hits if self._view.moment == moment else None

    def _hits(self, db: sqlite3.Connection, wanted: _Wanted) -> list[Hit] | None:
        """Search; None where index and rows do not fit."""
        labels, scores = self._labels(db, wanted)
        if labels is None:
            return None
        found = labels.tolist()
        entries = self._recent.find(found)
        unknown = [label for label in found if label not in entries]
        for start in range(0, len(unknown), _PAGE):
            page = unknown[start : start + _PAGE]
            entries |= self._entries(db.execute(self._sql.some(len(page)), page))
        return _joined(entries, found, scores)

    def _labels(self, db: sqlite3.Connection, wanted: _Wanted) -> tuple[Labels | None, Vector]:
        """Return labels and scores; None for the labels where index and rows do not fit."""
        if wanted.where.is_everything:
            expired = db.execute(self._sql.expired, (_now(), _PAGE)).fetchall()
            if len(expired) < _PAGE:  # so few may be looked for among what the index finds
                labels, scores = self._view.search(wanted.vector, wanted.k + len(expired), None, exact=wanted.exact)
                alive = ~np.isin(labels, expired)
                return labels[alive][: wanted.k], scores[alive][: wanted.k]
        clause, parameters = self._condition(db, wanted.where)
        if clause == "TRUE":
            return self._view.search(wanted.vector, wanted.k, None, exact=wanted.exact)
        rows = db.execute(f"SELECT label FROM entries WHERE {clause}", parameters).fetchall()  # noqa: S608 (bound)
        among = np.fromiter(chain.from_iterable(rows), np.int64, len(rows))
        labels, scores = self._view.search(wanted.vector, wanted.k, among, exact=wanted.exact)
        return labels if len(labels) == min(wanted.k, len(rows)) else None, scores

    def _condition(self, db: sqlite3.Connection, where: Filter) -> tuple[str, list[Parameter]]:
        """Return the filter as SQL. Where nothing has expired by now, it need not be looked for in every row."""
        next_expiry = db.execute(self._sql.next_expiry).fetchone()[0]
        now = _now()
        return condition(where, now=now if next_expiry is not None and next_expiry <= now else None)

    def _entries(self, rows: Iterable[tuple[Any, ...]]) -> dict[int, EpisodicEntry]:
        return {row[-3]: to_entry(row[:-3], dimensions=self._space.dimensions) for row in rows}

    def changes(self, since: int, *, limit: int = _PAGE) -> RowChanges:
        """Return what happened to rows after a sequence number."""
        with self._connections.read() as db:
            rows = db.execute(self._sql.told, (since, limit)).fetchall()
            buried = db.execute(self._sql.buried, (since, limit)).fetchall() if since else []
            ends = [page[-1][at] for page, at in ((rows, -1), (buried, 0)) if len(page) == limit]
            reached = min(ends, default=last_seq(db))
        gone = [(namespace, name) for seq, namespace, name in buried if seq <= reached]
        names = [(unpacked_namespace(namespace), name) for namespace, name in gone if name is not None]
        put = [to_entry(row[:-1], dimensions=self._space.dimensions) for row in rows if row[-1] <= reached]
        return RowChanges(reached=reached, put=tuple(put), gone=tuple(names), forgotten=len(names) < len(gone))

    def read_note(self, name: str) -> str | None:
        """Return a text that the store keeps about itself; None where there is none of that name."""
        rows = self._connections.fetch("SELECT text FROM notes WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def write_note(self, name: str, text: str | None) -> None:
        """Keep a text about the store itself, durable on return; None removes it."""
        with self._connections.write() as db:
            db.execute("DELETE FROM notes WHERE name = ?", (name,))
            if text is not None:
                db.execute("INSERT INTO notes (name, text) VALUES (?, ?)", (name, text))

    def mark_processed(self, where: Filter) -> int:
        """Mark what matches; return how many were not marked before."""
        with self._connections.write() as db:
            clause, parameters = self._condition(db, where)
            sql = f"SELECT label FROM entries WHERE processed = 0 AND {clause}"  # noqa: S608 (bound)
            labels = db.execute(sql, parameters).fetchall()
            first = take_seqs(db, len(labels))
            db.executemany(self._sql.mark, [(seq, label) for seq, (label,) in enumerate(labels, start=first)])
        self._catch_up()
        return len(labels)

    def delete(self, where: Filter) -> int:
        """Delete what matches; return how many there were."""
        with self._connections.write() as db:
            clause, parameters = self._condition(db, where)
            labels = db.execute(f"SELECT label FROM entries WHERE {clause}", parameters).fetchall()  # noqa: S608 (bound)
            self._drop(db, [label for (label,) in labels])
        self._catch_up()
        return len(labels)

    def _drop(self, db: sqlite3.Connection, labels: list[int]) -> None:
        first = take_seqs(db, len(labels))
        db.executemany(self._sql.bury, enumerate(labels, start=first))  # while their names are still there
        each = [(label,) for label in labels]
        db.executemany(self._sql.drop_vector, each)
        db.executemany(self._sql.drop_entry, each)

    def forget(self, where: Filter) -> list[Erased]:
        """Delete what matches, leave no trace of it or of anything deleted before in any file, and return what it was.

        Raises:
            UnavailableError: the entries are deleted, but others were reading all the time, and what they read is still
                in the log. The next opening, or another call, finishes that.
            StorageError: the same, where the file cannot be rewritten (a full disk).
        """
        with self._connections.write() as db:
            clause, parameters = self._condition(db, where)
            columns = "label, namespace, id, session_id, content"
            rows = db.execute(f"SELECT {columns} FROM entries WHERE {clause}", parameters).fetchall()  # noqa: S608 (bound)
            self._drop(db, [row[0] for row in rows])
            with told_as_damage(self._path):
                erased = [Erased(unpacked_namespace(namespace), *rest) for _, namespace, *rest in rows]
            db.execute("DELETE FROM snapshots")
            db.execute(self._sql.forget_names)
            token = secrets.randbits(62) | 1
            db.execute("UPDATE state SET erasing = ?", (token,))
        self._erase(token)
        return erased

    def _erase(self, token: int, *, wait: float | None = None) -> None:
        """Rewrite every file that may hold what was deleted; then, if nobody has deleted more meanwhile, it is done."""
        self._recent.clear()
        with translated(self._path):
            if self._warm:
                self._view.catch_up()
            with self._view.lock, self._file.alone(wait=True):
                self._file.remove()
                index = self._view.index
                if isinstance(index, HNSWIndex) and self._view.moment:
                    self._write_index(index)
            self._connections.rewrite(wait=wait)
            with self._connections.write() as db:
                db.execute("UPDATE state SET erasing = 0 WHERE erasing = ?", (token,))

    def _resume_erasing(self) -> None:
        """Finish what a process that was killed, or kept from it, has begun."""
        with self._connections.read() as db:
            token = db.execute("SELECT erasing FROM state").fetchone()[0]
        if not token:
            return
        logger.info("Erasing what was forgotten from %s", self._path)
        try:
            self._erase(token, wait=0.0)  # others may be at it, or read; then a later opening does it
        except StorageError as error:
            logger.warning("What was forgotten is not yet erased from %s: %s", self._path, error)

    def count(self, where: Filter) -> int:
        """Return how many entries match."""
        with self._connections.read() as db:
            clause, parameters = self._condition(db, where)
            found = db.execute(f"SELECT count(*) FROM entries WHERE {clause}", parameters)  # noqa: S608 (bound)
            return int(found.fetchone()[0])

    def sessions(self, where: Filter) -> list[SessionSummary]:
        """Return one line per session, counting the entries that match, latest activity first."""
        with self._connections.read() as db:
            clause, parameters = self._condition(db, where)
            rows = db.execute(self._sql.sessions.format(where=clause), parameters).fetchall()
        with told_as_damage(self._path):
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
        with translated(self._path):
            built = self._view.configure(hnsw, rebuild=rebuild)
        if built:
            self._warm = True
            self._save_index()

    def stats(self) -> BackendStats:
        """Return figures about rows, index and file."""
        with self._connections.read() as db:
            entries, unprocessed = db.execute("SELECT count(*), ifnull(sum(processed = 0), 0) FROM entries").fetchone()
            sessions = db.execute(
                "SELECT count(*) FROM (SELECT DISTINCT namespace, session_id FROM entries)"
            ).fetchone()
            name, seq = db.execute("SELECT store, seq FROM state").fetchone()
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
            disk_bytes=self._connections.disk_bytes() + self._file.disk_bytes,
            id=name,
            seq=seq,
            lag=max(0, seq - self._view.seen),
        )

    def close(self) -> None:
        """Save the index where much has changed, and close the file; a second call does nothing."""
        if self._connections.usable:
            self._save_index(closing=True)
        if self._connections.close():  # in a forked process, the locks of the others may be held for ever
            self._view.release()
            self._recent.clear()


def _joined(entries: dict[int, EpisodicEntry], labels: list[int], scores: Vector) -> list[Hit] | None:
    """Hits in the order of `labels`; None where the row of one is missing."""
    if len(entries) != len(labels):
        return None
    return [Hit(own(entries[label]), score) for label, score in zip(labels, scores.tolist(), strict=True)]


def _now() -> int:
    return microseconds(datetime.now(UTC))
