"""The vectors of one embedding space of a store: the index over them, its file, and searches through it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llmspell_memory.backends.finding import Views, fits
from llmspell_memory.backends.sqlite.connection import translated
from llmspell_memory.backends.sqlite.feed import Feed, last_seq
from llmspell_memory.backends.sqlite.index_file import IndexFile
from llmspell_memory.backends.sqlite.recent import RecentEntries
from llmspell_memory.backends.sqlite.rows import to_entry, told_as_damage, unpacked_vectors
from llmspell_memory.backends.sqlite.saved import Saving
from llmspell_memory.backends.sqlite.statements import Statements
from llmspell_memory.backends.sqlite.where import condition
from llmspell_memory.backends.view import IndexView
from llmspell_memory.errors import CorruptDataError, SpaceChangedError
from llmspell_memory.types.moments import microseconds

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from llmspell_memory.backends.finding import Wanted
    from llmspell_memory.backends.row_view import RowView
    from llmspell_memory.backends.sqlite.connection import Connections
    from llmspell_memory.backends.sqlite.where import Parameter
    from llmspell_memory.backends.view import Index
    from llmspell_memory.types import EmbeddingSpace, EpisodicEntry, Filter, Hit, HNSWConfig, Matrix
    from llmspell_memory.types.arrays import Labels

PAGE: Final = 512
"""Rows taken at a time while scanning or by their labels."""


class SpaceView:
    """One space's vectors, searched through an index that follows them.

    Args:
        connections: to the store.
        number: of the space among those of the store.
        space: its width and metric.
        rows: the view of all else of the rows.
        hnsw: parameters of an HNSW index; None for exact search.
        saved: whether the saved index may be of this space.
        on_progress: called while vectors are read into the index, with how many are done and how many there are.
    """

    def __init__(
        self,
        connections: Connections,
        number: int,
        space: EmbeddingSpace,
        rows: RowView[sqlite3.Connection],
        *,
        hnsw: HNSWConfig | None,
        saved: bool = True,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> None:
        self.number = number
        self.space = space
        self.sql = Statements(number)
        self.recent = RecentEntries()
        self._connections = connections
        self._path = connections.path
        self._on_progress = on_progress
        file = IndexFile(connections.path, space, number=number)
        feed = Feed(connections, self.sql, self.recent, dimensions=space.dimensions)
        load = file.load if saved else None
        self.view = IndexView(space, hnsw, source=feed, saved=load, on_progress=on_progress)
        self.views = Views(self.view, rows)
        self.saving = Saving(connections, self.view, file)

    def of(self, number: int, space: EmbeddingSpace) -> SpaceView:
        """Return a view of another space of the same store, with the same parameters, that has read nothing yet."""
        hnsw, told = self.view.hnsw, self._on_progress
        return SpaceView(self._connections, number, space, self.views.rows, hnsw=hnsw, saved=False, on_progress=told)

    def is_in_use(self, db: sqlite3.Connection) -> bool:
        """Say whether this is the space that the store is in."""
        return db.execute(self.sql.moment).fetchone() is not None

    def check_in_use(self, db: sqlite3.Connection) -> None:
        """Raise a SpaceChangedError where the store has been moved to another space."""
        if not self.is_in_use(db):
            raise SpaceChangedError(
                f"{self._path} holds vectors of another embedding space than {self.space} by now; open it anew with "
                "the embedding service that it was moved to"
            )

    def release(self) -> None:
        """Let go of everything in memory."""
        self.view.release()
        self.recent.clear()

    # --- for those who measure --------------------------------------------------------------------------------------

    def index_now(self) -> Index:
        """Return the index, up to date."""
        with translated(self._path):
            self.view.catch_up()
        return self.view.index

    def labels(self, where: Filter) -> Labels:
        """Return the labels of the entries that match, in order."""
        with self._connections.read() as db:
            return self._labels(db, where)

    def _labels(self, db: sqlite3.Connection, where: Filter) -> Labels:
        clause, parameters = present(db, where)
        rows = db.execute(f"SELECT label FROM entries WHERE {clause} ORDER BY label", parameters).fetchall()  # noqa: S608 (bound)
        return np.fromiter(chain.from_iterable(rows), np.int64, len(rows))

    def vectors(self, labels: Labels) -> tuple[Labels, Matrix]:
        """Return the vectors of those of the labels that are there, with their labels."""
        wanted = labels.tolist()
        rows: list[tuple[int, bytes]] = []
        with self._connections.read() as db:
            self.check_in_use(db)
            for start in range(0, len(wanted), PAGE):
                page = wanted[start : start + PAGE]
                rows += db.execute(self.sql.vectors_of(len(page)), page).fetchall()
        with told_as_damage(self._path):
            matrix = unpacked_vectors(rows, self.space.dimensions)
        return np.array([label for label, _ in rows], np.int64), matrix

    # --- searches ---------------------------------------------------------------------------------------------------

    def search(self, wanted: Wanted) -> list[Hit]:
        """Return the k entries that answer best among those that match, best first.

        Raises:
            SpaceChangedError: the store was moved to another space.
            CorruptDataError: an index and the rows do not have the same entries.
        """
        with translated(self._path):
            hits = self._by_one_statement(wanted) if wanted.where.ids is None and wanted.k <= PAGE else None
            if hits is None:
                hits = self._by_one_transaction(wanted)
            if hits is None:  # an index was behind, or a write came between
                with self.views.locked(), self._connections.read() as db:
                    self.check_in_use(db)
                    self.views.catch_up(db)
                    hits = self._hits(db, wanted)
        if hits is None:
            raise CorruptDataError(
                f"{self._path} is damaged: an index and its rows do not have the same entries; run "
                "`llmspell-memory check`, which says what is wrong"
            )
        return hits

    def _by_one_statement(self, wanted: Wanted) -> list[Hit] | None:
        """Search, and read rows and sequence number at once; None where an index may have shown another moment.

        The rows are of the indexes' moment if theirs is the number these had before and after: of what was acknowledged
        before the search began nothing is missing, and what came later is in neither. That is None, too, where
        something has expired and all is asked for, so that not all that the index knows may be shown; where rows are
        too many for a statement; and where the store was moved to another space.
        """
        alone, everything, now = wanted.by_vector_alone, wanted.where.is_everything, datetime.now(UTC)
        moment = self.views.moment(alone=alone)
        if moment is None:
            return None
        among = None if everything else self.views.choice(wanted.where, now)
        found = self.views.find(wanted, among, now=now)
        if not fits(wanted, found, among):
            return None
        needed = found.needed()
        known = self.recent.find(needed)
        unknown = [label for label in needed if label not in known]
        rows = self._connections.fetch(self.sql.some(len(unknown)), unknown) if len(unknown) <= PAGE else None
        if not rows:
            return None
        *_, read_at, next_expiry = rows[0]
        if not read_at == moment == self.views.moment(alone=alone):
            return None
        if everything and next_expiry is not None and next_expiry <= microseconds(now):
            return None
        if unknown:
            read = self._entries(rows)
            self.recent.keep(read, if_still=lambda: self.view.moment == moment)
            known |= read
        return found.hits(known)

    def _by_one_transaction(self, wanted: Wanted) -> list[Hit] | None:
        """Find what matches, search among it and read the rows; None where an index may have shown another moment."""
        with self._connections.read() as db:
            self.check_in_use(db)
            moment = last_seq(db)
            if self.views.moment() != moment:
                return None
            hits = self._hits(db, wanted)
            return hits if self.views.moment() == moment else None

    def _hits(self, db: sqlite3.Connection, wanted: Wanted) -> list[Hit] | None:
        """Search; None where an index and the rows do not fit."""
        now, ids = datetime.now(UTC), wanted.where.ids
        among = self.views.choice(wanted.where, now, None if ids is None else self._with_ids(db, ids))
        found = self.views.find(wanted, among, now=now)
        if not fits(wanted, found, among):
            return None
        needed = found.needed()
        entries = self.recent.find(needed)
        unknown = [label for label in needed if label not in entries]
        for start in range(0, len(unknown), PAGE):
            page = unknown[start : start + PAGE]
            entries |= self._entries(db.execute(self.sql.some(len(page)), page))
        return found.hits(entries)

    def _with_ids(self, db: sqlite3.Connection, ids: frozenset[str]) -> list[int]:
        return [label for (label,) in db.execute(self.sql.of_ids, (json.dumps(sorted(ids)),))]

    def _entries(self, rows: Iterable[tuple[Any, ...]]) -> dict[int, EpisodicEntry]:
        return {row[-3]: to_entry(row[:-3], dimensions=self.space.dimensions) for row in rows}


def present(db: sqlite3.Connection, where: Filter) -> tuple[str, list[Parameter]]:
    """Return the filter as SQL. Where nothing has expired by now, it need not be looked for in every row."""
    next_expiry = db.execute(Statements.next_expiry).fetchone()[0]
    now = microseconds(datetime.now(UTC))
    return condition(where, now=now if next_expiry is not None and next_expiry <= now else None)
