"""The inner loops: whichever instruction set runs them, the answers and the files are the same."""

from __future__ import annotations

import struct
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmspell_memory import HNSWConfig, _core
from llmspell_memory.index import ExactIndex, HNSWIndex
from llmspell_memory.testing.indexes import METRICS, gaussian

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from llmspell_memory._core import DType
    from llmspell_memory.types import Metric, Vector

NAMES = _core.kernel_names()
VECTORS = 3
"""The number of the snapshot's section that holds the vectors."""


@pytest.fixture(autouse=True)
def _kernels() -> Iterator[None]:
    """Leave behind what was in use."""
    before = _core.kernel_name()
    yield
    _core.use_kernels(before)


def section(path: Path, number: int) -> bytes:
    """Return the bytes of one section of a snapshot."""
    data = path.read_bytes()
    (count,) = struct.unpack_from("<I", data, 12)
    for kind, _, offset, size in struct.iter_unpack("<IIQQ", data[16 : 16 + 24 * count]):
        if kind == number:
            return data[offset : offset + size]
    raise LookupError(number)


def test_the_widest_is_used_unless_told_otherwise() -> None:
    """At first the first of those named is in use; plain code is always there; an unknown name is refused."""
    assert _core.kernel_name() == NAMES[0]
    assert NAMES[-1] == "plain"
    _core.use_kernels("plain")
    assert _core.kernel_name() == "plain"
    with pytest.raises(ValueError, match="no kernels named abacus"):
        _core.use_kernels("abacus")
    assert _core.kernel_name() == "plain"


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("dimensions", [2, 15, 16, 17, 100, 384, 1536, 4096])
def test_scores_agree(metric: Metric, dtype: DType, dimensions: int) -> None:
    """Every instruction set this processor has gives the same scores to one part in 10,000."""
    vectors = gaussian(300, dimensions)
    query = gaussian(1, dimensions, seed=8)[0]
    scores: dict[str, NDArray[np.float64]] = {}
    for name in NAMES:
        _core.use_kernels(name)
        index = HNSWIndex(dimensions=dimensions, metric=metric, config=HNSWConfig(m=2, ef_construction=4, dtype=dtype))
        index.add(np.arange(300), vectors)
        labels, found = index.search(query, 300)
        scores[name] = found[np.argsort(labels)].astype(np.float64)
        few, theirs = index.search(query, 10)
        assert (few.tolist(), theirs.tolist()) == (labels[:10].tolist(), found[:10].tolist())
    plain = scores["plain"]
    # Near 0 a score has lost its digits to cancellation: there the lengths of the vectors are the measure.
    unit = 1.0 if metric == "cosine" else np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    for other in scores.values():
        assert (np.abs(other - plain) <= 1e-4 * np.maximum(np.abs(plain), 0.1 * unit)).all()


@pytest.mark.parametrize(("writer", "reader"), list(product(NAMES, NAMES)))
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_snapshot_of_one_opens_under_another(writer: str, reader: str, dtype: DType, tmp_path: Path) -> None:
    """The checksums that one set of kernels writes are those that every other computes."""
    _core.use_kernels(writer)
    for dimensions in (3, 100):
        index = HNSWIndex(dimensions=dimensions, metric="euclidean", config=HNSWConfig(dtype=dtype))
        index.add(np.arange(77), gaussian(77, dimensions))
        index.save(tmp_path / "an.idx")
        _core.use_kernels(reader)
        opened = HNSWIndex.open(tmp_path / "an.idx")
        opened.verify()
        assert opened.check() == ""
        assert opened.search(gaussian(1, dimensions)[0], 1)[0].tolist() == [0]
        _core.use_kernels(writer)


def halves() -> Vector:
    """Return numbers around every float16 of positive sign, their ties, and some beyond the range; with both signs."""
    exact = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    between = (exact[:-1] + exact[1:]) / 2
    around = [exact, between, np.nextafter(between, np.float32(0)), np.nextafter(between, np.float32(np.inf))]
    beyond = np.array([65519.0, 65520.0, 70000.0, 1e9, 1e-8, 2**-25, 2**-26, 1e-40], np.float32)
    positive = np.concatenate([*around, beyond])
    return np.concatenate([positive, -positive]).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_float16_is_numpys(name: str, tmp_path: Path) -> None:
    """Numbers are rounded to float16 as numpy rounds them, ties to even."""
    values = halves()
    values = values[np.abs(values) <= 65504]
    width = 16
    rows = np.resize(values, (len(values) // width + 1, width))
    _core.use_kernels(name)
    index = HNSWIndex(
        dimensions=width, metric="inner_product", config=HNSWConfig(m=2, ef_construction=1, dtype="float16")
    )
    index.add(np.arange(len(rows)), rows)
    index.save(tmp_path / "an.idx")
    kept = np.frombuffer(section(tmp_path / "an.idx", VECTORS), np.float16).reshape(-1, width)[: len(rows)]
    expected = (rows + np.float32(0)).astype(np.float16)  # of two zeros the positive is kept
    assert {row.tobytes() for row in kept} == {row.tobytes() for row in expected}
    for axis in range(width):  # read back one by one: a product with a unit vector is the number itself
        unit = np.eye(width, dtype=np.float32)[axis]
        labels, scores = index.search(unit, len(rows))
        assert (scores == expected[labels, axis].astype(np.float32)).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_graph_built_under_one_is_as_good_under_another(dtype: DType) -> None:
    """Whichever kernels build and whichever search, the share of the true best found differs by less than .01."""
    vectors, queries = gaussian(3000, 24), gaussian(200, 24, seed=8)
    exact = ExactIndex(dimensions=24)
    exact.add(np.arange(3000), vectors)
    truth = exact.search_many(queries, 10)[0]
    recall = {}
    for builder in NAMES:
        _core.use_kernels(builder)
        index = HNSWIndex(dimensions=24, config=HNSWConfig(m=8, ef_construction=60, ef_search=60, dtype=dtype))
        index.add(np.arange(3000), vectors)
        for searcher in NAMES:
            _core.use_kernels(searcher)
            found = [index.core.search(query, 10, 60, None, "graph") for query in queries]
            hits = [np.isin(one[0], own).sum() for one, own in zip(found, truth, strict=True) if one is not None]
            recall[builder, searcher] = sum(hits) / truth.size
    assert min(recall.values()) > 0.9
    assert max(recall.values()) - min(recall.values()) < 0.01
