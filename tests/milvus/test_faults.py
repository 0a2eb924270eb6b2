"""A Milvus server that dies, restarts or is gone: nothing acknowledged is lost, and a batch is whole or absent."""

from __future__ import annotations

import os
import platform
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from llmspell_memory import (
    EmbeddingService,
    EpisodicEntry,
    Filter,
    HNSWConfig,
    StorageError,
    UnavailableError,
)
from llmspell_memory.backends.milvus import MilvusBackend, MilvusConfig
from llmspell_memory.backends.milvus.schema import Pending
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.types import Query
from tests.milvus.server import MilvusServer, own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVICE = EmbeddingService(HashingProvider(32))
SHORT, LONG = 4, 60


@pytest.fixture
def server() -> Iterator[MilvusServer]:
    with own() as server:
        yield server


def opened(server: MilvusServer, **settings: float) -> MilvusBackend:
    config = MilvusConfig(uri=server.uri, **settings)  # type: ignore[arg-type]
    return MilvusBackend(config, SERVICE.space, hnsw=HNSWConfig(m=8, ef_construction=32))


def turn(name: str) -> EpisodicEntry:
    return EpisodicEntry("s", "user", f"what was said as {name}", id=name, embedding=SERVICE.embed_one(name))


def names(backend: MilvusBackend) -> set[str]:
    return {one.id for one in backend.scan(Filter())}


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
    server: MilvusServer, torture: bool, figures: Callable[[str], None]
) -> None:
    """Killed amid adds of single entries and of batches, and started again: what was acknowledged is there, whole."""
    chance = random.Random(7)
    acknowledged: set[str] = set()
    begun: dict[str, list[str]] = {}
    rounds = LONG if torture else SHORT
    backend = opened(server, retry_seconds=0.5)
    for number in range(rounds):
        ended = threading.Event()

        def write(number: int, worker: int, ended: threading.Event) -> None:
            for n in range(10_000):
                count = 1 if n % 3 else 40
                batch = [f"{number}-{worker}-{n}-{m}" for m in range(count)]
                begun[batch[0]] = batch
                try:
                    backend.add([turn(name) for name in batch])
                except StorageError:
                    return
                acknowledged.update(batch)
                if ended.is_set():
                    return

        with ThreadPoolExecutor(3) as pool:
            before, until = len(acknowledged), time.monotonic() + 60
            writers = [pool.submit(write, number, worker, ended) for worker in range(3)]
            while len(acknowledged) == before and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(chance.uniform(0.2, 1.0))
            server.kill()
            ended.set()
            for one in writers:
                one.result()
        server.start()
        there = names(backend)
        assert acknowledged <= there
        for batch in begun.values():
            assert len(there.intersection(batch)) in {0, len(batch)}, "a batch is whole or absent"
        assert backend.retrieve(Query(text="said", vector=SERVICE.embed_one("said")), 5, Filter()) != []
    assert len(acknowledged) > rounds
    figures(f"{rounds} kills of the Milvus server, {len(acknowledged)} entries acknowledged")
    backend.close()


def test_callers_wait_for_a_server_that_restarts(server: MilvusServer) -> None:
    """Threads that write and search go on when it is back, and see no error."""
    backend = opened(server, retry_seconds=60.0)
    backend.add([turn("first")])
    ended = threading.Event()
    faults: list[BaseException] = []
    written: list[str] = []

    def work(worker: int) -> None:
        try:
            for n in range(100_000):
                if ended.is_set():
                    return
                written.extend(backend.add([turn(f"{worker}-{n}")]))
                assert backend.search(SERVICE.embed_one("first"), 1, Filter())[0].entry.id == "first"
        except BaseException as error:  # noqa: BLE001 (told to the test's own thread)
            faults.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for one in threads:
        one.start()
    for end in (server.stop, server.kill):
        time.sleep(0.3)
        end()
        server.start()
    before, until = len(written), time.monotonic() + 60
    while len(written) < before + 10 and not faults and time.monotonic() < until:
        time.sleep(0.02)
    ended.set()
    for one in threads:
        one.join()
    assert faults == []
    assert len(written) >= before + 10
    assert set(written) <= names(backend)
    backend.close()


def test_a_server_that_is_gone_is_an_error_that_may_be_tried_again(server: MilvusServer) -> None:
    """After the time that it is waited for; and the call succeeds when it is back."""
    backend = opened(server, retry_seconds=0.3)
    backend.add([turn("a")])
    server.kill()
    began = time.monotonic()
    for call in (
        lambda: backend.count(Filter()),
        lambda: backend.add([turn("b")]),
        lambda: names(backend),
        lambda: backend.write_note("note", "text"),
        lambda: backend.delete(Filter(session_id="s")),
        backend.stats,
    ):
        with pytest.raises(UnavailableError):
            call()
    assert time.monotonic() - began < 20
    with pytest.raises(UnavailableError):
        opened(server, retry_seconds=0.3)
    server.start()
    assert names(backend) == {"a"}
    backend.add([turn("b")])
    assert names(backend) == {"a", "b"}
    backend.close()


WRITER = """
import sys
from tests.milvus.test_faults import SERVICE, turn
from llmspell_memory.backends.milvus import MilvusBackend, MilvusConfig
from llmspell_memory import HNSWConfig, Filter
backend = MilvusBackend(MilvusConfig(uri=sys.argv[1]), SERVICE.space, hnsw=HNSWConfig(m=8, ef_construction=32))
print("open", flush=True)
for n in range(100_000):
    backend.add([turn(f"{n}-{m}") for m in range(20)])
    print(n, flush=True)
    if n % 5 == 4:
        backend.delete(Filter(ids=frozenset(f"{n - 2}-{m}" for m in range(20))))
        print(f"-{n - 2}", flush=True)
"""


def test_a_writer_that_is_killed_leaves_a_batch_whole_or_absent(server: MilvusServer) -> None:
    """Killed amid its writes, a process has lost nothing that it was told of, and the next to open finds all whole."""
    for _ in range(2):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, server.uri], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        lines = [writer.stdout.readline().strip() for _ in range(40)]
        writer.kill()
        lines += writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()
        assert lines[0] == "open"
        gone = {line[1:] for line in lines if line.startswith("-")}
        put = {line for line in lines[1:] if not line.startswith("-")}
        with_backend = opened(server)
        there = names(with_backend)
        counts = {n: sum(f"{n}-{m}" in there for m in range(20)) for n in range(int(max(put, key=int)) + 2)}
        assert set(counts.values()) <= {0, 20}
        assert all(counts[int(n)] == 20 for n in put - gone if int(n) < int(max(put, key=int)) - 5)
        assert all(counts[int(n)] == 0 for n in gone)
        with_backend.delete(Filter(session_id="s"))
        with_backend.close()


OTHER = """
import sys
from tests.milvus.test_faults import SERVICE, turn
from llmspell_memory.backends.milvus import MilvusBackend, MilvusConfig
from llmspell_memory import HNSWConfig
config = MilvusConfig(uri=sys.argv[1], consistency="Strong")
backend = MilvusBackend(config, SERVICE.space, hnsw=HNSWConfig(m=8, ef_construction=32))
for n in range(30):
    backend.add([turn(f"{sys.argv[2]}-{n}-{m}") for m in range(3)])
"""


def test_of_what_several_processes_write_at_once_nothing_is_lost(server: MilvusServer) -> None:
    """Every row that was acknowledged is there, whole, and is found by each way to search."""
    backend = opened(server)
    writers = [subprocess.Popen([sys.executable, "-c", OTHER, server.uri, str(n)]) for n in range(3)]
    assert [one.wait(120) for one in writers] == [0, 0, 0]
    wanted = {f"{writer}-{n}-{m}" for writer in range(3) for n in range(30) for m in range(3)}
    assert names(backend) == wanted
    for mode in ("semantic", "keyword", "hybrid"):
        query = Query(text="2-17-1", vector=SERVICE.embed_one("2-17-1"), mode=mode)
        assert "2-17-1" in {hit.entry.id for hit in backend.retrieve(query, 10, Filter())}
    backend.close()


@pytest.mark.parametrize("kind", ["put", "drop"])
def test_what_was_broken_off_is_seen_to_by_whoever_comes_next(server: MilvusServer, kind: str) -> None:
    """A batch in several messages of which some arrived is taken back; a delete that was begun is finished."""
    backend = opened(server)
    backend.add([turn("before")])
    state = backend._collections.state()
    rows = [backend._row(turn(f"n{n}")) | {"seq": state.seq + 1 + n, "label": state.label + 1 + n} for n in range(10)]
    ended = subprocess.Popen(["true"])
    ended.wait()
    pending = Pending("put", state.seq + 1, state.seq + 10, state.label + 1, (platform.node(), ended.pid), time.time())
    begun = replace(state, seq=state.seq + 10, label=state.label + 10, pending=pending)
    name = backend._collections.rows(state.used)
    if kind == "put":
        backend._collections.record(begun)
        backend._connection.upsert(name, rows[:7])
    else:
        backend._connection.upsert(name, rows)
        first = begun.seq + 1
        pending = replace(pending, kind="drop", first=first, last=first + 9)
        backend._collections.record(replace(begun, seq=first + 9, pending=pending))
        backend._writer._bury(rows, first)
        backend._connection.drop(name, [row["pk"] for row in rows[:3]])
    assert len(names(backend)) == 8
    again = opened(server)
    assert names(again) == names(backend) == {"before"}
    again.add([turn("after")])
    assert names(backend) == {"before", "after"}
    told = backend.changes(1)
    assert {one.id for one in told.put} == {"after"}
    again.close()
    backend.close()


def test_a_write_of_a_process_that_lives_is_left_alone(server: MilvusServer) -> None:
    """Who opens the store meanwhile takes nothing back; and a follower is not told of more than what is whole."""
    backend = opened(server)
    backend.add([turn("before")])
    state = backend._collections.state()
    rows = [backend._row(turn(f"n{n}")) | {"seq": state.seq + 1 + n, "label": state.label + 1 + n} for n in range(10)]
    pending = Pending(
        "put", state.seq + 1, state.seq + 10, state.label + 1, (platform.node(), os.getppid()), time.time()
    )
    backend._collections.record(replace(state, seq=state.seq + 10, label=state.label + 10, pending=pending))
    backend._connection.upsert(backend._collections.rows(state.used), rows[:7])
    again = opened(server)
    assert len(names(again)) == 8
    assert again.changes(0).reached == state.seq
    backend._connection.upsert(backend._collections.rows(state.used), rows[7:])
    assert again.changes(0).reached == state.seq + 10
    again.close()
    backend.close()


def test_what_is_forgotten_is_in_no_file_of_the_server(server: MilvusServer) -> None:
    """Neither text nor id is left in its data folder, once it has compacted what it was asked to."""
    backend = opened(server)
    backend.add([turn(f"n{n}") for n in range(50)])
    backend.add([EpisodicEntry("s", "user", "the secret word is xyzzy", id="plugh", embedding=SERVICE.embed_one("x"))])
    assert _in_files(server, b"xyzzy")
    backend.delete(Filter(ids=frozenset(["plugh"])))
    backend.forget(Filter(ids=frozenset(["n1"])))
    until = time.monotonic() + 20
    while (_in_files(server, b"xyzzy") or _in_files(server, b"plugh")) and time.monotonic() < until:
        time.sleep(0.2)
    assert not _in_files(server, b"xyzzy")
    assert not _in_files(server, b"plugh")
    assert len(names(backend)) == 49
    backend.close()


def _in_files(server: MilvusServer, word: bytes) -> list[str]:
    files = [one for one in (server.folder / "data").rglob("*") if one.is_file()]
    return [str(one) for one in files if word in one.read_bytes()]
