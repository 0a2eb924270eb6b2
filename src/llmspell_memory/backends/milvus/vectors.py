"""Vectors in one embedding space, in the collection that holds their rows: the nearest by its index, and by all."""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from llmspell_memory.backends.milvus.connections import MOST_ROWS
from llmspell_memory.backends.milvus.schema import index_of
from llmspell_memory.index import ExactIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmspell_memory.backends.milvus.connections import Connection, Row
    from llmspell_memory.backends.milvus.schema import Collections, Kept
    from llmspell_memory.types import EmbeddingSpace, HNSWConfig, Vector

_AGAIN: Final = 4
"""Rows looked at again by their whole vectors, for each that is wanted, where the index has them as 16-bit numbers."""

_PAGE: Final = 2_048
"""Vectors that are compared here at a time."""


class Vectors:
    """The collection in use, and how it is searched.

    Args:
        number: of the collection.
        kept: what it holds, and how its index was built.
        hnsw: parameters of searches; None for exact ones.
    """

    def __init__(self, number: int, kept: Kept, hnsw: HNSWConfig | None) -> None:
        self.number = number
        self.kept = kept
        self.hnsw = hnsw

    @property
    def space(self) -> EmbeddingSpace:
        """Of the vectors."""
        return self.kept.space

    @property
    def fits(self) -> bool:
        """Whether the collection's index is one of these parameters; for exact searches any is."""
        return self.hnsw is None or index_of(self.hnsw, self.space) == self.kept.index

    def with_ef_search(self, ef_search: int) -> Vectors:
        """Return the same with another `ef_search`."""
        assert self.hnsw is not None  # noqa: S101 (for the type checker)
        return Vectors(self.number, self.kept, replace(self.hnsw, ef_search=ef_search))


class Nearest:
    """Searches by vectors.

    Args:
        connection: to the server.
        collections: of the store.
        vectors: the collection in use.
    """

    def __init__(self, connection: Connection, collections: Collections, vectors: Vectors) -> None:
        self._connection = connection
        self._vectors = vectors
        self.rows = collections.rows(vectors.number)

    def find(self, vector: Vector, k: int, where: str, fields: Sequence[str], *, exact: bool) -> list[Row]:
        """Return fields, and the vector, of the k rows that match nearest to one, or of a few more, in no order.

        Where fewer come back than may match, the server is asked how many do, and then all are compared.

        Args:
            vector: the query.
            k: how many.
            where: the expression that they match.
            fields: of each row.
            exact: do without the index's approximation.
        """
        vectors = self._vectors
        by_all = vectors.kept.index is not None and (exact or vectors.hnsw is None)
        if not by_all and k <= MOST_ROWS:
            rows = self._by_index(vector, k, where, fields)
            if len(rows) >= k or len(rows) == self._connection.count(self.rows, where):
                return rows
        return self._by_all(vector, k, where, fields)

    def _by_index(self, vector: Vector, k: int, where: str, fields: Sequence[str]) -> list[Row]:
        index, hnsw = self._vectors.kept.index, self._vectors.hnsw
        again = index is not None and index[2] == "float16"
        count = min(MOST_ROWS, k * _AGAIN if again else k)
        ef = None if index is None or hnsw is None else max(hnsw.ef_search, count)
        wanted = [*dict.fromkeys(["pk", *fields, "vector"])]
        (rows,) = self._connection.search(self.rows, [vector], count, where, wanted, ef=ef)
        return rows

    def _by_all(self, vector: Vector, k: int, where: str, fields: Sequence[str]) -> list[Row]:
        """Compare all vectors that match here, a page of them at a time."""
        light = self._connection.select(self.rows, where, ["pk", "label"])
        light.sort(key=lambda row: (row["label"], row["pk"]))
        best: list[tuple[float, int]] = []
        for at in range(0, len(light), _PAGE):
            page = [row["pk"] for row in light[at : at + _PAGE]]
            found = self._connection.fetch(self.rows, page, ["vector"])
            numbers = [at + n for n, one in enumerate(page) if one in found]
            if not numbers:
                continue
            index = ExactIndex(dimensions=len(vector), metric=self._vectors.space.metric)
            index.add(
                np.array(numbers, np.int64),
                np.array([found[light[number]["pk"]]["vector"] for number in numbers], np.float32),
            )
            labels, scores = index.search(vector, k)
            best = heapq.nlargest(k, [*best, *zip(scores.tolist(), (-labels).tolist(), strict=True)])
        keys = [light[-number]["pk"] for _, number in best]
        found = self._connection.fetch(self.rows, keys, [*fields, "vector"])
        return [found[one] for one in keys if one in found]


def distances(vectors: Sequence[Sequence[float]], vector: Vector, *, metric: str) -> list[float]:
    """Return how far vectors are from one: 1 less the cosine, the negated inner product, or the distance."""
    if not vectors:
        return []
    many, one = np.array(vectors, np.float64), np.asarray(vector, np.float64)
    if metric == "euclidean":
        found = np.sqrt(((many - one) ** 2).sum(axis=1))
    elif metric == "inner_product":
        found = -(many @ one)
    else:
        found = 1.0 - (many @ one) / (np.sqrt((many**2).sum(axis=1)) * np.sqrt((one**2).sum()))
    return [float(distance) for distance in found]
