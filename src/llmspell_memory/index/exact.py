"""Exact search by looking at every vector: the oracle that judges every other index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory import _core
from llmspell_memory.index.base import NativeIndex
from llmspell_memory.types import IndexStats

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from llmspell_memory.index.base import Among
    from llmspell_memory.types import Matrix, Metric, Vector
    from llmspell_memory.types.arrays import LabelMatrix, Labels


class ExactIndex(NativeIndex):
    """Exact top-k over float32 vectors; linear in their number, no error and no parameters.

    Args:
        dimensions: width of every vector.
        metric: how vectors are compared; scores are cosines, inner products, or negated distances.

    Results are ordered by score, equal ones by label. May be used from several threads.
    """

    def __init__(self, *, dimensions: int, metric: Metric = "cosine") -> None:
        super().__init__(dimensions=dimensions, metric=metric)
        self.core = _core.Flat(dimensions, metric, "float32")

    def search(self, vector: ArrayLike, k: int, *, among: Among = None) -> tuple[Labels, Vector]:
        """Return labels and scores of the min(k, candidates) best, best first.

        Args:
            vector: the query, shape (dimensions,).
            k: how many, from 0 up.
            among: labels that may be returned, as a LabelSet or of shape (n,); all when None, unknown ones are ignored.

        Raises:
            InputError: `vector`, `k` or `among` is not acceptable; a DimensionError for the wrong width.
        """
        return self.core.search(vector, k, 0, among) or self._search_converted(vector, k, 0, among)

    def search_many(
        self, vectors: ArrayLike, k: int, *, among: Among = None, threads: int | None = None
    ) -> tuple[LabelMatrix, Matrix]:
        """Search for each of `vectors`, shape (n, dimensions), on `threads` threads (None: one a processor).

        Returns:
            Labels and scores of shape (n, min(k, size)); where fewer are found, -1 and minus infinity follow.
        """
        return self._search_many(vectors, k, 0, among, threads)

    def stats(self) -> IndexStats:
        """Return kind, size and bytes in memory."""
        return IndexStats(kind="exact", size=len(self), config=None, memory_bytes=self.core.memory_bytes())
