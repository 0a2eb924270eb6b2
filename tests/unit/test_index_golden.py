"""Snapshots that an earlier release wrote are opened, and say what they said then."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmspell_memory.index import HNSWIndex

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = ["snapshot-v1-float32.idx", "snapshot-v1-float16.idx"]
FAR = 2**62


def expected() -> dict[str, dict[str, Any]]:
    said: dict[str, dict[str, Any]] = json.loads((GOLDEN / "snapshot-v1.json").read_text(encoding="utf-8"))
    return said


def as_said(said: dict[str, Any], queries: list[list[float]], path: Path) -> None:
    """Open `path` and compare what it says with what it said."""
    index = HNSWIndex.open(path)
    index.verify()
    assert index.check() == ""
    config = index.config
    settings = [config.m, config.ef_construction, config.ef_search, config.seed, config.dtype]
    assert [len(index), index.dimensions, index.metric, settings, index.tag] == [
        said[name] for name in ("size", "dimensions", "metric", "config", "tag")
    ]
    for query in queries:
        through_the_graph = index.core.search(np.array(query, np.float32), 100, 100, None, "graph")
        assert through_the_graph is not None
        assert through_the_graph[0].tolist() == index.search(query, 100)[0].tolist()
    for among, labels, scores in zip((None, [2, 3, 5, 7, FAR, FAR + 5]), said["labels"], said["scores"], strict=True):
        found, theirs = index.search_many(np.array(queries), 8, among=among)
        assert found.tolist() == labels
        for one, other in zip(theirs, scores, strict=True):
            assert one[: len(other)].tolist() == pytest.approx(other, abs=1e-5)


def test_every_golden_file_is_tested() -> None:
    """No snapshot lies there that no test opens."""
    assert sorted(path.name for path in GOLDEN.glob("*.idx")) == sorted(NAMES) == sorted(expected())


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_snapshot_answers_as_it_did(name: str, tmp_path: Path) -> None:
    """It is opened, whole, with its settings and tag, gives the same labels and scores, and takes new vectors."""
    said = expected()[name]
    as_said(said, said["queries"], GOLDEN / name)
    shutil.copy(GOLDEN / name, tmp_path / name)
    index = HNSWIndex.open(tmp_path / name)
    index.add([1000, 0], np.full((2, 6), 30.0) + np.eye(2, 6))
    index.remove([3])
    assert (len(index), index.check()) == (said["size"], "")
    assert sorted(index.search(np.full(6, 30.0), 2)[0].tolist()) == [0, 1000]


def test_one_command_makes_them_anew(tmp_path: Path) -> None:
    """The script writes the same files into another folder, with answers that hold for what it wrote."""
    subprocess.run([sys.executable, GOLDEN / "make.py", tmp_path], check=True, timeout=60)
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(["snapshot-v1.json", *NAMES])
    for name, said in json.loads((tmp_path / "snapshot-v1.json").read_text(encoding="utf-8")).items():
        assert (said["size"], said["tag"]) == (expected()[name]["size"], expected()[name]["tag"])
        as_said(said, said["queries"], tmp_path / name)
