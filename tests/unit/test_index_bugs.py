"""Promises that the native core does not keep yet. Each fails on the core as it is; none is in the commit."""

from __future__ import annotations

import multiprocessing
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmspell_memory import HNSWConfig
from llmspell_memory.errors import InputError, StorageError
from llmspell_memory.index import ExactIndex, HNSWIndex
from llmspell_memory.testing.indexes import gaussian

if TYPE_CHECKING:
    from pathlib import Path

    from llmspell_memory.types import Metric


@pytest.mark.parametrize("dimensions", [2, 3, 16])
def test_equal_scores_come_by_label_under_the_euclidean_metric(dimensions: int) -> None:
    """Hits whose scores are the same float32 come in the order of their labels, as the docstring says."""
    vectors = gaussian(3000, dimensions)
    index = ExactIndex(dimensions=dimensions, metric="euclidean")
    index.add(np.arange(3000), vectors)
    for query in vectors[:100]:
        labels, scores = index.search(query, 3000)
        tie = scores[:-1] == scores[1:]
        assert (labels[:-1] < labels[1:])[tie].all()


@pytest.mark.parametrize("k", [1, 3, 10])
def test_equal_cosines_come_by_label(k: int) -> None:
    """Vectors in one direction, of different lengths, have a cosine of 1 and come by label."""
    base = gaussian(40, 24)
    lengths = np.random.default_rng(1).uniform(0.1, 10, (40, 200, 1)).astype(np.float32)
    index = ExactIndex(dimensions=24)
    index.add(np.arange(8000), (base[:, None] * lengths).reshape(-1, 24))
    for query in base:
        labels, scores = index.search(query, 200)
        tie = scores[:-1] == scores[1:]
        assert (labels[:-1] < labels[1:])[tie].all()
        assert index.search(query, k)[0].tolist() == labels[:k].tolist()


@pytest.mark.parametrize("dimensions", [2, 3, 8])
@pytest.mark.parametrize("scale", [3e-22, 1e-22])
@pytest.mark.parametrize("metric", ["inner_product", "euclidean"])
def test_tiny_vectors_are_searched_exactly(metric: Metric, scale: float, dimensions: int) -> None:
    """The k best are the first k of all, where squares of vectors are subnormal in float32."""
    rows = (gaussian(2000, dimensions) * scale).astype(np.float32)
    queries = gaussian(60, dimensions, seed=8) * np.float32(1e12 if metric == "inner_product" else scale)
    index = ExactIndex(dimensions=dimensions, metric=metric)
    index.add(np.arange(2000), rows)
    for query in queries:
        everything = index.search(query, 2000)[0].tolist()
        for k in (1, 10, 100):
            assert index.search(query, k)[0].tolist() == everything[:k]


def test_a_save_onto_a_folder_leaves_no_other_file(tmp_path: Path) -> None:
    """A save that fails in its last step, the rename, takes its temporary file away as any other does."""
    (tmp_path / "an.idx").mkdir()
    index = HNSWIndex(dimensions=4)
    index.add(np.arange(10), gaussian(10, 4))
    with pytest.raises(StorageError):
        index.save(tmp_path / "an.idx")
    assert [one.name for one in tmp_path.iterdir()] == ["an.idx"]


def built(metric: Metric) -> HNSWIndex:
    index = HNSWIndex(dimensions=64, metric=metric, config=HNSWConfig(m=4, ef_construction=10))
    index.add(np.arange(1500), gaussian(1500, 64))
    return index


def test_two_indexes_of_a_process_save_to_one_place(tmp_path: Path) -> None:
    """Two threads that save to one path both succeed, and the file is what one of them wrote."""
    errors: list[Exception] = []

    def save(index: HNSWIndex) -> None:
        try:
            for _ in range(60):
                index.save(tmp_path / "an.idx")
        except StorageError as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(built(metric),)) for metric in ("cosine", "euclidean")]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert errors == []
    HNSWIndex.open(tmp_path / "an.idx").verify()


def replace(path: Path) -> None:
    indexes = [built("cosine"), built("euclidean")]
    for turn in range(300):
        indexes[turn % 2].save(path)


def test_a_file_replaced_while_it_is_opened_is_not_called_damaged(tmp_path: Path) -> None:
    """While another process replaces the file, whatever is opened is one of the two, whole."""
    path = tmp_path / "an.idx"
    built("cosine").save(path)
    process = multiprocessing.get_context("spawn").Process(target=replace, args=(path,))
    process.start()
    try:
        while process.is_alive():
            HNSWIndex.open(path).verify()
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("tag", [-1, 2**64, 1.5, "a"])
def test_a_wrong_tag_is_an_input_error(tag: int, tmp_path: Path) -> None:
    """As every other argument: a sentence of ours instead of the binding's TypeError."""
    with pytest.raises(InputError, match="tag"):
        HNSWIndex(dimensions=2).save(tmp_path / "an.idx", tag=tag)


@pytest.mark.parametrize("metric", ["inner_product", "euclidean"])
def test_what_float16_cannot_hold_is_refused(metric: Metric) -> None:
    """A number beyond 65,504 is an InputError under float16 instead of a silently wrong score."""
    index = HNSWIndex(dimensions=2, metric=metric, config=HNSWConfig(dtype="float16"))
    with pytest.raises(InputError):
        index.add([0], [[1e6, 0.0]])


@pytest.mark.parametrize("dimensions", [2, 8, 24])
@pytest.mark.parametrize("scale", [1e-22, 1e-25])
def test_tiny_queries_are_answered_exactly(scale: float, dimensions: int) -> None:
    """The k best are the first k of all, where the square of the query's length is no number of float32."""
    index = ExactIndex(dimensions=dimensions, metric="inner_product")
    index.add(np.arange(2000), gaussian(2000, dimensions))
    for query in gaussian(60, dimensions, seed=8) * np.float32(scale):
        everything = index.search(query, 2000)[0].tolist()
        for k in (1, 10, 100):
            assert index.search(query, k)[0].tolist() == everything[:k]
