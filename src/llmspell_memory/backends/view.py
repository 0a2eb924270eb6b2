"""A vector index as a view of rows: it knows up to which sequence number it has read, and catches up from there.

Opening a store, another process's writes, a new `m`, exact to HNSW and back are all the one act `catch_up`. An index
that was saved is a view that has read far already.
"""

from __future__ import annotations

import logging
import threading
from contextlib import nullcontext
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeAlias, TypeVar

from llmspell_memory.errors import InputError, StorageError
from llmspell_memory.index import ExactIndex, HNSWIndex
from llmspell_memory.types.histogram import in_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from llmspell_memory.types import EmbeddingSpace, HNSWConfig, IndexStats, Matrix, Vector
    from llmspell_memory.types.arrays import Labels

    Progress: TypeAlias = Callable[[int, int], object]

logger = logging.getLogger(__name__)

Index: TypeAlias = ExactIndex | HNSWIndex

Rows = TypeVar("Rows")
"""What a backend reads its rows from, at one moment: a read transaction, or dictionaries under a lock."""

_WORTH_SAYING: Final = 4096
"""Changes that take so long to read, some tenths of a second, that the log tells of it."""


@dataclass(frozen=True, slots=True)
class Changes:
    """A batch of what happened to the rows: labels gone, labels with a new vector, and the number reached by it."""

    reached: int
    gone: Labels
    labels: Labels
    vectors: Matrix


class Source(Protocol[Rows]):
    """The rows that a view is of."""

    def open(self) -> AbstractContextManager[Rows]:
        """Return rows of one moment, for reading."""
        ...

    def changes(self, rows: Rows, since: int) -> Changes | None:
        """Return the next batch of what happened after a sequence number, None where nothing did."""
        ...

    def pending(self, rows: Rows, since: int) -> int:
        """Return how many vectors were put after a sequence number; after 0 these are all."""
        ...


class IndexView(Generic[Rows]):
    """The index of one backend.

    Args:
        space: width and metric of the vectors.
        hnsw: parameters of an HNSW index; None for the exact one.
        source: the rows.
        saved: returns an index of these rows with these parameters, and the number it shows; None where there is none.
        on_progress: called while vectors are read, with how many are done and how many there are.
    """

    def __init__(
        self,
        space: EmbeddingSpace,
        hnsw: HNSWConfig | None,
        *,
        source: Source[Rows],
        saved: Callable[[Rows, HNSWConfig], tuple[HNSWIndex, int] | None] | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        self._space = space
        self._source = source
        self._saved = saved
        self._on_progress = on_progress
        self._index = self._new(hnsw)
        self._seen = 0
        self._moment: int | None = 0
        self.lock = threading.RLock()
        self._rebuilding = threading.Lock()

    @property
    def space(self) -> EmbeddingSpace:
        """Width and metric of the vectors, and where they come from."""
        return self._space

    def _new(self, hnsw: HNSWConfig | None) -> Index:
        dimensions, metric = self._space.dimensions, self._space.metric
        if hnsw is None:
            return ExactIndex(dimensions=dimensions, metric=metric)
        return HNSWIndex(dimensions=dimensions, metric=metric, config=hnsw)

    @property
    def moment(self) -> int | None:
        """The sequence number of the rows that the index shows; None while it is changing.

        A search whose rows are of this moment, before it and after it, saw index and rows as one.
        """
        return self._moment

    @property
    def seen(self) -> int:
        """The sequence number that it has read up to."""
        return self._seen

    @property
    def index(self) -> Index:
        """The index itself."""
        return self._index

    @property
    def hnsw(self) -> HNSWConfig | None:
        """Parameters of the index; None when it is exact."""
        return self._index.config if isinstance(self._index, HNSWIndex) else None

    def catch_up(self, rows: Rows | None = None) -> int:
        """Read what happened since the last time, from `rows` or batch by batch from rows opened anew.

        Interrupted, it goes on from there the next time; a change seen twice changes nothing.

        Returns:
            The number reached.
        """
        with self.lock:
            self._moment = None
            if not self._seen:
                self._index, self._seen = self._beginning(self.hnsw, rows)
            self._seen = self._read_into(self._index, self._seen, rows)
            self._moment = self._seen
            return self._seen

    def _beginning(self, hnsw: HNSWConfig | None, rows: Rows | None = None) -> tuple[Index, int]:
        """Return an index to begin with, and the number it shows.

        That is the saved one, brought up to date, if it then has as many vectors as there are rows; else an empty one.
        """
        if self._saved is not None and hnsw is not None:
            with self._opened(rows) as opened:
                if loaded := self._saved(opened, hnsw):
                    index, seen = loaded
                    seen = self._read_into(index, seen, opened)
                    if len(index) == self._source.pending(opened, 0):
                        return index, seen
                    logger.warning("The saved index does not fit its rows; it is built anew")
        return self._new(hnsw), 0

    def _opened(self, rows: Rows | None) -> AbstractContextManager[Rows]:
        return nullcontext(rows) if rows is not None else self._source.open()

    def _read_into(self, index: Index, seen: int, rows: Rows | None = None) -> int:
        done, total = 0, None
        while True:
            with self._opened(rows) as opened:
                batch = self._source.changes(opened, seen)
                if batch is None:
                    break
                if total is None:
                    total = self._source.pending(opened, seen)
                    if total >= _WORTH_SAYING:
                        logger.info("Reading %d vectors into the %s index", total, index.stats().kind)
            index.remove(batch.gone)
            try:
                index.add(batch.labels, batch.vectors, threads=None)
            except InputError as error:  # others, with another index, have stored what this one cannot keep
                raise StorageError(f"the index cannot show what is stored: {error}") from error
            seen = batch.reached
            done += len(batch.labels)
            if self._on_progress and done:
                self._on_progress(done, max(total, done))
        return seen

    def search(self, vector: Vector, k: int, among: Labels | None, *, exact: bool = False) -> tuple[Labels, Vector]:
        """Return labels and scores of the nearest; for certain, where `exact`."""
        began = perf_counter_ns()
        index = self._index
        if exact and isinstance(index, HNSWIndex):
            found = index.search(vector, k, among=among, exact=True)
        else:
            found = index.search(vector, k, among=among)
        in_index.ns += perf_counter_ns() - began
        return found

    def configure(self, hnsw: HNSWConfig | None, *, rebuild: bool) -> bool:
        """Change the index and say whether it was built anew: beside the old, which answers until the switch."""
        current = self.hnsw
        if not rebuild and hnsw == current:
            return False
        if not rebuild and hnsw and current and replace(current, ef_search=hnsw.ef_search) == hnsw:
            self._set_ef_search(hnsw.ef_search)
            return False
        with self._rebuilding:
            asked = self.hnsw
            fresh, seen = (self._new(hnsw), 0) if rebuild else self._beginning(hnsw)
            seen = self._read_into(fresh, seen)
            with self.lock:
                self.catch_up()  # so that whoever follows the changes is told of all of them while there is no moment
                changed = self.hnsw != asked  # by an ef_search set meanwhile
                latest = self.hnsw
                self._moment = None
                self._index, self._seen = fresh, self._read_into(fresh, seen)
                self._moment = self._seen
                if changed and latest:
                    self._set_ef_search(latest.ef_search)
        told = {"vectors": len(fresh), "index_kind": "hnsw" if hnsw else "exact"}
        logger.info("Rebuilt the vector index: %d vectors, %s", len(fresh), hnsw or "exact", extra=told)
        return True

    def _set_ef_search(self, ef_search: int) -> None:
        if isinstance(self._index, HNSWIndex):
            self._index.ef_search = ef_search

    def stats(self) -> IndexStats:
        """Return figures about the index."""
        return self._index.stats()

    def release(self) -> None:
        """Let go of every vector."""
        with self.lock:
            self._index, self._seen, self._moment = self._new(None), 0, None
