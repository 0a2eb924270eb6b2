"""A vector index as a view of rows: it knows up to which sequence number it has read, and catches up from there.

Opening a store, another process's writes, a new `m`, exact to HNSW and back are all the one act `catch_up`.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from llmspell_memory.index import ExactIndex, HNSWIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmspell_memory.types import EmbeddingSpace, HNSWConfig, IndexStats, Matrix, Vector
    from llmspell_memory.types.arrays import Labels

logger = logging.getLogger(__name__)

Index: TypeAlias = ExactIndex | HNSWIndex


@dataclass(frozen=True, slots=True)
class Changes:
    """A batch of what happened to the rows: labels gone, labels with a new vector, and the number reached by it."""

    reached: int
    gone: Labels
    labels: Labels
    vectors: Matrix


class IndexView:
    """The index of one backend.

    Args:
        space: width and metric of the vectors.
        hnsw: parameters of an HNSW index; None for the exact one.
        changes: yields, in order, what happened to the rows after a sequence number.
    """

    def __init__(
        self, space: EmbeddingSpace, hnsw: HNSWConfig | None, changes: Callable[[int], Iterable[Changes]]
    ) -> None:
        self._space = space
        self._changes = changes
        self._index = self._new(hnsw)
        self._seen = 0
        self.lock = threading.RLock()
        self._rebuilding = threading.Lock()

    def _new(self, hnsw: HNSWConfig | None) -> Index:
        dimensions, metric = self._space.dimensions, self._space.metric
        if hnsw is None:
            return ExactIndex(dimensions=dimensions, metric=metric)
        return HNSWIndex(dimensions=dimensions, metric=metric, config=hnsw)

    @property
    def seen(self) -> int:
        """The sequence number up to which the index has read the rows."""
        return self._seen

    @property
    def hnsw(self) -> HNSWConfig | None:
        """Parameters of the index; None when it is exact."""
        return self._index.config if isinstance(self._index, HNSWIndex) else None

    def catch_up(self) -> None:
        """Read what happened to the rows since the last time. Safe to repeat: a change seen twice changes nothing."""
        with self.lock:
            self._seen = self._read_into(self._index, self._seen)

    def _read_into(self, index: Index, seen: int) -> int:
        for batch in self._changes(seen):
            index.remove(batch.gone)
            index.add(batch.labels, batch.vectors)
            seen = batch.reached
        return seen

    def search(self, vector: Vector, k: int, among: Labels | None) -> tuple[Labels, Vector]:
        """Return labels and scores of the nearest."""
        return self._index.search(vector, k, among=among)

    def configure(self, hnsw: HNSWConfig | None, *, rebuild: bool) -> None:
        """Change the index; a new one is built beside the old, which goes on answering until the switch."""
        current = self.hnsw
        if not rebuild and hnsw == current:
            return
        if not rebuild and hnsw and current and replace(current, ef_search=hnsw.ef_search) == hnsw:
            assert isinstance(self._index, HNSWIndex)  # noqa: S101 (for the type checker: `current` came from it)
            self._index.ef_search = hnsw.ef_search
            return
        with self._rebuilding:
            fresh = self._new(hnsw)
            seen = self._read_into(fresh, 0)
            with self.lock:
                self._seen = self._read_into(fresh, seen)
                self._index = fresh
        logger.info("Rebuilt the vector index: %d vectors, %s", len(fresh), hnsw or "exact")

    def stats(self) -> IndexStats:
        """Return figures about the index."""
        return self._index.stats()
