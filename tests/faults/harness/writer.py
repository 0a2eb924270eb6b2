"""A program that forks a writer for every job it is given, and tells what each says and how it ended.

A job is a line of JSON: a store, how many operations to do first, then where to be killed and what to do until then.
A writer says what it begins and what it has done. Each is a process of its own that opens the store itself; only the
imports are shared. calls.c, loaded before everything else, kills it or records what it does to its files.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import sys
import traceback
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from llmspell_memory import DefaultMemoryManager, EpisodicBackendType, Filter, HNSWConfig
from llmspell_memory.operations import backup
from tests.faults.harness.history import ALL, SERVICES, Row, State, after, backup_of, config, made

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.harness.history import Said

MOMENTS = ("before", "amid", "after")

RANDOM = {
    "add": 30,
    "add_many": 20,
    "replace": 15,
    "mark": 10,
    "delete": 8,
    "forget": 3,
    "sweep": 2,
    "reopen": 3,
    "rebuild": 1,
    "backup": 2,
    "switch": 2,
    "reembed": 1,
    "drop_space": 1,
}
"""How often each operation comes where they come at random."""


class Job(TypedDict, total=False):
    """What a writer is to do."""

    path: str
    seed: int
    durability: str
    log: str  # record calls in this file
    first: int  # operations before it may be killed; -1: it may be in opening the store
    grow: bool  # before that, add so much that the index is worth saving
    then: list[str]  # the kinds of operations from there on
    most: int  # entries beyond which many are deleted
    limit: int  # how many of those; it ends with a status of 0 when it has done them all
    kill: tuple[str, str, str, int]  # kind of call, name of its file, moment, number
    progress: int  # be killed when the index tells of its progress for the n-th time from there on


class Writer:
    """Does random operations on a store and says so."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.path = Path(job["path"])
        self.chance = random.Random(job["seed"])
        self.calls = ctypes.CDLL(None)
        log = job.get("log")
        self.calls.calls_watch(str(self.path.parent).encode(), log.encode() if log else None)
        self.state: State = {}
        self.numbers = count()
        self.progress_left = 0
        self.led = False  # to a point, by the operations of the job alone

    def run(self) -> None:
        self.tell({"pid": os.getpid()})
        first = self.job.get("first", -1)
        if first < 0:
            self.arm()
        self.do({"begin": "open"}, self.open)
        for _ in range(first):
            self.operate(["random"])
        if first >= 0:
            if not self.manager.backend.hnsw:
                self.switch()
            if self.job.get("grow"):
                self.grow()
            self.led = True
            self.arm()
        for _ in range(self.job.get("limit", sys.maxsize)):
            self.operate(self.job.get("then", ["random"]))
        self.do({"begin": "open"}, self.manager.close)
        self.tell({"ended": True})

    def tell(self, said: Said) -> None:
        line = json.dumps(said).encode()
        if self.job.get("log"):
            self.calls.calls_mark(line)
        os.write(1, line + b"\n")  # at once and whole: it is shorter than what a pipe takes in one

    def do(self, said: Said, call: Callable[[], object]) -> None:
        self.tell(said)
        call()
        self.tell({"done": said["begin"]})
        self.state = after(self.state, said)

    def arm(self) -> None:
        self.progress_left = self.job.get("progress", 0)
        if "kill" in self.job:
            kind, pattern, moment, number = self.job["kill"]
            self.calls.calls_kill(
                kind.encode(), pattern.encode(), MOMENTS.index(moment), ctypes.c_long(number), sys.stdout.fileno()
            )

    def open(self) -> None:
        settings = config(self.path, durability=self.job.get("durability", "normal"), on_progress=self.on_progress)
        self.manager = DefaultMemoryManager.with_config(settings)
        if not self.state:
            self.state = {
                one.id: Row(one.metadata["version"], one.processed, one.expires_at is not None)  # type: ignore[arg-type]
                for one in self.manager.episodic.scan(ALL)
            }

    def on_progress(self, _done: int, _total: int) -> None:
        if self.progress_left:
            self.progress_left -= 1
            if not self.progress_left:
                self.tell({"killed": "progress"})
                os.kill(os.getpid(), signal.SIGKILL)

    def operate(self, kinds: list[str]) -> None:
        kind = self.chance.choice(kinds)
        if kind == "random":
            kind = self.chance.choices(list(RANDOM), list(RANDOM.values()))[0]
        if len(self.state) > self.job.get("most", 500) and not self.led:
            self.delete_many()
        getattr(self, kind)()

    # --- operations -------------------------------------------------------------------------------------------------

    def put(self, ids: list[str], *, expired: bool | None = None) -> None:
        version = self.job["seed"] * 100_000 + next(self.numbers)
        row = Row(version, expired=self.chance.random() < 0.15 if expired is None else expired)
        said = {"begin": "add", "ids": ids, "version": version, "expired": row.expired}
        self.do(said, lambda: self.manager.episodic.add_many([made(name, row) for name in ids]))

    def new(self, size: int) -> list[str]:
        return [f"{self.job['seed']}-{next(self.numbers)}" for _ in range(size)]

    def some(self, most: int) -> list[str]:
        """Ids of entries that have not expired."""
        visible = [name for name, row in self.state.items() if not row.expired]
        return self.chance.sample(visible, min(len(visible), self.chance.randint(1, most)))

    def add(self) -> None:
        self.put(self.new(1))

    def add_many(self) -> None:
        self.put(self.new(self.chance.randint(2, 40)))

    def add_bulk(self) -> None:
        self.put(self.new(250), expired=False)

    def grow(self) -> None:
        """Change more than one row in sixteen."""
        until = next(self.numbers) + len(self.state) // 16 + 40
        while next(self.numbers) < until:
            self.add_many()

    def add_expired(self) -> None:
        self.put(self.new(5), expired=True)

    def replace(self) -> None:
        self.put(self.some(10) or self.new(1))

    def mark(self) -> None:
        ids = self.some(20)
        self.do({"begin": "mark", "ids": ids}, lambda: self.manager.episodic.mark_processed(ids))

    def delete(self, most: int = 12) -> None:
        ids = self.some(most)
        self.do({"begin": "delete", "ids": ids}, lambda: self.manager.episodic.delete(Filter(ids=frozenset(ids))))

    def delete_many(self) -> None:
        self.sweep()
        for _ in range(5):
            self.delete(80)

    def forget(self) -> None:
        ids = self.some(12)
        self.do({"begin": "forget", "ids": ids}, lambda: self.manager.episodic.forget(Filter(ids=frozenset(ids))))

    def sweep(self) -> None:
        self.do({"begin": "sweep"}, self.manager.episodic.sweep)

    def reopen(self) -> None:
        def close_and_open() -> None:
            self.manager.close()
            self.open()

        self.do({"begin": "reopen"}, close_and_open)

    def backup(self) -> None:
        def anew() -> None:
            target = backup_of(self.path)
            target.unlink(missing_ok=True)
            backup(self.path, target)

        self.do({"begin": "backup"}, anew)

    def rebuild(self) -> None:
        if self.manager.backend.hnsw:
            self.do({"begin": "rebuild"}, lambda: self.manager.rebuild(m=self.chance.randint(4, 16)))

    def switch(self) -> None:
        view = EpisodicBackendType.IN_MEMORY if self.manager.backend.hnsw else EpisodicBackendType.HNSW
        self.do({"begin": "switch"}, lambda: self.manager.switch_backend(view, hnsw=HNSWConfig(m=8)))

    def reembed(self) -> None:
        other = next(one for one in SERVICES if one.space != self.manager.service.space)
        self.do({"begin": "reembed"}, lambda: self.manager.reembed(other, sample=3).wait())

    def drop_space(self) -> None:
        for kept in self.manager.stats().beside:
            self.do({"begin": "drop_space"}, partial(self.manager.drop_space, kept.space))


def write(job: Job, kind: type[Writer] = Writer) -> int:
    """Be the writer; return the status to end with."""
    try:
        kind(job).run()
    except BaseException:  # noqa: BLE001 (a forked process ends here, whatever happens)
        traceback.print_exc()
        return 1
    return 0


def serve(kind: type[Writer] = Writer) -> None:
    """Fork a writer for each job."""
    for line in sys.stdin:
        job: Any = json.loads(line)
        process = os.fork()
        if process == 0:
            os._exit(write(job, kind))
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        os.write(1, json.dumps({"status": status}).encode() + b"\n")


if __name__ == "__main__":
    serve()
