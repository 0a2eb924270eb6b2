"""Candidates that a server has found, scored as every backend scores: put into small indexes of our own.

A server chooses what may be among the best; which are the best is the business of one definition, the native blend's.
Rarity and length are judged by counts of the server's, over all rows that match.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import log1p, sqrt
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from llmspell_memory.index import ExactIndex, KeywordIndex, Turn, TurnTable, blend, worth

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from llmspell_memory.types import EpisodicEntry, KeywordConfig, Metric, Part, Query, Vector

REACH: Final = 2
"""Turns to either side of a candidate that it may lean on."""

_CANDIDATES: Final = (50, 100)
"""Of each arm at least, and at most but for two for each row wanted: as many as the native blend takes."""

_GAP: Final = 8
"""Turns that stand for those between two stretches of a session which are not looked at."""


class Spotted(NamedTuple):
    """A row that is scored.

    Attributes:
        label: its number; rows of one moment come in the order of their labels.
        namespace: who it belongs to.
        session_id: of its session.
        role: who spoke.
        happened: when, in microseconds since 1970.
        content: its text.
        distance: of its vector from the query's, by the space's metric: 1 less the cosine, the negated inner product,
            or the distance.
    """

    label: int
    namespace: tuple[str, ...]
    session_id: str
    role: str
    happened: int
    content: str
    distance: float = 0.0


class Corpus(NamedTuple):
    """What a query's words are judged by.

    Attributes:
        terms: of the query.
        counts: how many of the rows that match have each.
        rows: how many rows match.
        length: how many terms they have in all.
    """

    terms: list[str]
    counts: list[int]
    rows: int
    length: int

    def weight(self, number: int) -> float:
        """Return how rare a term is."""
        return log1p((self.rows - self.counts[number] + 0.5) / (self.counts[number] + 0.5))

    def words_of(self, texts: Mapping[int, str], keywords: KeywordConfig) -> KeywordIndex:
        """Return an index of some of the texts, by label, that judges as one of all would."""
        index = KeywordIndex(keywords)
        index.add(list(texts), list(texts.values()))
        index.stand_for(self.rows, self.length, dict(zip(self.terms, self.counts, strict=True)))
        return index


def candidates_for(k: int) -> int:
    """Return how many candidates of each arm a search for k rows takes."""
    few, many = _CANDIDATES
    return max(min(max(4 * k, few), many), 2 * k)


def nearest_of(
    entries: Mapping[int, EpisodicEntry], vector: Vector, k: int, *, metric: Metric
) -> list[tuple[int, float]]:
    """Return label and score of the k nearest of some entries, as an exact index scores and orders them."""
    index = ExactIndex(dimensions=len(vector), metric=metric)
    if entries:
        index.add(np.array(list(entries), np.int64), np.array([one.embedding for one in entries.values()]))
    labels, scores = index.search(vector, k)
    return list(zip(labels.tolist(), scores.tolist(), strict=True))


class Scene:
    """Candidates with the turns beside them.

    Args:
        candidates: rows that an arm has found.
        beside: rows beside them: the candidate's label, and the row. Between those of one candidate nothing stands.
    """

    def __init__(self, candidates: Iterable[Spotted], beside: Iterable[tuple[int, Spotted]]) -> None:
        self._rows = {row.label: row for row in candidates}
        self._sides: dict[int, list[Spotted]] = {}
        for label, row in beside:
            self._sides.setdefault(label, []).append(row)
        for rows in self._sides.values():
            for row in rows:
                self._rows.setdefault(row.label, row)

    def ranked(
        self, query: Query, k: int, corpus: Corpus, *, metric: Metric, keywords: KeywordConfig
    ) -> tuple[list[int], list[float], list[Mapping[str, Part]] | None]:
        """Return labels and scores of the k best, and what their scores are made of if the query wants to know."""
        rows = sorted(self._rows.values(), key=lambda row: (row.namespace, row.session_id, row.happened, row.label))
        if not rows:
            return [], [], None
        turns, index = TurnTable(), ExactIndex(dimensions=2, metric=metric)
        turns.put([*(_turn(row, keywords) for row in rows), *([] if query.exact else self._gaps(rows, keywords))])
        near = np.array([_in_the_plane(row.distance, metric) for row in rows], np.float32)
        index.add(np.array([row.label for row in rows], np.int64), near)
        words = corpus.words_of({row.label: row.content for row in rows}, keywords)
        flat = replace(query, vector=np.array([1.0, 0.0], np.float32), exact=True)
        return blend(index, words, turns, flat, k, None)

    def _adjacent(self) -> set[tuple[int, int]]:
        """Return the pairs of labels between which, in their session, nothing stands."""
        pairs: set[tuple[int, int]] = set()
        for label, rows in self._sides.items():
            stretch = sorted([self._rows[label], *rows], key=lambda row: (row.happened, row.label))
            pairs.update(pairwise(row.label for row in stretch))
        return pairs

    def _gaps(self, rows: Sequence[Spotted], keywords: KeywordConfig) -> Iterator[Turn]:
        """Yield turns without words and vectors, for those that are not known, between stretches of a session.

        Where the stretches are of one and the same moment there are none: nothing can be put in between.
        """
        adjacent, label = self._adjacent(), max(row.label for row in rows)
        for before, row in pairwise(rows):
            same = (before.namespace, before.session_id) == (row.namespace, row.session_id)
            if not same or (before.label, row.label) in adjacent or row.happened - before.happened <= 1:
                continue
            moment = before.happened + 1
            for number in range(1, 1 + _GAP):
                yield _turn(row._replace(label=label + number, happened=moment, content="", role="-"), keywords)
            label += _GAP


def _turn(row: Spotted, keywords: KeywordConfig) -> Turn:
    return Turn(
        label=row.label,
        namespace=row.namespace,
        session_id=row.session_id,
        role=row.role,
        timestamp=row.happened,
        ingestion_time=row.happened,
        processed=False,
        expires_at=None,
        metadata={},
        length=len(row.content),
        worth=worth(row.content, keywords.language),
    )


def _in_the_plane(distance: float, metric: Metric) -> tuple[float, float]:
    """Return a vector of two numbers that is so far from (1, 0)."""
    if metric == "cosine":
        cosine = max(-1.0, min(1.0, 1.0 - distance))
        return cosine, sqrt(1.0 - cosine * cosine)
    return (-distance, 0.0) if metric == "inner_product" else (1.0 - distance, 0.0)
