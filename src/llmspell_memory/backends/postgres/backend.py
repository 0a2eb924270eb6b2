"""Entries in PostgreSQL: every call is one transaction there, and what it returned is what all servers see."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.backends.checks import check_space, checked_vector
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
from llmspell_memory.backends.postgres import roles
from llmspell_memory.backends.postgres import statements as sql
from llmspell_memory.backends.postgres.beside import VectorsBeside, counts_beside
from llmspell_memory.backends.postgres.building import IndexBuilder, share_there
from llmspell_memory.backends.postgres.figures import row_figures
from llmspell_memory.backends.postgres.replica import Primary, Reads
from llmspell_memory.backends.postgres.retrieving import Retrieval
from llmspell_memory.backends.postgres.rows import table_of, to_entry, unpacked
from llmspell_memory.backends.postgres.schema import (
    lock_of,
    prepare,
    recorded_spaces,
    settled,
)
from llmspell_memory.backends.postgres.settings import PostgresConfig
from llmspell_memory.backends.postgres.vectors import InUse, Vectors
from llmspell_memory.backends.postgres.where import condition
from llmspell_memory.backends.postgres.words import as_stored
from llmspell_memory.backends.postgres.writing import Batch, drop, has
from llmspell_memory.errors import InputError, SpaceChangedError
from llmspell_memory.index.analysis import Analyzer
from llmspell_memory.types import (
    BackendStats,
    EpisodicEntry,
    Erased,
    Filter,
    IndexStats,
    KeywordConfig,
    Query,
    RowChanges,
    SessionSummary,
)
from llmspell_memory.types.histogram import SearchParts
from llmspell_memory.types.moments import microseconds, moment
from llmspell_memory.types.text import checked_namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from llmspell_memory.backends.postgres.connections import Cursor
    from llmspell_memory.types import EmbeddingSpace, Hit, HNSWConfig, Vector

PAGE: Final = 512
"""Rows read at a time."""


class PostgresBackend:
    """Entries in a schema of a PostgreSQL database, durable when a call returns; any number of servers may use it.

    Searches by meaning go through pgvector's HNSW index where there are entries enough, and are asked again without it
    where fewer came back than may match. Words are found by full-text search over the terms that the other backends
    have, too.

    Args:
        config: how the server is reached; or its connection string.
        space: of the vectors; recorded in a new store, compared with the record of an old one. None: as recorded.
        hnsw: parameters of an HNSW index, built while others use the store; None for exact search.
        warm: build an index that is missing before this returns; otherwise in the background.
        on_progress: called while an index is built with how many rows are in it, and how many there are.
        keywords: how words are told apart and scored, recorded in the store from now on; None for as recorded.

    Raises:
        MissingDependencyError: the extra `postgres` is not installed.
        SchemaError: the store holds another embedding space, or was made by a newer version.
        UnavailableError: the server cannot be reached.
        ConfigError: the index of pgvector cannot have these parameters, or the vectors are too wide for it.
    """

    def __init__(
        self,
        config: PostgresConfig | str,
        space: EmbeddingSpace | None = None,
        *,
        hnsw: HNSWConfig | None = None,
        warm: bool = True,
        on_progress: Callable[[int, int], object] | None = None,
        keywords: KeywordConfig | None = None,
    ) -> None:
        self._config = PostgresConfig(dsn=config) if isinstance(config, str) else config
        self._lock = lock_of(self._config.schema)
        self._switching = threading.Lock()
        self._configuring = threading.Lock()
        self._has_written = False
        self._parts = SearchParts()
        self._connections = Primary(self._config, prepare=lambda db: prepare(db, self._config.schema))
        self._reads = Reads(self._connections)
        self._builder = IndexBuilder(self._connections, lambda: self._using, on_progress=on_progress)
        try:
            number, settled_space = self._connections.run(lambda db: settled(db, space, name=self._connections.name))
            noted = noted_keywords(self.read_note(KEYWORDS))
            self._keywords = keywords or noted
            self._analyzer = Analyzer(self._keywords.language)
            if keywords is not None and keywords != noted:
                self._choose_keywords(keywords, instead_of=noted)
            self._use(Vectors(number, settled_space, hnsw))
            if warm:
                self._builder.build(self._using)
        except BaseException:
            self.close()
            raise

    def _use(self, vectors: Vectors) -> None:
        self._using = vectors
        self._sql = sql.Statements(vectors.table)
        self._retrieval = Retrieval(
            self._reads, vectors, self._sql, self._keywords, self._analyzer, seen=self._builder.seen
        )

    def _choose_keywords(self, keywords: KeywordConfig, *, instead_of: KeywordConfig) -> None:
        """Record another way to tell words apart, and make the words of all rows anew by it."""
        if instead_of.language != keywords.language:
            self._connections.run(self._words_anew)
        self.write_note(KEYWORDS, keywords_note(keywords))

    def _words_anew(self, db: Cursor) -> None:
        after = -1
        while rows := db.execute(
            "SELECT label, content FROM entries WHERE label > %s ORDER BY label LIMIT %s", (after, PAGE)
        ).fetchall():
            db.executemany(
                "UPDATE entries SET words = %s::tsvector, terms = %s WHERE label = %s",
                [(*as_stored(self._analyzer, text), label) for label, text in rows],
            )
            after = rows[-1][0]

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of the store."""
        return self._using.space

    @property
    def namespace(self) -> tuple[str, ...]:
        """(): it shows every namespace; a `ScopedBackend` over it shows one."""
        return ()

    @property
    def hnsw(self) -> HNSWConfig | None:
        """Parameters of the index; None when it is exact."""
        return self._using.hnsw

    @property
    def is_remote(self) -> bool:
        """True: its rows are a server's."""
        return True

    # --- writing ----------------------------------------------------------------------------------------------------

    def _write(
        self,
        work: Callable[[Cursor], Any],
        *,
        space: EmbeddingSpace | None = None,
        using: Vectors | None = None,
        rows: int = 0,
    ) -> Any:
        """Return what `work` does, to so many new rows, while holding the lock that writers share.

        Nothing is done where the store is no longer in the space that the work is for.
        """
        using = using or self._using
        check_space(using.space, space)

        def whole(db: Cursor) -> tuple[Any, bool, InUse]:
            db.execute("SELECT pg_advisory_xact_lock_shared(%s)", (self._lock,))
            in_use = using.check_in_use(db, self._connections.name)
            before = None if self._has_written else _last_seq(db)
            done = work(db)
            if before is None:
                return done, True, in_use
            if (last := _last_seq(db)) == before:
                return done, False, in_use
            known = db.execute("SELECT text FROM notes WHERE name = %s", (ERAS,)).fetchone() or (None,)
            _put_note(db, ERAS, with_era(known[0], before + 1))
            return done, last > before, in_use

        try:
            done, self._has_written, in_use = self._connections.run(whole)
        except SpaceChangedError:
            with self._switching:  # where this process has moved it, that is to be seen when this is raised
                raise
        self._builder.seen(in_use, written=rows)
        return done

    def add(
        self, entries: Sequence[EpisodicEntry], *, space: EmbeddingSpace | None = None, skip_equal: bool = False
    ) -> list[str]:
        """Store all or none, durable on return, and return their ids; a known identity keeps its ingestion_time."""
        using = self._using
        check_space(using.space, space)
        for entry in entries:
            checked_vector(entry, using.space, using.hnsw)
        batch = Batch(entries, using, self._analyzer)
        put = batch.put_what_is_new if skip_equal else batch.put
        ids: list[str] = self._write(put, space=space, using=using, rows=len(entries))
        return ids

    def mark_processed(self, where: Filter) -> int:
        """Mark what matches; return how many were not marked before."""
        clause, parameters = condition(where, datetime.now(UTC))
        marked: int = self._write(lambda db: db.execute(sql.MARK.format(where=clause), parameters).rowcount)
        return marked

    def set_expiry(self, where: Filter, expires_at: datetime | None) -> int:
        """Have what matches expire at this moment, or never when None; return how many there were."""
        expires = None if expires_at is None else microseconds(expires_at)
        clause, parameters = condition(where, datetime.now(UTC))
        statement = sql.SET_EXPIRY.format(where=clause)
        changed: int = self._write(lambda db: db.execute(statement, [expires, *parameters]).rowcount)
        return changed

    def delete(self, where: Filter) -> int:
        """Delete what matches; return how many there were."""
        return len(self._write(lambda db: drop(db, where, "1")))

    def forget(self, where: Filter) -> list[Erased]:
        """Delete what matches, have the server give up the pages it stood on, and return what it was.

        What the server keeps besides is its administrator's: its write-ahead log, its replicas and backups.
        """

        def work(db: Cursor) -> list[tuple[Any, ...]]:
            rows = drop(db, where, "e.label, e.namespace, e.id, e.session_id, e.content")
            db.execute("UPDATE gone SET namespace = NULL, id = NULL WHERE id IS NOT NULL")
            for name, text in db.execute(
                "SELECT name, text FROM notes WHERE name = ANY(%s)", ([KEPT, ROLLBACK],)
            ).fetchall():
                _put_note(db, name, with_names(name, text, lambda identity: has(db, identity)))
            return rows

        rows = sorted(self._write(work))
        tables = [table_of(number) for number in self._connections.run(recorded_spaces, reading=True)]
        with self._connections.outside() as db:
            for table in ("entries", "gone", *tables):
                db.execute(f"VACUUM {self._config.schema}.{table}")
        return [Erased(unpacked(bytes(namespace)), *rest) for _, namespace, *rest in rows]

    # --- reading ----------------------------------------------------------------------------------------------------

    def scan(self, where: Filter, *, limit: int | None = None, newest: bool = False) -> Iterator[EpisodicEntry]:
        """Yield matching entries ordered by (timestamp, id), as they were when the scan began; or the newest first.

        A connection is in use until the last rows are read.
        """
        for page in self._pages(where, limit, newest=newest):
            yield from map(to_entry, page)

    def _pages(self, where: Filter, limit: int | None, *, newest: bool) -> Iterator[list[tuple[Any, ...]]]:
        clause, parameters = condition(where, datetime.now(UTC))
        page: list[tuple[Any, ...]] = []

        def pages(using: Vectors, statement: str, db: Cursor) -> Iterator[list[tuple[Any, ...]]]:
            nonlocal page
            using.check_in_use(db, self._connections.name)
            with db.connection.cursor("scan", binary=True) as cursor:
                cursor.execute(statement, (*parameters, limit))
                while len(page := cursor.fetchmany(PAGE)) == PAGE:
                    yield page

        while True:
            using, statements = self._using, self._sql
            statement = statements.scan(newest=newest).format(where=clause)
            try:
                yield from self._reads.each(partial(pages, using, statement))
                break
            except SpaceChangedError:
                with self._switching:
                    if self._using is using:  # others have moved it
                        raise
        if page:
            yield page

    def search(
        self, vector: Vector, k: int, where: Filter, *, exact: bool = False, space: EmbeddingSpace | None = None
    ) -> list[Hit]:
        """Return the k entries nearest to `vector` among those that match, best first."""
        query = Query(text="", vector=vector, mode="semantic", exact=exact)
        return self.retrieve(query, k, where, space=space)

    def retrieve(self, query: Query, k: int, where: Filter, *, space: EmbeddingSpace | None = None) -> list[Hit]:
        """Return the k entries that answer a query best among those that match, best first."""
        began = perf_counter_ns()
        self._connections.check_open()
        using, retrieval = self._using, self._retrieval
        check_space(using.space, space)
        try:
            return retrieval.hits(query, k, where)
        except SpaceChangedError:
            with self._switching:
                raise
        finally:
            self._parts.whole_took(perf_counter_ns() - began)

    def named_roles(self, words: Collection[str], where: Filter) -> list[str]:
        """Return which of `words` name the role of some entry that matches."""
        return self._retrieval.named_roles(words, where)

    def changes(self, since: int, *, limit: int = PAGE) -> RowChanges:
        """Return what happened to rows after a sequence number."""

        def horizon(db: Cursor) -> int:
            db.execute("SELECT pg_advisory_xact_lock(%s)", (self._lock,))
            return _last_seq(db)

        def work(db: Cursor) -> RowChanges:
            using.check_in_use(db, self._connections.name)
            rows = db.execute(statements.told, (since, last, limit)).fetchall()
            buried = (
                db.execute(
                    "SELECT seq, namespace, id FROM gone WHERE seq > %s AND seq <= %s ORDER BY seq LIMIT %s",
                    (since, last, limit),
                ).fetchall()
                if since
                else []
            )
            ends = [page[-1][at] for page, at in ((rows, -1), (buried, 0)) if len(page) == limit]
            reached = min(ends, default=last)
            gone = [(namespace, name) for seq, namespace, name in buried if seq <= reached]
            names = [(unpacked(bytes(namespace)), name) for namespace, name in gone if name is not None]
            put = tuple(to_entry(row[:-1]) for row in rows if row[-1] <= reached)
            return RowChanges(reached=reached, put=put, gone=tuple(names), forgotten=len(names) < len(gone))

        while True:
            using, statements = self._using, self._sql
            last = self._connections.run(horizon, reading=True)
            try:
                return self._connections.run(work, isolated=True, reading=True)
            except SpaceChangedError:
                with self._switching:
                    if self._using is using:
                        raise

    def read_note(self, name: str) -> str | None:
        """Return a text that the store keeps about itself; None where there is none of that name."""

        def work(db: Cursor) -> str | None:
            row = db.execute("SELECT text FROM notes WHERE name = %s", (name,)).fetchone()
            return None if row is None else str(row[0])

        return self._connections.run(work, reading=True)

    def write_note(self, name: str, text: str | None) -> None:
        """Keep a text about the store itself, durable on return; None removes it."""
        self._connections.run(lambda db: _put_note(db, name, text))

    def count(self, where: Filter) -> int:
        """Return how many entries match."""
        clause, parameters = condition(where, datetime.now(UTC))
        return int(self._fetched(sql.COUNT.format(where=clause), parameters)[0][0])

    def sessions(self, where: Filter) -> list[SessionSummary]:
        """Return one line per session, counting the entries that match, latest activity first."""
        clause, parameters = condition(where, datetime.now(UTC))
        return [
            SessionSummary(
                session_id=session_id,
                namespace=unpacked(bytes(namespace)),
                entries=entries,
                unprocessed=unprocessed,
                first=moment(first),
                last=moment(last),
            )
            for session_id, namespace, entries, unprocessed, first, last in self._fetched(
                sql.SESSIONS.format(where=clause), parameters
            )
        ]

    def _fetched(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._reads.run(lambda db: db.execute(statement, parameters).fetchall())

    # --- the view ---------------------------------------------------------------------------------------------------

    def beside(self, space: EmbeddingSpace) -> VectorsBeside:
        """Return vectors of another space for the same rows, begun if there are none yet."""
        return VectorsBeside(
            self._connections,
            space,
            lock=self._lock,
            using=lambda: self._using,
            adopt=self._adopt,
            builder=self._builder,
        )

    @contextmanager
    def _adopt(self) -> Iterator[Callable[[Vectors], None]]:
        """Keep calls that meet the change waiting, until it is seen in this process, too."""
        with self._switching:
            yield self._use

    def configure(self, hnsw: HNSWConfig | None, *, rebuild: bool = False) -> None:
        """Change the index's parameters or kind; reads go on meanwhile. The same ones build the index if it is missing.

        Exact search leaves the index where it is, for others may search through it.
        """
        self._connections.check_open()
        with self._switching:
            now = self.hnsw
            if not rebuild and hnsw and now and now != hnsw and replace(now, ef_search=hnsw.ef_search) == hnsw:
                self._use(Vectors(self._using.number, self._using.space, hnsw))
                return
        with self._configuring:
            asked, built = self.hnsw, None
            while True:
                using = self._using
                fresh = Vectors(using.number, using.space, hnsw)
                if built != using.number:
                    self._builder.build(fresh, rebuild=rebuild)
                    built = using.number
                with self._switching:
                    if self._using.number != using.number:  # moved to another space meanwhile
                        continue
                    latest = self.hnsw
                    if hnsw and latest and latest != asked:  # by an ef_search set meanwhile
                        fresh = fresh.with_ef_search(latest.ef_search)
                    self._use(fresh)
                    return

    def stats(self) -> BackendStats:
        """Return figures about rows, index and tables."""
        using = self._using

        def work(db: Cursor) -> BackendStats:
            rows = row_figures(db)
            (vectors,) = db.execute(f"SELECT count(*) FROM {using.table}").fetchone() or (0,)
            (index_bytes,) = db.execute("SELECT pg_total_relation_size(%s::regclass)", (using.table,)).fetchone() or (
                0,
            )
            (disk_bytes,) = db.execute(
                "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class"
                " WHERE relkind = 'r' AND relnamespace = %s::regnamespace",
                (self._config.schema,),
            ).fetchone() or (0,)
            index = IndexStats(
                kind="exact" if using.hnsw is None else "hnsw",
                size=vectors,
                config=using.hnsw,
                memory_bytes=index_bytes,
                built=share_there(db, using),
            )
            return BackendStats(
                rows="postgres",
                path=None,
                space=using.space,
                index=index,
                memory_bytes=index_bytes,
                disk_bytes=disk_bytes,
                lag=0,
                beside=counts_beside(db, using.number),
                timings=self._parts.snapshot(),
                **rows,
            )

        return self._connections.run(work, isolated=True, reading=True)

    # --- who may see what -------------------------------------------------------------------------------------------

    def grant(self, role: str, *namespace: str) -> None:
        """Let a role of the server see and change what lies in a namespace and below it, and nothing else.

        The server sees to it (row-level security), whatever is sent by that role. The role must be there, and who calls
        this must own the tables. Several calls give several namespaces.

        Args:
            role: its name.
            namespace: segments, from the general to the particular; at least one.

        Raises:
            InputError: there is no segment, or one is no text that a namespace may have.
            ConfigError: the name is none.
            StorageError: there is no such role, or the caller does not own the tables.
        """
        path = checked_namespace(namespace)
        if not path:
            raise InputError("grant() needs at least one segment of a namespace")
        self._connections.run(lambda db: roles.grant(db, self._config.schema, role, path, list(recorded_spaces(db))))

    def revoke(self, role: str) -> None:
        """Take from a role everything that it was given."""
        self._connections.run(lambda db: roles.revoke(db, self._config.schema, role))

    def close(self) -> None:
        """Close the connections; a second call does nothing. An index that is being built is given up."""
        self._builder.close()
        self._connections.close()
        self._reads.close()


def _last_seq(db: Cursor) -> int:
    row = db.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM seq").fetchone()
    return 0 if row is None else int(row[0])


def _put_note(db: Cursor, name: str, text: str | None) -> None:
    if text is None:
        db.execute("DELETE FROM notes WHERE name = %s", (name,))
    else:
        db.execute(
            "INSERT INTO notes (name, text) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET text = excluded.text",
            (name, text),
        )
