"""A replica that dies, comes back, is behind, or breaks reads off: they are answered all the same, by the primary."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from llmspell_memory import EmbeddingService, EpisodicEntry, Filter, HNSWConfig, UnavailableError
from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.types import Query
from tests.ports import free_port
from tests.postgres import PostgresServer, own, replica_of, wait_until_level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVICE = EmbeddingService(HashingProvider(32))
SHORT, LONG = 3, 20
CONFLICTS = "SELECT confl_snapshot FROM pg_stat_database_conflicts WHERE datname = 'postgres'"


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    with own(fsync="off") as server:
        yield server


def opened(primary: PostgresServer, read_dsn: str, **settings: Any) -> PostgresBackend:
    config = PostgresConfig(dsn=primary.dsn, read_dsn=read_dsn, index_from=0, **settings)
    return PostgresBackend(config, SERVICE.space, hnsw=HNSWConfig(m=8, ef_construction=32))


def turn(name: str) -> EpisodicEntry:
    return EpisodicEntry("s", "user", f"what was said as {name}", id=name, embedding=SERVICE.embed_one(name))


def until(reached: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.02)


def vacuumed(primary: PostgresServer) -> bool:
    """Have rows that are gone removed, and the log of that sent to replicas: a commit takes it along."""
    primary.execute("VACUUM llmspell_memory.entries", "SELECT pg_current_xact_id()")
    return True


def reads(server: PostgresServer) -> int:
    """Count the transactions of others on a server; its figures are a second late."""
    return int(server.one("SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'"))


def answers(replica: PostgresServer, backend: PostgresBackend) -> bool:
    """Say whether reads come to a replica: more than the questions of this test's own."""
    before = reads(replica)
    for _ in range(50):
        backend.count(Filter())
    time.sleep(1.1)
    backend.count(Filter())
    return reads(replica) > before + 40


def test_a_replica_that_is_not_there_yet(primary: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    """The store is opened, written and read without it, and this is told once."""
    backend = opened(primary, f"host=127.0.0.1 port={free_port()} user=postgres dbname=postgres")
    with caplog.at_level(logging.INFO, logger="llmspell_memory"):
        for n in range(30):
            backend.add([turn(f"n{n}")])
            assert backend.count(Filter()) == n + 1
            assert len(list(backend.scan(Filter()))) == n + 1
    told = [one for one in caplog.records if "go to the primary" in one.getMessage()]
    assert len(told) == 1
    backend.close()


def test_a_replica_that_dies_amid_reads_and_comes_back(
    primary: PostgresServer, torture: bool, figures: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Threads that write and read see no error and every write of their own; then the replica answers again."""
    rounds, reading = LONG if torture else SHORT, 0
    with replica_of(primary, fsync="off", recovery_min_apply_delay="20ms") as replica:
        backend = opened(primary, replica.dsn)
        ended = threading.Event()

        def work(worker: int) -> int:
            for n in range(1_000_000):
                if ended.is_set():
                    return n
                name = f"{worker}-{n}"
                backend.add([turn(name)])
                mine = Filter(ids=frozenset([name]))
                assert backend.count(mine) == 1
                assert [one.id for one in backend.scan(mine)] == [name]
                assert [one.entry.id for one in backend.search(SERVICE.embed_one(name), 1, mine)] == [name]
            return 0

        with caplog.at_level(logging.INFO, logger="llmspell_memory"), ThreadPoolExecutor(3) as pool:
            workers = [pool.submit(work, n) for n in range(3)]
            try:
                for _ in range(rounds):
                    time.sleep(0.5)
                    replica.kill()
                    time.sleep(0.5)
                    replica.start()
                    back = len([one for one in caplog.records if "answers reads again" in one.getMessage()])
                    until(
                        lambda back=back: (
                            any(one.done() for one in workers)  # type: ignore[misc]
                            or len([one for one in caplog.records if "answers reads again" in one.getMessage()]) > back
                        )
                    )
            finally:
                ended.set()
            reading = sum(one.result() for one in workers)
        wait_until_level(replica, primary)
        until(lambda: answers(replica, backend))
        backend.close()
    figures(f"{rounds} kills of the replica, {reading} writes each read three times")
    assert reading > 0


def test_reads_that_the_replica_breaks_off(primary: PostgresServer, figures: Callable[[str], None]) -> None:
    """Rows that a search looks at are vacuumed away: the replica ends the search, and the primary answers."""
    with replica_of(primary, fsync="off", max_standby_streaming_delay="0") as replica:
        backend = opened(primary, replica.dsn, consistency="Eventually")
        backend.add([turn(f"n{n}") for n in range(1500)])
        wait_until_level(replica, primary)
        ended = threading.Event()
        query = Query(text="what was said as n7?", vector=SERVICE.embed_one("n7"), mode="hybrid", exact=True)

        def read() -> int:
            for n in range(1_000_000):
                if ended.is_set():
                    return n
                assert len(backend.retrieve(query, 5, Filter())) == 5
            return 0

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            try:

                def conflicted() -> bool:
                    backend.mark_processed(Filter(processed=False))
                    primary.execute("UPDATE llmspell_memory.entries SET processed = FALSE")
                    vacuumed(primary)
                    return replica.one(CONFLICTS) >= 3 or any(one.done() for one in readers)

                until(conflicted)
            finally:
                ended.set()
            count = sum(one.result() for one in readers)
        figures(f"{count} searches, {replica.one(CONFLICTS)} of them broken off by the replica")
        assert replica.one(CONFLICTS) >= 3
        backend.close()


def test_a_scan_that_the_replica_breaks_off_is_an_error(primary: PostgresServer) -> None:
    """Once rows of it were given, for the rest would be of another moment; a scan begun anew is whole."""
    with replica_of(primary, fsync="off", max_standby_streaming_delay="0") as replica:
        backend = opened(primary, replica.dsn)
        backend.add([turn(f"n{n}") for n in range(2000)])
        wait_until_level(replica, primary)
        scan = backend.scan(Filter())
        next(scan)
        primary.execute("DELETE FROM llmspell_memory.entries WHERE label % 2 = 0")
        until(lambda: vacuumed(primary) and replica.one(CONFLICTS) > 0)
        with pytest.raises(UnavailableError, match="replica"):
            list(scan)
        assert len(list(backend.scan(Filter()))) == 1000
        backend.close()


def test_a_full_pool_of_the_replica_is_no_absence(primary: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    """Where all its connections are in use, the primary answers this one read; the next may be the replica's."""
    with replica_of(primary, fsync="off") as replica:
        backend = opened(primary, replica.dsn, pool_size=1, pool_seconds=0.2)
        backend.add([turn(f"n{n}") for n in range(2000)])
        wait_until_level(replica, primary)
        with caplog.at_level(logging.WARNING, logger="llmspell_memory"):
            scan = backend.scan(Filter())
            next(scan)
            assert backend.count(Filter()) == 2000
            scan.close()  # type: ignore[attr-defined]  # it is a generator
        assert not any("go to the primary" in one.getMessage() for one in caplog.records)
        assert answers(replica, backend)
        backend.close()
