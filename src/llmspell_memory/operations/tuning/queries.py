"""What an index is measured with: queries that were given, recorded, or made from what is stored.

A stored entry itself is an easy query: a walk that comes near meets its node, which links to its nearest. Recall looks
up to four points better than it is for a new text. So each is moved by the difference of two others that are
neighbours, to where another entry might be and none is. With queries held out from five sets of texts and models, the
recall of these was off by a point at most on four, and by three on the low side on the fifth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from llmspell_memory.errors import InputError
from llmspell_memory.index import LabelSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.operations.tuning.stored import Index, Stored
    from llmspell_memory.types import Filter, Matrix, Vector
    from llmspell_memory.types.arrays import Labels

QueryKind: TypeAlias = Literal["given", "recorded", "sampled"]

Recorded: TypeAlias = "tuple[Vector, int, Filter]"
"""A search that was made: its vector, how many were asked for, and the filter."""

FEW: Final = 1_000
"""So few are scanned by an HNSW index whatever its parameters, or nearly: measuring them tells nothing of a graph."""

_ENOUGH: Final = 50
"""Recorded queries from which on they tell more than sampled ones."""

_K: Final = 10

_NEIGHBOUR: Final = 3
"""Which neighbour of an entry tells how far apart entries lie: the first makes queries too easy, the tenth too hard."""

MEANING: Final[dict[QueryKind, str]] = {
    "given": "queries that were given",
    "recorded": "searches that were made on this memory",
    "sampled": "queries made from stored entries, which questions need not resemble: give some for a surer figure",
}
"""What each kind of query says about the figures."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query.

    Attributes:
        vector: what is looked for.
        where: its filter.
        among: the labels that match it, None for all.
    """

    vector: Vector
    where: Filter
    among: LabelSet | None = None


@dataclass(frozen=True, slots=True)
class Queries:
    """What is asked, how many hits of each, and what kind of queries these are."""

    kind: QueryKind
    k: int
    each: tuple[Query, ...]


class Chooser:
    """Finds queries.

    Args:
        rows: the stored vectors.
        index: finds neighbours among them.
        service: embeds and checks queries that are given.
        where: the filter of every query but recorded ones, which bring theirs.
    """

    def __init__(self, rows: Stored, index: Index, service: EmbeddingService, where: Filter) -> None:
        self._rows = rows
        self._index = index
        self._service = service
        self._where = where

    def choose(
        self,
        queries: Iterable[str | ArrayLike] | None,
        recorded: Sequence[Recorded],
        *,
        k: int | None,
        sample: int,
    ) -> Queries:
        """Return the queries given; else those recorded, if they are enough; else some of the stored vectors."""
        for name, value in (("k", k), ("sample", sample)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"{name} must be an integer from 1 up, got {value!r}")
        if queries is not None:
            return Queries("given", k or _K, tuple(self._given(queries)))
        if self._where.is_everything and len(kept := self._recorded(recorded[-sample:])) >= _ENOUGH:
            usual = Counter(asked for _, asked, _ in recorded if asked).most_common(1)[0][0]
            return Queries("recorded", k or usual, tuple(kept))
        return Queries("sampled", k or _K, tuple(self._sampled(sample)))

    def _among(self, where: Filter) -> LabelSet | None:
        return None if where.is_everything else LabelSet(self._rows.labels(where))

    def _given(self, queries: Iterable[str | ArrayLike]) -> list[Query]:
        if isinstance(queries, str) or not isinstance(queries, Iterable):
            raise InputError(f"queries must be a collection of texts and vectors, got {type(queries).__name__}")
        asked = list(queries)
        if not asked:
            raise InputError("queries are empty; leave them out to take stored entries as queries")
        texts = [one for one in asked if isinstance(one, str)]
        embedded = iter(self._service.embed(texts, kind="query"))
        among = self._among(self._where)
        return [
            Query(next(embedded) if isinstance(one, str) else self._service.check_vector(one), self._where, among)
            for one in asked
        ]

    def _recorded(self, recorded: Sequence[Recorded]) -> list[Query]:
        """Those whose filter leaves so many that an index has something to choose."""
        among = {where: self._among(where) for where in {where for _, _, where in recorded}}
        found = (Query(vector, where, among[where]) for vector, asked, where in recorded if asked)
        return [query for query in found if query.among is None or len(query.among) >= FEW]

    def _sampled(self, sample: int) -> list[Query]:
        among = self._among(self._where)
        chosen = np.random.default_rng(0).permutation(self._rows.labels(self._where))[:sample]
        there, vectors = self._rows.vectors(np.sort(chosen))
        near = [self._neighbour(label, vector, among) for label, vector in zip(there.tolist(), vectors, strict=True)]
        neighbours = dict(zip(*_listed(*self._rows.vectors(np.unique(near))), strict=True)) if near else {}
        shifts = np.array([neighbours.get(label, vector) - vector for label, vector in zip(near, vectors, strict=True)])
        moved = vectors + np.roll(shifts, len(shifts) // 2, axis=0) if len(shifts) else vectors  # by another's
        order = np.random.default_rng(1).permutation(len(moved))  # for neighbours by label may be alike
        return [Query(moved[place], self._where, among) for place in order]

    def _neighbour(self, label: int, vector: Vector, among: LabelSet | None) -> int:
        """Return the third nearest of the others, or the furthest where there are fewer; itself where it is alone."""
        found: list[int] = self._index.search(vector, _NEIGHBOUR + 1, among=among)[0].tolist()
        return [label, *(one for one in found if one != label)][: _NEIGHBOUR + 1][-1]


def _listed(labels: Labels, vectors: Matrix) -> tuple[list[int], list[Vector]]:
    return labels.tolist(), list(vectors)
