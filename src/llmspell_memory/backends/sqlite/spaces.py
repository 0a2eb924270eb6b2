"""Vectors of several embedding spaces for the same rows of one file.

One space is in use. A vector of another one is always that of its row's present text: where the text changes, or the
row goes, it is dropped. So nothing need be followed: what is missing is what has no vector.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from llmspell_memory.backends.overlap import FEW, overlap
from llmspell_memory.backends.sqlite.connection import translated
from llmspell_memory.backends.sqlite.feed import take_seqs
from llmspell_memory.backends.sqlite.rows import packed_vector, unpacked_vectors
from llmspell_memory.backends.sqlite.schema import record_space, recorded_spaces
from llmspell_memory.backends.sqlite.statements import table_of
from llmspell_memory.errors import ConfigError, StorageError
from llmspell_memory.types import BesideCounts, SpaceCount

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from llmspell_memory.backends.sqlite.connection import Connections
    from llmspell_memory.backends.sqlite.space_view import SpaceView
    from llmspell_memory.types import EmbeddingSpace, Matrix, RowText

logger = logging.getLogger(__name__)


class VectorsBeside:
    """Vectors of a space that is not in use.

    Args:
        connections: to the store.
        space: of the vectors; a table is made for it when the first ones are put.
        using: returns the view of the space in use.
        adopt: gives what makes another view that one.

    Raises:
        ConfigError: the space is the one in use.
    """

    def __init__(
        self,
        connections: Connections,
        space: EmbeddingSpace,
        *,
        using: Callable[[], SpaceView],
        adopt: Callable[[], AbstractContextManager[Callable[[SpaceView], None]]],
    ) -> None:
        self.space = space
        self._connections = connections
        self._using = using
        self._adopt = adopt
        self._fresh: SpaceView | None = None
        if using().space == space:
            raise ConfigError(f"the store holds vectors of {space} already")

    def _recorded(self, db: sqlite3.Connection) -> int | None:
        """Return the number of the space; None where there are no vectors of it yet."""
        return next((number for number, one in recorded_spaces(db).items() if one == self.space), None)

    def _begun(self, db: sqlite3.Connection) -> int:
        """Return the number of the space, whose table is made where there is none."""
        return self._recorded(db) or record_space(db, self.space)

    def _without(self, db: sqlite3.Connection) -> str:
        number = self._recorded(db)  # asked each time, for others may drop the space and begin it anew
        if number is None:
            return "FROM entries WHERE TRUE"
        has_one = f"SELECT 1 FROM {table_of(number)} AS one WHERE one.label = entries.label"  # noqa: S608 (our name)
        return f"FROM entries WHERE NOT EXISTS ({has_one})"

    def counts(self) -> BesideCounts:
        """Return how many rows there are, how many lack a vector, and how long the texts of these are."""
        with self._connections.read() as db:
            (rows,) = db.execute("SELECT count(*) FROM entries").fetchone()
            missing, characters, size = db.execute(
                "SELECT count(*), ifnull(sum(length(content)), 0), ifnull(sum(length(CAST(content AS BLOB))), 0)"
                f" {self._without(db)}"
            ).fetchone()
        return BesideCounts(rows=rows, missing=missing, characters=characters, bytes=size)

    def missing(self, limit: int, *, after: int = -1) -> list[RowText]:
        """Return rows that have no vector: label, number of the last change, and text; in the order of their labels."""
        with self._connections.read() as db:
            return self._missing(db, limit, after=after)

    def _missing(self, db: sqlite3.Connection, limit: int, *, after: int = -1) -> list[RowText]:
        sql = f"SELECT label, seq, content {self._without(db)} AND label > ? ORDER BY label LIMIT ?"
        return db.execute(sql, (after, limit)).fetchall()

    def put(self, rows: Sequence[RowText], vectors: Matrix) -> int:
        """Store the vectors of `rows`, all or none, and return how many; a row that has changed meanwhile gets none."""
        with self._connections.write() as db:
            return self._put(db, self._begun(db), rows, vectors)

    def _put(self, db: sqlite3.Connection, number: int, rows: Sequence[RowText], vectors: Matrix) -> int:
        sql = (
            f"INSERT OR REPLACE INTO {table_of(number)} (label, seq, vector)"  # noqa: S608 (a name of our own)
            " SELECT label, ?, ? FROM entries WHERE label = ? AND seq = ?"
        )
        first = take_seqs(db, len(rows))
        values = [
            (seq, packed_vector(vector), label, at)
            for seq, ((label, at, _), vector) in enumerate(zip(rows, vectors, strict=True), start=first)
        ]
        return int(db.executemany(sql, values).rowcount)

    def overlap(self, sample: int, k: int) -> Iterator[float]:
        """Yield what share of an entry's k nearest is the same in both spaces, for each of about `sample` entries."""
        with self._connections.read() as db:
            number = self._recorded(db)
        if number is None:
            return iter(())
        using, fresh = self._using(), self._built(number)
        using.view.catch_up()
        table = table_of(number)
        every = f"SELECT label, row_number() OVER (ORDER BY label) AS n FROM {table}"  # noqa: S608 (a name of our own)
        with self._connections.read() as db:
            (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
            pairs = db.execute(
                f"SELECT label, a.vector, b.vector FROM {using.sql.vectors} AS a JOIN {table} AS b USING (label)"  # noqa: S608
                f" WHERE label IN (SELECT label FROM ({every}) WHERE n % ? = 0) LIMIT ?",
                (max(1, count // max(1, sample)), sample),
            ).fetchall()
        labels = [label for label, _, _ in pairs]
        old = unpacked_vectors([(label, blob) for label, blob, _ in pairs], using.space.dimensions)
        new = unpacked_vectors([(label, blob) for label, _, blob in pairs], self.space.dimensions)
        return overlap((using.view, old), (fresh.view, new), labels, k)

    def _built(self, number: int) -> SpaceView:
        """Return a view of these vectors, up to date and with the parameters of the one in use."""
        using = self._using()
        if self._fresh is None or self._fresh.number != number:
            self._fresh = using.of(number, self.space)
        with translated(self._connections.path):
            self._fresh.view.catch_up()
            self._fresh.view.configure(using.view.hnsw, rebuild=False)
        return self._fresh

    def take_over(self, embed: Callable[[Sequence[str]], Matrix] | None = None) -> bool:
        """Make this space the one in use, at once for everybody; False, and nothing changes, where a row has no vector.

        False, too, where the index in use was configured meanwhile; the next call takes that over. Who had the store
        open in another process is told by a SpaceChangedError.

        Args:
            embed: makes the vectors of the last few rows, while writers wait.
        """
        if embed is None and self.counts().missing:
            return False
        with self._connections.write() as db:
            number = self._begun(db)
        fresh = self._built(number)
        with ExitStack() as switching:
            with self._connections.write() as db:
                rows = self._missing(db, FEW + 1)
                if self._recorded(db) != number or (rows and (embed is None or len(rows) > FEW)):
                    return False
                self._fresh = None  # where this is rolled back, it has seen what never was
                if rows and embed is not None:
                    self._put(db, number, rows, embed([text for _, _, text in rows]))
                fresh.view.catch_up(db)
                adopt = switching.enter_context(self._adopt())
                switched = fresh.view.hnsw == self._using().view.hnsw
                if switched:
                    db.execute("UPDATE state SET space = ?", (number,))
            if switched:
                adopt(fresh)
        if not switched:
            self._fresh = fresh
            return False
        fresh.saving.save()
        return True

    def drop(self) -> None:
        """Drop the space with its vectors, and give back the room they took.

        Raises:
            ConfigError: it is in use.
        """
        with self._connections.write() as db:
            number = self._recorded(db)
            if number is None:
                return
            if db.execute("SELECT space FROM state").fetchone()[0] == number:
                raise ConfigError(f"the vectors of {self.space} are in use; move the store to another space first")
            db.execute(f"DROP TABLE {table_of(number)}")
            db.execute("DELETE FROM spaces WHERE id = ?", (number,))
            db.execute("DELETE FROM snapshots WHERE space = ?", (number,))
        try:
            self._connections.rewrite(wait=0.0)
        except StorageError as error:
            logger.info("%s keeps the room of dropped vectors for new ones: %s", self._connections.path, error)


def vector_tables(db: sqlite3.Connection) -> list[str]:
    """Return the names of the tables with vectors, of every space."""
    return [table_of(number) for (number,) in db.execute("SELECT id FROM spaces")]


def drop_outdated(db: sqlite3.Connection, tables: Sequence[str], row: tuple[Any, ...]) -> None:
    """Drop from `tables` the vector of an entry whose text is about to be replaced by another."""
    namespace, name, _, _, content, *_ = row
    for table in tables:
        db.execute(
            f"DELETE FROM {table} WHERE label ="  # noqa: S608 (a name of our own)
            " (SELECT label FROM entries WHERE id = ? AND namespace = ? AND content <> ?)",
            (name, namespace, content),
        )


def counts_beside(db: sqlite3.Connection) -> tuple[SpaceCount, ...]:
    """Return the spaces that are not in use, with how many vectors there are of each."""
    (used,) = db.execute("SELECT space FROM state").fetchone()
    return tuple(
        SpaceCount(space=space, vectors=db.execute(f"SELECT count(*) FROM {table_of(number)}").fetchone()[0])  # noqa: S608
        for number, space in recorded_spaces(db).items()
        if number != used
    )
