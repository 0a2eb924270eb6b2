"""A consolidation that is killed at any moment goes on: every entry is read, and what is made of it is there once."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from llmspell_memory import EpisodicEntry, Filter
from tests.faults.harness.consolidator import opened
from tests.faults.harness.writers import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmspell_memory import EpisodicMemory

SHORT, LONG = 15, 300
EACH = 40
MODULE = "tests.faults.harness.consolidator"


def check(memory: EpisodicMemory, said: set[str], *, whole: bool) -> None:
    """Fail where an entry is lost, marked without a fact of it, in facts of two batches, or a fact is left over."""
    turns = list(memory.scan(Filter(role="user")))
    assert {turn.content for turn in turns} == said
    batches = defaultdict(list)
    for fact in memory.scan(Filter(role="fact")):
        batches[fact.id.rpartition("-")[0]].append(json.loads(fact.content))
    read = [name for (_, _, names), *_ in batches.values() for name in names]
    assert {turn.content for turn in turns if turn.processed} <= set(read)
    if whole:
        assert sorted(read) == sorted(said)
        assert memory.list_unprocessed() == []
        for facts in batches.values():
            count, names = facts[0][1:]
            assert sorted(facts) == [[number, count, names] for number in range(count)]


def test_a_killed_consolidation_goes_on(tmp_path: Path, torture: bool, figures: Callable[[str], None]) -> None:
    """While entries come in between, at the end of their sessions as entries do."""
    path = tmp_path / "memory.db"
    chance = random.Random(7)
    said: set[str] = set()
    killed = 0
    rounds = LONG if torture else SHORT
    for _ in range(rounds):
        names = [f"turn {len(said) + n}" for n in range(EACH)]
        with opened(path) as memory:
            memory.episodic.add_many(EpisodicEntry(f"s{chance.randrange(5)}", "user", name) for name in names)
        said.update(names)
        process = subprocess.Popen([sys.executable, "-m", MODULE, path], cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0.0, 0.03))
        process.kill()
        killed += process.wait() < 0
        process.stdout.close()
        with opened(path) as memory:
            check(memory.episodic, said, whole=False)
    assert killed > rounds // 2, "most were still at it"
    figures(f"{killed} kills of a consolidation, {len(said)} entries")
    subprocess.run([sys.executable, "-m", MODULE, path], cwd=ROOT, check=True)
    with opened(path) as memory:
        check(memory.episodic, said, whole=True)
