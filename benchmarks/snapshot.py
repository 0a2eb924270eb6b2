"""What it takes to write an index down and to open it again in another process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from engines import Ours
from measure import seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench import Bench

    from llmspell_memory.index import HNSWIndex
    from llmspell_memory.types import Vector

OPENINGS: Final = 7
CHILD: Final = Path(__file__).with_name("opening.py")


def measure(bench: Bench) -> Iterator[dict[str, Any]]:
    """Yield one row per size: save, bytes, open and first search."""
    for size in bench.sizes[-2:]:
        yield {"size": size} | saved_and_opened(bench.built(Ours, size).engine.index, bench.queries[0])


def saved_and_opened(index: HNSWIndex, query: Vector) -> dict[str, Any]:
    """Return what saving takes, and opening in processes of their own, with a warm page cache."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        spent = seconds(lambda: index.save(path))
        asked = Path(folder) / "query.npy"
        np.save(asked, query)
        opened = [opening(path, asked) for _ in range(OPENINGS + 1)][1:]  # the first warms the page cache
        return {
            "save_seconds": round(spent, 4),
            "bytes": path.stat().st_size,
            "open_ms": round(float(np.median([one["open_ms"] for one in opened])), 3),
            "first_search_us": round(float(np.median([one["first_search_us"] for one in opened])), 1),
            "second_search_us": round(float(np.median([one["second_search_us"] for one in opened])), 1),
        }


def opening(path: Path, query: Path) -> dict[str, float]:
    """Return what a fresh process measured."""
    done = subprocess.run([sys.executable, CHILD, path, query], capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result
