"""The verbs of a backend over one SQLite file."""

from __future__ import annotations

import json
import logging
import secrets
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING

from llmspell_memory.backends.checks import check_space, checked_vector
from llmspell_memory.backends.finding import Wanted, nearest
from llmspell_memory.backends.notes import (
    ERAS,
    KEPT,
    KEYWORDS,
    ROLLBACK,
    keywords_note,
    noted_keywords,
    with_era,
    with_names,
)
from llmspell_memory.backends.repeats import Repeats
from llmspell_memory.backends.row_view import RowView
from llmspell_memory.backends.sqlite.connection import Connections, translated
from llmspell_memory.backends.sqlite.feed import RowFeed, last_seq, take_seqs
from llmspell_memory.backends.sqlite.figures import row_figures
from llmspell_memory.backends.sqlite.row_file import RowFile
from llmspell_memory.backends.sqlite.rows import (
    packed_namespace,
    packed_vector,
    to_entry,
    to_row,
    told_as_damage,
    unpacked_namespace,
)
from llmspell_memory.backends.sqlite.saved import Saving
from llmspell_memory.backends.sqlite.schema import check_ours, settle, settled_space
from llmspell_memory.backends.sqlite.space_view import PAGE, SpaceView, present
from llmspell_memory.backends.sqlite.spaces import VectorsBeside, counts_beside, drop_outdated, vector_tables
from llmspell_memory.backends.sqlite.statements import Statements
from llmspell_memory.backends.tuned import NOTE, tuned_or
from llmspell_memory.errors import ConfigError, SpaceChangedError, StorageError
from llmspell_memory.index import KeywordIndex
from llmspell_memory.types import BackendStats, Erased, Filter, KeywordConfig, RowChanges, SessionSummary
from llmspell_memory.types.histogram import SearchParts
from llmspell_memory.types.moments import microseconds, moment
from llmspell_memory.types.settings import checked_durability

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Collection, Iterator, Sequence

    from llmspell_memory.backends.view import Index
    from llmspell_memory.types import (
        Durability,
        EmbeddingSpace,
        EpisodicEntry,
        Hit,
        HNSWConfig,
        Identity,
        Matrix,
        Query,
        Vector,
    )
    from llmspell_memory.types.arrays import Labels

logger = logging.getLogger(__name__)


class SQLiteBackend:
    """Entries in one file, durable when a call returns; any number of threads and processes may use it at once.

    Args:
        path: of the file, made when it does not exist; beside it stand its write-ahead log and shared memory.
        space: of the vectors; recorded in a new file, compared with the record of an old one. None: as recorded.
        hnsw: parameters of an HNSW index; None for exact search.
        tuned: take the parameters that tuning has recorded in the store instead of `hnsw`, where there are any.
        warm: load or build the index now; otherwise at the first search.
        durability: with "normal", what a call has written survives the death of the process; with "full" a power cut,
            too, at the price of a wait for the disk in every write.
        keywords: how words are told apart and scored, recorded in the file from now on; None for as recorded.
        on_progress: called while vectors are read into the index, with how many are done and how many there are.

    Raises:
        SchemaError: the file holds another embedding space, or belongs to a newer version or another application.
        StorageError: the file cannot be opened; CorruptDataError when it is damaged.
        ConfigError: there is no stemmer for the language of the keywords; nothing is made.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        space: EmbeddingSpace | None = None,
        *,
        hnsw: HNSWConfig | None = None,
        tuned: bool = False,
        warm: bool = True,
        durability: Durability = "normal",
        keywords: KeywordConfig | None = None,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> None:
        if str(path) == ":memory:":
            raise ConfigError("a SQLiteBackend needs a file; leave the path out (LocalBackend) to keep rows in RAM")
        self._path = Path(path).absolute()
        if space is None and not self._path.exists():
            raise StorageError(f"there is no store at {self._path}")
        if keywords is not None:
            KeywordIndex(keywords)  # whether there is such a stemmer, before anything is made
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
            if hnsw and tuned:
                hnsw = tuned_or(hnsw, self.read_note(NOTE), settled[1])
            file = RowFile(self._path)
            noted = noted_keywords(self.read_note(KEYWORDS))
            self._rows = RowView(keywords or noted, source=RowFeed(self._connections), saved=file.load)
            self._row_saving = Saving(self._connections, self._rows, file)
            self._using = SpaceView(self._connections, *settled, self._rows, hnsw=hnsw, on_progress=on_progress)
            self._switching = threading.Lock()
            self._has_written = False
            self._parts = SearchParts()
            self._warm = warm
            if keywords is not None and keywords != noted:
                self.write_note(KEYWORDS, keywords_note(keywords))
            self._resume_erasing()
            if warm:
                with translated(self._path):
                    self._rows.catch_up()
                    self._using.view.catch_up()
                self._save()
        except BaseException:
            self._connections.close()
            raise

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of the file."""
        return self._using.space

    @property
    def namespace(self) -> tuple[str, ...]:
        """(): it shows every namespace; a `ScopedBackend` over it shows one."""
        return ()

    @property
    def hnsw(self) -> HNSWConfig | None:
        """Parameters of the index; None when it is exact."""
        return self._using.view.hnsw

    @property
    def is_remote(self) -> bool:
        """False: its rows are in a file."""
        return False

    def _follow(self, using: SpaceView) -> None:
        if self._warm:
            self._row_saving.follow()
            using.saving.follow()

    def _save(self, *, closing: bool = False) -> None:
        self._row_saving.save(closing=closing)
        self._using.saving.save(closing=closing)

    def add(
        self, entries: Sequence[EpisodicEntry], *, space: EmbeddingSpace | None = None, skip_equal: bool = False
    ) -> list[str]:
        """Store all or none, durable on return, and return their ids; a known identity keeps its ingestion_time."""
        using = self._using
        check_space(using.space, space)
        vectors = [checked_vector(entry, using.space, using.view.hnsw) for entry in entries]
        with self._writing_vectors(using) as db:
            repeats = Repeats(entries, known=partial(_has, db), read=partial(_saying, db)) if skip_equal else None
            others = [table for table in vector_tables(db) if table != using.sql.vectors]
            ids: list[str] = []
            seq = None
            for entry, vector in zip(entries, vectors, strict=True):
                if repeats and (other := repeats.instead_of(entry)) is not None:
                    ids.append(other)
                    continue
                seq = self._take_seqs(db, len(entries) - len(ids)) if seq is None else seq + 1
                row = to_row(entry)
                drop_outdated(db, others, row)
                db.execute(using.sql.put_entry, (*row, seq))
                db.execute(using.sql.put_vector, (seq, packed_vector(vector), row[1], row[0]))
                ids.append(entry.id)
        self._follow(using)
        return ids

    @contextmanager
    def _writing_rows(self) -> Iterator[sqlite3.Connection]:
        """A transaction whose first numbers since the opening are noted, if it is committed."""
        with self._connections.write() as db:
            before = None if self._has_written else last_seq(db)
            yield db
            wrote = before is None or last_seq(db) > before
        self._has_written = wrote

    @contextmanager
    def _writing_vectors(self, using: SpaceView) -> Iterator[sqlite3.Connection]:
        """A transaction, if the store is still in this space."""
        try:
            with self._writing_rows() as db:
                using.check_in_use(db)
                yield db
        except SpaceChangedError:
            with self._switching:  # where this process has moved it, that is to be seen when this is raised
                raise

    @contextmanager
    def _reading_vectors(self) -> Iterator[tuple[SpaceView, sqlite3.Connection]]:
        """The view of the space in use, and a transaction of a moment at which it is that."""
        while True:
            using = self._using
            with self._connections.read() as db:
                if using.is_in_use(db):
                    yield using, db
                    return
                with self._switching:
                    if self._using is using:  # others have moved it
                        using.check_in_use(db)

    def scan(self, where: Filter, *, limit: int | None = None, newest: bool = False) -> Iterator[EpisodicEntry]:
        """Yield matching entries ordered by (timestamp, id), as they were when the scan began; or the newest first."""
        with self._reading_vectors() as (using, db):
            clause, parameters = present(db, where)
            sql = using.sql.scan(newest=newest, by_ids=where.ids is not None)
            rows = db.execute(sql.format(where=clause), (*parameters, -1 if limit is None else limit))
            while page := rows.fetchmany(PAGE):
                for row in page:
                    yield to_entry(row, dimensions=using.space.dimensions)

    def search(
        self, vector: Vector, k: int, where: Filter, *, exact: bool = False, space: EmbeddingSpace | None = None
    ) -> list[Hit]:
        """Return the k entries nearest to `vector` among those that match, best first."""
        return self._search(nearest(vector, k, where, exact=exact), space)

    def retrieve(self, query: Query, k: int, where: Filter, *, space: EmbeddingSpace | None = None) -> list[Hit]:
        """Return the k entries that answer a query best among those that match, best first."""
        return self._search(Wanted(query, k, where), space)

    def named_roles(self, words: Collection[str], where: Filter) -> list[str]:
        """Return which of `words` name the role of some entry that matches."""
        self._connections.check_open()
        self._warm = True
        if not self._rows.seen:
            with translated(self._path):
                self._rows.catch_up()
        return self._using.views.named_roles(words, where, datetime.now(UTC))

    def _search(self, wanted: Wanted, space: EmbeddingSpace | None) -> list[Hit]:
        began = perf_counter_ns()
        self._connections.check_open()  # the index is searched before the rows are read
        using = self._using
        check_space(using.space, space)
        self._warm = True
        try:
            return using.search(wanted)
        except SpaceChangedError:
            with self._switching:  # where this process has moved it, that is to be seen when this is raised
                raise
        finally:
            self._parts.whole_took(perf_counter_ns() - began)

    def changes(self, since: int, *, limit: int = PAGE) -> RowChanges:
        """Return what happened to rows after a sequence number."""
        with self._reading_vectors() as (using, db):
            rows = db.execute(using.sql.told, (since, limit)).fetchall()
            buried = db.execute(using.sql.buried, (since, limit)).fetchall() if since else []
            ends = [page[-1][at] for page, at in ((rows, -1), (buried, 0)) if len(page) == limit]
            reached = min(ends, default=last_seq(db))
        gone = [(namespace, name) for seq, namespace, name in buried if seq <= reached]
        names = [(unpacked_namespace(namespace), name) for namespace, name in gone if name is not None]
        put = [to_entry(row[:-1], dimensions=using.space.dimensions) for row in rows if row[-1] <= reached]
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
        with self._writing_rows() as db:
            clause, parameters = present(db, where)
            sql = f"SELECT label FROM entries WHERE processed = 0 AND {clause}"  # noqa: S608 (bound)
            labels = db.execute(sql, parameters).fetchall()
            first = self._take_seqs(db, len(labels))
            db.executemany(self._using.sql.mark, [(seq, label) for seq, (label,) in enumerate(labels, start=first)])
        self._follow(self._using)
        return len(labels)

    def set_expiry(self, where: Filter, expires_at: datetime | None) -> int:
        """Have what matches expire at this moment, or never when None; return how many there were."""
        expires = None if expires_at is None else microseconds(expires_at)
        with self._writing_rows() as db:
            clause, parameters = present(db, where)
            labels = db.execute(f"SELECT label FROM entries WHERE {clause}", parameters).fetchall()  # noqa: S608 (bound)
            first = self._take_seqs(db, len(labels))
            rows = [(expires, seq, label) for seq, (label,) in enumerate(labels, start=first)]
            db.executemany(self._using.sql.set_expiry, rows)
        self._follow(self._using)
        return len(labels)

    def delete(self, where: Filter) -> int:
        """Delete what matches; return how many there were."""
        with self._writing_rows() as db:
            clause, parameters = present(db, where)
            labels = db.execute(f"SELECT label FROM entries WHERE {clause}", parameters).fetchall()  # noqa: S608 (bound)
            self._drop(db, [label for (label,) in labels])
        self._follow(self._using)
        return len(labels)

    def _take_seqs(self, db: sqlite3.Connection, count: int) -> int:
        """Reserve sequence numbers for changes of rows and return the first; whose they are is noted once."""
        first = take_seqs(db, count)
        if count and not self._has_written:
            known = db.execute("SELECT text FROM notes WHERE name = ?", (ERAS,)).fetchone()
            text = with_era(known and known[0], first)
            db.execute("INSERT OR REPLACE INTO notes (name, text) VALUES (?, ?)", (ERAS, text))
        return first

    def _drop(self, db: sqlite3.Connection, labels: list[int]) -> None:
        first = self._take_seqs(db, len(labels))
        db.executemany(self._using.sql.bury, enumerate(labels, start=first))  # while their names are still there
        each = [(label,) for label in labels]
        for table in vector_tables(db):
            db.executemany(f"DELETE FROM {table} WHERE label = ?", each)  # noqa: S608 (a name of our own)
        db.executemany(self._using.sql.drop_entry, each)

    def forget(self, where: Filter) -> list[Erased]:
        """Delete what matches, leave no trace of it or of anything deleted before in any file, and return what it was.

        Raises:
            UnavailableError: the entries are deleted, but others were reading all the time, and what they read is still
                in the log. The next opening, or another call, finishes that.
            StorageError: the same, where the file cannot be rewritten (a full disk).
        """
        with self._writing_rows() as db:
            clause, parameters = present(db, where)
            columns = "label, namespace, id, session_id, content"
            rows = db.execute(f"SELECT {columns} FROM entries WHERE {clause}", parameters).fetchall()  # noqa: S608 (bound)
            self._drop(db, [row[0] for row in rows])
            with told_as_damage(self._path):
                erased = [Erased(unpacked_namespace(namespace), *rest) for _, namespace, *rest in rows]
            self._forget_names(db)
            db.execute("DELETE FROM snapshots")
            token = secrets.randbits(62) | 1
            db.execute("UPDATE state SET erasing = ?", (token,))
        self._erase(token)
        return erased

    def _forget_names(self, db: sqlite3.Connection) -> None:
        """Leave no id of what was deleted, neither in tombstones nor in notes."""
        db.execute(self._using.sql.forget_names)
        notes = db.execute("SELECT name, text FROM notes WHERE name IN (?, ?)", (KEPT, ROLLBACK)).fetchall()
        for name, text in notes:
            left = with_names(name, text, partial(_has, db))
            db.execute("UPDATE notes SET text = ? WHERE name = ?", (left, name))

    def _erase(self, token: int, *, wait: float | None = None) -> None:
        """Rewrite every file that may hold what was deleted; then, if nobody has deleted more meanwhile, it is done."""
        using = self._using
        using.recent.clear()
        with translated(self._path):
            if self._warm:
                self._rows.catch_up()
                using.view.catch_up()
            self._row_saving.write_anew()
            using.saving.write_anew()
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
            clause, parameters = present(db, where)
            found = db.execute(f"SELECT count(*) FROM entries WHERE {clause}", parameters)  # noqa: S608 (bound)
            return int(found.fetchone()[0])

    def sessions(self, where: Filter) -> list[SessionSummary]:
        """Return one line per session, counting the entries that match, latest activity first."""
        with self._connections.read() as db:
            clause, parameters = present(db, where)
            rows = db.execute(self._using.sql.sessions.format(where=clause), parameters).fetchall()
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
        moved = True
        while moved:
            using = self._using
            with translated(self._path):
                built = using.view.configure(hnsw, rebuild=rebuild)
            with self._switching:
                moved = self._using is not using  # to another space, whose view has not heard of this
        if built:
            self._warm = True
            using.saving.save()

    def beside(self, space: EmbeddingSpace) -> VectorsBeside:
        """Return vectors of another space for the same rows, begun if there are none yet."""
        return VectorsBeside(self._connections, space, using=lambda: self._using, adopt=self._adopt)

    @contextmanager
    def _adopt(self) -> Iterator[Callable[[SpaceView], None]]:
        """Keep searches that meet the change waiting, until it is seen in this process, too."""

        def adopted(fresh: SpaceView) -> None:
            self._using = fresh
            self._warm = True

        with self._switching:
            yield adopted

    def index(self) -> Index:
        """Return the index that answers searches, up to date: to measure it, not to change it."""
        self._connections.check_open()
        self._warm = True
        return self._using.index_now()

    def labels(self, where: Filter) -> Labels:
        """Return the numbers by which the index knows the entries that match, in order."""
        return self._using.labels(where)

    def vectors(self, labels: Labels) -> tuple[Labels, Matrix]:
        """Return the vectors of those of the labels that are there, with their labels, in any order."""
        return self._using.vectors(labels)

    def stats(self) -> BackendStats:
        """Return figures about rows, index and file."""
        with self._connections.read() as db:
            with told_as_damage(self._path):
                rows = row_figures(db)
            beside = counts_beside(db)
        using = self._using
        index = using.view.stats()
        return BackendStats(
            rows="sqlite",
            path=self._path,
            space=using.space,
            index=index,
            memory_bytes=index.memory_bytes + self._rows.made.memory_bytes + using.recent.memory_bytes,
            disk_bytes=self._connections.disk_bytes() + self._row_saving.disk_bytes + using.saving.disk_bytes,
            lag=max(0, rows["seq"] - using.view.seen),
            beside=beside,
            timings=self._parts.snapshot(),
            **rows,
        )

    def close(self) -> None:
        """Save the index where much has changed, and close the file; a second call does nothing."""
        if self._connections.usable:
            self._save(closing=True)
        if self._connections.close():  # in a forked process, the locks of the others may be held for ever
            self._rows.release()
            self._using.release()


def _has(db: sqlite3.Connection, identity: Identity) -> bool:
    namespace, name = identity
    return db.execute(Statements.has, (name, packed_namespace(namespace))).fetchone() is not None


def _saying(
    db: sqlite3.Connection, namespace: tuple[str, ...], session_id: str, contents: set[str]
) -> Iterator[tuple[str, str, str]]:
    """Yield role, content and id of a session's entries with one of the contents, first what was added first."""
    clause, parameters = present(db, Filter(session_id=session_id))
    wanted = json.dumps(list(contents), ensure_ascii=False)
    yield from db.execute(Statements.saying.format(where=clause), (*parameters, packed_namespace(namespace), wanted))
