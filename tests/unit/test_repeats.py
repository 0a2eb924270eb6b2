"""Repetitions are left out between processes, cheaply, and where files are imported."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, MemoryConfig
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.operations import import_entries

if TYPE_CHECKING:
    from pathlib import Path

SPEAKER = """
import json, sys
from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, MemoryConfig
from llmspell_memory.embeddings import HashingProvider

config = MemoryConfig(service=EmbeddingService(HashingProvider(16)), path=sys.argv[1])
with DefaultMemoryManager.with_config(config) as manager:
    print("open", flush=True)
    sys.stdin.readline()
    said = [EpisodicEntry("s", "user", f"turn {n}") for n in range(100)]
    print(json.dumps([manager.episodic.add(one, on_duplicate="skip") for one in said]))
"""


def config(path: Path | None = None) -> MemoryConfig:
    return MemoryConfig(service=EmbeddingService(HashingProvider(16)), path=path)


def test_processes_that_say_the_same_at_once_store_it_once(tmp_path: Path) -> None:
    """Two processes add the same hundred turns at the same time: each turn is there once, and both know its id."""
    path = tmp_path / "memory.db"
    DefaultMemoryManager.with_config(config(path)).close()
    speakers = [
        subprocess.Popen(
            [sys.executable, "-c", SPEAKER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [speaker.stdout.readline() for speaker in speakers if speaker.stdout] == ["open\n", "open\n"]
    for speaker in speakers:
        assert speaker.stdin
        speaker.stdin.write("go\n")
        speaker.stdin.flush()
    told = [json.loads(speaker.communicate(timeout=60)[0]) for speaker in speakers]
    with DefaultMemoryManager.with_config(config(path)) as manager:
        stored = {one.content: one.id for one in manager.episodic.scan()}
        assert told == [[stored[f"turn {n}"] for n in range(100)]] * 2
        assert manager.episodic.count() == 100


def test_a_repetition_leaves_the_store_as_it_is(tmp_path: Path) -> None:
    """Where nothing is stored, no number is used: whoever follows the store has nothing to read."""
    for path in (None, tmp_path / "memory.db"):
        with DefaultMemoryManager.with_config(config(path)) as manager:
            manager.episodic.add_many([EpisodicEntry("s", "user", text) for text in "abc"])
            before = manager.stats().seq
            manager.episodic.add_many([EpisodicEntry("s", "user", text) for text in "cab"], on_duplicate="skip")
            assert manager.stats().seq == before


def test_an_import_may_leave_repetitions_out() -> None:
    """What a file says twice in a session is stored once, and counted as left out."""
    with DefaultMemoryManager.with_config(config()) as manager:
        entries = [EpisodicEntry(f"s{n % 2}", "user", f"turn {n % 5}") for n in range(40)]
        report = import_entries(manager.episodic, entries, on_duplicate="skip", batch=16)
        assert (report.read, report.new, report.skipped) == (40, 10, 30)
        assert manager.episodic.count() == 10
        assert import_entries(manager.episodic, entries, on_duplicate="skip").unchanged == 10
