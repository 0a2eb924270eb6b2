"""What a search finds in the views of the rows, by label; to read the rows themselves is left to the backend."""

from __future__ import annotations

from contextlib import ExitStack
from time import perf_counter_ns
from typing import TYPE_CHECKING, Generic, NamedTuple

from llmspell_memory.backends.view import Rows
from llmspell_memory.index import blend
from llmspell_memory.index.base import as_label_set
from llmspell_memory.types import Filter, Part, Query
from llmspell_memory.types.entry import hit, own
from llmspell_memory.types.histogram import in_index

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from llmspell_memory.backends.row_view import RowView
    from llmspell_memory.backends.view import IndexView
    from llmspell_memory.index.labels import AnyLabelSet
    from llmspell_memory.types import EpisodicEntry, Hit, SearchMode, Vector


class Wanted(NamedTuple):
    """What a search is asked for."""

    query: Query
    k: int
    where: Filter

    @property
    def by_vector_alone(self) -> bool:
        """Whether the index of the vectors answers it, where all may be found."""
        return self.query.mode == "semantic" and not self.query.around and self.where.is_everything


def nearest(vector: Vector, k: int, where: Filter, *, exact: bool) -> Wanted:
    """Return what a search by meaning is asked for."""
    return Wanted(Query(text="", vector=vector, mode="semantic", exact=exact), k, where)


class Found(NamedTuple):
    """Labels, best first, with what is known of each; and the labels around each, before it and after it."""

    labels: list[int]
    scores: list[float]
    parts: list[Mapping[str, Part]] | None = None
    around: list[tuple[list[int], list[int]]] | None = None

    def needed(self) -> list[int]:
        """Labels of all rows that are to be read, each once."""
        if self.around is None:
            return self.labels
        near = (label for both in self.around for side in both for label in side)
        return list(dict.fromkeys([*self.labels, *near]))

    def hits(self, entries: Mapping[int, EpisodicEntry]) -> list[Hit] | None:
        """Return hits; None where a row is missing."""
        parts: Sequence[Mapping[str, Part] | None] = self.parts or [None] * len(self.labels)
        found = zip(self.labels, self.scores, parts, strict=True)
        try:
            if self.around is None:
                return [hit(own(entries[label]), score, part) for label, score, part in found]
            return [
                hit(own(entries[label]), score, part, *(tuple(own(entries[near]) for near in side) for side in both))
                for (label, score, part), both in zip(found, self.around, strict=True)
            ]
        except KeyError:
            return None


def fits(wanted: Wanted, found: Found, among: AnyLabelSet | None) -> bool:
    """Say whether as many were found as there are; by words alone, that cannot be told."""
    return among is None or wanted.query.mode == "keyword" or len(found.labels) == min(wanted.k, len(among))


class Views(Generic[Rows]):
    """The views of one backend's rows that a search looks into.

    Args:
        vectors: of the space in use.
        rows: of all else.
    """

    def __init__(self, vectors: IndexView[Rows], rows: RowView[Rows]) -> None:
        self.vectors = vectors
        self.rows = rows

    def moment(self, *, alone: bool = False) -> int | None:
        """Return the sequence number that is shown, by the vectors `alone` or by both; None while it is changing."""
        moment = self.vectors.moment
        return moment if alone or self.rows.moment == moment else None

    def locked(self) -> ExitStack:
        """Keep both as they are, but for whoever holds this."""
        stack = ExitStack()
        stack.enter_context(self.rows.lock)
        stack.enter_context(self.vectors.lock)
        return stack

    def catch_up(self, rows: Rows | None = None) -> None:
        """Bring both up to date."""
        self.rows.catch_up(rows)
        self.vectors.catch_up(rows)

    def choice(self, where: Filter, now: datetime, with_ids: Collection[int] | None = None) -> AnyLabelSet | None:
        """Return the labels of what matches, None for all.

        Args:
            where: the filter; instead of its `ids`,
            with_ids: labels of the rows that have one of them.
            now: the moment by which entries have expired.
        """
        among = self.rows.made.turns.select(where, now=now)
        if with_ids is None:
            return among
        return as_label_set([label for label in with_ids if among is None or label in among])

    def named_roles(self, words: Collection[str], where: Filter, now: datetime) -> list[str]:
        """Return which of `words` name the role of a row that matches; `where.ids` is not looked at."""
        return self.rows.made.turns.named(words, where, now=now)

    def find(self, wanted: Wanted, among: AnyLabelSet | None, *, now: datetime) -> Found:
        """Search among the labels chosen, None for all."""
        query = wanted.query
        began = perf_counter_ns()
        found = self._ranked(query, wanted.k, among)
        in_index.ns += perf_counter_ns() - began
        if not query.around:
            return found
        turns, known_by, width = self.rows.made.turns, wanted.where.known_by, query.around
        around = [
            turns.neighbours(label, before=width, after=width, now=now, known_by=known_by) for label in found.labels
        ]
        return found._replace(around=[(before.tolist(), after.tolist()) for before, after in around])

    def _ranked(self, query: Query, k: int, among: AnyLabelSet | None) -> Found:
        words = self.rows.made.words
        if query.mode == "hybrid":
            return Found(*blend(self.vectors.index, words, self.rows.made.turns, query, k, among))
        if query.mode == "keyword":
            labels, scores = words.search(query.text, k, among=among)
        else:
            assert query.vector is not None  # noqa: S101 (for the type checker: without one, the mode is "keyword")
            labels, scores = self.vectors.search(query.vector, k, among, exact=query.exact)
        found = Found(labels.tolist(), scores.tolist())
        return found._replace(parts=_alone(query.mode, found.scores)) if query.parts else found


def _alone(arm: SearchMode, scores: list[float]) -> list[Mapping[str, Part]]:
    return [{arm: Part(score, score, rank)} for rank, score in enumerate(scores, start=1)]
