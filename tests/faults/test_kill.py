"""A process killed at any moment loses nothing that it was told is stored, and leaves nothing half done.

Writers are killed at random times, at random calls to the operating system, and at points with a name: the calls where
it matters what has been done before and what has not. After each kill the store is compared with what was acknowledged.
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import pytest

from llmspell_memory import DefaultMemoryManager, SpaceChangedError
from tests.faults.harness import schema_1
from tests.faults.harness.history import (
    History,
    Row,
    compared,
    compared_backup,
    config,
    no_trace,
    number_in_use,
    shown,
    told,
)
from tests.faults.harness.writers import Writers, compiled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmspell_memory.backends import SQLiteBackend
    from tests.faults.harness.history import Said
    from tests.faults.harness.writer import Job

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="calls are met by a library loaded first, as on Linux"),
    pytest.mark.timeout(3600),
]

WRITES: Final = ["add", "add_many", "replace", "mark", "delete"]
LOG, FILE, INDEX, NEW_INDEX = "memory.db-wal", "memory.db", "memory.db-index", "memory.db-index.new-*"


class Point(NamedTuple):
    """A call at which a writer is killed.

    Attributes:
        name: of the point.
        kind: of the call, or "progress" for a report of the index's.
        file: name of the file it changes, as a pattern.
        moment: before the call, amid it (half of the bytes are written) or after it.
        then: operations that lead there.
        most: it is one of this many such calls, drawn at random.
        outcome: whether the operation under way must be there: "absent", "whole", or "" where either is right.
        store: "shared" goes on with the one store of all rounds, "large" with one whose index is worth saving at once,
            "new" is yet to be made, "old" has schema 1.
        durability: of the writer.
    """

    name: str
    kind: str
    file: str
    moment: str
    then: list[str]
    most: int = 1
    outcome: str = ""
    store: str = "shared"
    durability: str = "normal"


POINTS: Final = [
    Point("a transaction's first write to the log", "write", LOG, "before", WRITES, outcome="absent"),
    Point("some write to the log", "write", LOG, "amid", WRITES, most=12),
    Point("before the write that commits", "commit", LOG, "before", WRITES, outcome="absent"),
    Point("amid the write that commits", "commit", LOG, "amid", WRITES, outcome="absent"),
    Point("after the write that commits", "commit", LOG, "after", WRITES, outcome="whole"),
    Point("before the sync of a commit", "commit sync", LOG, "before", WRITES, outcome="whole", durability="full"),
    Point("after the sync of a commit", "commit sync", LOG, "after", WRITES, outcome="whole", durability="full"),
    Point("a checkpoint: before the log's sync", "commit sync", LOG, "before", ["add_many"]),
    Point("a checkpoint: amid a write to the file", "write", FILE, "amid", ["add_many"], most=40),
    Point("a checkpoint: before the file's sync", "sync", FILE, "before", ["add_many"]),
    Point("a checkpoint: after the file's sync", "sync", FILE, "after", ["add_many"]),
    Point("closing: amid a write to the file", "write", FILE, "amid", ["add", "reopen"], most=8),
    Point("closing: before the file's sync", "sync", FILE, "before", ["add", "reopen"]),
    Point("closing: before the log is deleted", "unlink", LOG, "before", ["add", "reopen"]),
    Point("closing: after the log is deleted", "unlink", LOG, "after", ["add", "reopen"]),
    Point("the index's record: before it commits", "commit", LOG, "before", ["reopen"]),
    Point("the index's record: after it commits", "commit", LOG, "after", ["reopen"]),
    Point("the index: its file is made", "create", NEW_INDEX, "after", ["reopen"]),
    Point("the index: amid a write", "write", NEW_INDEX, "amid", ["reopen"], most=12),
    Point("the index: before its sync", "sync", NEW_INDEX, "before", ["reopen"]),
    Point("the index: between its sync and its rename", "sync", NEW_INDEX, "after", ["reopen"]),
    Point("the index: between its rename and its folder's sync", "rename", INDEX, "after", ["reopen"]),
    Point("the index: after its folder's sync", "folder", "store-*", "after", ["reopen"]),
    Point("the rows' files: amid a write", "write", "memory.db-rows-*.new-*", "amid", ["reopen"], most=12),
    Point("the rows' files: between the two", "rename", "memory.db-rows-turns", "after", ["reopen"]),
    Point("the rows' files: after the second", "rename", "memory.db-rows-words", "after", ["reopen"]),
    Point("a rebuild: halfway through the rows", "progress", "", "", ["rebuild"], most=8, store="large"),
    Point("a rebuild: amid a write of the index", "write", NEW_INDEX, "amid", ["rebuild"], most=12, store="large"),
    Point("a rebuild: before the index's rename", "rename", INDEX, "before", ["rebuild"], store="large"),
    Point("a change of view: halfway through the rows", "progress", "", "", ["switch"], most=16, store="large"),
    Point("a sweep: before it commits", "commit", LOG, "before", ["add_expired", "sweep"]),
    Point("forgetting: before the delete commits", "commit", LOG, "before", ["forget"], outcome="absent"),
    Point("forgetting: after the delete commits", "commit", LOG, "after", ["forget"], outcome="whole"),
    Point("forgetting: before the old index is deleted", "unlink", INDEX, "before", ["forget"], outcome="whole"),
    Point("forgetting: after the old index is deleted", "unlink", INDEX, "after", ["forget"], outcome="whole"),
    Point(
        "forgetting: one of the rows' files is gone",
        "unlink",
        "memory.db-rows-turns",
        "after",
        ["forget"],
        outcome="whole",
    ),
    Point("forgetting: amid a write of the index", "write", NEW_INDEX, "amid", ["forget"], most=12, outcome="whole"),
    Point("forgetting: amid a write to the log", "write", LOG, "amid", ["forget"], most=60),
    Point("forgetting: amid a write to the file", "write", FILE, "amid", ["forget"], most=8, outcome="whole"),
    Point("forgetting: before the file is cut short", "truncate", FILE, "before", ["forget"], outcome="whole"),
    Point("forgetting: before the log is cut short", "truncate", LOG, "before", ["forget"], outcome="whole"),
    Point("forgetting: after the log is cut short", "truncate", LOG, "after", ["forget"], outcome="whole"),
    Point("a backup: amid a write", "write", ".backup.db.new-*", "amid", ["backup"], most=30),
    Point("a backup: before its sync", "sync", ".backup.db.new-*", "before", ["backup"]),
    Point("a backup: before it has its name", "link", "backup.db", "before", ["backup"]),
    Point("a backup: after it has its name", "link", "backup.db", "after", ["backup"]),
    Point("a move to another space: before vectors commit", "commit", LOG, "before", ["reembed"], most=5),
    Point("a move to another space: after vectors commit", "commit", LOG, "after", ["reembed"], most=5),
    Point("a move to another space: some write to the log", "write", LOG, "amid", ["reembed"], most=60),
    Point("a move to another space: halfway through the rows", "progress", "", "", ["reembed"], most=8, store="large"),
    Point("a space is dropped: some write to the log", "write", LOG, "amid", ["reembed", "drop_space"], most=80),
    Point("a space is dropped: any call", "any", "*", "before", ["reembed", "drop_space"], most=120),
    Point("migration: some write to the log", "write", LOG, "amid", ["add"], most=8, store="old"),
    Point("migration: before it commits", "commit", LOG, "before", ["add"], store="old"),
    Point("migration: after it commits", "commit", LOG, "after", ["add"], store="old"),
    Point("migration: any call", "any", "*", "before", ["add"], most=40, store="old"),
    Point("a new store: before it has its name", "any", FILE, "before", ["add"], store="new"),
    Point("a new store: after it has its name", "any", FILE, "after", ["add"], store="new"),
    Point("a new store: before its tables commit", "commit", LOG, "before", ["add"], store="new"),
    Point("a new store: any call", "any", "*", "before", ["add"], most=60, store="new"),
]

SHORT, LONG = 90, 1000

DURABILITY: Final = ["normal", "full"]


class Campaign:
    """One store that goes from kill to kill, and stores made for one of them."""

    def __init__(self, folder: Path, writers: Writers) -> None:
        self.folder = folder
        self.writers = writers
        self.chance = random.Random(0)
        self.counts: Counter[str] = Counter()
        self.at_points: dict[str, Counter[str]] = {point.name: Counter() for point in POINTS}
        self.shared = self.store("shared")
        self.histories = {self.shared: History()}

    def store(self, name: str) -> Path:
        folder = self.folder / f"store-{name}"
        folder.mkdir()
        return folder / "memory.db"

    def large(self) -> Path:
        """Return a store whose index is worth saving as soon as it was built."""
        path = self.folder / "store-large" / "memory.db"
        if path not in self.histories:
            self.store("large")
            lines, _ = self.writers.run(
                {"path": str(path), "seed": 0, "most": 10_000, "then": ["add_bulk"], "limit": 17}
            )
            assert lines[-1] == {"ended": True}
            history = self.histories[path] = History()
            history.hear(lines)
            assert len(history.state) == 4250
        return path

    def round(self, number: int) -> None:
        if number < len(POINTS) or self.chance.random() < 0.5:
            point = POINTS[number % len(POINTS)]
            try:
                self.at(point, number)
            except BaseException as error:
                error.add_note(f"round {number}, killed at this point: {point}")
                raise
        elif self.chance.random() < 0.5:
            self.anywhere(number)
        else:
            self.anytime(number)

    def at(self, point: Point, number: int) -> None:
        """Kill a writer at a point."""
        job: Job = {"seed": number, "durability": point.durability, "then": point.then, "limit": 500}
        path = self.shared
        if point.store == "shared":
            job |= {"first": self.chance.randint(2, 8), "grow": point.then == ["reopen"]}
        elif point.store == "large":
            path = self.large()
            job |= {"first": 1, "most": 10_000}
        else:
            path = self.store(str(number))
        history = self.histories.get(path) or History()
        if point.store == "old":
            history = History({f"old-{n}": Row(n, processed=n % 3 == 0) for n in range(self.chance.randint(1, 300))})
            schema_1.make(path, history.state)
        if point.kind == "progress":
            job["progress"] = self.chance.randint(1, point.most)
        else:
            job["kill"] = (point.kind, point.file, point.moment, self.chance.randint(1, point.most))
        job["path"] = str(path)
        lines, status = self.writers.run(job)
        assert status == -signal.SIGKILL, f"the writer was not killed, {lines[-1:]}"
        killed = lines.pop()
        assert killed["killed"].endswith(point.kind) or point.kind in {"any", "write"}, killed
        outcome = self.look(path, history, lines)
        assert point.outcome in {"", outcome}, f"the operation under way is {outcome}"
        self.counts["at a point with a name"] += 1
        self.at_points[point.name][outcome or "no change under way"] += 1
        if path not in self.histories:
            shutil.rmtree(path.parent)

    def anywhere(self, number: int) -> None:
        """Kill a writer at any call that changes a file."""
        kill = ("any", "*", self.chance.choice(["before", "amid", "after"]), self.chance.randint(1, 1500))
        self.among_readers({"path": str(self.shared), "seed": number, "kill": kill})
        self.counts["at a call drawn at random"] += 1

    def anytime(self, number: int) -> None:
        """Kill a writer from outside, some time after it opened the store."""
        self.among_readers({"path": str(self.shared), "seed": number}, kill_after=self.chance.uniform(0.005, 0.25))
        self.counts["at a random time"] += 1

    def among_readers(self, job: Job, kill_after: float | None = None) -> None:
        """Let this process have the store open while the writer is killed, half of the times."""
        history = self.histories[self.shared]
        job["durability"] = self.chance.choice(DURABILITY)
        reader = None
        if self.chance.random() < 0.5:
            reader = DefaultMemoryManager.with_config(config(self.shared))
            shown(reader, history.allowed)  # and keeps what it has read
        lines, status = self.writers.run(job, kill_after=kill_after)
        assert status == -signal.SIGKILL
        assert kill_after or "killed" in lines.pop()
        self.look(self.shared, history, lines, reader)

    def look(self, path: Path, history: History, lines: list[Said], reader: DefaultMemoryManager | None = None) -> str:
        """Compare the store, or a copy that leaves the recovery to the next writer; return the outcome."""
        forgot = history.hear(lines)
        if forgot and reader is None:  # to read the file and close it would take this process's locks away
            no_trace(path.parent, history.erased)
        if reader:
            # It may even be back in the same space, whose vectors were dropped and made anew meanwhile.
            if cast("SQLiteBackend", reader.backend)._using.number == number_in_use(path):
                shown(reader, history.allowed)
            else:
                with pytest.raises(SpaceChangedError):
                    shown(reader, history.allowed)
            reader.close()
            self.counts["elsewhere"] += 1
        looked_at = path
        if copied := self.chance.random() < 0.5:
            looked_at = self.folder / "copy" / path.name
            shutil.copytree(path.parent, looked_at.parent)
        history.backups = compared_backup(path, history)
        begun, allowed = history.under_way, history.allowed
        found = compared(looked_at, allowed)
        whole = history.settle(found)
        no_trace(looked_at.parent, history.erased)
        if copied:
            shutil.rmtree(looked_at.parent)
        self.counts["acknowledged"] += sum("done" in line for line in lines)
        if begun is None or allowed[0] == allowed[1]:
            return ""
        outcome = "whole" if whole else "absent"
        self.counts[outcome] += 1
        return outcome


def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path, torture: bool, figures: Callable[[str], None]) -> None:
    """After each kill the store holds what was acknowledged, or that and all of the operation under way."""
    rounds = LONG if torture else SHORT
    with Writers(compiled(tmp_path)) as writers:
        campaign = Campaign(tmp_path, writers)
        for number in range(rounds):
            campaign.round(number)
    counts = campaign.counts
    kinds = [name for name in counts if name.startswith("at ")]
    assert sum(counts[name] for name in kinds) == rounds
    figures(f"{rounds} kills: {told(Counter({name: counts[name] for name in kinds}))}")
    assert all(campaign.at_points.values())
    for name, outcomes in campaign.at_points.items() if torture else ():
        figures(f"{name}: {told(outcomes)}")
    figures(f"at {counts['elsewhere']} of them another process had the store open")
    figures(
        f"{counts['acknowledged']} operations acknowledged; under way were {counts['whole'] + counts['absent']} that "
        f"change rows, of which {counts['whole']} were there afterwards and {counts['absent']} were not"
    )
