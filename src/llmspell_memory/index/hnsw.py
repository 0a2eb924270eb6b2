"""Approximate search by a graph: the native HNSW core behind checked arguments and typed errors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from llmspell_memory import _core
from llmspell_memory.types import HNSWConfig, IndexStats
from llmspell_memory.types.arrays import as_labels, as_matrix, as_vector, check_magnitude, checked_k

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from llmspell_memory.types import Metric, Vector
    from llmspell_memory.types.arrays import Labels

_ADD_AT_ONCE: Final = 256
"""Vectors handed to the core in one call, about 0.1 s of work: between two calls Python can be interrupted."""


class HNSWIndex:
    """Approximate top-k by Hierarchical Navigable Small World graphs (Malkov & Yashunin 2018).

    Args:
        dimensions: width of every vector.
        metric: how vectors are compared; scores are cosines, inner products, or negated distances.
        config: m, ef_construction, ef_search and seed.

    Every live vector can be reached after any order of adds, replacements and deletes; a delete frees its slot at once.
    Where a graph would not pay (few vectors, a narrow filter, k near their number) the candidates are scanned exactly.
    May be used from several threads; a search waits for a writer for some microseconds at most.
    """

    def __init__(self, *, dimensions: int, metric: Metric = "cosine", config: HNSWConfig | None = None) -> None:
        self.dimensions = dimensions
        self.metric: Metric = metric
        self._config = config or HNSWConfig()
        self._graph = _core.HNSW(dimensions, metric, self._config.m, self._config.ef_construction, self._config.seed)

    @property
    def config(self) -> HNSWConfig:
        """The parameters in force."""
        return self._config

    @property
    def ef_search(self) -> int:
        """Candidates kept while searching; assigning it holds from the next search on."""
        return self._config.ef_search

    @ef_search.setter
    def ef_search(self, value: int) -> None:
        self._config = replace(self._config, ef_search=value)

    def __len__(self) -> int:
        return len(self._graph)

    def add(self, labels: ArrayLike, vectors: ArrayLike) -> None:
        """Add `vectors`, shape (n, dimensions), under `labels`, shape (n,); a known label gets the new vector."""
        numbers = as_labels(labels)
        matrix = as_matrix(vectors, rows=len(numbers), dimensions=self.dimensions)
        check_magnitude(matrix, metric=self.metric)
        for start in range(0, len(numbers), _ADD_AT_ONCE):
            end = start + _ADD_AT_ONCE
            self._graph.add(numbers[start:end], matrix[start:end])

    def remove(self, labels: ArrayLike) -> None:
        """Remove `labels`, shape (n,); unknown ones are ignored."""
        self._graph.remove(as_labels(labels))

    def search(
        self, vector: ArrayLike, k: int, *, among: ArrayLike | None = None, ef_search: int | None = None
    ) -> tuple[Labels, Vector]:
        """Return labels and scores of the k best found, best first; fewer only where there are fewer candidates.

        Args:
            vector: the query, shape (dimensions,).
            k: how many, from 0 up.
            among: labels that may be returned, shape (n,); all when None, unknown ones are ignored.
            ef_search: for this search alone, instead of the configured value.

        Raises:
            InputError: `vector`, `k` or `among` is not acceptable; a DimensionError for the wrong width.
            ConfigError: `ef_search` is out of range.
        """
        query = as_vector(vector, dimensions=self.dimensions)
        check_magnitude(query[None], metric=self.metric)
        k = min(checked_k(k), len(self))
        ef = self._config.ef_search if ef_search is None else replace(self._config, ef_search=ef_search).ef_search
        if among is None:
            return self._graph.search(query, k, ef)
        return self._graph.search_among(query, k, ef, as_labels(among))

    def check(self) -> str:
        """Return what is wrong with the graph, "" when every invariant holds; visits everything."""
        return self._graph.check()

    def stats(self) -> IndexStats:
        """Return kind, size, parameters and bytes in memory."""
        return IndexStats(kind="hnsw", size=len(self), config=self._config, memory_bytes=self._graph.memory_bytes())
