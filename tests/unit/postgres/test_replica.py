"""A store in PostgreSQL whose reads a streaming replica answers: which server that is, and what they show."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from llmspell_memory import (
    ConfigError,
    DefaultMemoryManager,
    EmbeddingService,
    EpisodicEntry,
    Filter,
    HNSWConfig,
    MemoryConfig,
    SpaceChangedError,
    UnavailableError,
)
from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.types import Query
from tests.postgres import PostgresServer, own, replica_of, wait_until_level

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = EmbeddingService(HashingProvider(32))
OTHER = EmbeddingService(HashingProvider(48))


@pytest.fixture(scope="module")
def primary() -> Iterator[PostgresServer]:
    with own(fsync="off") as server:
        yield server


@pytest.fixture(scope="module")
def replica(primary: PostgresServer) -> Iterator[PostgresServer]:
    with replica_of(primary, fsync="off") as server:
        yield server


@pytest.fixture
def config(primary: PostgresServer, replica: PostgresServer) -> PostgresConfig:
    """A store that both have, with nothing in it."""
    primary.execute("DROP SCHEMA IF EXISTS of_tests CASCADE")
    config = PostgresConfig(dsn=primary.dsn, read_dsn=replica.dsn, schema="of_tests", index_from=0, replica_seconds=0.2)
    PostgresBackend(config, SERVICE.space, hnsw=HNSWConfig(m=8, ef_construction=32)).close()
    wait_until_level(replica, primary)
    return config


@contextmanager
def opened(config: PostgresConfig, service: EmbeddingService = SERVICE, **changes: Any) -> Iterator[PostgresBackend]:
    settings = {name: getattr(config, name) for name in config.__slots__} | changes
    backend = PostgresBackend(PostgresConfig(**settings), service.space, hnsw=HNSWConfig(m=8, ef_construction=32))
    try:
        yield backend
    finally:
        backend.close()


@contextmanager
def paused(replica: PostgresServer) -> Iterator[None]:
    """Keep a replica as it is; on the way out it goes on."""
    replica.execute("SELECT pg_wal_replay_pause()")
    while replica.one("SELECT pg_get_wal_replay_pause_state()") != "paused":
        time.sleep(0.005)
    try:
        yield
    finally:
        replica.execute("SELECT pg_wal_replay_resume()")


def turn(name: str, service: EmbeddingService = SERVICE) -> EpisodicEntry:
    said = f"what was said as {name}"
    return EpisodicEntry("s", "Ada", said, id=name, embedding=service.embed_one(said))


def everything_read(backend: PostgresBackend) -> list[Any]:
    """What each verb that reads has to say of the whole store."""
    said = "what was said as a?"
    queries = [
        Query(text=said, vector=SERVICE.embed_one(said), mode=mode, around=1)
        for mode in ("semantic", "keyword", "hybrid")
    ]
    return [
        [one.id for one in backend.scan(Filter())],
        [backend.count(Filter())],
        [one.entries for one in backend.sessions(Filter())],
        backend.named_roles({"ada"}, Filter()),
        *([hit.entry.id for hit in backend.retrieve(query, 10, Filter())] for query in queries),
        [hit.entry.id for hit in backend.retrieve(queries[2], 10, Filter(session_id="s"))],
        [hit.entry.id for hit in backend.search(SERVICE.embed_one(said), 10, Filter(), exact=True)],
    ]


def test_a_replicas_address_is_checked_and_not_shown() -> None:
    """Nor is any part of it in an error, for there may be a password in it."""
    assert "secret" not in repr(PostgresConfig(dsn="host=a", read_dsn="host=b password=secret"))
    for wrong in ({"read_dsn": 1}, {"consistency": "Strong"}, {"replica_seconds": -1}, {"replica_seconds": True}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            PostgresConfig(dsn="host=a", **wrong)
    for address in ("host=b secret", f"host=secret{60 * 'x'}.example"):
        with pytest.raises(ConfigError, match="read_dsn") as caught:
            PostgresBackend(PostgresConfig(dsn="host=a", read_dsn=address), SERVICE.space)
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_own_writes_are_read_at_once(config: PostgresConfig, primary: PostgresServer, replica: PostgresServer) -> None:
    """From the primary while the replica does not replay them; then from the replica, with no primary at all."""
    with opened(config, retry_seconds=0.2, pool_seconds=1.0) as backend:
        with paused(replica):
            backend.add([turn("a"), turn("b")])
            seen = everything_read(backend)
            assert seen[0] == ["a", "b"]
            assert all(seen)
            backend.mark_processed(Filter(ids=frozenset(["a"])))
            assert backend.count(Filter(processed=True)) == 1
            backend.delete(Filter(ids=frozenset(["a"])))
            assert backend.count(Filter()) == 1
            backend.add([turn("a")])
        wait_until_level(replica, primary)
        primary.stop()
        try:
            until = time.monotonic() + 60
            while True:  # the replica is not asked again at once
                try:
                    assert sorted(everything_read(backend)[0]) == ["a", "b"]
                    break
                except UnavailableError:
                    assert time.monotonic() < until, "the replica is not asked"
            assert list(map(str, map(sorted, everything_read(backend)))) == list(map(str, map(sorted, seen)))
            with pytest.raises(UnavailableError):
                backend.add([turn("c")])
            assert backend.count(Filter()) == 2, "a write that did not come to its commit is none"
        finally:
            primary.start()


def test_a_replica_is_waited_for(primary: PostgresServer, config: PostgresConfig) -> None:
    """One that replays half a second late shows a write by itself within the time that it is given."""
    with (
        replica_of(primary, fsync="off", recovery_min_apply_delay="500ms") as late,
        opened(config, read_dsn=late.dsn, replica_seconds=60.0) as backend,
    ):
        began = time.monotonic()
        backend.add([turn("a")])
        assert backend.count(Filter()) == 1
        assert time.monotonic() - began > 0.4
        began = time.monotonic()
        assert backend.count(Filter()) == 1
        assert time.monotonic() - began < 0.4, "it is not waited for again until the next write"


def test_reads_may_be_stale_on_request(
    config: PostgresConfig, primary: PostgresServer, replica: PostgresServer
) -> None:
    """Without their own writes they show what the replica has: earlier, and of one moment."""
    with opened(config, consistency="Eventually") as backend:
        backend.add([turn(f"n{n}") for n in range(3)])
        wait_until_level(replica, primary)
        with paused(replica):
            before = everything_read(backend)
            backend.add([turn(f"m{n}") for n in range(40)])
            backend.delete(Filter(ids=frozenset(["n1"])))
            assert everything_read(backend) == before
            assert before[0] == ["n0", "n1", "n2"]
            assert backend.stats().entries == 42, "figures are the primary's"
            assert len(backend.changes(0).put) == 42
        wait_until_level(replica, primary)
        assert backend.count(Filter()) == 42


def test_others_writes_are_not_waited_for(config: PostgresConfig, replica: PostgresServer) -> None:
    """Own writes are those of the one backend: another's reads stay with the replica."""
    with opened(config) as one, opened(config) as other:
        assert other.count(Filter()) == 0
        with paused(replica):
            one.add([turn("a")])
            assert one.count(Filter()) == 1
            assert other.count(Filter()) == 0


def test_a_write_whose_end_is_not_known_is_read_too(
    config: PostgresConfig, primary: PostgresServer, replica: PostgresServer
) -> None:
    """The connection was cut after the commit: the caller got an error, and reads what became of it."""
    names = "ALTER SYSTEM SET synchronous_standby_names = '{}'"
    with opened(config, retry_seconds=0.0) as backend, paused(replica):
        primary.execute(names.format("nobody"), "SELECT pg_reload_conf()")
        faults: list[BaseException] = []

        def write() -> None:
            try:
                backend.add([turn("a")])
            except UnavailableError as error:
                faults.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        until = time.monotonic() + 60
        while primary.one(cut) == 0:
            assert time.monotonic() < until, "the commit waits for nobody"
            time.sleep(0.01)
        primary.execute(names.format(""), "SELECT pg_reload_conf()")
        writer.join()
        assert len(faults) == 1
        assert primary.one("SELECT count(*) FROM of_tests.entries") == 1
        assert backend.count(Filter()) == 1


def test_a_replica_behind_a_move_to_another_space(
    config: PostgresConfig, primary: PostgresServer, replica: PostgresServer
) -> None:
    """Who has moved the store, or opens it after that, reads from the primary; others read what was before."""
    with opened(config, consistency="Eventually") as late, opened(config) as mover:
        mover.add([turn("a"), turn("b")])
        wait_until_level(replica, primary)
        with paused(replica), DefaultMemoryManager(mover, SERVICE) as manager:
            manager.reembed(OTHER).wait()
            assert [hit.entry.id for hit in manager.episodic.search("what was said as b", 1)] == ["b"]
            assert mover.space == OTHER.space
            for consistency in ("Session", "Eventually"):
                with opened(config, OTHER, consistency=consistency) as fresh:
                    assert len(fresh.search(OTHER.embed_one("x"), 5, Filter())) == 2
                    assert len(list(fresh.scan(Filter()))) == 2
            assert len(late.search(SERVICE.embed_one("x"), 5, Filter())) == 2, "as it was"
        wait_until_level(replica, primary)
        with pytest.raises(SpaceChangedError):
            late.search(SERVICE.embed_one("x"), 5, Filter())


@pytest.mark.parametrize("consistency", ["Session", "Eventually"])
def test_a_store_that_the_replica_does_not_have_yet(
    config: PostgresConfig, primary: PostgresServer, replica: PostgresServer, consistency: str
) -> None:
    """It can be opened and searched, for the primary has it."""
    primary.execute("DROP SCHEMA of_tests CASCADE")
    wait_until_level(replica, primary)
    with paused(replica), opened(config, consistency=consistency) as backend:
        backend.add([turn("a"), turn("b")])
        assert everything_read(backend)[0] == ["a", "b"]


def test_a_replica_that_is_none(config: PostgresConfig, primary: PostgresServer) -> None:
    """Where the second address leads to the primary as well, own writes are read there."""
    with opened(config, read_dsn=primary.dsn) as backend:
        for n in range(5):
            backend.add([turn(f"n{n}")])
            assert backend.count(Filter()) == n + 1


def test_a_table_locked_on_the_replica_alone(
    config: PostgresConfig, primary: PostgresServer, replica: PostgresServer
) -> None:
    """It is waited for no longer than the replica is: replay stopped in the middle of a change of the table."""
    with opened(config, consistency="Eventually") as backend:
        backend.add([turn("a")])
        with psycopg.connect(primary.dsn) as db:
            db.execute("LOCK TABLE of_tests.entries IN ACCESS EXCLUSIVE MODE")
            db.execute("SELECT pg_current_xact_id(), pg_log_standby_snapshot()")
            locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'"
            while replica.one(locked) == 0:
                primary.execute("SELECT pg_log_standby_snapshot()")
                time.sleep(0.01)
            replica.execute("SELECT pg_wal_replay_pause()")
            db.rollback()
        with paused(replica):
            began = time.monotonic()
            assert backend.count(Filter()) == 1
            assert time.monotonic() - began < 30, "a statement may take 60 s"


def test_a_manager_reads_from_a_replica(config: PostgresConfig, replica: PostgresServer) -> None:
    """The words of memory see what they have written, asked of a server that may be behind."""
    with DefaultMemoryManager.with_config(MemoryConfig.for_postgres(config, SERVICE)) as manager:
        memory = manager.scoped("acme").episodic
        for n in range(10):
            memory.add(EpisodicEntry("s", "user", f"number {n}", id=f"n{n}"))
            assert memory.get(f"n{n}").content == f"number {n}"
        with paused(replica):
            memory.add(EpisodicEntry("s", "user", "number 10", id="n10"))
            assert memory.count() == 11
