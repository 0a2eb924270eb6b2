"""Approximate search by a graph: the native HNSW core behind checked arguments and typed errors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from llmspell_memory import _core
from llmspell_memory.errors import InputError
from llmspell_memory.index.base import NativeIndex
from llmspell_memory.index.snapshots import checked_tag, damaged, translated
from llmspell_memory.types import HNSWConfig, IndexStats
from llmspell_memory.types.settings import checked_parameter

if TYPE_CHECKING:
    import os
    from typing import Self

    from numpy.typing import ArrayLike

    from llmspell_memory._core import HNSW
    from llmspell_memory.index.base import Among
    from llmspell_memory.types import Matrix, Metric, Vector
    from llmspell_memory.types.arrays import LabelMatrix, Labels


_MOST_HALF: Final = 65_504
"""The greatest number of IEEE 754 binary16."""


def check_storable(vectors: Vector | Matrix, *, metric: Metric, dtype: str) -> None:
    """Raise an InputError for vectors that an index of `dtype` cannot keep under this metric."""
    if dtype == "float16" and metric != "cosine" and np.abs(vectors).max(initial=0) > _MOST_HALF:
        raise InputError(f"float16 holds numbers up to {_MOST_HALF}; keep larger ones in an index of float32")


class HNSWIndex(NativeIndex):
    """Approximate top-k by Hierarchical Navigable Small World graphs (Malkov & Yashunin 2018).

    Args:
        dimensions: width of every vector.
        metric: how vectors are compared; scores are cosines, inner products, or negated distances.
        config: m, ef_construction, ef_search, seed and dtype.

    Every live vector can be reached after any order of adds, replacements and deletes; a delete frees its slot at once.
    Where a graph would not pay (few vectors, a narrow filter, k near their number) the candidates are scanned exactly.
    May be used from several threads; a search waits for a writer for some microseconds at most.
    """

    core: HNSW

    def __init__(self, *, dimensions: int, metric: Metric = "cosine", config: HNSWConfig | None = None) -> None:
        super().__init__(dimensions=dimensions, metric=metric)
        self.tag = 0
        self._path: str | os.PathLike[str] = ""
        self._configure(config or HNSWConfig())
        made = self._config
        self.core = _core.HNSW(dimensions, metric, made.dtype, made.m, made.ef_construction, made.seed)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Return the index that was saved at `path`; its vectors are mapped and read when they are needed.

        The file may be replaced meanwhile, by `save` for instance, but must not be written into.

        Raises:
            CorruptDataError: it is not a snapshot, or not what was written. Vectors are compared in the background; if
                something is wrong with them, searches say so once it is known, and `verify` waits for it.
            SchemaError: it was written by a newer version.
            StorageError: it cannot be read.
        """
        with translated(path):
            core, dimensions, metric, dtype, m, ef_construction, note = _core.open_index(path)
        ef_search, seed, tag = note
        config = HNSWConfig(m=m, ef_construction=ef_construction, ef_search=ef_search, seed=seed, dtype=dtype)
        index = cls(dimensions=dimensions, metric=metric, config=config)
        index.core, index._path, index.tag = core, path, tag
        return index

    def save(self, path: str | os.PathLike[str], *, tag: int = 0) -> None:
        """Write the index to `path`, in place of what is there once all is on the disk; searches go on meanwhile.

        Args:
            path: of the file.
            tag: a number of the caller's, from 0 to 2**64 - 1; `open` returns an index with it as its `tag`.

        Raises:
            InputError: `tag` is out of range.
            StorageError: it cannot be written; what was there is still there.
        """
        note = [self._ef, self._config.seed, checked_tag(tag)]
        with translated(path):
            self.core.save(path, note)

    def verify(self) -> None:
        """Wait until the snapshot that the index was opened from is compared with its checksums.

        Raises:
            CorruptDataError: it is not what was written.
        """
        with translated(self._path):
            self.core.verify()

    def _check(self, vectors: Matrix) -> None:
        check_storable(vectors, metric=self.metric, dtype=self._config.dtype)

    def _configure(self, config: HNSWConfig) -> None:
        self._config, self._ef = config, config.ef_search

    @property
    def config(self) -> HNSWConfig:
        """The parameters in force."""
        return self._config

    @property
    def ef_search(self) -> int:
        """Candidates kept while searching; assigning it holds from the next search on."""
        return self._ef

    @ef_search.setter
    def ef_search(self, value: int) -> None:
        self._configure(replace(self._config, ef_search=value))

    def search(
        self, vector: ArrayLike, k: int, *, among: Among = None, ef_search: int | None = None, exact: bool = False
    ) -> tuple[Labels, Vector]:
        """Return labels and scores of the k best found, best first; fewer only where there are fewer candidates.

        Args:
            vector: the query, shape (dimensions,).
            k: how many, from 0 up.
            among: labels that may be returned, as a LabelSet or of shape (n,); all when None, unknown ones are ignored.
            ef_search: for this search alone, instead of the configured value.
            exact: look at every candidate instead of walking the graph: what the approximate answer is judged by.

        Raises:
            InputError: `vector`, `k` or `among` is not acceptable; a DimensionError for the wrong width.
            ConfigError: `ef_search` is out of range.
            CorruptDataError: the snapshot that the index was opened from is damaged.
        """
        ef = self._ef if ef_search is None else checked_parameter("ef_search", ef_search)
        try:
            if exact:
                return self._search_converted(vector, k, ef, among, "exact")
            return self.core.search(vector, k, ef, among) or self._search_converted(vector, k, ef, among)
        except _core.DamagedError as error:
            raise damaged(self._path, error) from error

    def search_many(
        self,
        vectors: ArrayLike,
        k: int,
        *,
        among: Among = None,
        ef_search: int | None = None,
        threads: int | None = None,
    ) -> tuple[LabelMatrix, Matrix]:
        """Search for each of `vectors`, shape (n, dimensions), on `threads` threads (None: one a processor).

        Returns:
            Labels and scores of shape (n, min(k, size)); where fewer are found, -1 and minus infinity follow.
        """
        ef = self._ef if ef_search is None else checked_parameter("ef_search", ef_search)
        with translated(self._path):
            return self._search_many(vectors, k, ef, among, threads)

    def stats(self) -> IndexStats:
        """Return kind, size, parameters and bytes in memory."""
        return IndexStats(kind="hnsw", size=len(self), config=self._config, memory_bytes=self.core.memory_bytes())
