"""A rollout killed at any moment goes on: nothing acknowledged is lost, one store serves, and the other comes level.

Writers are killed at points with a name and at random calls, by whichever of their threads comes there: the one that
writes, the one that makes the other store follow, the one that compares.
"""

from __future__ import annotations

import random
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from llmspell_memory import DefaultMemoryManager
from tests.faults.harness.history import ALL, SERVICES, History, no_trace, shown, told
from tests.faults.harness.rollouts import candidate_of, rollout_of
from tests.faults.harness.writers import Writers, compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from llmspell_memory import EpisodicBackend
    from tests.faults.harness.history import Said
    from tests.faults.harness.writer import Job

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="calls are met by a library loaded first, as on Linux"),
    pytest.mark.timeout(3600),
]

WRITES: Final = ["add", "add_many", "replace", "mark", "delete"]
LOG, FILE, INDEX = "memory.db-wal", "memory.db", "memory.db-index"
ITS_LOG, ITS_FILE, ITS_INDEX = "candidate.db-wal", "candidate.db", "candidate.db-index"


class Point(NamedTuple):
    """A call at which a writer is killed: kind, file, before, amid or after it, and the operations that lead there.

    It is one of `most` such calls, drawn at random.
    """

    name: str
    kind: str
    file: str
    moment: str
    then: list[str]
    most: int = 1


POINTS: Final = [
    Point("a write, before it commits", "commit", LOG, "before", WRITES, 3),
    Point("a write, after it has committed", "commit", LOG, "after", WRITES, 3),
    Point("following: some write to the log", "write", ITS_LOG, "amid", WRITES, 12),
    Point("following: before rows or position commit", "commit", ITS_LOG, "before", [*WRITES, "level"], 4),
    Point("following: after rows or position have committed", "commit", ITS_LOG, "after", [*WRITES, "level"], 4),
    Point("changing places: before a note of the primary", "commit", LOG, "before", ["turn", "turn", "add"], 4),
    Point("changing places: amid a note of the primary", "commit", LOG, "amid", ["turn", "turn", "add"], 4),
    Point("changing places: after a note of the primary", "commit", LOG, "after", ["turn", "turn", "add"], 4),
    Point("changing places: before a note of the candidate", "commit", ITS_LOG, "before", ["turn", "turn", "add"], 4),
    Point("changing places: after a note of the candidate", "commit", ITS_LOG, "after", ["turn", "turn", "add"], 4),
    Point("changing places: any call", "any", "*", "before", ["turn"], 40),
    Point("changing places with much to catch up", "any", "*", "amid", ["add_many", "add_many", "turn"], 60),
    Point("forgetting: after it has committed in the primary", "commit", LOG, "after", ["forget"], 4),
    Point("forgetting: before it commits in the candidate", "commit", ITS_LOG, "before", ["forget"], 4),
    Point("forgetting: after it has committed in the candidate", "commit", ITS_LOG, "after", ["forget"], 4),
    Point("forgetting: amid a write to the primary's file", "write", FILE, "amid", ["forget"], 8),
    Point("forgetting: amid a write to the candidate's file", "write", ITS_FILE, "amid", ["forget"], 8),
    Point("forgetting: before the candidate's log is cut short", "truncate", ITS_LOG, "before", ["forget"]),
    Point("forgetting: the candidate's index is gone", "unlink", ITS_INDEX, "after", ["forget"]),
    Point("closing: any call", "any", "*", "before", ["add", "reopen"], 30),
    Point("closing: before a log is deleted", "unlink", "*-wal", "before", ["add", "reopen"], 2),
    Point("a new rollout: any call", "any", "*", "before", ["add"], 150),
]

SHORT, LONG = 44, 600


class Campaign:
    """A rollout that goes from kill to kill."""

    def __init__(self, folder: Path, writers: Writers, name: str = "shared") -> None:
        self.folder = folder
        self.writers = writers
        self.chance = random.Random(0)
        self.counts: Counter[str] = Counter()
        self.path = folder / name / "memory.db"
        self.path.parent.mkdir()
        self.history = History()
        self.serving: set[str] = {"primary"}

    def round(self, number: int) -> None:
        point = POINTS[number % len(POINTS)] if number < 2 * len(POINTS) or self.chance.random() < 0.5 else None
        try:
            if point is None:
                moment = self.chance.choice(["before", "amid", "after"])
                self.kill({"seed": number, "kill": ("any", "*", moment, self.chance.randint(1, 1500))})
                self.counts["at a call drawn at random"] += 1
                return
            job: Job = {"seed": number, "then": point.then, "limit": 500}
            job["kill"] = (point.kind, point.file, point.moment, self.chance.randint(1, point.most))
            if point.name.startswith("a new"):
                new = Campaign(self.folder, self.writers, f"new-{number}")
                new.kill(job)
                self.counts += new.counts
            else:
                self.kill(job | {"first": self.chance.randint(2, 8)})
            self.counts["at a point with a name"] += 1
        except BaseException as error:
            error.add_note(f"round {number}, killed at {point or 'a call drawn at random'}")
            raise

    def kill(self, job: Job) -> None:
        lines, status = self.writers.run(job | {"path": str(self.path), "most": 300})
        assert status == -signal.SIGKILL, f"the writer was not killed, {lines[-1:]}"
        self.look([line for line in lines if "killed" not in line])

    def look(self, lines: list[Said]) -> None:
        """Open both stores again, and compare them with what was acknowledged, and with each other."""
        self.hear_who_serves(lines)
        self.history.hear(lines)
        rollout = rollout_of(self.path, share=0.0)
        manager = DefaultMemoryManager(rollout, SERVICES[0])
        serving = rollout.report().serving
        assert serving in self.serving, f"{serving} serves, and of those that may: {self.serving}"
        self.serving = {serving}
        begun, allowed = self.history.under_way, self.history.allowed
        whole = self.history.settle(shown(manager, allowed))
        if begun is not None and allowed[0] != allowed[-1]:
            self.counts["whole" if whole else "absent"] += 1
        rollout.catch_up()
        report = rollout.report()
        assert (report.lag, report.errors, report.unerased) == (0, 0, False), report
        pair = rollout._pair
        assert rows(pair.home) == rows(pair.away), "the two stores differ after catching up"
        rollout.close()
        no_trace(self.path.parent, self.history.erased)
        self.counts["acknowledged"] += sum("done" in line for line in lines)
        self.counts[f"found the {serving} serving"] += 1

    def hear_who_serves(self, lines: Iterable[Said]) -> None:
        """Follow who was said to serve: one, or either while they were changing places."""
        to = None
        for line in lines:
            if line.get("begin") == "switch":
                to = line["to"]
                self.serving = self.serving | {to}
            elif line.get("done") == "switch" and to is not None:
                self.serving = {to}


def rows(backend: EpisodicBackend) -> list[tuple[object, ...]]:
    """Return all rows in every field, in an order."""
    entries = sorted(backend.scan(ALL), key=lambda one: one.id)
    return [(one, one.ingestion_time, dict(one.metadata), one.embedding.tobytes()) for one in entries]  # type: ignore[union-attr]


def test_a_rollout_killed_at_any_moment_goes_on(tmp_path: Path, torture: bool, figures: Callable[[str], None]) -> None:
    """After each kill one store serves all that was acknowledged, the other comes level, and nothing erased is left."""
    rounds = LONG if torture else SHORT
    with Writers(compiled(tmp_path), "tests.faults.harness.rollouts") as writers:
        campaign = Campaign(tmp_path, writers)
        for number in range(rounds):
            campaign.round(number)
    assert candidate_of(campaign.path).exists()
    assert {"found the primary serving", "found the candidate serving"} <= campaign.counts.keys()
    figures(f"{rounds} kills: {told(campaign.counts)}")
