"""What lets the same statements run on a cluster that spreads rows by the root of their namespace, kept on one server.

The whole contract runs on a real cluster where `LLMSPELL_TEST_CITUS_DSN` names one (tests/contract/test_postgres.py).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, Filter, HNSWConfig
from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig
from llmspell_memory.embeddings import HashingProvider
from tests.postgres import shared

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = "for_a_cluster"
SERVICE = EmbeddingService(HashingProvider(32))
SPREAD = re.compile(r"\b(?:entries|gone|vectors_\d+)\b")


@pytest.fixture
def manager() -> Iterator[DefaultMemoryManager]:
    shared().execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    config = PostgresConfig(dsn=shared().dsn, schema=SCHEMA, index_from=0)
    backend = PostgresBackend(config, SERVICE.space, hnsw=HNSWConfig(m=8, ef_construction=32))
    with DefaultMemoryManager(backend, SERVICE) as manager:
        yield manager


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that is sent, from when this is asked for."""
    statements: list[str] = []
    for kind in (psycopg.Cursor, psycopg.ServerCursor):
        for name in ("execute", "executemany", "copy"):
            method = getattr(kind, name, None)
            if method is None:
                continue

            def noted(self: Any, query: Any, *arguments: Any, method: Any = method, **options: Any) -> Any:
                statements.append(query.decode() if isinstance(query, bytes) else str(query))
                return method(self, query, *arguments, **options)

            monkeypatch.setattr(kind, name, noted)
    return statements


def work(manager: DefaultMemoryManager) -> None:
    """Every verb that a tenant's memory has."""
    memory = manager.scoped("acme", "alice").episodic
    for count in (3, 40):
        memory.add_many([EpisodicEntry("s", "Ada", f"text {n} of {count}", id=f"{count}-{n}") for n in range(count)])
    memory.add(EpisodicEntry("s", "Ada", "text 1 of 3"), on_duplicate="skip")
    for mode in ("semantic", "keyword", "hybrid"):
        assert memory.search("what did Ada say of text 2?", 5, mode=mode, around=1, parts=True)
    memory.get("3-1")
    memory.recent(2)
    memory.get_session("s")
    memory.mark_processed(["3-1"])
    memory.sessions()
    memory.delete(Filter(ids=frozenset(["3-1"])))
    memory.forget(Filter(ids=frozenset(["3-2"])))


def test_a_tenants_statements_name_its_root(manager: DefaultMemoryManager, sent: list[str]) -> None:
    """So that each goes to the one machine that has its rows; what upkeep does to whole tables apart."""
    work(manager)
    upkeep = re.compile(r"VACUUM|UPDATE gone SET namespace = NULL")
    strays = [one for one in sent if SPREAD.search(one) and "root" not in one and not upkeep.match(one)]
    assert strays == []
    assert sum(1 for one in sent if SPREAD.search(one)) > 30


def test_settings_hold_for_their_transaction_alone(manager: DefaultMemoryManager, sent: list[str]) -> None:
    """A session may be another's a moment later, where a pool of connections stands in between."""
    work(manager)
    manager.rebuild(m=10)
    settings = [part.strip() for one in sent if one.startswith("SET") for part in one.split(";")]
    assert settings
    assert all(one.startswith(("SET LOCAL ", "SET TRANSACTION ")) for one in settings)


def test_settings_are_told_to_workers(manager: DefaultMemoryManager, sent: list[str]) -> None:
    """What lets the cluster pass settings on comes before any other."""
    work(manager)
    beginnings = [one for one in sent if one.startswith("SET LOCAL ") and ";" in one]
    assert any("hnsw.ef_search" in one for one in beginnings)
    assert all(one.startswith("SET LOCAL citus.propagate_set_commands = local; ") for one in beginnings)


def test_keys_hold_the_root(manager: DefaultMemoryManager) -> None:
    """No constraint reaches over tenants: each unique index of a table that is spread begins or ends with the root."""
    del manager
    with psycopg.connect(shared().dsn) as db:
        rows = db.execute(
            "SELECT c.relname, array_agg(a.attname::text) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid"
            " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)"
            " WHERE i.indisunique AND c.relnamespace = %s::regnamespace GROUP BY c.relname, i.indexrelid",
            (SCHEMA,),
        ).fetchall()
    spread = {table: columns for table, columns in rows if SPREAD.fullmatch(table)}
    assert len(spread) == 3
    assert all("root" in columns for columns in spread.values())
