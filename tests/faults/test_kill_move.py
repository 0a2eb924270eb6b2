"""A migration, or a rollback, killed at any moment goes on: nothing lost, nothing doubled, the source as it was.

Killed are processes at random times, and at random calls of every kind by which they change the target's files; half of
the times another process writes to the source meanwhile.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from llmspell_memory.backends.notes import read_note
from llmspell_memory.operations import check
from llmspell_memory.types.entry import same
from tests.faults.harness.history import ALL, told
from tests.faults.harness.mover import Job, Scribe, made, opened
from tests.faults.harness.writers import ROOT, Writers, compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from llmspell_memory import EpisodicEntry

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="calls are met by a library loaded first, as on Linux"),
    pytest.mark.timeout(3600),
]

KINDS: Final = [
    ("any", "*", 150),
    ("commit", "*-wal", 25),
    ("write", "*.db-wal", 120),
    ("write", "*.db", 20),
    ("write", "*-index*", 6),
    ("create", "*", 3),
    ("truncate", "*", 3),
    ("sync", "*", 3),
    ("folder", "*", 3),
    ("rename", "*", 1),
    ("link", "*", 1),
    ("unlink", "*", 3),
]
"""Kinds of calls, the files they change, and one of how many is fatal."""

SHORT, LONG = 12, 300
ROWS: Final = 600


def rows(path: Path) -> dict[tuple[tuple[str, ...], str], EpisodicEntry]:
    """Return the rows of a store, each identity once."""
    backend = opened(path)
    entries = list(backend.scan(ALL))
    backend.close()
    found = {(one.namespace, one.id): one for one in entries}
    assert len(found) == len(entries), "entries are doubled"
    return found


@contextmanager
def written_meanwhile(path: Path, seed: int, *, wanted: bool) -> Iterator[list[dict[str, Any]]]:
    """Have another process write to a store, and tell in the end what it has left there."""
    left: list[dict[str, Any]] = []
    if not wanted:
        yield left
        return
    command = [sys.executable, "-m", "tests.faults.harness.mover", str(path), str(seed)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "writing\n"
        try:
            yield left
        finally:
            process.stdin.close()
            left.append(json.loads(process.stdout.readline()))


class Campaign:
    """One pair of stores after another, moved and moved back."""

    def __init__(self, folder: Path, movers: Writers) -> None:
        self.folder = folder
        self.movers = movers
        self.chance = random.Random(0)
        self.counts: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()

    def round(self, number: int) -> None:
        """Migrate to a new store, write there, and roll back: each killed several times and then completed."""
        old, new = self.folder / f"old-{number}" / "old.db", self.folder / f"new-{number}" / "new.db"
        for path in (old, new):
            path.parent.mkdir()
        backend = opened(old)
        backend.add([made(f"entry-{one}", one) for one in range(ROWS)])
        backend.close()
        self.move("migrate", old, new, number)
        scribe = Scribe(str(new), 500 + number)
        for _ in range(60):
            scribe.write()
        scribe.backend.close()
        self.move("rollback", new, old, number)
        for path in (old, new):
            shutil.rmtree(path.parent)

    def move(self, verb: str, source: Path, target: Path, number: int) -> None:
        """Kill and go on, until a run is left alone; then both must be equal, and the source what was written to it."""
        job: Job = {"verb": verb, "source": str(source), "target": str(target), "hnsw": self.chance.random() < 0.5}
        job["durability"] = self.chance.choice(["normal", "full"])
        before = rows(source)
        busy = self.chance.random() < 0.5
        with written_meanwhile(source, number, wanted=busy) as left:
            for _ in range(self.chance.randint(1, 3)):
                self.kill(job)
                self.look(verb, target)
        lines, status = self.movers.run(job)
        assert status == 0, "the last run failed"
        assert lines[-1]["verified"], lines[-1]["table"]
        self.counts["went on"] += bool(lines[-1]["resumed"])
        ours, theirs = rows(source), rows(target)
        assert ours.keys() == theirs.keys()
        assert all(same(one, theirs[name]) for name, one in ours.items())
        if busy:
            found = {one.id: [one.metadata["version"], one.processed] for one in ours.values()}
            assert found == left[0], "the source is not what was written to it"
            self.counts["while another process wrote"] += 1
        else:
            assert all(same(one, ours[name]) for name, one in before.items())
            assert before.keys() == ours.keys()
        for path in (source, target):
            assert check(path, sample=0).sound
        backend = opened(target)
        assert (read_note(backend, "migration" if verb == "migrate" else verb) or {})["state"] == "finished"
        backend.close()

    def kill(self, job: Job) -> None:
        """Kill a run at a call, or at some time."""
        if self.chance.random() < 0.3:
            lines, status = self.movers.run(job, kill_after=self.chance.uniform(0, 0.15))
            kind = "at a random time"
        else:
            kind, files, most = self.chance.choice(KINDS)
            moment = self.chance.choice(["before", "amid", "after"])
            kill = (kind, files, moment, self.chance.randint(1, most))
            lines, status = self.movers.run({**job, "kill": kill})
        if status == 0:
            self.counts["ended before that"] += 1
        else:
            assert status == -signal.SIGKILL, f"{kind}: the run failed, {lines[-1:]}"
            self.counts[f"kills of {job['verb']}"] += 1
            self.kinds[kind] += 1

    def look(self, verb: str, target: Path) -> None:
        """See that the target is either not begun, or complete, or says that it is unfinished; half of the times."""
        if self.chance.random() < 0.5 or not target.exists():
            return
        backend = opened(target)
        state = (read_note(backend, verb) or {}).get("state")
        if verb == "migrate":
            state = (read_note(backend, "migration") or {}).get("state")
            assert state is not None or not backend.count(ALL), "a target with entries does not say what it is"
        self.counts[f"found {state}"] += 1
        backend.close()


def test_a_killed_move_goes_on(tmp_path: Path, torture: bool, figures: Callable[[str], None]) -> None:
    """After any kills, the next run ends with two equal stores, and the source is what was written to it."""
    rounds = LONG if torture else SHORT
    with Writers(compiled(tmp_path), "tests.faults.harness.mover") as movers:
        campaign = Campaign(tmp_path, movers)
        for number in range(rounds):
            try:
                campaign.round(number)
            except BaseException as error:
                error.add_note(f"round {number}")
                raise
    kills = sum(count for name, count in campaign.counts.items() if name.startswith("kills"))
    assert kills > rounds
    figures(f"{rounds} moves there and back: {told(campaign.counts)}")
    figures(f"killed {told(campaign.kinds)}")
