"""The vectors of a store and its index under one set of labels, for those who measure.

A backend's verbs speak of entries; recall is counted in labels of the index. Backends of this library show theirs. Of
any other, all vectors are read into memory by `scan`, 4 bytes a number, and numbered in that order; its index stays
unseen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import numpy as np

from llmspell_memory.errors import ConfigError
from llmspell_memory.index import ExactIndex, HNSWIndex
from llmspell_memory.types import Filter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import HNSWConfig, Identity, Matrix, Vector
    from llmspell_memory.types.arrays import Labels

    Index = ExactIndex | HNSWIndex

ALL: Final = Filter(expired=None)
"""Whatever an index holds: what has expired, too."""

PAGE: Final = 4096
"""Vectors read at a time."""


class Stored(Protocol):
    """Vectors by label."""

    def labels(self, where: Filter) -> Labels:
        """Return the labels of the entries that match, in order."""
        ...

    def vectors(self, labels: Labels) -> tuple[Labels, Matrix]:
        """Return the vectors of those of the labels that are there, with their labels, in any order."""
        ...


@runtime_checkable
class ShowsIndex(Stored, Protocol):
    """A backend that shows its index, and the labels this one goes by."""

    def index(self) -> Index:
        """Return the index that answers searches, up to date: to measure it, not to change it."""
        ...


class Scanned:
    """What a backend that shows no index has stored, numbered by its own `scan` and held in memory."""

    def __init__(self, backend: EpisodicBackend) -> None:
        self._backend = backend
        self._label_of: dict[Identity, int] = {}
        rows: list[Vector | None] = []
        for entry in backend.scan(ALL):
            self._label_of[entry.identity] = len(rows)
            rows.append(entry.embedding)
        self._rows: Matrix = np.array(rows, np.float32).reshape(len(rows), backend.space.dimensions)

    def labels(self, where: Filter) -> Labels:
        """Return the labels of the entries that match, in order."""
        if where == ALL:
            return np.arange(len(self._rows), dtype=np.int64)
        found = (entry.identity for entry in self._backend.scan(where))
        return np.array(sorted(self._label_of[one] for one in found if one in self._label_of), np.int64)

    def vectors(self, labels: Labels) -> tuple[Labels, Matrix]:
        """Return the vectors of the labels."""
        return labels, self._rows[labels]


def check_whole(backend: EpisodicBackend) -> None:
    """Raise a ConfigError for a scope: its index is that of all who share the store."""
    if backend.namespace:
        raise ConfigError("a scope shares its index with others; measure the memory it was made from")


def stored(backend: EpisodicBackend) -> Stored:
    """Return the backend's vectors by label."""
    return backend if isinstance(backend, ShowsIndex) else Scanned(backend)


def live_index(backend: EpisodicBackend) -> Index | None:
    """Return the index that answers the backend's searches, up to date; None where the backend does not show it."""
    return backend.index() if isinstance(backend, ShowsIndex) else None


def exact_index(backend: EpisodicBackend, rows: Stored, live: Index | None) -> Index:
    """Return an index that can be searched exactly: the live one, unless it keeps rounded vectors or is not shown."""
    if live is None or (isinstance(live, HNSWIndex) and live.config.dtype != "float32"):
        return built(backend, rows, rows.labels(ALL), None)
    return live


def pages(rows: Stored, labels: Labels) -> Iterator[tuple[Labels, Matrix]]:
    """Yield the vectors of `labels`, so many at a time that memory stays small."""
    for start in range(0, len(labels), PAGE):
        yield rows.vectors(labels[start : start + PAGE])


def built(
    backend: EpisodicBackend,
    rows: Stored,
    labels: Labels,
    hnsw: HNSWConfig | None,
    *,
    on_progress: Callable[[int, int], object] | None = None,
) -> Index:
    """Return an index of the vectors of `labels` beside the backend's own, built on all processors.

    Args:
        backend: says dimensions and metric.
        rows: the vectors.
        labels: which of them.
        hnsw: parameters of an HNSW index; None for an exact one.
        on_progress: called with how many vectors are in, and how many there are.
    """
    dimensions, metric = backend.space.dimensions, backend.space.metric
    index: Index = (
        ExactIndex(dimensions=dimensions, metric=metric)
        if hnsw is None
        else HNSWIndex(dimensions=dimensions, metric=metric, config=hnsw)
    )
    for there, vectors in pages(rows, labels):
        index.add(there, vectors, threads=None)
        if on_progress:
            on_progress(len(index), len(labels))
    return index
