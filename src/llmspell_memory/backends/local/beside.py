"""Vectors of another embedding space than the one in use, for the same rows in RAM."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

from llmspell_memory.backends.local.rows import Feed, Log, Rows
from llmspell_memory.backends.overlap import FEW, overlap
from llmspell_memory.backends.view import IndexView
from llmspell_memory.errors import ConfigError
from llmspell_memory.types import BesideCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from llmspell_memory.types import EmbeddingSpace, Matrix, RowText

    View = IndexView[Rows]


class VectorsBeside:
    """Vectors of a space that is not in use; its methods are those of the protocol `VectorsBeside`."""

    def __init__(
        self,
        rows: Rows,
        space: EmbeddingSpace,
        *,
        using: Callable[[], View],
        adopt: Callable[[], AbstractContextManager[Callable[[View], None]]],
    ) -> None:
        self.space = space
        self._rows = rows
        self._using = using
        self._adopt = adopt
        self._fresh: View | None = None
        self._log: Log | None = None
        with rows:
            if rows.space == space:
                raise ConfigError(f"the store holds vectors of {space} already")

    def counts(self) -> BesideCounts:
        """Return how many rows there are, how many lack a vector, and how long the texts of these are."""
        with self._rows as rows:
            texts = [rows.entries[label].content for label in rows.without(self.space)]
            count = len(rows.entries)
        return BesideCounts(
            rows=count,
            missing=len(texts),
            characters=sum(map(len, texts)),
            bytes=sum(len(text.encode()) for text in texts),
        )

    def missing(self, limit: int, *, after: int = -1) -> list[RowText]:
        """Return rows that have no vector, in the order of their labels."""
        with self._rows as rows:
            labels = heapq.nsmallest(limit, (label for label in rows.without(self.space) if label > after))
            return [(label, rows.changed_at(label), rows.entries[label].content) for label in labels]

    def put(self, rows: Sequence[RowText], vectors: Matrix) -> int:
        """Store vectors, and return how many; a row that has changed meanwhile gets none."""
        with self._rows as held:
            if held.space == self.space:  # by another who has made them all
                return 0
            current = [
                (label, vector)
                for (label, at, _), vector in zip(rows, vectors, strict=True)
                if label in held.entries and held.changed_at(label) == at
            ]
            held.put_beside(self.space, {label: vector.copy() for label, vector in current})
        return len(current)

    def overlap(self, sample: int, k: int) -> Iterator[float]:
        """Yield what share of an entry's k nearest is the same in both spaces, for about `sample` entries."""
        using, fresh = self._using(), self._built()
        using.catch_up()
        with self._rows as rows:
            made = rows.beside.get(self.space, {})
            labels = sorted(made)[:: max(1, len(made) // max(1, sample))][:sample]
            old = [rows.entries[label].embedding for label in labels]
            new = [made[label] for label in labels]
        former = np.array(old, np.float32).reshape(len(labels), using.space.dimensions)
        latter = np.array(new, np.float32).reshape(len(labels), self.space.dimensions)
        return overlap((using, former), (fresh, latter), labels, k)

    def _built(self) -> IndexView[Rows]:
        """Return a view of these vectors, up to date and with the parameters of the one in use."""
        using = self._using()
        with self._rows as rows:
            log = rows.begin_beside(self.space)
        if self._fresh is None or self._log is not log:  # others have dropped the vectors since, and begun anew
            self._log, self._fresh = log, IndexView(self.space, using.hnsw, source=Feed(self._rows, self.space))
        self._fresh.catch_up()
        self._fresh.configure(using.hnsw, rebuild=False)
        return self._fresh

    def take_over(self, embed: Callable[[Sequence[str]], Matrix] | None = None) -> bool:
        """Make this space the one in use; False, and nothing changes, where a row has no vector.

        False, too, where the index in use was configured meanwhile; the next call takes that over.

        Args:
            embed: makes the vectors of the last few rows, while writers wait.
        """
        if embed is None:
            return self._take_over()
        self._built()  # most of it before anybody has to wait
        with self._rows.writing:
            few = self.missing(FEW + 1)
            if len(few) > FEW:
                return False
            if few:
                self.put(few, embed([text for _, _, text in few]))
            return self._take_over()

    def _take_over(self) -> bool:
        if self.counts().missing:
            return False
        if self._using().space == self.space:
            return True
        fresh = self._built()
        with self._adopt() as adopt, self._using().lock, fresh.lock, self._rows as rows:
            if rows.space == self.space:
                return True
            left = next(iter(rows.without(self.space)), None) is not None
            if left or fresh.hnsw != self._using().hnsw or rows.begin_beside(self.space) is not self._log:
                return False
            fresh.catch_up(rows)
            rows.use(self.space)
            adopt(fresh)
        self._fresh = None
        return True

    def drop(self) -> None:
        """Drop the vectors."""
        with self._rows as rows:
            if rows.space == self.space:
                raise ConfigError(f"the vectors of {self.space} are in use; move the store to another space first")
            rows.end_beside(self.space)
