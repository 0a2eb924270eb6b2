"""What a migration takes: rows a second, seconds by phase, and memory at several sizes, to see that it is bounded.

    python benchmarks/migrate.py --rows 1000000 --dimensions 64 --folder /tmp

Each migration is a process of its own, whose largest resident size the kernel tells. Without an index the target costs
what reading and writing costs; with HNSW the graph itself is in memory, and its bytes are told beside.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from data import made

from llmspell_memory import EmbeddingSpace, EpisodicEntry, Filter, HNSWConfig
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.operations import migrate, rollback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmspell_memory.types import Vector

NOON: Final = datetime(2025, 1, 5, 12, tzinfo=UTC)
BATCH: Final = 2048
BLOCK: Final = 50_000
SINCE: Final = 1000
"""Rows written to the new store before it is rolled back."""


def rows(count: int, dimensions: int) -> Iterator[EpisodicEntry]:
    """Yield entries of about 120 characters in sessions of 100, in three namespaces, made block by block."""
    number = 0
    for start in range(0, count, BLOCK):
        some = min(BLOCK, count - start)
        block = made(BLOCK, dimensions)[:some]
        block += np.random.default_rng(start).standard_normal(block.shape).astype(np.float32) * 0.3 / dimensions**0.5
        for vector in block:
            yield entry(number, vector)
            number += 1


def entry(number: int, vector: Vector) -> EpisodicEntry:
    """Return the entry of a number."""
    return EpisodicEntry(
        f"session-{number // 100}",
        ("user", "assistant")[number % 2],
        f"what was said as number {number}: " + "some more words about it " * 4,
        id=f"entry-{number}",
        namespace=((), ("acme",), ("acme", "alice"))[number % 3],
        timestamp=NOON + timedelta(seconds=number),
        ingestion_time=NOON + timedelta(seconds=number),
        metadata={"number": number},
        embedding=vector,
    )


def fill(path: Path, count: int, space: EmbeddingSpace) -> None:
    """Make a store of so many rows."""
    backend = SQLiteBackend(path, space, warm=False)
    batch: list[EpisodicEntry] = []
    for one in rows(count, space.dimensions):
        batch.append(one)
        if len(batch) == BATCH:
            backend.add(batch)
            batch = []
    backend.add(batch)
    backend.close()


def peak() -> int:
    """Return the largest resident size of this process so far, in KiB (what getrusage tells includes its parent's)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def run(source: Path, target: Path, kind: str) -> dict[str, Any]:
    """Migrate in this process, and return what it took."""
    began = peak()
    old = SQLiteBackend(source, warm=False)
    new = SQLiteBackend(target, old.space, hnsw=HNSWConfig() if kind == "hnsw" else None, warm=False)
    marks: dict[str, float] = {}

    def note(phase: str, _done: int, _total: int) -> None:
        marks[phase] = peak()

    report = migrate(old, new, batch=512, on_progress=note)
    if not report.verified or report.verification is None:
        raise SystemExit(report.table())
    index = new.stats().index.memory_bytes if kind == "hnsw" else 0
    new.add([entry(10**9 + number, np.ones(old.space.dimensions, np.float32)) for number in range(SINCE)])
    clock = time.perf_counter()
    back = rollback(new, old, verify=False)
    took = time.perf_counter() - clock
    result = {
        "entries": report.entries,
        "dimensions": old.space.dimensions,
        "kind": kind,
        "seconds": {phase: round(taken, 2) for phase, taken in report.seconds.items()},
        "rows_per_second": round(report.entries / report.seconds["copy"]),
        "base_mib": round(began / 1024),
        "peak_mib": {phase: round(most / 1024) for phase, most in marks.items()},
        "index_mib": round(index / 2**20),
        "recall": {one.what: round(one.target, 4) for one in report.verification.searches},
        "rolled_back": back.written,
        "rollback_seconds": round(took, 3),
        "disk_mib": round(new.stats().disk_bytes / 2**20),
    }
    old.delete(Filter(ids=frozenset(f"entry-{10**9 + number}" for number in range(SINCE))))
    new.close()
    old.close()
    return result


def main() -> None:
    """Measure several sizes up to the one asked for."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rows", type=int, default=100_000, help="the largest number of rows")
    options.add_argument("--parts", type=int, nargs="+", default=[10, 3, 1], help="sizes, as parts of that number")
    options.add_argument("--dimensions", type=int, default=384)
    options.add_argument("--kinds", nargs="+", default=["exact", "hnsw"])
    options.add_argument("--folder", type=Path, help="where the stores are made; the system's folder if left out")
    options.add_argument("--output", type=Path, default=Path(__file__).parent / "results", help="folder for the JSON")
    options.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        print(json.dumps(run(Path(given.child[0]), Path(given.child[1]), given.child[2])))
        return
    space = EmbeddingSpace(provider="benchmark", model=None, dimensions=given.dimensions)
    results = []
    for count in sorted({given.rows // part for part in given.parts}):
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            source = Path(folder) / "old.db"
            fill(source, count, space)
            for kind in given.kinds:
                target = Path(folder) / f"{kind}.db"
                command = [sys.executable, __file__, "--child", str(source), str(target), kind]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                results.append(json.loads(out))
                print(results[-1], flush=True)
                target.unlink()
    given.output.mkdir(exist_ok=True)
    name = f"migrate-{given.rows}-{given.dimensions}d-{'-'.join(given.kinds)}.json"
    machine = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
    (given.output / name).write_text(json.dumps(machine | {"results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
