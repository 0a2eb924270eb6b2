"""A PostgreSQL server that dies, restarts, cuts connections or has none to spare: nothing acknowledged is lost."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest

from llmspell_memory import (
    EmbeddingService,
    EpisodicEntry,
    Filter,
    HNSWConfig,
    StorageError,
    UnavailableError,
)
from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.types import Query
from tests.ports import free_port
from tests.postgres import PATH, PostgresServer, cabin, own, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVICE = EmbeddingService(HashingProvider(32))
SHORT, LONG = 4, 60
CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
)
"""Connections of all others."""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with own() as server:
        yield server


def opened(server: PostgresServer, **settings: float) -> PostgresBackend:
    config = PostgresConfig(dsn=server.dsn, index_from=0, **settings)  # type: ignore[arg-type]
    return PostgresBackend(config, SERVICE.space, hnsw=HNSWConfig(m=8, ef_construction=32))


def turn(name: str) -> EpisodicEntry:
    return EpisodicEntry("s", "user", f"what was said as {name}", id=name, embedding=SERVICE.embed_one(name))


def names(backend: PostgresBackend) -> set[str]:
    return {one.id for one in backend.scan(Filter())}


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
    server: PostgresServer, torture: bool, figures: Callable[[str], None]
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
            time.sleep(chance.uniform(0.05, 0.5))
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
    figures(f"{rounds} kills of the server, {len(acknowledged)} entries acknowledged")
    backend.close()


def test_callers_wait_for_a_server_that_restarts(server: PostgresServer) -> None:
    """Threads that write and search go on when it is back, and see no error."""
    backend = opened(server, retry_seconds=30.0, pool_seconds=30.0)
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
                assert len(backend.search(SERVICE.embed_one("first"), 1, Filter())) == 1
        except BaseException as error:  # noqa: BLE001 (told to the test's own thread)
            faults.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for one in threads:
        one.start()
    for mode in ("fast", "immediate"):
        time.sleep(0.3)
        server.stop(mode)
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


def test_a_scan_begins_anew_where_its_connection_was_cut(server: PostgresServer) -> None:
    """What lies idle in the pool while the server restarts is no fault of the next scan's."""
    backend = opened(server)
    backend.add([turn("a")])
    server.execute(CUT)
    assert names(backend) == {"a"}
    backend.close()


def test_a_cut_connection_leaves_a_batch_whole_or_absent(server: PostgresServer) -> None:
    """Whatever the server was doing when it lost sight of the caller: the call is tried again."""
    backend, chance = opened(server), random.Random(7)
    stop = threading.Event()
    server.execute(CUT)
    began = time.monotonic()
    backend.add([turn(f"uncut-{n}") for n in range(100)])
    took = time.monotonic() - began  # so that on a busy machine, too, some batches are cut and some are not

    def cut() -> None:
        while not stop.is_set():
            server.execute(CUT)
            time.sleep(took * chance.uniform(0.3, 3.0))

    cutter = threading.Thread(target=cut)
    cutter.start()
    whole = 0
    try:
        for number in range(30):
            batch = [f"{number}-{n}" for n in range(100)]
            try:
                backend.add([turn(name) for name in batch])
                whole += 1
            except UnavailableError:
                pass
    finally:
        stop.set()
        cutter.join()
    there = names(backend)
    counts = [len(there & {f"{number}-{n}" for n in range(100)}) for number in range(30)]
    assert set(counts) <= {0, 100}
    assert counts.count(100) >= whole > 0
    backend.close()


def test_a_server_that_is_gone_is_an_error_that_may_be_tried_again(server: PostgresServer) -> None:
    """After the time that it is waited for; and the call succeeds when it is back."""
    backend = opened(server, retry_seconds=0.3, pool_seconds=0.5)
    backend.add([turn("a")])
    server.stop("fast")
    began = time.monotonic()
    for call in (lambda: backend.count(Filter()), lambda: backend.add([turn("b")]), lambda: names(backend)):
        with pytest.raises(UnavailableError):
            call()
    assert time.monotonic() - began < 20
    with pytest.raises(UnavailableError):
        opened(server)
    server.start()
    assert names(backend) == {"a"}
    backend.close()


def test_who_finds_no_free_connection_is_told(server: PostgresServer) -> None:
    """All connections of the pool in use for longer than a call waits."""
    backend = opened(server, pool_size=1, pool_seconds=0.2, retry_seconds=0.0)
    backend.add([turn(str(n)) for n in range(2000)])
    scan = backend.scan(Filter())
    next(scan)
    with pytest.raises(UnavailableError, match="1 connections"):
        backend.count(Filter())
    scan.close()  # type: ignore[attr-defined]  # it is a generator
    assert backend.count(Filter()) == 2000
    backend.close()


def test_a_slow_server_is_not_waited_for_for_ever(server: PostgresServer) -> None:
    """A statement that takes too long, here since others hold what it wants, is an error, and changes nothing."""
    backend = opened(server, statement_seconds=0.3, retry_seconds=0.0)
    backend.add([turn("a")])
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with psycopg.connect(server.dsn) as db:
            db.execute("LOCK TABLE llmspell_memory.entries IN ACCESS EXCLUSIVE MODE")
            held.set()
            go.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(30)
    try:
        for call in (lambda: backend.add([turn("b")]), lambda: backend.count(Filter())):
            with pytest.raises(UnavailableError, match="too long"):
                call()
    finally:
        go.set()
        holder.join()
    assert names(backend) == {"a"}
    backend.close()


def test_two_that_wait_for_each_other_both_get_through(server: PostgresServer) -> None:
    """Writers of the same entries, in other orders, in batches that the server must break off at times."""
    backend = opened(server)

    def write(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(15):
            batch = [turn(f"n{n}") for n in chance.sample(range(40), 25)]
            backend.add(batch)
            backend.mark_processed(Filter(ids=frozenset(one.id for one in batch[:10])))
            backend.delete(Filter(ids=frozenset(one.id for one in batch[:3])))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(names(backend)) > 0
    backend.close()


@pytest.fixture
def small() -> Iterator[str]:
    """The dsn of a server whose tables stand on a disk of 60 MB, in a mount namespace of its own; its log does not."""
    with cabin() as (folder, binaries):
        port = free_port()
        script = f"""
            set -e
            mkdir {folder}/small
            chmod 0777 {folder}/data
            mount -t tmpfs -o size=60m,mode=0700,uid=$(id -u nobody) tmpfs {folder}/small
            as="setpriv --reuid nobody --regid nogroup --clear-groups"
            $as {binaries}/initdb -D {folder}/data/db -U postgres --auth=trust -E UTF8 --locale=C.UTF-8 > /dev/null
            exec $as {binaries}/postgres -D {folder}/data/db -p {port} -c listen_addresses=127.0.0.1 \\
                -c unix_socket_directories= -c log_min_messages=panic
        """
        server = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], cwd="/", env={"PATH": PATH})
        try:
            dsn = f"host=127.0.0.1 port={port} user=postgres dbname=postgres"
            wait_for(dsn)
            with psycopg.connect(dsn, autocommit=True) as db:
                db.execute(f"CREATE TABLESPACE small LOCATION '{folder}/small'".encode())
                db.execute("ALTER ROLE postgres SET default_tablespace = small")
                db.execute("CREATE TABLE ballast TABLESPACE small AS SELECT n FROM generate_series(1, 200000) n")
            yield dsn
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait(30)


def test_a_full_disk_is_an_error_and_nothing_is_half_done(small: str) -> None:
    """A batch that finds no room is absent, what was acknowledged is there, and with room it goes on."""
    backend = PostgresBackend(PostgresConfig(dsn=small, retry_seconds=0.5), SERVICE.space)
    chance = random.Random(7)
    acknowledged: list[str] = []

    def fill() -> None:
        for number in range(1000):
            text = "".join(chance.choices("abcdefgh ", k=20_000))
            batch = [turn(f"{number}-{n}").changed(content=text + str(n)) for n in range(20)]
            backend.add(batch)
            acknowledged.extend(one.id for one in batch)

    with pytest.raises(StorageError, match="no room"):
        fill()
    assert names(backend) == set(acknowledged)
    assert len(acknowledged) > 100
    with psycopg.connect(small, autocommit=True) as db:
        db.execute("DROP TABLE ballast")
    backend.add([turn("again")])
    assert "again" in names(backend)
    backend.close()
