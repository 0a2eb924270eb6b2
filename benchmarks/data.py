"""Vectors to measure with: the user's own, or made ones that are clustered as embeddings are."""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from llmspell_memory.types import Matrix

SIZES = (100, 1_000, 10_000, 100_000)
QUERIES = 1_000


class Data(NamedTuple):
    """Rows and queries of unit length, and a word on where they come from."""

    vectors: Matrix
    queries: Matrix
    source: str


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that say what to measure on."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--vectors", type=Path, help=".npy of shape (n, dimensions); made ones when left out")
    options.add_argument("--queries", type=Path, help=".npy of shape (n, dimensions); the last rows when left out")
    options.add_argument("--largest", type=int, default=SIZES[-1], help="largest number of vectors (default: 100,000)")
    options.add_argument("--output", type=Path, default=Path(__file__).parent / "results", help="folder for the JSON")
    return options


def load(options: argparse.Namespace) -> Data:
    """Read or make what the arguments ask for."""
    if options.vectors is None:
        rows = made(options.largest + QUERIES)
        return Data(rows[:-QUERIES], rows[-QUERIES:], "made: 384-d, clustered, seed 0")
    vectors = unit(np.load(options.vectors, mmap_mode="r")[: options.largest + QUERIES])
    if options.queries is None:
        return Data(vectors[:-QUERIES], vectors[-QUERIES:], options.vectors.name)
    return Data(vectors[: options.largest], unit(np.load(options.queries)[:QUERIES]), options.vectors.name)


def made(count: int, dimensions: int = 384) -> Matrix:
    """Return points around points around 1,000 topics: near enough to sentence embeddings to be hard."""
    chance = np.random.default_rng(0)
    topics = chance.standard_normal((1_000, dimensions))
    threads = topics[chance.integers(1_000, size=count // 5 + 1)] + 0.8 * chance.standard_normal(
        (count // 5 + 1, dimensions)
    )
    return unit(threads[chance.integers(len(threads), size=count)] + 0.6 * chance.standard_normal((count, dimensions)))


def unit(rows: np.ndarray) -> Matrix:
    """Return rows as float32 of unit length."""
    matrix = np.asarray(rows, np.float32)
    result: Matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return result


def microseconds(work: Callable[[np.ndarray], object], queries: Matrix) -> dict[str, float]:
    """Return p50, p95 and p99 of one call a query, after a warm-up of a tenth."""
    for query in queries[: len(queries) // 10]:
        work(query)
    spent = []
    for query in queries:
        start = time.perf_counter_ns()
        work(query)
        spent.append((time.perf_counter_ns() - start) / 1_000)
    return percentiles(spent)


def percentiles(microseconds: ArrayLike) -> dict[str, float]:
    """Return p50, p95 and p99, in what was given."""
    spent = np.asarray(microseconds, np.float64)
    return {f"p{share}": round(float(np.percentile(spent, share)), 1) for share in (50, 95, 99)}


def machine() -> str:
    """Return what this was measured on, in one line."""
    name = platform.machine()
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        lines = [
            line.partition(":")[2].strip()
            for line in cpu.read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ]
        name = f"{len(lines)} x {lines[0]}" if lines else name
    return f"{name}, Python {platform.python_version()}, numpy {np.__version__}"
