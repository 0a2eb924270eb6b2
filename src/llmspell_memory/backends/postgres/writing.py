"""What is done to rows inside a writer's transaction: entries put, one by one or copied together, and dropped."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.backends.postgres import statements as sql
from llmspell_memory.backends.postgres.rows import KEY, digest, key, packed, table_of, to_row
from llmspell_memory.backends.postgres.schema import recorded_spaces
from llmspell_memory.backends.postgres.where import condition
from llmspell_memory.backends.postgres.words import as_stored
from llmspell_memory.backends.repeats import Repeats
from llmspell_memory.types import EpisodicEntry, Filter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmspell_memory.backends.postgres.connections import Cursor
    from llmspell_memory.backends.postgres.vectors import Vectors
    from llmspell_memory.backends.postgres.words import StoredWords
    from llmspell_memory.index.analysis import Analyzer
    from llmspell_memory.types import Identity

_FEW: Final = 16
"""Rows that are put one by one; more are copied together."""

_AT_ONCE: Final = 1_000
"""Vectors that one statement links into the index, which takes milliseconds for each; a statement has a time limit."""


class Batch:
    """The entries of one call, with their words, to be put in one transaction.

    Args:
        entries: with vectors of the space in use.
        using: the vectors of that space.
        analyzer: tells words apart.
    """

    def __init__(self, entries: Sequence[EpisodicEntry], using: Vectors, analyzer: Analyzer) -> None:
        self._entries = entries
        self._using = using
        self._sql = sql.Statements(using.table)
        self._words: dict[str, StoredWords] = {one.content: as_stored(analyzer, one.content) for one in entries}

    def put(self, db: Cursor) -> list[str]:
        """Store all, and return their ids; of several with one identity the last."""
        self._put(db, self._entries)
        return [one.id for one in self._entries]

    def put_what_is_new(self, db: Cursor) -> list[str]:
        """Store what repeats nothing in its session, and return the id of each entry or of the one that it repeats."""
        sessions = {digest(packed(entry.namespace) + entry.session_id.encode(), 8) for entry in self._entries}
        for one in sorted(sessions):  # who says the same at once waits here
            db.execute("SELECT pg_advisory_xact_lock(%s)", (int.from_bytes(one, "big", signed=True),))
        now = datetime.now(UTC)

        put: list[EpisodicEntry] = []

        def known(identity: Identity) -> bool:
            return any(one.identity == identity for one in put) or has(db, identity)

        def saying(namespace: tuple[str, ...], session: str, contents: set[str]) -> list[tuple[str, ...]]:
            self._put(db, put)  # so that the session is read as it is by now
            put.clear()
            clause, parameters = condition(Filter(namespace=namespace, below=False, session_id=session), now)
            return db.execute(sql.SAYING.format(where=clause), (*parameters, list(contents))).fetchall()

        repeats = Repeats(self._entries, known=known, read=saying)  # type: ignore[arg-type]  # rows of three texts
        ids: list[str] = []
        for entry in self._entries:
            other = repeats.instead_of(entry)
            ids.append(entry.id if other is None else other)
            if other is None:
                put.append(entry)
        self._put(db, put)
        return ids

    def _put(self, db: Cursor, some: Sequence[EpisodicEntry]) -> None:
        entries = _last_of_each(some)
        if not entries:
            return
        others = [table_of(number) for number in recorded_spaces(db) if number != self._using.number]
        labels = [label for (label,) in db.execute(sql.TAKE_LABELS, (len(entries),))]
        numbered = zip(entries, labels, strict=True)
        rows = [(*to_row(one), *self._words[one.content], label, one.embedding) for one, label in numbered]
        rows.sort(key=lambda row: row[:3])  # so that no two calls wait for each other
        if len(rows) > _FEW:
            self._copy(db, rows, others)
            return
        for table in others:
            db.executemany(sql.drop_outdated(table), [(*row[:3], row[10]) for row in rows])
        db.executemany(sql.PUT_ENTRY, [row[:-1] for row in rows])
        db.executemany(self._sql.put_vector, [(*row[:3], row[-1]) for row in rows])

    def _copy(self, db: Cursor, rows: Sequence[tuple[Any, ...]], others: Sequence[str]) -> None:
        db.execute(sql.STAGE)
        with db.copy(sql.COPY_STAGED) as copy:
            copy.set_types(sql.STAGED_TYPES)
            for place, row in enumerate(rows):
                copy.write_row((*row, place))
        for table in others:
            db.execute(sql.drop_outdated_staged(table))
        db.execute(sql.PUT_STAGED_ENTRIES)
        for start in range(0, len(rows), _AT_ONCE):
            db.execute(self._sql.put_staged_vectors, (start, start + _AT_ONCE))
        db.execute("DROP TABLE staged")


def drop(db: Cursor, where: Filter, columns: str) -> list[tuple[Any, ...]]:
    """Delete what matches in every space, and return these columns of it."""
    clause, parameters = condition(where, datetime.now(UTC))
    columns = f"e.root, e.id_key, e.namespace_key, {columns}"
    rows = db.execute(sql.IDENTITIES.format(columns=columns, where=clause), parameters).fetchall()
    if not rows:
        return []
    keys = [[row[at] for row in rows] for at in range(3)]
    these = f"({KEY}) IN (SELECT * FROM unnest(%s::bytea[], %s::bytea[], %s::bytea[]))"
    db.execute(sql.BURY.format(where=these), keys)
    for number in recorded_spaces(db):
        db.execute(f"DELETE FROM {table_of(number)} WHERE {these}", keys)
    db.execute(f"DELETE FROM entries WHERE {these}", keys)
    return [row[3:] for row in rows]


def has(db: Cursor, identity: Identity) -> bool:
    """Say whether there is an entry of this identity."""
    namespace, name = identity
    return db.execute(sql.HAS, (*key(namespace, name), packed(namespace), name)).fetchone() is not None


def _last_of_each(entries: Sequence[EpisodicEntry]) -> list[EpisodicEntry]:
    """Return the last entry of each identity, with the ingestion_time of the first."""
    found: dict[Identity, EpisodicEntry] = {}
    for entry in entries:
        first = found.get(entry.identity)
        found[entry.identity] = entry if first is None else entry.changed(ingestion_time=first.ingestion_time)
    return list(found.values())
