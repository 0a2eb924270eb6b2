"""A pool of hits, weighed again as a `Ranking` says; nothing comes in that was not in the pool."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmspell_memory.errors import InputError
from llmspell_memory.types import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmspell_memory.retrieval.ranking import Ranking
    from llmspell_memory.types import EpisodicEntry, Hit

_Scores: TypeAlias = NDArray[np.float64]
_Order: TypeAlias = list[int]

_WORD = re.compile(r"\w+")


class Pool:
    """Hits with their scores, which change.

    Args:
        hits: as a backend found them, best first.
        parts: whether it is kept how scores come about.
    """

    def __init__(self, hits: Sequence[Hit], *, parts: bool) -> None:
        self._hits = hits
        self.entries = [hit.entry for hit in hits]
        self.scores: _Scores = np.array([hit.score for hit in hits], np.float64)
        self._parts = [dict(hit.parts or {}) for hit in hits] if parts else None

    def rescore(self, name: str, scores: _Scores) -> None:
        """Let other scores take the place of those so far."""
        if self._parts is not None:
            for parts in self._parts:
                parts.update({arm: replace(part, share=0.0) for arm, part in parts.items()})
        self.scores = np.zeros(len(scores))
        self.gain(name, scores, scores)

    def gain(self, name: str, measured: _Scores, gains: _Scores) -> None:
        """Add to the scores; `measured` is what the gains are from."""
        self.scores = self.scores + gains
        if self._parts is not None:
            places = ranks(measured)
            for parts, score, share, rank in zip(self._parts, measured.tolist(), gains.tolist(), places, strict=True):
                parts[name] = Part(score, share, rank)

    def order(self) -> _Order:
        """Places of the hits, best first; of equal ones, the one that was first before."""
        order: _Order = np.argsort(-self.scores, kind="stable").tolist()
        return order

    def spread(self) -> float:
        """How far the best score lies above the last; 1 where they are equal, for any gain then decides."""
        return float(np.ptp(self.scores)) or 1.0

    def hit(self, place: int) -> Hit:
        """Return a hit as it is by now."""
        parts = self._hits[place].parts if self._parts is None else self._parts[place]
        return replace(self._hits[place], score=float(self.scores[place]), parts=parts)


def refined(
    hits: Sequence[Hit], k: int, ranking: Ranking, *, text: str, known_by: datetime | None, parts: bool
) -> list[Hit]:
    """Return the k best of `hits` by a ranking.

    Args:
        hits: best first.
        k: how many at most.
        ranking: what is done.
        text: of the query; "" where it was a vector.
        known_by: the moment that the search looks back from, None for the present.
        parts: whether hits are to tell what they gained.

    Raises:
        InputError: the reranker, or the reader of dates, has returned something else than asked for.
    """
    if not hits:
        return []
    pool, now = Pool(hits, parts=parts), ranking.now or known_by or datetime.now(UTC)
    if ranking.reranker is not None:
        pool.rescore("reranker", _reranked(ranking, text, pool.entries))
    spread = pool.spread()
    if ranking.half_life is not None:
        fresh = freshness(pool.entries, now, ranking.half_life.total_seconds())
        pool.gain("recency", fresh, ranking.recency * spread * fresh)
    if ranking.dates is not None and text:
        named = _of_named_times(pool.entries, ranking.dates(text, now))
        pool.gain("dates", named, ranking.naming * spread * named)
    order = pool.order()
    if ranking.near_duplicates is not None:
        order = distinct(pool.entries, order, ranking.near_duplicates)
    if ranking.mmr is not None:
        order = varied(pool.entries, pool.scores, order, k, ranking.mmr)
    return [pool.hit(place) for place in order[:k]]


def freshness(entries: Sequence[EpisodicEntry], now: datetime, half_life: float) -> _Scores:
    """Return 1 for what happens at `now` or later, 1/2 for what is a half-life (in seconds) old, 1/4 for two."""
    ages = np.array([(now - entry.timestamp).total_seconds() for entry in entries], np.float64)
    halvings: _Scores = np.exp2(-np.maximum(ages, 0.0) / half_life)
    return halvings


def distinct(entries: Sequence[EpisodicEntry], order: _Order, threshold: float) -> _Order:
    """Return those places of `order` that are no near duplicate of one before them which stays."""
    alike = _cosines(entries) >= threshold
    kept: _Order = []
    said: set[str] = set()
    for place in order:
        words = _words(entries[place].content)
        if words not in said and not alike[place, kept].any():
            kept.append(place)
            said.add(words)
    return kept


def varied(entries: Sequence[EpisodicEntry], scores: _Scores, order: _Order, k: int, weight: float) -> _Order:
    """Return k places of `order`, each chosen for its score and for how little it resembles those before it."""
    cosines = _cosines(entries)
    relevance = (scores - scores.min()) / (float(np.ptp(scores)) or 1.0)
    left, chosen = list(order), [order[0]]
    left.remove(order[0])
    nearest = cosines[:, order[0]].copy()
    while left and len(chosen) < k:
        value = weight * relevance[left] - (1.0 - weight) * nearest[left]
        best = left.pop(int(value.argmax()))  # of equal ones the first, which is the better
        chosen.append(best)
        nearest = np.maximum(nearest, cosines[:, best])
    return chosen


def ranks(values: _Scores) -> list[int]:
    """Return each value's place among all from 1 up, the highest first; equal ones share the better place."""
    falling = -np.sort(-values)
    places: list[int] = (np.searchsorted(-falling, -values) + 1).tolist()
    return places


def _reranked(ranking: Ranking, text: str, entries: Sequence[EpisodicEntry]) -> _Scores:
    if ranking.reranker is None or not text:
        raise InputError("a reranker compares texts with a text; give the query as one")
    given = ranking.reranker.rerank(text, [entry.content for entry in entries])
    try:
        scores = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"a reranker must return numbers, got {type(given).__name__}") from error
    if scores.shape != (len(entries),) or not np.isfinite(scores).all():
        raise InputError(
            f"a reranker must return a finite score for each of {len(entries)} texts, got the shape {scores.shape}"
        )
    return scores


def _of_named_times(entries: Sequence[EpisodicEntry], times: Sequence[tuple[datetime, datetime]]) -> _Scores:
    """Return 1 for each entry of one of the times, 0 for others."""
    try:
        within = [any(since <= entry.timestamp < until for since, until in times) for entry in entries]
    except (TypeError, ValueError) as error:
        raise InputError(f"a reader of dates must return pairs of timezone-aware datetimes: {error}") from error
    return np.array(within, np.float64)


def _cosines(entries: Sequence[EpisodicEntry]) -> NDArray[np.float64]:
    """Return the cosine of each pair, shape (n, n); 0 with an entry that has no vector, or one of length 0."""
    width = max((len(entry.embedding) for entry in entries if entry.embedding is not None), default=1)
    rows = np.array([np.zeros(width) if one.embedding is None else one.embedding for one in entries], np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    rows /= np.where(largest > 0, largest, 1.0)  # so that no square overflows or vanishes
    lengths = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    rows /= np.where(lengths > 0, lengths, 1.0)
    cosines: NDArray[np.float64] = rows @ rows.T
    return cosines


def _words(text: str) -> str:
    """Return a text's words in one form: of whatever case, spacing and punctuation."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_WORD.findall(plain)) or plain.strip()
