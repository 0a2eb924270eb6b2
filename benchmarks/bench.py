"""What the parts share: the data, and indexes that several of them search."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from data import SIZES
from engines import new_index
from measure import truth_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data import Data
    from measure import Truth

    from llmspell_memory.index import HNSWIndex
    from llmspell_memory.types import Matrix, Vector

CORES: Final = os.cpu_count() or 1


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

    @property
    def vectors(self) -> Matrix:
        """The rows of the largest size."""
        return self.data.vectors[: self.largest]

    def truth(self, size: int) -> Truth:
        """Return what every query should find among the first `size` rows."""
        if size not in self._truths:
            self._truths[size] = truth_of(self.data.vectors[:size], self.data.queries)
        return self._truths[size]

    def built(self, vectors: Matrix | None = None, **settings: Any) -> HNSWIndex:
        """Return a new graph of ours over `vectors`, all when None, made with all cores."""
        rows = self.vectors if vectors is None else vectors
        index = new_index(self.dimensions, **settings)
        index.add(np.arange(len(rows)), rows, threads=CORES)
        return index

    @cached_property
    def index(self) -> HNSWIndex:
        """A graph of ours over the largest size, to be searched and not changed."""
        return self.built()
