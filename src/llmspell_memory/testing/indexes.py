"""What a vector index promises beyond its signatures."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest

from llmspell_memory.errors import DimensionError, InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from llmspell_memory.protocols import VectorIndex
    from llmspell_memory.types import Metric

METRICS: tuple[Metric, ...] = ("cosine", "inner_product", "euclidean")


def gaussian(count: int, dimensions: int, *, seed: int = 7) -> NDArray[np.float32]:
    """Return `count` random vectors that are the same every time."""
    return np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)


def oracle_scores(vectors: NDArray[np.float32], query: NDArray[np.float32], metric: Metric) -> NDArray[np.float64]:
    """Return the score of every vector, straight from the definition in float64."""
    rows, one = vectors.astype(np.float64), query.astype(np.float64)
    if metric == "cosine":
        products: NDArray[np.float64] = rows @ one / (np.linalg.norm(rows, axis=1) * np.linalg.norm(one))
        return products
    if metric == "inner_product":
        return rows @ one
    distances: NDArray[np.float64] = -np.linalg.norm(rows - one, axis=1)
    return distances


class IndexContract(ABC):
    """Derive, implement `make`, and let pytest collect the class.

    An index that approximates sets `exact_up_to` and `recall`; whatever it returns must still be scored and in order.
    """

    exact_up_to: ClassVar[float] = math.inf
    """Among so many vectors the true best are found without exception."""

    recall: ClassVar[float] = 1.0
    """Beyond, the least share of the true best that is found, among 2,000 random vectors of 16 dimensions."""

    def promised(self, count: int) -> float:
        """Return the least share of the true best to be found among `count` vectors."""
        return 1.0 if count <= self.exact_up_to else self.recall

    @abstractmethod
    def make(self, *, dimensions: int, metric: Metric = "cosine") -> VectorIndex:
        """Return a new, empty index."""

    def test_an_empty_index_finds_nothing(self) -> None:
        """Searching before anything was added returns no labels and no scores."""
        labels, scores = self.make(dimensions=3).search(np.ones(3), 5)
        assert labels.shape == scores.shape == (0,)
        assert labels.dtype == np.int64
        assert scores.dtype == np.float32

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("dimensions", [2, 3, 6, 100, 256, 384, 768, 1536, 3072, 4096])
    def test_scores_and_order_are_those_of_the_definition(self, metric: Metric, dimensions: int) -> None:
        """Unnormalised vectors are ranked and scored as numpy does it in float64."""
        vectors = gaussian(50, dimensions) * np.linspace(0.5, 3, 50, dtype=np.float32)[:, None]
        index = self.make(dimensions=dimensions, metric=metric)
        index.add(np.arange(50), vectors)
        query = gaussian(1, dimensions, seed=8)[0] * 2
        expected = oracle_scores(vectors, query, metric)
        labels, scores = index.search(query, 50)
        assert labels.tolist() == np.argsort(-expected, kind="stable").tolist()
        np.testing.assert_allclose(scores, expected[labels], rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8"])
    def test_any_number_type_and_layout_is_accepted(self, dtype: str) -> None:
        """Vectors may come as other floats, integers, lists, in Fortran order or as slices with steps; queries, too."""
        wide = (gaussian(20, 16) * 10).astype(dtype)
        plain = self.make(dimensions=16)
        plain.add(np.arange(20), wide.astype(np.float32))
        labels, scores = plain.search(wide[3].astype(np.float32), 20)
        assert labels[0] == 3
        matrices: list[ArrayLike] = [np.asfortranarray(wide), np.repeat(wide, 2, axis=0)[::2], wide.tolist()]
        queries: list[ArrayLike] = [wide[3], np.repeat(wide[3], 2)[::2], wide[3].tolist()]
        for vectors, query in zip(matrices, queries, strict=True):
            index = self.make(dimensions=16)
            index.add(list(range(20)), vectors)
            found, theirs = index.search(query, 20)
            assert (found.tolist(), theirs.tolist()) == (labels.tolist(), scores.tolist())

    @pytest.mark.parametrize("metric", METRICS)
    def test_the_best_of_many_are_found(self, metric: Metric) -> None:
        """Of 2,000 vectors the ten best are found, to the promised share; those found are scored and in order."""
        vectors = gaussian(2000, 16)
        index = self.make(dimensions=16, metric=metric)
        index.add(np.arange(2000), vectors)
        found = 0
        for query in gaussian(50, 16, seed=8):
            expected = oracle_scores(vectors, query, metric)
            labels, scores = index.search(query, 10)
            assert len(set(labels.tolist())) == 10
            assert labels.tolist() == labels[np.argsort(-expected[labels], kind="stable")].tolist()
            np.testing.assert_allclose(scores, expected[labels], rtol=1e-4, atol=1e-4)
            found += len(set(labels.tolist()) & set(np.argsort(-expected)[:10].tolist()))
        assert found >= self.promised(2000) * 500

    def test_a_label_added_again_gets_the_new_vector(self) -> None:
        """Replacing leaves one live vector per label: the new one."""
        index = self.make(dimensions=4)
        index.add(np.array([1, 2]), np.eye(4, dtype=np.float32)[:2])
        index.add(np.array([1]), np.eye(4, dtype=np.float32)[2:3])
        assert len(index) == 2
        assert index.search(np.eye(4)[2], 1)[0].tolist() == [1]
        assert index.search(np.eye(4)[0], 2)[1].max() == pytest.approx(0)

    def test_a_label_twice_in_one_call_keeps_the_last(self) -> None:
        """Within one call, too, the later vector wins."""
        index = self.make(dimensions=2)
        index.add(np.array([5, 5]), np.eye(2, dtype=np.float32))
        assert len(index) == 1
        assert index.search(np.array([0, 1]), 1)[1].tolist() == pytest.approx([1])

    def test_removed_labels_never_return_and_unknown_ones_are_ignored(self) -> None:
        """After a removal exactly the others are found; removing again, or an unknown label, changes nothing."""
        vectors = gaussian(300, 8)
        index = self.make(dimensions=8)
        index.add(np.arange(300), vectors)
        index.remove(np.arange(0, 300, 2))
        index.remove(np.array([0, 2, 999]))
        assert len(index) == 150
        assert sorted(index.search(vectors[0], 300)[0].tolist()) == list(range(1, 300, 2))

    def test_a_filter_is_applied_before_k_are_chosen(self) -> None:
        """Among a few labels far from the query, all of them are found, ranked."""
        vectors = gaussian(2000, 16)
        index = self.make(dimensions=16)
        index.add(np.arange(2000), vectors)
        query = vectors[0]
        far = np.argsort(oracle_scores(vectors, query, "cosine"))[:5]
        labels, _ = index.search(query, 10, among=np.concatenate([far, far, [12345]]))
        assert labels.tolist() == far[::-1].tolist()
        assert index.search(query, 10, among=np.array([], np.int64))[0].tolist() == []

    @pytest.mark.parametrize("share", [0.5, 0.1, 0.02, 0.002])
    def test_a_filter_always_gives_k_where_k_match(self, share: float) -> None:
        """However narrow the filter, k hits come back when k entries match it."""
        vectors = gaussian(3000, 12)
        index = self.make(dimensions=12)
        index.add(np.arange(3000), vectors)
        among = np.random.default_rng(3).permutation(3000)[: int(3000 * share)]
        for query in gaussian(20, 12, seed=9):
            labels, _ = index.search(query, 5, among=among)
            assert len(set(labels.tolist())) == 5
            assert set(labels.tolist()) <= set(among.tolist())

    def test_k_beyond_what_is_there_returns_everything(self) -> None:
        """A k may exceed the number of vectors; k of 0 returns nothing."""
        vectors = gaussian(700, 6)
        index = self.make(dimensions=6)
        index.add(np.arange(700), vectors)
        assert sorted(index.search(vectors[1], 10_000)[0].tolist()) == list(range(700))
        assert len(index.search(vectors[1], 2**64)[0]) == 700
        assert len(index.search(vectors[1], 2**64, among=np.arange(5))[0]) == 5
        assert index.search(vectors[1], 0)[0].tolist() == []

    def test_equal_vectors_are_all_found(self) -> None:
        """A crowd of equal vectors hides neither its own members nor the others."""
        index = self.make(dimensions=8)
        others = gaussian(200, 8)
        index.add(np.arange(500), np.tile(others[:1], (500, 1)))
        index.add(np.arange(1000, 1200), others)
        assert set(index.search(others[0], 501)[0].tolist()) == {*range(500), 1000}
        found = sum(index.search(others[row], 1)[0].tolist() == [1000 + row] for row in range(1, 200))
        assert found >= self.promised(200) * 199

    @pytest.mark.parametrize("metric", METRICS)
    def test_huge_vectors_are_compared_or_refused(self, metric: Metric) -> None:
        """Up to a length of 1e18 scores are finite; beyond it only cosines are, and the other metrics refuse."""
        index = self.make(dimensions=64, metric=metric)
        vectors = gaussian(100, 64)
        vectors *= np.float32(0.999e18) / np.linalg.norm(vectors, axis=1, keepdims=True)
        index.add(np.arange(100), vectors)
        labels, scores = index.search(-vectors[3], 100)
        assert sorted(labels.tolist()) == list(range(100))
        assert np.isfinite(scores).all()
        if metric == "cosine":
            index.add(np.array([100]), vectors[:1] * 1e20)
            assert len(index.search(vectors[0] * 1e20, 101)[0]) == 101
            return
        with pytest.raises(InputError, match="length must be at most 1e\\+18"):
            index.add(np.array([100]), vectors[:1] * 100)
        with pytest.raises(InputError, match="length must be at most"):
            index.search(vectors[0] * 100, 1)
        assert len(index) == 100

    def test_wrong_input_is_refused_and_changes_nothing(self) -> None:
        """A wrong width, a wrong count, NaN, infinity and negative k or labels are errors that say what is wrong."""
        index = self.make(dimensions=3)
        index.add(np.array([1]), np.ones((1, 3)))
        with pytest.raises(DimensionError, match="expected a vector of 3 dimensions, got 2"):
            index.add(np.array([2]), np.ones((1, 2)))
        with pytest.raises(DimensionError):
            index.search(np.ones(4), 1)
        for labels, vectors in (
            (np.array([2, 3]), np.ones((1, 3))),
            (np.array([2]), np.array([[1, np.nan, 0]])),
            (np.array([2]), np.array([[1, np.inf, 0]])),
            (np.array([2]), np.array([[1, 1e39, 0]])),
            (np.array([-1]), np.ones((1, 3))),
            (np.array([0.5]), np.ones((1, 3))),
        ):
            with pytest.raises(InputError):
                index.add(labels, vectors)
        with pytest.raises(InputError, match="k must be"):
            index.search(np.ones(3), -1)
        with pytest.raises(InputError, match="finite"):
            index.search(np.array([1, np.nan, 0]), 1)
        assert len(index) == 1
