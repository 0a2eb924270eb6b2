"""Whether the saved index of a store shows its rows, and how many of the nearest it finds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from llmspell_memory.backends.sqlite.folders import INDEX
from llmspell_memory.errors import CorruptDataError, InputError, SchemaError, StorageError
from llmspell_memory.index import ExactIndex, HNSWIndex

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from llmspell_memory.backends.sqlite.findings import Findings
    from llmspell_memory.types import EmbeddingSpace, Matrix, Vector
    from llmspell_memory.types.arrays import Labels
    from llmspell_memory.types.care import SnapshotState

_K: Final = 10
_NOISE: Final = 0.1
"""Length of what is added to a stored vector to make a query, as a share of its own length."""

_FAIR: Final = 0.9
_ROUNDING: Final = {"float32": 1e-4, "float16": 1e-2}


class SavedIndexCheck:
    """The saved index beside a store, compared with the rows batch by batch.

    Args:
        store: path of the store.
        findings: where to say what is wrong.
    """

    def __init__(self, store: Path, findings: Findings) -> None:
        self._path = Path(f"{store}{INDEX}")
        self._findings = findings
        self._index: HNSWIndex | None = None
        self._exact: ExactIndex | None = None
        self._shown = 0
        self._seen = 0
        self._asked: frozenset[int] = frozenset()
        self._queries: list[Vector] = []
        self.state: SnapshotState = "absent"

    def open(self) -> None:
        """Open the index; what keeps it from being used is a note.

        This comes before a look at the rows: they know an index by its tag before it stands there, never the other way.
        """
        if not self._path.exists():
            self._passed_over("absent", "there is none")
            return
        try:
            index = HNSWIndex.open(self._path)
            index.verify()
        except SchemaError as error:
            self._passed_over("newer", str(error))
        except CorruptDataError as error:
            self._passed_over("damaged", str(error))
        except StorageError as error:
            self._passed_over("unknown", str(error))
        else:
            self._index = index

    def place(self, space: EmbeddingSpace | None, tags: Mapping[int, int] | None) -> None:
        """Find out which moment of the rows the index shows.

        Args:
            space: of the store, None where that is lost.
            tags: of index files, by what each of them shows, as the rows record them; None where that is lost.
        """
        index, self._index = self._index, None
        if index is None:
            return
        if tags is None:
            self._passed_over("unknown", "whether it is of these rows cannot be told")
        elif index.tag not in tags:
            self._passed_over("foreign", f"{self._path} was not written from these rows: they do not know its tag")
        elif space is None or (index.dimensions, index.metric) != (space.dimensions, space.metric):
            self._passed_over("foreign", f"{self._path} is of vectors of another space")
        elif fault := index.check():
            self._wrong(f"the graph is broken: {fault}")
        else:
            self._index, self._shown, self.state = index, tags[index.tag], "whole"

    def _passed_over(self, state: SnapshotState, what: str) -> None:
        self.state = state
        self._findings.note(
            "snapshot", "the saved index", what, "nothing: the index is built from the rows at the next opening"
        )

    def _wrong(self, what: str) -> None:
        self.state = "wrong"
        remedy = f"close the store and delete {self._path}; it is built anew from the rows at the next opening"
        self._findings.fault("snapshot", "the saved index", what, remedy)

    def begin(self, labels: Collection[int], dead: dict[int, int], *, sample: int) -> None:
        """Take note of which entries there are, remove what was deleted since, and choose what to ask for."""
        if self._index is None:
            return
        gone = [label for label, seq in dead.items() if seq > self._shown]
        if gone:
            self.state = "stale"
            self._index.remove(gone)
        if sample:
            self._exact = ExactIndex(dimensions=self._index.dimensions, metric=self._index.metric)
            self._asked = frozenset(random.Random(0).sample(sorted(labels), min(sample, len(labels))))  # noqa: S311

    def see(self, labels: Labels, seqs: Labels, vectors: Matrix) -> None:
        """Bring the index up to date with some rows, and compare what it has for them."""
        index = self._index
        if index is None:
            return
        newer = seqs > self._shown
        if newer.any():
            self.state = "stale" if self.state == "whole" else self.state
            try:
                index.add(labels[newer], vectors[newer], threads=None)
            except InputError as error:
                self._wrong(f"it cannot take the rows' vectors: {error}")
                self._index = None
                return
        self._seen += len(labels)
        for label, vector in zip(labels.tolist(), vectors, strict=True):
            self._compare(index, label, vector)
        if self._exact is not None:
            self._exact.add(labels, vectors)
            self._queries += [v for label, v in zip(labels.tolist(), vectors, strict=True) if label in self._asked]

    def _compare(self, index: HNSWIndex, label: int, vector: Vector) -> None:
        found, scores = index.search(vector, 1, among=[label])
        length = float(np.linalg.norm(vector.astype(np.float64)))
        if not found.size:
            self._wrong(f"it does not have label {label}")
        elif length:
            expected, scale = {"cosine": (1.0, 1.0), "inner_product": (length**2, length**2)}.get(
                index.metric, (0.0, length)
            )
            if abs(float(scores[0]) - expected) > _ROUNDING[index.config.dtype] * scale:
                self._wrong(f"it has another vector for label {label} than the rows")

    def end(self, *, whole: bool) -> float | None:
        """Compare sizes, if all rows were seen, and return the recall of the sample; None where nothing is measured."""
        index = self._index
        if index is None:
            return None
        if whole and len(index) != self._seen:
            self._wrong(f"it has {len(index):,} vectors, the rows have {self._seen:,}")
        if self._exact is None or not self._queries:
            return None
        queries = _noisy(np.array(self._queries, np.float64), unit=index.metric == "cosine")
        found, _ = index.search_many(queries, _K)
        nearest, _ = self._exact.search_many(queries, _K)
        shares = [np.isin(right, got).mean() for right, got in zip(nearest, found, strict=True)]
        recall = round(float(np.mean(shares)), 4)
        if recall < _FAIR:
            remedy = f"raise ef_search from {index.config.ef_search}, or m, if that is too little"
            self._findings.note("recall", "the saved index", f"it finds {recall:.1%} of the {_K} nearest", remedy)
        return recall


def _noisy(vectors: NDArray[np.float64], *, unit: bool) -> Matrix:
    """Something near each vector to ask for; of unit length where only directions count, for they may be of any."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if unit:
        vectors, lengths = vectors / np.where(lengths > 0, lengths, 1), np.ones_like(lengths)
    noise = np.random.default_rng(0).standard_normal(vectors.shape) * _NOISE / np.sqrt(vectors.shape[1])
    queries: Matrix = (vectors + noise * lengths).astype(np.float32)
    return queries
