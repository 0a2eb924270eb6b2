"""Forks that end as any process does, with all that they inherited: what Python and C let go of then harms nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from llmspell_memory import EmbeddingSpace, Filter, HNSWConfig
from llmspell_memory.backends import SQLiteBackend

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

COMMON = """
import gc, os, signal, sys, threading, time
import numpy as np
from llmspell_memory import EmbeddingSpace, EpisodicEntry, Filter, HNSWConfig
from llmspell_memory.backends import LocalBackend, SQLiteBackend

PATH = sys.argv[1]
SPACE = EmbeddingSpace(provider="test", model=None, dimensions=16)
TINY = HNSWConfig(m=4, ef_construction=10)
VECTORS = np.random.default_rng(1).standard_normal((2000, 16)).astype(np.float32)

def entry(name):
    return EpisodicEntry("s", "user", "x", id=name, embedding=VECTORS[hash(name) % 2000])

def ended(child):
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 0, code
"""

OUTLIVES = """
backend = SQLiteBackend(PATH, SPACE)
backend.add([entry("first")])
backend.count(Filter())
asked, ask = os.pipe()
child = os.fork()
if child == 0:
    os.close(ask)
    os.read(asked, 1)
    sys.exit()  # and Python lets go of the backend it inherited
backend.close()
other = os.fork()
if other == 0:
    fresh = SQLiteBackend(PATH, SPACE)
    for number in range(10):
        fresh.add([entry(f"more {number}")])
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(other, 0)
assert os.path.getsize(PATH + "-wal")
os.close(ask)
ended(child)
"""

IN_THE_MIDST = """
backend = SQLiteBackend(PATH, SPACE, hnsw=TINY)
done = threading.Event()
def write(writer):
    for number in range(400):
        backend.add([entry(f"{writer}-{number}")])
def search():
    while not done.is_set():
        assert backend.search(VECTORS[0], 3, Filter()) is not None
threads = [threading.Thread(target=write, args=(n,)) for n in range(2)]
threads.append(threading.Thread(target=search))
for thread in threads:
    thread.start()
for turn in range(30):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        if turn % 3 == 0:
            backend.close()
        if turn % 3 == 1:
            del backend
            gc.collect()
        sys.exit()
    ended(child)
for thread in threads[:2]:
    thread.join()
done.set()
threads[2].join()
assert backend.count(Filter()) == len(backend.search(VECTORS[0], 1000, Filter())) == 800
os.kill(os.getpid(), signal.SIGKILL)  # what is in the log must be found there
"""

WHILE_COMPARING = """
backend = SQLiteBackend(PATH, SPACE, hnsw=TINY)
backend.add([EpisodicEntry("s", "user", "x", id=str(n), embedding=v) for n, v in enumerate(VECTORS)])
backend.close()
for turn in range(20):
    backend = SQLiteBackend(PATH, SPACE, hnsw=TINY)  # its index is compared with its checksums in a thread
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        if turn % 2:
            del backend
            gc.collect()
        sys.exit()
    ended(child)
    assert len(backend.search(VECTORS[turn], 5, Filter())) == 5
    backend._using.view.index.verify()
    backend.close()
"""

IN_RAM = """
backend = LocalBackend(SPACE, hnsw=TINY)
backend.add([EpisodicEntry("s", "user", "x", id=str(n), embedding=v) for n, v in enumerate(VECTORS)])
for turn in range(4):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        if turn % 2:
            backend.close()
        sys.exit()
    ended(child)
assert len(backend.search(VECTORS[0], 5, Filter())) == 5
"""

IN_THE_MIDST_OF_CALLS = """
from llmspell_memory import DefaultMemoryManager, EmbeddingService, MemoryConfig
from llmspell_memory.embeddings import DiskCache, HashingProvider

cache = DiskCache(PATH + "-cache")
service = EmbeddingService(HashingProvider(16), cache=cache)
config = MemoryConfig.for_production(service, path=PATH)
memory = DefaultMemoryManager.with_config(config)
memory.episodic.add(EpisodicEntry("s", "user", "first"))
begun = threading.Event()
def work():
    with memory.backend._connections.write() as db, cache._open() as connection, service._lock:
        db.execute("UPDATE state SET seq = seq + 1")
        connection.execute("BEGIN IMMEDIATE")
        begun.set()
        time.sleep(0.5)
        connection.execute("COMMIT")
working = threading.Thread(target=work)
working.start()
begun.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    with DefaultMemoryManager.with_config(config) as own:
        own.episodic.add(EpisodicEntry("s", "user", "from a fork"))
        assert own.episodic.search("from a fork", 1)[0].entry.content == "from a fork"
    sys.exit()
ended(child)
working.join()
assert [one.content for one in memory.episodic.scan()] == ["first", "from a fork"]
assert len(cache) == 3
memory.close()
"""


def play(script: str, path: Path) -> int:
    """Run a script about the store at `path` and return how it ended; what it says of an error is shown."""
    command = [sys.executable, "-W", "ignore", "-c", COMMON + script, str(path)]
    return subprocess.run(command, check=False, timeout=120).returncode


def ids_in(path: Path) -> set[str]:
    space = EmbeddingSpace(provider="test", model=None, dimensions=16)
    backend = SQLiteBackend(path, space, hnsw=HNSWConfig(m=4, ef_construction=10))
    try:
        ids = {one.id for one in backend.scan(Filter())}
        assert len(ids) == backend.count(Filter()) == backend.stats().index.size
        return ids
    finally:
        backend.close()


def test_a_fork_that_outlives_its_parent_takes_no_log_away(tmp_path: Path) -> None:
    """The parent closes, another process writes and is killed, then the fork ends: all that was written is there."""
    assert play(OUTLIVES, tmp_path / "memory.db") == 0
    assert ids_in(tmp_path / "memory.db") == {"first", *(f"more {number}" for number in range(10))}


def test_forks_that_end_in_the_midst_of_writes_change_nothing(tmp_path: Path) -> None:
    """Thirty forks end, closing or not, while threads of the parent write and search: nothing is lost or doubled."""
    assert play(IN_THE_MIDST, tmp_path / "memory.db") == -9
    assert ids_in(tmp_path / "memory.db") == {f"{writer}-{number}" for writer in range(2) for number in range(400)}


def test_a_fork_ends_while_an_index_is_compared(tmp_path: Path) -> None:
    """It waits for no thread that it does not have, and the parent does not take its index for damaged."""
    assert play(WHILE_COMPARING, tmp_path / "memory.db") == 0
    assert len(ids_in(tmp_path / "memory.db")) == 2000


def test_a_fork_waits_for_what_has_begun(tmp_path: Path) -> None:
    """While a thread writes to store and cache, a fork waits; then the child can use the service and the file anew."""
    assert play(IN_THE_MIDST_OF_CALLS, tmp_path / "memory.db") == 0


def test_a_fork_of_a_memory_in_ram_ends(tmp_path: Path) -> None:
    """Closed there or not, it ends, and the parent goes on."""
    assert play(IN_RAM, tmp_path / "unused") == 0
