"""The vectors of one embedding space of a store: the index over them, its file, and searches through it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from llmspell_memory.backends.sqlite.connection import translated
from llmspell_memory.backends.sqlite.feed import Feed, last_seq
from llmspell_memory.backends.sqlite.index_file import IndexFile
from llmspell_memory.backends.sqlite.recent import RecentEntries
from llmspell_memory.backends.sqlite.rows import microseconds, to_entry, told_as_damage, unpacked_vectors
from llmspell_memory.backends.sqlite.statements import Statements
from llmspell_memory.backends.sqlite.where import condition
from llmspell_memory.backends.view import IndexView
from llmspell_memory.errors import ClosedError, CorruptDataError, SpaceChangedError, StorageError, UnavailableError
from llmspell_memory.index import HNSWIndex
from llmspell_memory.types import Hit
from llmspell_memory.types.entry import own

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from llmspell_memory.backends.sqlite.connection import Connections
    from llmspell_memory.backends.sqlite.where import Parameter
    from llmspell_memory.backends.view import Index
    from llmspell_memory.types import EmbeddingSpace, EpisodicEntry, Filter, HNSWConfig, Matrix, Vector
    from llmspell_memory.types.arrays import Labels

logger = logging.getLogger(__name__)

PAGE: Final = 512
"""Rows taken at a time while scanning or by their labels."""


class Wanted(NamedTuple):
    """What a search is asked for."""

    vector: Vector
    k: int
    where: Filter
    exact: bool


class SpaceView:
    """One space's vectors, searched through an index that follows them.

    Args:
        connections: to the store.
        number: of the space among those of the store.
        space: its width and metric.
        hnsw: parameters of an HNSW index; None for exact search.
        saved: whether the saved index may be of this space.
        on_progress: called while vectors are read into the index, with how many are done and how many there are.
    """

    def __init__(
        self,
        connections: Connections,
        number: int,
        space: EmbeddingSpace,
        *,
        hnsw: HNSWConfig | None,
        saved: bool = True,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> None:
        self.number = number
        self.space = space
        self.sql = Statements(number)
        self.recent = RecentEntries()
        self.file = IndexFile(connections.path, space, number=number)
        self._connections = connections
        self._path = connections.path
        self._on_progress = on_progress
        feed = Feed(connections, self.sql, self.recent, dimensions=space.dimensions)
        load = self.file.load if saved else None
        self.view = IndexView(space, hnsw, source=feed, saved=load, on_progress=on_progress)

    def of(self, number: int, space: EmbeddingSpace) -> SpaceView:
        """Return a view of another space of the same store, with the same parameters, that has read nothing yet."""
        hnsw, told = self.view.hnsw, self._on_progress
        return SpaceView(self._connections, number, space, hnsw=hnsw, saved=False, on_progress=told)

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

    # --- the index --------------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Let the index see a write at once. The write is durable already, so a failure is left to the next search."""
        try:
            self.view.catch_up()
        except (StorageError, ClosedError, MemoryError):
            logger.exception("The index of %s could not read a change; the next search tries again", self._path)
        else:
            self.save_index()

    def save_index(self, *, closing: bool = False) -> None:
        """Save an HNSW index where that is due. What fails is logged: the rows have all that is in it."""
        index, moment = self.view.index, self.view.moment
        if not isinstance(index, HNSWIndex) or not moment or not self.file.due(index, moment, closing=closing):
            return
        try:
            with self.view.lock:
                if self.view.index is index:  # otherwise a rebuild has taken its place, and saves its own
                    with self.file.alone(wait=False):  # who is saving at this moment saves as much, or nearly
                        self._write_index(index)
        except (StorageError, ClosedError, MemoryError) as error:
            self.file.gave_up(index, moment)
            others = isinstance(error, UnavailableError)  # who are saving theirs
            level = logging.DEBUG if others else logging.WARNING
            logger.log(level, "The index of %s was not saved; the next opening reads the rows: %s", self._path, error)

    def _write_index(self, index: HNSWIndex) -> None:
        self.view.catch_up()
        with self._connections.write() as db:  # nobody else's change comes between what is shown and its record
            seen = self.view.catch_up(db)
            tag = self.file.record(db, seen)
        self.file.save(index, seen, tag=tag)

    def write_index_anew(self) -> None:
        """Replace the index's file, and all that is half-written, by one that holds what is there now."""
        with self.view.lock, self.file.alone(wait=True):
            self.file.remove()
            index = self.view.index
            if isinstance(index, HNSWIndex) and self.view.moment:
                self._write_index(index)

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
        """Return the k entries nearest among those that match, best first.

        Raises:
            SpaceChangedError: the store was moved to another space.
            CorruptDataError: index and rows do not have the same entries.
        """
        with translated(self._path):
            hits = self._by_one_statement(wanted) if wanted.where.is_everything and wanted.k <= PAGE else None
            if hits is None:
                hits = self._by_one_transaction(wanted)
            if hits is None:  # the index was behind, or a write came between
                with self.view.lock, self._connections.read() as db:
                    self.check_in_use(db)
                    self.view.catch_up(db)
                    hits = self._hits(db, wanted)
        if hits is None:
            raise CorruptDataError(
                f"{self._path} is damaged: its index and its rows do not have the same entries; run "
                "`llmspell-memory check`, which says what is wrong"
            )
        return hits

    def _by_one_statement(self, wanted: Wanted) -> list[Hit] | None:
        """Search, and read rows and sequence number at once; None where the index may have shown another moment.

        The rows are of the index's moment if theirs is the number it had before and after: of what was acknowledged
        before the search began nothing is missing, and what came later is in neither. Where something has expired, not
        all that the index knows may be shown, and that is None, too; and where the store was moved to another space.
        """
        moment = self.view.moment
        if moment is None:
            return None
        labels, scores = self.view.search(wanted.vector, wanted.k, None, exact=wanted.exact)
        found = labels.tolist()
        known = self.recent.find(found)
        unknown = [label for label in found if label not in known]
        rows = self._connections.fetch(self.sql.some(len(unknown)), unknown)
        if not rows:
            return None
        *_, read_at, next_expiry = rows[0]
        if not read_at == moment == self.view.moment or (next_expiry is not None and next_expiry <= _now()):
            return None
        if unknown:
            read = self._entries(rows)
            self.recent.keep(read, if_still=lambda: self.view.moment == moment)
            known |= read
        return _joined(known, found, scores)

    def _by_one_transaction(self, wanted: Wanted) -> list[Hit] | None:
        """Find what matches, search among it and read the rows; None where the index may have shown another moment."""
        with self._connections.read() as db:
            self.check_in_use(db)
            moment = last_seq(db)
            if self.view.moment != moment:
                return None
            hits = self._hits(db, wanted)
            return hits if self.view.moment == moment else None

    def _hits(self, db: sqlite3.Connection, wanted: Wanted) -> list[Hit] | None:
        """Search; None where index and rows do not fit."""
        labels, scores = self._labels(db, wanted)
        if labels is None:
            return None
        found = labels.tolist()
        entries = self.recent.find(found)
        unknown = [label for label in found if label not in entries]
        for start in range(0, len(unknown), PAGE):
            page = unknown[start : start + PAGE]
            entries |= self._entries(db.execute(self.sql.some(len(page)), page))
        return _joined(entries, found, scores)

    def _labels(self, db: sqlite3.Connection, wanted: Wanted) -> tuple[Labels | None, Vector]:
        """Return labels and scores; None for the labels where index and rows do not fit."""
        if wanted.where.is_everything:
            expired = db.execute(self.sql.expired, (_now(), PAGE)).fetchall()
            if len(expired) < PAGE:  # so few may be looked for among what the index finds
                labels, scores = self.view.search(wanted.vector, wanted.k + len(expired), None, exact=wanted.exact)
                alive = ~np.isin(labels, expired)
                return labels[alive][: wanted.k], scores[alive][: wanted.k]
        clause, parameters = present(db, wanted.where)
        if clause == "TRUE":
            return self.view.search(wanted.vector, wanted.k, None, exact=wanted.exact)
        rows = db.execute(f"SELECT label FROM entries WHERE {clause}", parameters).fetchall()  # noqa: S608 (bound)
        among = np.fromiter(chain.from_iterable(rows), np.int64, len(rows))
        labels, scores = self.view.search(wanted.vector, wanted.k, among, exact=wanted.exact)
        return labels if len(labels) == min(wanted.k, len(rows)) else None, scores

    def _entries(self, rows: Iterable[tuple[Any, ...]]) -> dict[int, EpisodicEntry]:
        return {row[-3]: to_entry(row[:-3], dimensions=self.space.dimensions) for row in rows}


def present(db: sqlite3.Connection, where: Filter) -> tuple[str, list[Parameter]]:
    """Return the filter as SQL. Where nothing has expired by now, it need not be looked for in every row."""
    next_expiry = db.execute(Statements.next_expiry).fetchone()[0]
    now = _now()
    return condition(where, now=now if next_expiry is not None and next_expiry <= now else None)


def _joined(entries: dict[int, EpisodicEntry], labels: list[int], scores: Vector) -> list[Hit] | None:
    """Hits in the order of `labels`; None where the row of one is missing."""
    if len(entries) != len(labels):
        return None
    return [Hit(own(entries[label]), score) for label, score in zip(labels, scores.tolist(), strict=True)]


def _now() -> int:
    return microseconds(datetime.now(UTC))
