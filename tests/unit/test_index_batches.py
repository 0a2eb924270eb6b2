"""What both native indexes do beyond the protocol: many queries at once, sets of labels, threads and progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest

from llmspell_memory import HNSWConfig
from llmspell_memory.errors import DimensionError, InputError
from llmspell_memory.index import ExactIndex, HNSWIndex, LabelSet
from llmspell_memory.testing.indexes import METRICS, gaussian

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from llmspell_memory.types import Metric

Index: TypeAlias = ExactIndex | HNSWIndex

KINDS = ["exact", "scanning", "walking"]
NARROW = HNSWConfig(m=4, ef_construction=30, ef_search=8)
"""So narrow a search walks the graph from some hundred vectors on."""


def make(kind: str, *, dimensions: int = 16, metric: Metric = "cosine") -> Index:
    if kind == "exact":
        return ExactIndex(dimensions=dimensions, metric=metric)
    return HNSWIndex(dimensions=dimensions, metric=metric, config=NARROW if kind == "walking" else None)


def filled(kind: str, count: int, *, metric: Metric = "cosine") -> Index:
    index = make(kind, metric=metric)
    index.add(np.arange(count), gaussian(count, 16))
    return index


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("threads", [1, 2, None])
@pytest.mark.parametrize("among", [None, np.arange(0, 900, 3), [5, 17, 17, 4000], []])
def test_many_queries_at_once_are_answered_as_one_by_one(
    kind: str, metric: Metric, threads: int | None, among: ArrayLike
) -> None:
    """Row i of search_many is what search returns for query i; where that is short, -1 and minus infinity follow."""
    index = filled(kind, 900, metric=metric)
    queries = gaussian(20, 16, seed=8)
    labels, scores = index.search_many(queries, 10, among=among, threads=threads)
    assert labels.shape == scores.shape == (20, 10)
    assert labels.dtype == np.int64
    assert scores.dtype == np.float32
    for row, query in enumerate(queries):
        own, own_scores = index.search(query, 10, among=among)
        short = 10 - len(own)
        assert labels[row].tolist() == own.tolist() + [-1] * short
        assert scores[row].tolist() == own_scores.tolist() + [-np.inf] * short


@pytest.mark.parametrize("kind", KINDS)
def test_many_queries_have_as_many_columns_as_there_can_be_results(kind: str) -> None:
    """The width is min(k, size), the height the number of queries; nothing to find is no error."""
    index = filled(kind, 30)
    assert index.search_many(gaussian(4, 16), 100)[0].shape == (4, 30)
    assert index.search_many(gaussian(4, 16), 0)[0].shape == (4, 0)
    assert index.search_many(np.empty((0, 16)), 5)[0].shape == (0, 5)
    assert make(kind).search_many(gaussian(4, 16), 5)[0].shape == (4, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_many_queries_come_in_any_type_and_layout(kind: str, dtype: str) -> None:
    """Other floats, Fortran order, slices with steps and lists are answered as the same numbers in float32, C order."""
    index = filled(kind, 400)
    queries = gaussian(9, 16, seed=8).astype(dtype)
    expected = index.search_many(np.ascontiguousarray(queries, dtype=np.float32), 5)
    layouts: list[ArrayLike] = [
        queries,
        np.asfortranarray(queries),
        np.repeat(queries, 2, axis=0)[::2],
        np.repeat(queries, 3, axis=1)[:, ::3],
        queries.tolist(),
    ]
    for given in layouts:
        labels, scores = index.search_many(given, 5)
        assert labels.tolist() == expected[0].tolist()
        assert scores.tolist() == expected[1].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_queries_are_refused(kind: str) -> None:
    """Many queries are checked as one is: width, shape, finite numbers, k, labels, and the number of threads."""
    index = filled(kind, 30)
    with pytest.raises(DimensionError, match="expected a vector of 16 dimensions, got 15"):
        index.search_many(np.ones((2, 15)), 3)
    with pytest.raises(InputError, match="shape"):
        index.search_many(np.ones(16), 3)
    with pytest.raises(InputError, match="finite"):
        index.search_many(np.full((2, 16), np.nan), 3)
    with pytest.raises(InputError, match="k must be"):
        index.search_many(np.ones((2, 16)), -1)
    with pytest.raises(InputError, match="labels must"):
        index.search_many(np.ones((2, 16)), 3, among=[-1])
    for threads in (0, -1, True, 1.5):
        with pytest.raises(InputError, match="threads must be an integer from 1 up"):
            index.search_many(np.ones((2, 16)), 3, threads=threads)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="threads must be an integer from 1 up"):
            index.add([99], np.ones((1, 16)), threads=threads)  # type: ignore[arg-type]
    assert len(index) == 30


FAR = 2**62
SETS: dict[str, list[int]] = {
    "dense": list(range(100, 300)),
    "all of a page": list(range(64, 128)),
    "one": [17],
    "sparse": [FAR - 1, FAR, FAR + 63, FAR + 64, 2**63 - 1, 3, 64, 100_000],
    "unknown": [5000, FAR + 7],
    "empty": [],
    "duplicates": [9, 9, 3, 9, FAR, FAR, 3],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SETS)
def test_a_set_of_labels_filters_as_the_labels_do(kind: str, name: str) -> None:
    """A LabelSet lets pass what the array it was made from does, and nothing else, wherever the labels lie."""
    known = np.concatenate([np.arange(400), np.arange(FAR - 100, FAR + 100), [2**63 - 1, 100_000]])
    index = make(kind)
    index.add(known, gaussian(len(known), 16))
    labels = np.array(SETS[name], np.int64)
    allowed = LabelSet(labels)
    wanted = set(labels.tolist())
    assert len(allowed) == len(wanted)
    assert [label for label in [*known.tolist(), 5000, FAR + 7, -1] if label in allowed] == [
        label for label in [*known.tolist(), 5000, FAR + 7, -1] if label in wanted
    ]
    for query in gaussian(5, 16, seed=8):
        for k in (1, 3, 1000):
            found, scores = index.search(query, k, among=allowed)
            expected, their_scores = index.search(query, k, among=labels)
            assert (found.tolist(), scores.tolist()) == (expected.tolist(), their_scores.tolist())
        assert set(found.tolist()) == wanted & set(known.tolist())


@pytest.mark.parametrize("wrong", [[-1], [3, -(2**63)], [0.5], [[1, 2]], [True], ["a"], [2**63]])
def test_a_set_of_what_are_no_labels_is_refused(wrong: ArrayLike) -> None:
    """Negative numbers, floats, other shapes and what exceeds int64 are InputErrors."""
    with pytest.raises(InputError, match="labels must"):
        LabelSet(wrong)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["exact", "walking"])
def test_threads_change_nothing_but_time(kind: str, metric: Metric) -> None:
    """Added on two threads, vectors (some of them equal, some replaced) are found as when added on one."""
    chance = np.random.default_rng(4)
    vectors = gaussian(3000, 16)[chance.integers(0, 2700, 3000)]
    labels = chance.integers(0, 2800, 3000)
    queries = gaussian(100, 16, seed=8)
    answers = []
    for threads in (1, 2):
        index = make(kind, metric=metric)
        index.add(labels, vectors, threads=threads)
        assert index.check() == ""
        found, scores = index.search_many(queries, 10)
        answers.append((len(index), found.tolist(), scores.tolist()))
    assert answers[0] == answers[1]
    assert answers[0][0] == len(set(labels.tolist()))


class StopError(Exception):
    """What a caller raises who has seen enough."""


@pytest.mark.parametrize("kind", KINDS)
def test_progress_is_told_up_to_the_end(kind: str) -> None:
    """Progress is called with growing numbers, the last of them the total, which is the same all the time."""
    told: list[tuple[int, int]] = []
    index = make(kind)
    index.add(np.arange(1000), gaussian(1000, 16), progress=lambda done, total: told.append((done, total)))
    done = [one for one, _ in told]
    assert len(done) > 1
    assert done == sorted(set(done))
    assert done[-1] == 1000
    assert {total for _, total in told} == {1000}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [1, 2])
def test_what_progress_raises_ends_the_call(kind: str, threads: int) -> None:
    """The exception comes through, what was added by then stays, and the index is whole and goes on."""
    vectors = gaussian(1000, 16)
    index = make(kind)
    seen = 0

    def progress(done: int, _: int) -> None:
        nonlocal seen
        seen = done
        if done > 400:
            raise StopError

    with pytest.raises(StopError):
        index.add(np.arange(1000), vectors, threads=threads, progress=progress)
    assert 400 < seen < 1000
    assert (len(index), index.check()) == (seen, "")
    assert sorted(index.search(vectors[0], 1000)[0].tolist()) == list(range(seen))
    index.add(np.arange(1000), vectors, threads=threads)
    assert (len(index), index.check()) == (1000, "")
