"""Writes the snapshots that every later release must open, and the answers they must give.

    python tests/golden/make.py [folder]

They are made anew only when the format takes a new version, beside the old ones; or, before a version is released, in
place of them.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llmspell_memory import HNSWConfig
from llmspell_memory.index import HNSWIndex

if TYPE_CHECKING:
    from llmspell_memory.types import Metric

HERE: Final = Path(__file__).parent
VERSION: Final = 1
TAG: Final = 2**63 + 5
WIDTH: Final = 6
FAR: Final = 2**62

KINDS: Final[dict[str, tuple[Metric, HNSWConfig]]] = {
    "float32": ("euclidean", HNSWConfig(m=3, ef_construction=20, ef_search=15, seed=5)),
    "float16": ("cosine", HNSWConfig(m=2, ef_construction=10, ef_search=12, seed=6, dtype="float16")),
}


def points(count: int, *, seed: int) -> list[list[float]]:
    """Return vectors by a rule that no library's generator can change: whole numbers from -8 to 8."""
    state, rows = seed, []
    for _ in range(count):
        row = []
        for _ in range(WIDTH):
            state = (state * 1103515245 + 12345) % 2**31
            row.append(float(state // 2**16 % 17 - 8))
        rows.append(row)
    return rows


def made(kind: str) -> HNSWIndex:
    """Return an index of some 60 labels: shared vectors, replaced ones, gaps, and labels far apart."""
    metric, config = KINDS[kind]
    index = HNSWIndex(dimensions=WIDTH, metric=metric, config=config)
    rows = np.array(points(60, seed=1))
    index.add(np.arange(60), rows)
    index.add(np.arange(FAR, FAR + 12), rows[np.arange(12) % 5])
    index.add(np.arange(20, 25), np.array(points(5, seed=2)))
    index.remove(np.arange(1, 60, 7))
    return index


def answers(index: HNSWIndex) -> dict[str, Any]:
    """Return what an index says of itself, and to some questions with and without a filter."""
    queries = points(5, seed=3)
    found = [index.search_many(np.array(queries), 8, among=among) for among in (None, [2, 3, 5, 7, FAR, FAR + 5])]
    config = index.config
    return {
        "size": len(index),
        "dimensions": index.dimensions,
        "metric": index.metric,
        "config": [config.m, config.ef_construction, config.ef_search, config.seed, config.dtype],
        "tag": index.tag,
        "queries": queries,
        "labels": [labels.tolist() for labels, _ in found],
        "scores": [[[round(float(one), 6) for one in row if one > -np.inf] for row in scores] for _, scores in found],
    }


def main(folder: Path) -> None:
    """Write a snapshot of each kind, and their answers."""
    said = {}
    for kind in KINDS:
        path = folder / f"snapshot-v{VERSION}-{kind}.idx"
        made(kind).save(path, tag=TAG)
        said[path.name] = answers(HNSWIndex.open(path))
    text = re.sub(r"\[[^][]*\]", lambda row: " ".join(row[0].split()), json.dumps(said, indent=1))  # a row, a line
    (folder / f"snapshot-v{VERSION}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
