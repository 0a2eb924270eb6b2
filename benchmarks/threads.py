"""What a second core brings, and what a search feels of somebody else's adds."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from data import percentiles
from engines import new_index
from measure import K, on_one_thread, seconds, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench import Bench

    from llmspell_memory.index import HNSWIndex

THREADS: Final = (1, 2)
ROUNDS: Final = 5


def measure(bench: Bench) -> Iterator[dict[str, Any]]:
    """Yield the rows of builds, of many queries in one call, and of searches beside a writer."""
    with on_one_thread():
        indexes = []
        for threads in THREADS:
            index = new_index(bench.dimensions)
            spent = seconds(lambda: index.add(np.arange(bench.largest), bench.vectors, threads=threads))  # noqa: B023
            indexes.append(index)
            yield {"work": f"build {bench.largest:,}", "threads": threads, "seconds": round(spent, 3)}
        yield from many(bench, indexes[0])
        yield from beside_a_writer(bench, indexes[0])


def many(bench: Bench, index: HNSWIndex) -> Iterator[dict[str, Any]]:
    """Yield what all queries take in one call, the best of some rounds in turn."""
    spent: dict[int, list[float]] = {threads: [] for threads in THREADS}
    for _ in range(ROUNDS):
        for threads in THREADS:
            spent[threads].append(
                seconds(lambda: index.search_many(bench.data.queries, K, threads=threads))  # noqa: B023
            )
    for threads in THREADS:
        work = f"search_many of {len(bench.queries):,}"
        yield {"work": work, "threads": threads, "seconds": round(min(spent[threads]), 5)}


def beside_a_writer(bench: Bench, index: HNSWIndex) -> Iterator[dict[str, Any]]:
    """Yield single searches while nothing else happens, and while a thread adds without pause."""
    yield {"work": "single searches, idle", "threads": 1, **searches(bench, index)}
    with Writer(index, bench) as writer:
        beside = searches(bench, index)
    yield {"work": "single searches beside a writer", "threads": 2, "added": writer.added, **beside}


def searches(bench: Bench, index: HNSWIndex) -> dict[str, float]:
    """Return the latency of some rounds of single searches."""
    spent = [timed(lambda query: index.search(query, K), bench.queries) for _ in range(ROUNDS)]
    return percentiles(np.concatenate(spent))


class Writer:
    """A thread that adds new rows one at a time while the context lasts."""

    def __init__(self, index: HNSWIndex, bench: Bench) -> None:
        self.added = 0
        self._index = index
        self._bench = bench
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _write(self) -> None:
        chance = np.random.default_rng(4)
        while not self._done.is_set():
            noise = chance.standard_normal(self._bench.dimensions, np.float32) / self._bench.dimensions**0.5
            row = self._bench.vectors[self.added % self._bench.largest] + np.float32(0.3) * noise
            self._index.add([self._bench.largest + self.added], row[None])
            self.added += 1
