"""What the parts share: the data, and indexes that several of them search."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

from data import SIZES
from engines import Engine, Ours, new_index
from measure import seconds, truth_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data import Data
    from measure import Truth

    from llmspell_memory.index import HNSWIndex
    from llmspell_memory.types import Matrix, Vector
    from llmspell_memory.types.arrays import Labels

CORES: Final = os.cpu_count() or 1

Kind = TypeVar("Kind", bound=Engine)


@dataclass(frozen=True, slots=True)
class Built(Generic[Kind]):
    """An engine with its index, and what making it took."""

    engine: Kind
    seconds: float


class Bench:
    """The data at each size, and what is dear to make, made once.

    Args:
        data: rows and queries of unit length.
    """

    def __init__(self, data: Data) -> None:
        self.data = data
        self.sizes = [size for size in SIZES if size <= len(data.vectors)]
        if not self.sizes:
            raise SystemExit(f"the benchmark needs at least {SIZES[0]} vectors, got {len(data.vectors)}")
        self.largest = self.sizes[-1]
        self.dimensions = data.vectors.shape[1]
        self.queries: Sequence[Vector] = list(data.queries)
        self._truths: dict[int, Truth] = {}
        self._engines: dict[type[Engine], Built[Engine]] = {}

    @property
    def vectors(self) -> Matrix:
        """The rows of the largest size."""
        return self.data.vectors[: self.largest]

    def truth(self, size: int) -> Truth:
        """Return what every query should find among the first `size` rows."""
        if size not in self._truths:
            self._truths[size] = truth_of(self.data.vectors[:size], self.data.queries)
        return self._truths[size]

    def built(self, kind: type[Kind], size: int) -> Built[Kind]:
        """Return an engine over the first `size` rows, made with all cores; at the largest size it is kept."""
        if size == self.largest and kind in self._engines:
            return cast("Built[Kind]", self._engines[kind])
        engine = kind()
        made = Built(engine, seconds(lambda: engine.build(self.data.vectors[:size], CORES)))
        if size == self.largest:
            self._engines[kind] = cast("Built[Engine]", made)
        return made

    @property
    def index(self) -> HNSWIndex:
        """A graph of ours over the largest size, to be searched and not changed."""
        return self.built(Ours, self.largest).engine.index

    def filled(self, labels: Labels) -> HNSWIndex:
        """Return a new graph of ours over the rows `labels`, made with all cores."""
        index = new_index(self.dimensions)
        index.add(labels, self.vectors[labels], threads=CORES)
        return index

    def close(self) -> None:
        """Let go of what is kept."""
        for one in self._engines.values():
            one.engine.close()
