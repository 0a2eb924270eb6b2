"""What adds and deletes cost one at a time, and what searches find after many of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from bench import CORES
from data import percentiles
from engines import new_hnswlib
from measure import K, Spent, Truth, on_one_thread, recall, seconds, timed, truth_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench import Bench

    from llmspell_memory.index import HNSWIndex
    from llmspell_memory.types import Vector
    from llmspell_memory.types.arrays import Labels

CYCLES: Final = 10
ROUNDS: Final = 5


def measure(bench: Bench) -> Iterator[dict[str, Any]]:
    """Yield a row per kind of change, at the largest size."""
    last = np.arange(bench.largest - min(1_000, bench.largest // 10), bench.largest)
    with on_one_thread():
        index = bench.filled(np.arange(last[0]))
        yield adds(bench, index, last)
        yield deletes(bench, index, last)
        yield from hnswlib_changes(bench, last)
        index.add(last, bench.vectors[last], threads=CORES)
        yield from cycles(bench, index)
        yield from halved(bench, index)


def adds(bench: Bench, index: HNSWIndex, labels: Labels) -> dict[str, Any]:
    """Add rows one at a time, and look for each at once."""
    found = 0
    spent = np.empty(len(labels))
    for place, label in enumerate(labels):
        vector = bench.vectors[label]
        spent[place] = 1e6 * seconds(partial(index.add, label[None], vector[None]))
        found += label in index.search(vector, K)[0]
    return {"index": "llmspell-memory", "change": "add one", "found": found / len(labels), **percentiles(spent)}


def deletes(bench: Bench, index: HNSWIndex, labels: Labels) -> dict[str, Any]:
    """Delete the same rows one at a time, and look whether any is still returned."""
    spent = timed(lambda label: index.remove(label[None]), list(labels))
    found = sum(label in index.search(bench.vectors[label], K)[0] for label in labels.tolist())
    return {"index": "llmspell-memory", "change": "delete one", "found": found / len(labels), **percentiles(spent)}


def hnswlib_changes(bench: Bench, labels: Labels) -> Iterator[dict[str, Any]]:
    """Yield what hnswlib takes for the same adds, and for marking them deleted."""
    try:
        index = new_hnswlib(bench.dimensions, bench.largest)
    except Exception as error:  # noqa: BLE001 (as in curve.py)
        yield {"index": "hnswlib", "failed": f"{type(error).__name__}: {error}"}
        return
    index.add_items(bench.vectors[: labels[0]], np.arange(labels[0]), num_threads=CORES)
    index.set_ef(50)
    spent = timed(lambda label: index.add_items(bench.vectors[label], int(label), num_threads=1), list(labels))
    found = sum(label in index.knn_query(bench.vectors[label], K, num_threads=1)[0] for label in labels.tolist())
    yield {"index": "hnswlib", "change": "add one", "found": found / len(labels), **percentiles(spent)}
    spent = timed(lambda label: index.mark_deleted(int(label)), list(labels))
    yield {"index": "hnswlib", "change": "mark one deleted", **percentiles(spent)}


def cycles(bench: Bench, index: HNSWIndex) -> Iterator[dict[str, Any]]:
    """Delete a random fifth and add it again, ten times over; yield that index beside one that was only built."""
    chance = np.random.default_rng(2)
    for _ in range(CYCLES):
        fifth = chance.choice(bench.largest, bench.largest // 5, replace=False)
        index.remove(fifth)
        index.add(fifth, bench.vectors[fifth], threads=CORES)
    named = {"after ten fifths deleted and added again": index, "built once": bench.index}
    yield from beside(named, bench.truth(bench.largest), np.arange(bench.largest))


def halved(bench: Bench, index: HNSWIndex) -> Iterator[dict[str, Any]]:
    """Delete a random half; yield that index beside one that was built from what is left."""
    gone = np.random.default_rng(3).permutation(bench.largest)[: bench.largest // 2]
    index.remove(gone)
    left = np.setdiff1d(np.arange(bench.largest), gone)
    named = {"after half was deleted": index, "built from what is left": bench.filled(left)}
    yield from beside(named, truth_of(bench.vectors[left], bench.data.queries), left)


def beside(named: dict[str, HNSWIndex], truth: Truth, labels: Labels) -> Iterator[dict[str, Any]]:
    """Yield recall and latency of indexes that should be alike, in turn; `labels` are those of the truth's rows."""
    queries = list(truth.queries)
    spent = {name: Spent() for name in named}
    for _ in range(ROUNDS):
        for name, index in named.items():
            spent[name].turn(searcher(index), queries)
    for name, index in named.items():
        found = [np.searchsorted(labels, index.search(query, K)[0]) for query in queries]
        yield {
            "index": "llmspell-memory",
            "change": name,
            "recall": recall(found, truth),
            **spent[name].percentiles(),
        }


def searcher(index: HNSWIndex) -> Callable[[Vector], Labels]:
    """Return a search at the usual ef."""
    return lambda query: index.search(query, K)[0]
