"""Moving a store to another embedding model while it is used: how quick that is, and what searches and writes notice.

One thread searches by texts, one adds an entry now and then, before the move and during it. `--texts` is a file of JSON
Lines with a text under "text" or "content", .gz too.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from data import machine

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, MemoryConfig
from llmspell_memory.embeddings import HashingProvider, LocalProvider

if TYPE_CHECKING:
    from collections.abc import Callable


class Loop(threading.Thread):
    """Calls something over and over, and keeps how long each call took."""

    def __init__(self, call: Callable[[int], object], *, pause: float = 0.0) -> None:
        super().__init__(daemon=True)
        self._call, self._pause = call, pause
        self._ended = threading.Event()
        self.took: list[float] = []
        self.start()

    def run(self) -> None:
        """Call until told to end."""
        while not self._ended.wait(self._pause):
            began = time.perf_counter()
            self._call(len(self.took))
            self.took.append(time.perf_counter() - began)

    def end(self) -> dict[str, float]:
        """Stop, and return the figures in microseconds."""
        self._ended.set()
        self.join()
        times = np.array(self.took) * 1e6
        return {
            "calls": len(times),
            "p50": float(np.percentile(times, 50)),
            "p95": float(np.percentile(times, 95)),
            "max": float(times.max()),
        }


def loops(memory: DefaultMemoryManager, texts: list[str], name: str) -> tuple[Loop, Loop]:
    """Return one thread that searches and one that adds 50 entries a second."""

    def search(number: int) -> None:
        memory.episodic.search(texts[number % 200], 10)

    def add(number: int) -> None:
        memory.episodic.add(EpisodicEntry("added", "user", texts[number % len(texts)], id=f"{name}-{number}"))

    return Loop(search), Loop(add, pause=0.02)


def measured(texts: list[str], folder: Path, seconds: float) -> dict[str, Any]:
    """Fill a store, use it, and move it while it is used."""
    path = folder / "memory.db"
    former, latter = EmbeddingService(HashingProvider(256)), EmbeddingService(LocalProvider(), cache=None)
    with DefaultMemoryManager.with_config(MemoryConfig.for_production(former, path=path)) as memory:
        memory.episodic.add_many(EpisodicEntry(f"s{n // 15}", "user", text) for n, text in enumerate(texts))
        result: dict[str, Any] = {"entries": len(texts), "disk_before": memory.stats().disk_bytes}
        both = loops(memory, texts, "before")
        time.sleep(seconds)
        result["before"] = dict(zip(("search", "add"), (one.end() for one in both), strict=True))
        both = loops(memory, texts, "during")
        report = memory.reembed(latter).wait()
        result["during"] = dict(zip(("search", "add"), (one.end() for one in both), strict=True))
        result |= {"embedded": report.embedded, "seconds": report.seconds, "overlap": report.overlap}
        result["disk_after"] = memory.stats().disk_bytes
        back = memory.reembed(former).wait()
        result |= {"back_embedded": back.embedded, "back_seconds": back.seconds}
    return result


def main() -> None:
    """Measure, print and write the result as JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--texts", type=Path, required=True)
    options.add_argument("--entries", type=int, default=50_000)
    options.add_argument("--seconds", type=float, default=5.0, help="of use before the move")
    options.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    given = options.parse_args()
    opened = gzip.open if given.texts.suffix == ".gz" else open
    with opened(given.texts, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(given.entries), strict=False)]
    texts = [row.get("text") or row["content"] for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        result = {"machine": machine()} | measured(texts, Path(folder), given.seconds)
    print(json.dumps(result, indent=1))
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "reembed.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
