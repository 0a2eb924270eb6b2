"""What it costs to time operations: one recording, and all of it in a search.

Searches are those of a memory in RAM over few vectors, where they are quickest and a cost shows most. The memory as it
is takes turns with the same memory whose clock and recorders do nothing.
"""

from __future__ import annotations

import argparse
import json
import time
import timeit
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from data import machine, made

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, MemoryConfig
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.types.histogram import Histogram, SearchParts
from llmspell_memory.watch.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOPS: Final = 20_000
RUNS: Final = 201
ROUNDS: Final = 301
SEARCHES: Final = 100


def nanoseconds(work: Callable[..., object], *given: int) -> float:
    """Return what one call takes, the loop included, in the best of many short runs: others' work only adds."""
    call = f"work({', '.join(map(str, given))})"
    return min(timeit.repeat(call, number=LOOPS, repeat=RUNS, globals={"work": work})) / LOOPS * 1e9


def recordings() -> dict[str, float]:
    """Return the nanoseconds of a recording into a histogram, and of the clock, by what is recorded."""
    record = Histogram().record
    told = {f"record {ns:,} ns": nanoseconds(record, ns) for ns in (20, 5_000, 75_000, 10**7)}
    return told | {"read the clock": nanoseconds(time.perf_counter_ns)}


@contextmanager
def untimed() -> Iterator[None]:
    """Leave out all that is done to time a search and to choose it for comparison."""
    modules = ("memory", "backends.local.backend", "backends.view")
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(patch(f"llmspell_memory.{module}.perf_counter_ns", int))
        stack.enter_context(patch.object(SearchParts, "whole_took", _nothing))
        stack.enter_context(patch.object(Observer, "searched", _nothing))
        yield


def searches() -> dict[str, float]:
    """Return the microseconds of a search, timed and untimed in turn, each in its best round, and the difference."""
    rows = made(1_000 + SEARCHES, 64)
    config = MemoryConfig.for_production(EmbeddingService(HashingProvider(64))).with_watch(None)
    timed, plain = [], []
    with DefaultMemoryManager.with_config(config) as manager:
        manager.episodic.add_many(EpisodicEntry("s", "user", "x", embedding=row) for row in rows[SEARCHES:])

        def run() -> float:
            began = time.perf_counter_ns()
            for query in rows[:SEARCHES]:
                manager.episodic.search(query, 1)
            return (time.perf_counter_ns() - began) / SEARCHES / 1e3

        for _ in range(ROUNDS):
            timed.append(run())
            with untimed():
                plain.append(run())
    stand_ins = (5 * nanoseconds(int) + 2 * nanoseconds(_nothing, 1, 2, 3)) / 1e3  # calls that are there in its place
    return {"timed": min(timed), "untimed": min(plain) - stand_ins, "difference": min(timed) - min(plain) + stand_ins}


def _nothing(*_: object) -> None:
    pass


def main() -> None:
    """Measure, print and write it as JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--output", type=Path, default=Path(__file__).parent / "results", help="folder for the JSON")
    output: Path = options.parse_args().output
    result: dict[str, Any] = {"machine": machine(), "ns": recordings(), "search_us": searches()}
    print(result["machine"])
    for name, value in result["ns"].items():
        print(f"{name:>24}: {value:6.0f} ns")
    for name, value in result["search_us"].items():
        print(f"{f'a search, {name}':>24}: {value:6.2f} µs")
    output.mkdir(parents=True, exist_ok=True)
    (output / "recording.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
