"""A program that forks a process for every migration or rollback it is given, to be killed amid it.

Started with a path and a number, it is the other process instead: one that writes to a store until its input ends, and
then tells what it has left there.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import select
import sys
import time
import traceback
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from llmspell_memory import EmbeddingSpace, EpisodicEntry, Filter, HNSWConfig
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.operations import migrate, rollback
from tests.faults.harness.history import ALL, LONG_AGO
from tests.faults.harness.writer import MOMENTS

if TYPE_CHECKING:
    from tests.faults.harness.history import Said

SPACE = EmbeddingSpace(provider="test", model=None, dimensions=16)
NAMESPACES: list[tuple[str, ...]] = [(), ("acme",), ("acme", "alice")]
BATCH = 64


class Job(TypedDict, total=False):
    """What is to be moved: which way, from where to where, with an index or without, and where to be killed."""

    verb: str  # migrate or rollback
    source: str
    target: str
    hnsw: bool
    durability: str
    kill: tuple[str, str, str, int]  # kind of call, name of its file, moment, number


def opened(path: str | Path, *, hnsw: bool = False, **settings: Any) -> SQLiteBackend:
    config = HNSWConfig(m=8, ef_construction=32) if hnsw else None
    return SQLiteBackend(path, SPACE, hnsw=config, warm=False, **settings)


def made(name: str, version: int) -> EpisodicEntry:
    """Return version `version` of an entry; every field follows from the two."""
    chance = np.random.default_rng([sum(name.encode()), version])
    return EpisodicEntry(
        f"session-{version % 5}",
        "user",
        f"{name} in version {version}",
        id=name,
        namespace=NAMESPACES[sum(name.encode()) % 3],
        timestamp=LONG_AGO,
        metadata={"version": version},
        expires_at=LONG_AGO if version % 13 == 0 else None,
        embedding=chance.standard_normal(SPACE.dimensions).astype(np.float32),
    )


# --- who moves ------------------------------------------------------------------------------------------------------


def tell(said: Said) -> None:
    os.write(1, json.dumps(said).encode() + b"\n")


def move(job: Job) -> int:
    """Do one job; return the status to end with."""
    try:
        calls = ctypes.CDLL(None)
        calls.calls_watch(str(Path(job["target"]).parent).encode(), None)
        tell({"pid": os.getpid()})
        if "kill" in job:
            kind, pattern, moment, number = job["kill"]
            calls.calls_kill(kind.encode(), pattern.encode(), MOMENTS.index(moment), ctypes.c_long(number), 1)
        source = opened(job["source"])
        target = opened(job["target"], hnsw=job.get("hnsw", False), durability=job.get("durability", "normal"))
        tell({"done": "open"})
        act = rollback if job["verb"] == "rollback" else migrate
        report = act(source, target, batch=BATCH)
        target.close()
        source.close()
        tell({"verified": report.verified, "resumed": report.resumed, "table": report.table()})
    except BaseException:  # noqa: BLE001 (a forked process ends here, whatever happens)
        traceback.print_exc()
        return 1
    return 0


def serve() -> None:
    """Fork a process for each job."""
    for line in sys.stdin:
        job: Any = json.loads(line)
        process = os.fork()
        if process == 0:
            os._exit(move(job))
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        os.write(1, json.dumps({"status": status}).encode() + b"\n")


# --- who writes meanwhile -------------------------------------------------------------------------------------------


class Scribe:
    """Writes to a store, and knows what must be there."""

    def __init__(self, path: str, seed: int) -> None:
        self.backend = opened(path)
        self.chance = random.Random(seed)
        self.numbers = count(seed * 100_000)
        self.state: dict[str, tuple[int, bool]] = {
            one.id: (int(one.metadata["version"]), one.processed)  # type: ignore[arg-type]
            for one in self.backend.scan(ALL)
        }

    def write(self) -> None:
        """Do one random thing."""
        kind = self.chance.choices(["add", "replace", "mark", "delete", "forget"], [40, 25, 15, 18, 2])[0]
        names = self.chance.sample(sorted(self.state), min(len(self.state), self.chance.randint(1, 6)))
        where = Filter(ids=frozenset(names), expired=None)
        if kind in {"add", "replace"}:
            version = next(self.numbers)
            names = names if kind == "replace" else [f"{version}-{one}" for one in range(self.chance.randint(1, 12))]
            self.backend.add([made(name, version) for name in names])
            self.state |= dict.fromkeys(names, (version, False))
        elif kind == "mark":
            self.backend.mark_processed(where)
            self.state |= {name: (self.state[name][0], True) for name in names}
        else:
            (self.backend.delete if kind == "delete" else self.backend.forget)(where)
            self.state = {name: one for name, one in self.state.items() if name not in set(names)}


def write_until_told(path: str, seed: int) -> None:
    """Write until the input ends, and print what is there then."""
    scribe = Scribe(path, seed)
    print("writing", flush=True)  # noqa: T201 (whoever started it waits for this)
    while not select.select([sys.stdin], [], [], 0)[0]:
        scribe.write()
        time.sleep(0.02)
    scribe.backend.close()
    print(json.dumps(scribe.state), flush=True)  # noqa: T201


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write_until_told(sys.argv[1], int(sys.argv[2]))
    else:
        serve()
