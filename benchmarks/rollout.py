"""What a rollout costs the one that serves: searches and adds through it, beside the same on a plain backend.

Both are SQLite with HNSW in one process. Turns of each follow each other, the first one changing, and nothing of the
rollout is left to do when a plain turn begins: so what its threads do is in its own figures and in no others. Ratios
are of turns that followed each other, their median, with the quartiles beside it.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from data import Data, load, machine, parser

from llmspell_memory import EmbeddingSpace, EpisodicEntry, Filter, HNSWConfig
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.operations import Bar, Rollout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmspell_memory import EpisodicBackend

K = 10
SIZES = (10_000, 100_000)
EVERYTHING = Filter()


def entries(data: Data, numbers: Iterable[int]) -> list[EpisodicEntry]:
    """Return entries with these numbers; their vectors begin again after the last."""
    rows = data.vectors
    return [
        EpisodicEntry(f"s{n // 15}", "user", f"utterance {n}", id=str(n), embedding=rows[n % len(rows)])
        for n in numbers
    ]


def filled(path: Path, data: Data, size: int, hnsw: HNSWConfig | None) -> SQLiteBackend:
    """Return a store with the first `size` entries."""
    space = EmbeddingSpace(provider="benchmark", model=None, dimensions=data.vectors.shape[1])
    backend = SQLiteBackend(path, space, hnsw=hnsw)
    for start in range(0, size, 5_000):
        backend.add(entries(data, range(start, min(size, start + 5_000))))
    return backend


def turn(uses: Iterable[Callable[[], object]], pause: float) -> list[float]:
    """Do each of these and return the microseconds that each took; `pause` seconds lie between two."""
    took = []
    for use in uses:
        began = time.perf_counter_ns()
        use()
        took.append((time.perf_counter_ns() - began) / 1000)
        if pause:
            time.sleep(pause)
    return took


def compared(
    plain: EpisodicBackend,
    rollout: Rollout,
    uses: Callable[[EpisodicBackend, int], Iterable[Callable[[], object]]],
    *,
    turns: int,
    pause: float,
) -> dict[str, Any]:
    """Take turns, and return percentiles of both in microseconds, and the ratios."""
    took: dict[str, list[list[float]]] = {"plain": [], "rollout": []}
    for number in range(turns):
        order = ["plain", "rollout"] if number % 2 else ["rollout", "plain"]
        for name in order:
            took[name].append(turn(uses(plain if name == "plain" else rollout, number), pause))
            rollout.catch_up()
            rollout.drain()
    row: dict[str, Any] = {}
    for share in (50, 95):
        pairs = [
            float(np.percentile(ours, share) / np.percentile(theirs, share))
            for ours, theirs in zip(took["rollout"], took["plain"], strict=True)
        ]
        for name, turns_of in took.items():
            row[f"{name}_p{share}"] = round(float(np.percentile(np.concatenate(turns_of), share)), 1)
        row[f"p{share}_ratio"] = [round(float(value), 3) for value in np.percentile(pairs, (25, 50, 75))]
    return row


def searches(data: Data, per_turn: int, backend: EpisodicBackend, number: int) -> Iterable[Callable[[], object]]:
    """Searches of a turn."""
    for n in range(number * per_turn, (number + 1) * per_turn):
        yield partial(backend.search, data.queries[n % len(data.queries)], K, EVERYTHING)


def adds(
    data: Data, first: int, per_turn: int, backend: EpisodicBackend, number: int
) -> Iterable[Callable[[], object]]:
    """Adds of a turn, an entry each."""
    for n in range(first + number * per_turn, first + (number + 1) * per_turn):
        yield partial(backend.add, entries(data, [n]))


def rows(data: Data, size: int, folder: Path, options: Any) -> list[dict[str, Any]]:
    """Return a line per operation and pause."""
    hnsw = None if options.exact else HNSWConfig()
    plain = filled(folder / "plain.db", data, size, hnsw)
    primary = filled(folder / "primary.db", data, size, hnsw)
    space = plain.space
    candidate = SQLiteBackend(folder / "candidate.db", space, hnsw=HNSWConfig())
    rollout = Rollout(primary, candidate, share=options.share, bar=Bar(queries=100_000, p95_ratio=100, recall=0))
    began = time.monotonic()
    rollout.catch_up()
    print(f"{size:,} entries: the candidate was level after {time.monotonic() - began:.1f} s", flush=True)
    lines, first = [], size
    for pause in (0.0, 0.002):
        scale = 4 if pause else 1
        kinds: dict[str, tuple[Any, int]] = {
            "search": (partial(searches, data, 400 // scale), options.turns),
            "add": (partial(adds, data, first, 100 // scale), options.turns),
        }
        first += options.turns * 100
        for name, (uses, turns) in kinds.items():
            row = compared(plain, rollout, uses, turns=turns, pause=pause)
            lines.append({"size": size, "operation": name, "pause_ms": pause * 1000, **row})
            print(lines[-1], flush=True)
    report = rollout.report()
    print(report, flush=True)
    rollout.close()
    plain.close()
    return lines


def table(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    lines = [
        f"A share of {result['share']} of the searches compared; {result['machine']}; vectors: {result['data']}.",
        f"Load average when it began: {result['load']:.1f}.",
        "",
        "| entries | operation | pause | plain p50 µs | rollout's | ratio | plain p95 µs | rollout's | ratio |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        ratios = ["{1:.3f} ({0:.3f} to {2:.3f})".format(*row[f"p{share}_ratio"]) for share in (50, 95)]
        cells = [f"{row['size']:,}", row["operation"], f"{row['pause_ms']:g} ms"]
        for share, ratio in zip((50, 95), ratios, strict=True):
            cells += [f"{row[f'plain_p{share}']:,.0f}", f"{row[f'rollout_p{share}']:,.0f}", ratio]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print the table and write it as JSON."""
    options = parser(str(__doc__))
    options.add_argument("--share", type=float, default=0.05, help="of the searches, how many are compared")
    options.add_argument("--turns", type=int, default=30, help="turns of each kind (default: 30)")
    options.add_argument("--exact", action="store_true", help="let the primary search exactly")
    arguments = options.parse_args()
    data = load(arguments)
    result: dict[str, Any] = {
        "machine": machine(),
        "data": data.source,
        "share": arguments.share,
        "load": os.getloadavg()[0],
        "rows": [],
    }
    for size in (size for size in SIZES if size <= len(data.vectors)):
        with tempfile.TemporaryDirectory() as folder:
            result["rows"] += rows(data, size, Path(folder), arguments)
    print(table(result))
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "rollout.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
