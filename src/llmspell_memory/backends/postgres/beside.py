"""Vectors of several embedding spaces for the same rows; one space is in use.

A vector of another one is always that of its row's present text: where the text changes, or the row goes, it is
dropped. So nothing need be followed: what is missing is what has no vector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.backends.overlap import FEW
from llmspell_memory.backends.postgres.rows import KEY, table_of
from llmspell_memory.backends.postgres.schema import record_space, recorded_spaces
from llmspell_memory.backends.postgres.statements import SAME
from llmspell_memory.backends.postgres.vectors import Vectors
from llmspell_memory.errors import ConfigError
from llmspell_memory.types import BesideCounts, SpaceCount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from llmspell_memory.backends.postgres.building import IndexBuilder
    from llmspell_memory.backends.postgres.connections import Connections, Cursor
    from llmspell_memory.types import EmbeddingSpace, Matrix, RowText


class VectorsBeside:
    """Vectors of a space that is not in use.

    Args:
        connections: to the server.
        space: of the vectors; a table is made for it when the first ones are put.
        lock: number of the lock that writers share.
        using: returns the vectors in use.
        adopt: gives what makes others those.
        builder: makes their index.

    Raises:
        ConfigError: the space is the one in use.
    """

    def __init__(
        self,
        connections: Connections,
        space: EmbeddingSpace,
        *,
        lock: int,
        using: Callable[[], Vectors],
        adopt: Callable[[], AbstractContextManager[Callable[[Vectors], None]]],
        builder: IndexBuilder,
    ) -> None:
        self.space = space
        self._connections = connections
        self._lock = lock
        self._using = using
        self._adopt = adopt
        self._builder = builder
        if using().space == space:
            raise ConfigError(f"the store holds vectors of {space} already")

    def _recorded(self, db: Cursor) -> int | None:
        """Return the number of the space; None where there are no vectors of it yet."""
        return next((number for number, one in recorded_spaces(db).items() if one == self.space), None)

    def _begun(self, db: Cursor) -> int:
        """Return the number of the space, whose table is made where there is none."""
        db.execute("SELECT pg_advisory_xact_lock(%s)", (self._lock ^ 1,))  # several may begin it
        return self._recorded(db) or record_space(db, self.space)

    def _without(self, db: Cursor) -> str:
        number = self._recorded(db)  # asked each time, for others may drop the space and begin it anew
        if number is None:
            return "FROM entries e WHERE TRUE"
        same = SAME.format("v", "e")
        return f"FROM entries e WHERE NOT EXISTS (SELECT 1 FROM {table_of(number)} v WHERE {same})"

    def counts(self) -> BesideCounts:
        """Return how many rows there are, how many lack a vector, and how long the texts of these are."""

        def work(db: Cursor) -> BesideCounts:
            (rows,) = db.execute("SELECT count(*) FROM entries").fetchone() or (0,)
            sums = "count(*), coalesce(sum(char_length(content)), 0), coalesce(sum(octet_length(content)), 0)"
            missing, characters, size = db.execute(f"SELECT {sums} {self._without(db)}").fetchone() or (0, 0, 0)
            return BesideCounts(rows=rows, missing=missing, characters=int(characters), bytes=int(size))

        return self._connections.run(work, isolated=True, reading=True)

    def missing(self, limit: int, *, after: int = -1) -> list[RowText]:
        """Return rows that have no vector: label, number of the last change, and text; in the order of their labels."""
        return self._connections.run(lambda db: self._missing(db, limit, after=after), reading=True)

    def _missing(self, db: Cursor, limit: int, *, after: int = -1) -> list[RowText]:
        found = db.execute(
            f"SELECT e.label, e.seq, e.content {self._without(db)} AND e.label > %s ORDER BY e.label LIMIT %s",
            (after, limit),
        ).fetchall()
        return [(label, seq, content) for label, seq, content in found]

    def put(self, rows: Sequence[RowText], vectors: Matrix) -> int:
        """Store the vectors of `rows`, all or none, and return how many; a row that has changed meanwhile gets none."""
        number = self._connections.run(self._begun)

        def work(db: Cursor) -> int:
            db.execute("SELECT pg_advisory_xact_lock_shared(%s)", (self._lock,))
            if self._recorded(db) != number:  # dropped by others meanwhile
                return 0
            return self._put(db, number, rows, vectors)

        return self._connections.run(work)

    def _put(self, db: Cursor, number: int, rows: Sequence[RowText], vectors: Matrix) -> int:
        table = table_of(number)
        put = 0
        for (label, seq, _), vector in zip(rows, vectors, strict=True):
            put += db.execute(
                f"INSERT INTO {table} ({KEY}, vector) SELECT {KEY}, %s FROM entries"
                " WHERE label = %s AND seq = %s FOR SHARE"
                " ON CONFLICT (id_key, namespace_key, root) DO UPDATE SET vector = excluded.vector",
                (vector, label, seq),
            ).rowcount
        return put

    def overlap(self, sample: int, k: int) -> Iterator[float]:
        """Yield what share of an entry's k nearest is the same in both spaces, for each of about `sample` entries."""

        def work(db: Cursor) -> list[float]:
            number = self._recorded(db)
            if number is None:
                return []
            fresh = Vectors(number, self.space, None)
            labels = db.execute(
                f"SELECT e.label FROM entries e JOIN {fresh.table} v USING ({KEY})"
                " ORDER BY md5(e.label::text) LIMIT %s",
                (sample,),
            ).fetchall()
            shares = []
            for (label,) in labels:
                found = [set(_nearest(db, one, label, k)) for one in (using, fresh)]
                if most := min(map(len, found)):
                    shares.append(len(found[0] & found[1]) / most)
            return shares

        using = self._using()
        return iter(self._connections.run(work, isolated=True, reading=True))

    def take_over(self, embed: Callable[[Sequence[str]], Matrix] | None = None) -> bool:
        """Make this space the one in use, at once for everybody; False, and nothing changes, where a row has no vector.

        Who had the store open in another process is told by a SpaceChangedError.

        Args:
            embed: makes the vectors of the last few rows, while writers wait.
        """
        if embed is None and self.counts().missing:
            return False
        number = self._connections.run(self._begun)
        using = self._using()
        fresh = Vectors(number, self.space, using.hnsw)
        self._builder.build(fresh)

        def work(db: Cursor) -> bool:
            db.execute("SELECT pg_advisory_xact_lock(%s)", (self._lock,))
            if self._recorded(db) != number:
                return False
            rows = self._missing(db, FEW + 1)
            if rows and (embed is None or len(rows) > FEW):
                return False
            if rows and embed is not None:
                self._put(db, number, rows, embed([text for _, _, text in rows]))
            db.execute("UPDATE state SET space = %s", (number,))
            return True

        with self._adopt() as adopt:
            if self._using().hnsw != using.hnsw or not self._connections.run(work):
                return False
            adopt(fresh)
        return True

    def drop(self) -> None:
        """Drop the space with its vectors.

        Raises:
            ConfigError: it is in use.
        """

        def work(db: Cursor) -> None:
            db.execute("SELECT pg_advisory_xact_lock(%s)", (self._lock,))
            number = self._recorded(db)
            if number is None:
                return
            if db.execute("SELECT space FROM state").fetchone() == (number,):
                raise ConfigError(f"the vectors of {self.space} are in use; move the store to another space first")
            db.execute(f"DROP TABLE {table_of(number)}")
            db.execute("DELETE FROM spaces WHERE id = %s", (number,))

        self._connections.run(work)


def _nearest(db: Cursor, vectors: Vectors, label: int, k: int) -> list[int]:
    """Return the labels of the entries nearest to one, without itself."""
    row = db.execute(
        f"SELECT v.vector FROM {vectors.table} v JOIN entries e USING ({KEY}) WHERE e.label = %s",
        (label,),
    ).fetchone()
    if row is None:
        return []
    vector = row[0].to_numpy()
    statement = vectors.nearest("e.label", "e.label <> %s", exact=True)
    return [found[0] for found in db.execute(statement, (label, vector, k)).fetchall()]


def counts_beside(db: Cursor, used: int) -> tuple[SpaceCount, ...]:
    """Return the spaces that are not in use, with how many vectors there are of each."""
    return tuple(
        SpaceCount(space=space, vectors=(db.execute(f"SELECT count(*) FROM {table_of(number)}").fetchone() or (0,))[0])
        for number, space in recorded_spaces(db).items()
        if number != used
    )
