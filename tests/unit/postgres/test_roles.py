"""A role of the server sees what it was given alone, whatever it sends: through the library, and past it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from llmspell_memory import (
    ConfigError,
    DefaultMemoryManager,
    EmbeddingService,
    EpisodicEntry,
    Filter,
    HNSWConfig,
    InputError,
    StorageError,
)
from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig
from llmspell_memory.backends.postgres.rows import packed
from llmspell_memory.embeddings import HashingProvider
from tests.postgres import shared

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = EmbeddingService(HashingProvider(32))
SCHEMA = "with_roles"
HNSW = HNSWConfig(m=8, ef_construction=32)


def turn(name: str, *namespace: str) -> EpisodicEntry:
    vector = SERVICE.embed_one(f"the secret of {name}")
    return EpisodicEntry("s", "user", f"the secret of {name}", id=name, namespace=namespace, embedding=vector)


@pytest.fixture
def owner() -> Iterator[PostgresBackend]:
    shared().execute(
        f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE",
        "DROP OWNED BY alice" if exists("alice") else "SELECT 1",
        "CREATE ROLE alice LOGIN" if not exists("alice") else "SELECT 1",
    )
    backend = PostgresBackend(PostgresConfig(dsn=shared().dsn, schema=SCHEMA, index_from=0), SERVICE.space, hnsw=HNSW)
    backend.add([turn("root"), turn("ours", "acme", "alice"), turn("below", "acme", "alice", "x")])
    backend.add([turn("theirs", "acme", "bob"), turn("alike", "acme", "alice2"), turn("above", "acme")])
    backend.grant("alice", "acme", "alice")
    yield backend
    backend.close()


def exists(role: str) -> bool:
    with psycopg.connect(shared().dsn) as db:
        return db.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is not None


@pytest.fixture
def alice(owner: PostgresBackend) -> Iterator[PostgresBackend]:
    del owner
    config = PostgresConfig(dsn=shared().dsn_of("alice"), schema=SCHEMA, index_from=0)
    backend = PostgresBackend(config, SERVICE.space, hnsw=HNSW)
    yield backend
    backend.close()


def names(backend: PostgresBackend) -> set[str]:
    return {one.id for one in backend.scan(Filter())}


def test_a_role_sees_and_changes_its_own_alone(owner: PostgresBackend, alice: PostgresBackend) -> None:
    """Without any condition of ours: reads, searches, figures, marks and deletes stay within."""
    everything = names(owner)
    assert names(alice) == {"ours", "below"}
    assert alice.count(Filter()) == 2
    assert {hit.entry.id for hit in alice.search(SERVICE.embed_one("secret"), 10, Filter())} == {"ours", "below"}
    with DefaultMemoryManager(alice, SERVICE) as memory:
        for mode in ("semantic", "keyword", "hybrid"):
            assert {hit.entry.id for hit in memory.episodic.search("the secret", 10, mode=mode)} == {"ours", "below"}
        assert memory.stats().entries == 2
        assert memory.episodic.mark_processed(["theirs", "root"]) == 0
        memory.episodic.add(turn("more", "acme", "alice"))
        assert memory.episodic.delete(Filter(), everything=True) == 3
    assert names(owner) == everything - {"ours", "below"}


def test_a_role_can_put_nothing_elsewhere(owner: PostgresBackend, alice: PostgresBackend) -> None:
    """An entry of another's namespace, new or there, is refused whole, single or among many."""
    before = names(owner)
    for count in (1, 40):
        batch = [turn(f"n{n}", "acme", "alice") for n in range(count)]
        for stray in (turn("stray", "acme", "bob"), turn("theirs", "acme", "bob"), turn("stray")):
            with pytest.raises(StorageError):
                alice.add([*batch, stray])
    assert names(owner) == before


ATTEMPTS = [
    "SELECT content FROM entries WHERE content LIKE '%theirs%'",
    "SELECT e.content FROM entries e, vectors_{n} v WHERE e.content LIKE '%theirs%'",
    "UPDATE entries SET content = 'gone' WHERE id = 'theirs' RETURNING 1",
    "DELETE FROM entries WHERE id = 'theirs' RETURNING 1",
    "UPDATE entries SET namespace = '\\x' WHERE id = 'ours' RETURNING 1",
    "INSERT INTO grants VALUES ('alice', '') RETURNING 1",
    "UPDATE grants SET namespace = '' RETURNING 1",
    "DELETE FROM grants RETURNING 1",
    "ALTER TABLE entries DISABLE ROW LEVEL SECURITY",
    "DROP POLICY of_role ON entries",
    "SET row_security = off; SELECT content FROM entries WHERE content LIKE '%theirs%'",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "SELECT content FROM entries WHERE pg_temp.seen(content)",
    "TRUNCATE entries",
    "CREATE TABLE mine AS SELECT * FROM entries WHERE id = 'theirs'",
    "UPDATE state SET space = 0 RETURNING 1",
    "INSERT INTO notes VALUES ('tuned', 'x') RETURNING 1",
]


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda text: text[:40])
def test_sql_of_its_own_leads_no_further(owner: PostgresBackend, attempt: str) -> None:
    """Whatever the role sends to the server: an error, or nothing found and nothing changed."""
    before = {(one.id, one.namespace, one.content) for one in owner.scan(Filter())}
    number = owner._using.number
    with psycopg.connect(shared().dsn_of("alice"), autocommit=True) as db:
        db.execute(f"SET search_path = {SCHEMA}".encode())
        told: list[str] = []
        db.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        db.execute(
            "CREATE FUNCTION pg_temp.seen(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS"
            " 'BEGIN RAISE NOTICE ''%'', $1; RETURN false; END'"
        )
        try:
            cursor = db.execute(attempt.format(n=number).encode())
            rows = cursor.fetchall() if cursor.description else []
        except psycopg.Error:
            rows = []
        assert rows == []
        assert not any("theirs" in one for one in told)
    assert {(one.id, one.namespace, one.content) for one in owner.scan(Filter())} == before


def test_what_is_copied_out_is_its_own(owner: PostgresBackend) -> None:
    """The quickest way out of the server is watched, too."""
    del owner
    with psycopg.connect(shared().dsn_of("alice")) as db, db.cursor() as cursor:
        cursor.execute(f"SET search_path = {SCHEMA}".encode())
        with cursor.copy("COPY (SELECT * FROM entries) TO STDOUT") as copy:
            found = b"".join(bytes(one) for one in copy)
    assert b"ours" in found
    assert b"theirs" not in found


def test_a_namespace_may_be_taken_back(owner: PostgresBackend) -> None:
    """Then the role sees nothing, and not even the tables; two namespaces are given by two calls."""
    owner.grant("alice", "acme", "bob")
    config = PostgresConfig(dsn=shared().dsn_of("alice"), schema=SCHEMA, index_from=0)
    backend = PostgresBackend(config, SERVICE.space)
    assert names(backend) == {"ours", "below", "theirs"}
    owner.revoke("alice")
    with pytest.raises(StorageError):
        names(backend)
    backend.close()


def test_vectors_of_another_space_are_kept_apart_too(owner: PostgresBackend, alice: PostgresBackend) -> None:
    """A table made after the grant is granted as well, and shows the vectors of what the role sees alone."""
    other = EmbeddingService(HashingProvider(16))
    beside = owner.beside(other.space)
    rows = beside.missing(10)
    beside.put(rows, other.embed([text for _, _, text in rows]))
    assert beside.counts().missing == 0
    assert alice.beside(other.space).counts().missing == 0
    with psycopg.connect(shared().dsn_of("alice")) as db:
        db.execute(f"SET search_path = {SCHEMA}".encode())
        (number,) = db.execute("SELECT max(id) FROM spaces").fetchone() or (0,)
        counted = f"SELECT count(*) FROM vectors_{number}"  # noqa: S608 (a number)
        assert db.execute(counted.encode()).fetchone() == (2,)


def test_what_is_no_role_or_namespace_is_refused(owner: PostgresBackend) -> None:
    """Names are not quoted into anything else, and nobody is given everything by an empty namespace."""
    with pytest.raises(InputError, match="segment"):
        owner.grant("alice")
    for name in ('a"; DROP SCHEMA with_roles; --', "", "a b"):
        with pytest.raises(ConfigError, match="role"):
            owner.grant(name, "acme")
    with pytest.raises(StorageError):
        owner.grant("nobody_known", "acme")
    assert packed(("acme", "alice")) == b"acme\0alice\0"
