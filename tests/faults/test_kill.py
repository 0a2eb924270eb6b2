"""A process killed in the middle of its writes loses nothing that it was told is stored."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicBackendType, MemoryConfig
from llmspell_memory.embeddings import HashingProvider

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 20

Said: TypeAlias = dict[str, Any]
"""A line of the writer: what it begins or has done, and the ids it is about."""

WRITER = """
import json, random, sys
from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, Filter, MemoryConfig
from llmspell_memory.embeddings import HashingProvider

path, seed = sys.argv[1], int(sys.argv[2])
chance = random.Random(seed)

def tell(**what):
    print(json.dumps(what), flush=True)

with DefaultMemoryManager.with_config(
    MemoryConfig(service=EmbeddingService(HashingProvider(32), cache=None), path=path)
) as manager:
    tell(op="open")
    number = 0
    while True:
        size = chance.choice([1, 1, 1, 40])
        batch = [EpisodicEntry("s", "user", f"{seed}-{number + n}", id=f"{seed}-{number + n}") for n in range(size)]
        ids = [one.id for one in batch]
        number += size
        tell(op="begin", add=ids)
        manager.episodic.add_many(batch)
        tell(op="done", add=ids)
        if chance.random() < 0.2:
            tell(op="begin", mark=ids)
            manager.episodic.mark_processed(ids)
            tell(op="done", mark=ids)
        if chance.random() < 0.2:
            gone = ids[: size // 2 + 1]
            tell(op="begin", delete=gone)
            manager.episodic.delete(Filter(ids=gone))
            tell(op="done", delete=gone)
"""


def run_and_kill(path: Path, seed: int) -> list[Said]:
    """Let a writer work for a random moment, kill it, and return what it said."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(seed)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline()]
        time.sleep(random.Random(seed).uniform(0.01, 0.25))
        os.kill(writer.pid, signal.SIGKILL)
        said += writer.stdout.readlines()
    assert writer.returncode == -signal.SIGKILL, "the writer ended before it was killed"
    return [json.loads(line) for line in said if line.endswith(b"\n")]


class History:
    """What must be there, and what may be: the one operation that was begun and not acknowledged."""

    def __init__(self) -> None:
        self.stored: dict[str, bool] = {}  # id -> processed

    def outcomes(self, said: list[Said]) -> list[dict[str, bool]]:
        begun: Said | None = None
        for line in said:
            if line["op"] == "done":
                self.stored = self.after(line)
                begun = None
            elif line["op"] == "begin":
                begun = line
        return [self.stored] + ([self.after(begun)] if begun else [])

    def after(self, line: Said) -> dict[str, bool]:
        stored = dict(self.stored)
        stored.update(dict.fromkeys(line.get("add", ()), False))
        stored.update(dict.fromkeys(line.get("mark", ()), True))
        for one in line.get("delete", ()):
            del stored[one]
        return stored


def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    """After each of 20 kills the file holds what was acknowledged, or that and the whole operation under way."""
    path = tmp_path / "memory.db"
    service = EmbeddingService(HashingProvider(32))
    config = MemoryConfig(backend=EpisodicBackendType.HNSW, service=service, path=path)
    history = History()
    acknowledged = 0
    for seed in range(ROUNDS):
        said = run_and_kill(path, seed)
        acknowledged += sum(line["op"] == "done" for line in said)
        with DefaultMemoryManager.with_config(config) as manager:
            found = {one.id: one.processed for one in manager.episodic.scan()}
            assert found in history.outcomes(said)
            assert manager.stats().index.size == len(found)
            for one in list(found)[:: len(found) // 10 + 1]:
                assert manager.episodic.search(one, 1)[0].score > 0.99
        history.stored = found
    assert acknowledged > ROUNDS, "the writers were killed before they wrote anything"
