"""A power cut at any moment: what a writer did to its files is recorded and replayed to some call, the rest is lost."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.faults.harness import schema_1
from tests.faults.harness.disk import LUCK, Disk
from tests.faults.harness.history import History, Row, after, compared, compared_backup, no_trace, told
from tests.faults.harness.writers import Writers, compiled, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.faults.harness.history import Said, State
    from tests.faults.harness.writer import Job

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="calls are recorded by a library loaded first, as on Linux"),
    pytest.mark.timeout(3600),
]

DURABILITY: Final = ("full", "normal")


class Recording:
    """What a writer did to a store, and what it said meanwhile."""

    def __init__(
        self,
        folder: Path,
        durability: str,
        operations: list[str],
        limit: int,
        *,
        old: State | None = None,
        seed: int = 0,
    ) -> None:
        self.folder = folder
        self.durability = durability
        self.old = old or {}
        self.store = folder / "store"
        self.store.mkdir(parents=True)
        path = self.store / "memory.db"
        if old:
            schema_1.make(path, old)
        self.disk = Disk(self.store)
        job: Job = {"path": str(path), "seed": seed, "durability": durability, "then": operations, "limit": limit}
        job["log"] = str(folder / "log")
        with Writers(compiled(folder)) as writers:
            lines, status = writers.run(job)
        assert status == 0
        assert lines[-1] == {"ended": True}
        self.calls = list(recorded(folder / "log"))
        self.states = [self.old]
        for line in lines:
            if "begin" in line:
                self.states.append(after(self.states[-1], line))

    def checkpoints(self) -> int:
        """How often the log was brought into the file."""
        return sum(call.kind == "sync" and call.path.endswith("memory.db") for call in self.calls)

    def moments(self, chance: random.Random, count: int) -> list[int]:
        """Numbers of calls made before a cut, half of them about one that puts others in order."""
        every = len(self.calls)
        orders = [n for n, call in enumerate(self.calls) if call.kind not in {"write", "mark"}]
        near = [min(every, max(0, chance.choice(orders) + chance.randint(0, 2))) for _ in range(count // 2)]
        return sorted(near + [chance.randint(0, every) for _ in range(count - len(near))])


class Replay:
    """A recording up to some call: the disk, and which of the operations were acknowledged.

    Attributes:
        begun: operations begun.
        history: what was acknowledged.
        done: how many that are.
        synced: how many of them were before the last sync of the log, or a forgetting, which syncs what it does.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.history = History(recording.old)
        self.at = self.begun = self.done = self.synced = 0

    def go_on_to(self, number: int) -> None:
        for call in self.recording.calls[self.at : number]:
            if call.kind == "mark":
                self._hear(json.loads(call.data))
            else:
                self.recording.disk.see(call)
                if call.kind == "sync" and call.path.endswith("-wal"):
                    self.synced = self.done
        self.at = number

    def _hear(self, line: Said) -> None:
        self.begun += "begin" in line
        self.done += "done" in line
        if self.history.hear([line]):
            self.synced = self.done

    def cut(self, luck: str, chance: random.Random) -> State:
        """Cut the power now, open what is left, and return its rows."""
        recording = self.recording
        folder = recording.folder / "after"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, content in recording.disk.after_cut(chance, luck).items():
            (folder / Path(name).name).write_bytes(content)
        least = self.done if recording.durability == "full" else self.synced
        found = compared(folder / "memory.db", recording.states[least : self.begun + 1])
        compared_backup(folder / "memory.db", self.history)
        no_trace(folder, self.history.erased)
        return found


def survives(
    recording: Recording, count: int, figures: Callable[[str], None], moments: Iterable[int] | None = None
) -> None:
    chance = random.Random(1)
    replay = Replay(recording)
    counts: Counter[str] = Counter()
    for number in moments or recording.moments(chance, count):
        replay.go_on_to(number)
        luck = chance.choice(LUCK)
        try:
            found = replay.cut(luck, chance)
        except BaseException as error:
            error.add_note(f"after {number} of {len(recording.calls)} calls, luck {luck!r}")
            raise
        counts[luck] += 1
        counts["lost"] += found not in recording.states[replay.done : replay.begun + 1]
    lost = counts.pop("lost")
    figures(
        f"{recording.durability}: {counts.total()} cuts in {len(recording.calls)} calls with {replay.done} operations "
        f"and {recording.checkpoints()} checkpoints; unsynced writes kept: {told(counts)}; {lost} lost a tail"
    )
    assert not lost or recording.durability == "normal"


@pytest.mark.parametrize("durability", DURABILITY)
def test_a_recording_tells_all(durability: str, tmp_path: Path) -> None:
    """Without a cut, the recorded calls lead to the files as they are, byte for byte."""
    recording = Recording(tmp_path, durability, ["random"], 60)
    for call in recording.calls:
        recording.disk.see(call)
    files = {str(path): path.read_bytes() for path in recording.store.iterdir()}
    assert recording.disk.after_cut(random.Random(0), "all") == files
    assert {Path(name).name for name in files} == {
        *("memory.db", "memory.db-index", "memory.db-rows-turns", "memory.db-rows-words", "backup.db")
    }


@pytest.mark.parametrize("durability", DURABILITY)
def test_a_power_cut_damages_nothing(
    durability: str, tmp_path: Path, torture: bool, figures: Callable[[str], None]
) -> None:
    """With durability "full" all that was acknowledged is there; else all but a tail; a batch is whole or absent."""
    for seed in range(4 if torture else 1):
        recording = Recording(tmp_path / str(seed), durability, ["random", "add_many", "add"], 300, seed=seed)
        assert recording.checkpoints() > 5
        survives(recording, 250 if torture else 50, figures)


@pytest.mark.parametrize("durability", DURABILITY)
@pytest.mark.parametrize("old", [False, True], ids=["new", "migrated"])
def test_a_power_cut_while_a_store_is_made_or_migrated(
    durability: str, old: bool, tmp_path: Path, torture: bool, figures: Callable[[str], None]
) -> None:
    """A store that is being made is there or not, one that is being migrated has all its rows."""
    rows = {f"old-{n}": Row(n, processed=n % 3 == 0) for n in range(200)} if old else None
    recording = Recording(tmp_path, durability, ["add"], 3, old=rows)
    every = range(len(recording.calls) + 1)
    survives(recording, 0, figures, [n for n in every for _ in LUCK] if torture else every[::4])
