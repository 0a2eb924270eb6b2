"""Exact search by looking at every vector: the oracle that judges every other index."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from llmspell_memory.types import IndexStats
from llmspell_memory.types.arrays import as_labels, as_matrix, as_vector, check_magnitude, checked_k

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from llmspell_memory.types import Matrix, Metric, Vector
    from llmspell_memory.types.arrays import Labels

_FIRST_CAPACITY = 64
_BLOCK = 4096


class ExactIndex:
    """Exact top-k over float32 vectors; linear in their number, no error and no parameters.

    Args:
        dimensions: width of every vector.
        metric: how vectors are compared; scores are cosines, inner products, or negated distances.

    Results are ordered by score, equal ones by label. May be used from several threads.
    """

    def __init__(self, *, dimensions: int, metric: Metric = "cosine") -> None:
        self.dimensions = dimensions
        self.metric: Metric = metric
        self._lock = threading.Lock()
        self._rows: dict[int, int] = {}
        self._labels = np.empty(_FIRST_CAPACITY, np.int64)
        self._vectors = np.empty((_FIRST_CAPACITY, dimensions), np.float32)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, labels: ArrayLike, vectors: ArrayLike) -> None:
        """Add `vectors`, shape (n, dimensions), under `labels`, shape (n,); a known label gets the new vector."""
        numbers = as_labels(labels)
        matrix = as_matrix(vectors, rows=len(numbers), dimensions=self.dimensions)
        check_magnitude(matrix, metric=self.metric)
        if self.metric == "cosine":
            matrix = _unit(matrix)
        with self._lock:
            self._grow(len(self._rows) + len(numbers))
            for label, vector in zip(numbers.tolist(), matrix, strict=True):
                row = self._rows.setdefault(label, len(self._rows))
                self._labels[row] = label
                self._vectors[row] = vector

    def _grow(self, needed: int) -> None:
        if needed > len(self._labels):
            capacity = max(needed, 2 * len(self._labels))
            labels, vectors = np.empty(capacity, np.int64), np.empty((capacity, self.dimensions), np.float32)
            labels[: len(self._rows)] = self._labels[: len(self._rows)]
            vectors[: len(self._rows)] = self._vectors[: len(self._rows)]
            self._labels, self._vectors = labels, vectors

    def remove(self, labels: ArrayLike) -> None:
        """Remove `labels`, shape (n,); unknown ones are ignored."""
        with self._lock:
            for label in as_labels(labels).tolist():
                row = self._rows.pop(label, None)
                if row is None:
                    continue
                last = len(self._rows)  # the last row moves into the hole
                if row != last:
                    self._labels[row] = self._labels[last]
                    self._vectors[row] = self._vectors[last]
                    self._rows[int(self._labels[row])] = row

    def search(self, vector: ArrayLike, k: int, *, among: ArrayLike | None = None) -> tuple[Labels, Vector]:
        """Return labels and scores of the min(k, candidates) best, best first.

        Args:
            vector: the query, shape (dimensions,).
            k: how many, from 0 up.
            among: labels that may be returned, shape (n,); all when None, unknown ones are ignored.

        Raises:
            InputError: `vector`, `k` or `among` is not acceptable; a DimensionError for the wrong width.
        """
        query = as_vector(vector, dimensions=self.dimensions)
        check_magnitude(query[None], metric=self.metric)
        if self.metric == "cosine":
            query = _unit(query[None])[0]
        k = checked_k(k)
        with self._lock:
            count = len(self._rows)
            labels, vectors = self._labels[:count], self._vectors[:count]
            if among is not None:
                rows = self._rows_of(as_labels(among))
                labels, vectors = labels[rows], vectors[rows]
            return _best(labels, self._scores(vectors, query), k)

    def _rows_of(self, labels: Labels) -> Labels:
        known = {row for row in map(self._rows.get, labels.tolist()) if row is not None}
        return np.fromiter(known, np.int64, len(known))

    def _scores(self, vectors: Matrix, query: Vector) -> Vector:
        if self.metric != "euclidean":
            # Not `vectors @ query`: BLAS gives equal rows other last bits in other places, and ties would be no ties.
            products: Vector = np.einsum("ij,j->i", vectors, query)
            return np.clip(products, -1, 1) if self.metric == "cosine" else products
        # By differences, in blocks: the expanded square loses the small distances of far-off vectors to cancellation.
        scores = np.empty(len(vectors), np.float32)
        for start in range(0, len(vectors), _BLOCK):
            difference = vectors[start : start + _BLOCK] - query
            scores[start : start + _BLOCK] = -np.sqrt(np.einsum("ij,ij->i", difference, difference))
        return scores

    def stats(self) -> IndexStats:
        """Return kind, size and bytes in memory (the label map estimated at 100 bytes an entry)."""
        with self._lock:
            size = self._vectors.nbytes + self._labels.nbytes + 100 * len(self._rows)
            return IndexStats(kind="exact", size=len(self._rows), config=None, memory_bytes=size)


def _unit(matrix: Matrix) -> Matrix:
    norms = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return np.asarray(matrix * scale[:, None], np.float32)


def _best(labels: Labels, scores: Vector, k: int) -> tuple[Labels, Vector]:
    if k < len(scores):
        kth = np.partition(scores, len(scores) - k)[len(scores) - k] if k else np.inf
        kept = np.flatnonzero(scores >= kth)  # with all that tie for the last place; the order by label decides
        labels, scores = labels[kept], scores[kept]
    order = np.lexsort((labels, -scores))[:k]
    return labels[order], scores[order]
