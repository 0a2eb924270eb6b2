"""Recall against latency: every engine, every setting, at every size, in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from engines import ENGINES, Engine, Setting
from measure import Spent, Truth, on_one_thread, recall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench import Bench, Built

    from llmspell_memory.types import Vector
    from llmspell_memory.types.arrays import Labels

ROUNDS: Final = 6
EXACT_QUERIES: Final = 100
"""So many show that an exact index is one; all would take minutes."""


def measure(bench: Bench) -> Iterator[dict[str, Any]]:
    """Yield a row per engine and setting, and one for each engine that could not be measured."""
    with on_one_thread():
        for size in bench.sizes:
            yield from at(bench, size)


def at(bench: Bench, size: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of one size; the engines' indexes live side by side."""
    ready: list[Built[Engine]] = []
    try:
        for kind in ENGINES:
            try:
                ready.append(bench.built(kind, size))
            except Exception as error:  # noqa: BLE001 (a peer's failure is a line of the table, whatever it is)
                yield {"size": size, "index": kind.name, "failed": f"{type(error).__name__}: {error}"}
        yield from compared(ready, bench.truth(size), bench.queries)
    finally:
        for one in ready if size < bench.largest else []:  # the largest serve other parts, too
            one.engine.close()


def compared(ready: Sequence[Built[Engine]], truth: Truth, queries: Sequence[Vector]) -> Iterator[dict[str, Any]]:
    """Yield the engines' rows, after rounds in which each has its turn at each setting.

    A shared machine drifts by a factor of two within minutes. In short turns, each with half of the queries, that
    meets all alike.
    """
    pairs = [(one, setting) for one in ready for setting in one.engine.settings]
    spent = {(one.engine.name, setting): Spent() for one, setting in pairs}
    for turn in range(ROUNDS):
        for one, setting in in_turn(pairs, turn):
            spent[one.engine.name, setting].turn(one.engine.searcher(setting), queries[turn % 2 :: 2])
    for one, setting in pairs:
        share = found(one.engine.searcher(setting), truth, len(queries) if setting.ef else EXACT_QUERIES)
        yield line(one, setting, truth) | {"recall": share} | spent[one.engine.name, setting].percentiles()


def found(search: Callable[[Vector], Labels], truth: Truth, count: int) -> float:
    """Return the recall over the first `count` queries."""
    some = Truth(truth.vectors, truth.queries[:count], truth.worst[:count])
    return recall([search(query) for query in some.queries], some)


def in_turn(pairs: list[tuple[Built[Engine], Setting]], turn: int) -> list[tuple[Built[Engine], Setting]]:
    """Return the pairs so that like settings stand together, beginning elsewhere in every turn."""
    alike = sorted(pairs, key=lambda pair: (pair[1].ef or 0, pair[1].refine))
    first = turn * len(alike) // ROUNDS
    return alike[first:] + alike[:first]


def line(one: Built[Engine], setting: Setting, truth: Truth) -> dict[str, Any]:
    """Return what a row says besides recall and latency."""
    size, width = truth.vectors.shape
    memory = one.engine.memory_bytes()
    return {
        "size": size,
        "index": one.engine.name,
        "setting": str(setting),
        "ef": setting.ef,
        "build_seconds": round(one.seconds, 3),
        "entry_bytes": None if memory is None else round(memory / size),
        "above_vectors_bytes": None if memory is None else round(memory / size) - width * one.engine.number_bytes,
    }
