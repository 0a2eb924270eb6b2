"""A vector index as a view of rows: it knows up to which sequence number it has read, and catches up from there.

Opening a store, another process's writes, a new `m`, exact to HNSW and back are all the one act `catch_up`.
"""

from __future__ import annotations

import logging
import threading
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from llmspell_memory.index import ExactIndex, HNSWIndex

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from llmspell_memory.types import EmbeddingSpace, HNSWConfig, IndexStats, Matrix, Vector
    from llmspell_memory.types.arrays import Labels

logger = logging.getLogger(__name__)

Index: TypeAlias = ExactIndex | HNSWIndex

Rows = TypeVar("Rows")
"""What a backend reads its rows from, at one moment: a read transaction, or dictionaries under a lock."""


@dataclass(frozen=True, slots=True)
class Changes:
    """A batch of what happened to the rows: labels gone, labels with a new vector, and the number reached by it."""

    reached: int
    gone: Labels
    labels: Labels
    vectors: Matrix


class IndexView(Generic[Rows]):
    """The index of one backend.

    Args:
        space: width and metric of the vectors.
        hnsw: parameters of an HNSW index; None for the exact one.
        rows: opens the rows for reading.
        changes: returns the next batch of what happened to the rows after a sequence number, None where nothing did.
    """

    def __init__(
        self,
        space: EmbeddingSpace,
        hnsw: HNSWConfig | None,
        *,
        rows: Callable[[], AbstractContextManager[Rows]],
        changes: Callable[[Rows, int], Changes | None],
    ) -> None:
        self._space = space
        self._rows = rows
        self._changes = changes
        self._index = self._new(hnsw)
        self._seen = 0
        self._moment: int | None = 0
        self.lock = threading.RLock()
        self._rebuilding = threading.Lock()

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
    def hnsw(self) -> HNSWConfig | None:
        """Parameters of the index; None when it is exact."""
        return self._index.config if isinstance(self._index, HNSWIndex) else None

    def catch_up(self, rows: Rows | None = None) -> None:
        """Read what happened since the last time, from `rows` or batch by batch from rows opened anew.

        Interrupted, it goes on from there the next time; a change seen twice changes nothing.
        """
        with self.lock:
            self._moment = None
            self._seen = self._read_into(self._index, self._seen, rows)
            self._moment = self._seen

    def _read_into(self, index: Index, seen: int, rows: Rows | None = None) -> int:
        while True:
            with nullcontext(rows) if rows is not None else self._rows() as opened:
                batch = self._changes(opened, seen)
            if batch is None:
                return seen
            index.remove(batch.gone)
            index.add(batch.labels, batch.vectors, threads=None)
            seen = batch.reached

    def search(self, vector: Vector, k: int, among: Labels | None) -> tuple[Labels, Vector]:
        """Return labels and scores of the nearest."""
        return self._index.search(vector, k, among=among)

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
            fresh = self._new(hnsw)
            seen = self._read_into(fresh, 0)
            with self.lock:
                self.catch_up()  # so that whoever follows the changes is told of all of them while there is no moment
                changed = self.hnsw != asked  # by an ef_search set meanwhile
                latest = self.hnsw
                self._moment = None
                self._index, self._seen = fresh, self._read_into(fresh, seen)
                self._moment = self._seen
                if changed and latest:
                    self._set_ef_search(latest.ef_search)
        logger.info("Rebuilt the vector index: %d vectors, %s", len(fresh), hnsw or "exact")
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
