"""What the indexes have in common: checked arguments and typed errors around the native core."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from llmspell_memory import _core
from llmspell_memory.errors import InputError
from llmspell_memory.index.labels import LabelSet
from llmspell_memory.types.arrays import as_labels, as_matrix, as_vector, check_magnitude, checked_k

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from numpy.typing import ArrayLike

    from llmspell_memory._core import Flat, Route
    from llmspell_memory.types import Matrix, Metric, Vector
    from llmspell_memory.types.arrays import LabelMatrix, Labels

    Among: TypeAlias = ArrayLike | _core.LabelSet | None
    Progress: TypeAlias = Callable[[int, int], object]


class NativeIndex:
    """Vectors under int64 labels in the native core; may be used from several threads."""

    core: Flat

    def __init__(self, *, dimensions: int, metric: Metric) -> None:
        self.dimensions = dimensions
        self.metric: Metric = metric

    def __len__(self) -> int:
        return len(self.core)

    def add(
        self, labels: ArrayLike, vectors: ArrayLike, *, threads: int | None = 1, progress: Progress | None = None
    ) -> None:
        """Add `vectors`, shape (n, dimensions), under `labels`, shape (n,); a known label gets the new vector.

        Args:
            labels: integers from 0 up.
            vectors: one for each label.
            threads: how many work on it; None for one a processor. The result does not depend on it.
            progress: called now and then with how many are done and how many there are. What it raises ends the call;
                what was added by then stays.

        Raises:
            InputError: something is not acceptable; a DimensionError for the wrong width. Nothing is added.
        """
        numbers = as_labels(labels)
        matrix = as_matrix(vectors, rows=len(numbers), dimensions=self.dimensions)
        check_magnitude(matrix, metric=self.metric)
        self._check(matrix)
        self.core.add(numbers, matrix, checked_threads(threads), progress)

    def _check(self, vectors: Matrix) -> None:
        """Raise an InputError for vectors that this index cannot keep."""

    def remove(self, labels: ArrayLike) -> None:
        """Remove `labels`, shape (n,); unknown ones are ignored."""
        self.core.remove(as_labels(labels))

    def _search_converted(
        self, vector: ArrayLike, k: int, ef: int, among: Among, route: Route = "cheapest"
    ) -> tuple[Labels, Vector]:
        """Search for what the core did not take as it is; or say what is wrong with it."""
        query = as_vector(vector, dimensions=self.dimensions)
        check_magnitude(query[None], metric=self.metric)
        found = self.core.search(query, min(checked_k(k), len(self)), ef, as_label_set(among), route)
        assert found is not None  # noqa: S101 (for the type checker: all was converted)
        return found

    def _search_many(
        self, vectors: ArrayLike, k: int, ef: int, among: Among, threads: int | None
    ) -> tuple[LabelMatrix, Matrix]:
        queries = as_matrix(vectors, dimensions=self.dimensions)
        check_magnitude(queries, metric=self.metric)
        k = min(checked_k(k), len(self))
        return self.core.search_many(queries, k, ef, as_label_set(among), checked_threads(threads))

    def check(self) -> str:
        """Return what is wrong with the index, "" when every invariant holds; visits everything."""
        return self.core.check()


def as_label_set(among: Among) -> _core.LabelSet | None:
    """Return a set of the labels given, None for None."""
    return among if among is None or isinstance(among, _core.LabelSet) else LabelSet(among)


def checked_threads(threads: int | None) -> int:
    """Return how many threads are to work; one a processor for None."""
    if threads is None:
        return os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise InputError(f"threads must be an integer from 1 up or None, got {threads!r}")
    return threads
