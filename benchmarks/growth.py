"""Ten times the rows: what a search takes at the same recall."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from bench import CORES
from engines import EFS, Setting, new_index
from equal_recall import interpolated
from measure import K, Spent, on_one_thread, recall, seconds, truth_of
from snapshot import saved_and_opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench import Bench
    from measure import Truth
    from numpy.typing import NDArray

    from llmspell_memory.index import HNSWIndex
    from llmspell_memory.types import Matrix, Vector
    from llmspell_memory.types.arrays import Labels

COPIES: Final = 9
NOISE: Final = 0.25
"""Length of the noise that is added to a row of unit length."""

ROUNDS: Final = 5
SETTINGS: Final = (*EFS, 400)
USUAL_EF: Final = 50


def measure(bench: Bench) -> Iterator[dict[str, Any]]:
    """Yield a row per ef, at the largest size and at ten times it, in turn; vectors are kept as float16."""
    rows = grown(bench.vectors)
    indexes, built = {}, {}
    for size in (bench.largest, len(rows)):
        indexes[size] = new_index(bench.dimensions, dtype="float16")
        built[size] = seconds(lambda: fill(indexes[size], rows[:size]))  # noqa: B023
    with on_one_thread():
        spent = {(size, ef): Spent() for size in indexes for ef in SETTINGS}
        for _ in range(ROUNDS):
            for (size, ef), gathered in spent.items():
                gathered.turn(searcher(indexes[size], ef), bench.queries)
    measured: dict[int, list[dict[str, Any]]] = {}
    for size, index in indexes.items():
        truth = truth_of(rows[:size], bench.data.queries)
        made = "as given" if size == bench.largest else f"{COPIES} of 10 made by noise"
        costs = {
            "build_seconds": round(built[size], 2),
            "entry_bytes": round(index.stats().memory_bytes / size),
            "open_ms": saved_and_opened(index, bench.queries[0])["open_ms"],
        }
        measured[size] = [
            {"size": size, "rows": made, "setting": str(Setting(ef)), "recall": found(index, ef, bench, truth)}
            | spent[size, ef].percentiles()
            | costs
            for ef in SETTINGS
        ]
        yield from measured[size]
    yield from at_one_recall(measured)


def found(index: HNSWIndex, ef: int, bench: Bench, truth: Truth) -> float:
    """Return the recall at `ef`."""
    search = searcher(index, ef)
    return recall([search(query) for query in bench.queries], truth)


def at_one_recall(measured: dict[int, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Yield what both sizes take, interpolated, at the recall that the usual ef has at the smaller one."""
    smaller = next(iter(measured.values()))
    usual = next(row["recall"] for row in smaller if row["setting"] == str(Setting(USUAL_EF)))
    for size, rows in measured.items():
        yield {"size": size, "setting": "interpolated", "recall": usual, "p50": interpolated(rows, usual)}


def searcher(index: HNSWIndex, ef: int) -> Callable[[Vector], Labels]:
    """Return a search at `ef`."""
    return lambda query: index.search(query, K, ef_search=ef)[0]


def fill(index: HNSWIndex, rows: NDArray[np.float16]) -> None:
    """Add all rows, some at a time: as float32 they would take twice the room at once."""
    for start in range(0, len(rows), 50_000):
        block = rows[start : start + 50_000]
        index.add(np.arange(start, start + len(block)), block.astype(np.float32), threads=CORES)


def grown(vectors: Matrix) -> NDArray[np.float16]:
    """Return the rows, and after them nine noisy copies of each, as float16."""
    count, width = vectors.shape
    rows = np.empty(((COPIES + 1) * count, width), np.float16)
    rows[:count] = vectors
    chance = np.random.default_rng(5)
    for copy in range(1, COPIES + 1):
        noise = chance.standard_normal((count, width), np.float32)
        noisy = vectors + NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        rows[copy * count : (copy + 1) * count] = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
    return rows
