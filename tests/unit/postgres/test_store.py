"""What a store in PostgreSQL does beyond the contract: errors by kind, metrics, widths, several stores and servers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from psycopg import errors as states

from llmspell_memory import (
    AsyncMemoryManager,
    ConfigError,
    CorruptDataError,
    DefaultMemoryManager,
    EmbeddingService,
    EmbeddingSpace,
    EpisodicBackendType,
    EpisodicEntry,
    Filter,
    HNSWConfig,
    MemoryConfig,
    SchemaError,
    StorageError,
    UnavailableError,
)
from llmspell_memory.backends import LocalBackend
from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig
from llmspell_memory.backends.postgres.connections import told
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.testing.indexes import gaussian
from llmspell_memory.types import KeywordConfig
from tests.postgres import shared

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmspell_memory.types import Metric


@pytest.fixture
def config() -> Iterator[PostgresConfig]:
    yield PostgresConfig(dsn=shared().dsn, schema="of_tests", index_from=0)
    shared().execute("DROP SCHEMA IF EXISTS of_tests CASCADE")


def every_error() -> list[type[psycopg.Error]]:
    """Every class of error that the driver has, one for each state of the server's among them."""
    found: list[type[psycopg.Error]] = []
    open_ = [psycopg.Error]
    while open_:
        one = open_.pop()
        found.append(one)
        open_ += one.__subclasses__()
    return found


def test_every_error_of_the_driver_becomes_one_of_ours() -> None:
    """None gets out as it is; each names the store and says what the driver said."""
    kinds = every_error()
    assert len(kinds) > 200
    for kind in kinds:
        ours = told(kind("as the server says"), "PostgreSQL schema x")
        assert isinstance(ours, StorageError), kind
        assert "PostgreSQL schema x" in str(ours)
        assert "as the server says" in str(ours)
        if issubclass(kind, psycopg.OperationalError) and kind.sqlstate in {None, "08000", "08006", "57P01", "57P03"}:
            assert isinstance(ours, UnavailableError), kind


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (states.DeadlockDetected, UnavailableError),
        (states.SerializationFailure, UnavailableError),
        (states.QueryCanceled, UnavailableError),
        (states.AdminShutdown, UnavailableError),
        (states.TooManyConnections, StorageError),
        (states.ReadOnlySqlTransaction, UnavailableError),
        (states.DiskFull, StorageError),
        (states.UndefinedTable, SchemaError),
        (states.IndexCorrupted, CorruptDataError),
        (psycopg.OperationalError, UnavailableError),
    ],
)
def test_errors_are_told_apart(theirs: type[psycopg.Error], ours: type[StorageError]) -> None:
    """What may be tried again, what lacks room, what is damaged."""
    assert isinstance(told(theirs("x"), "y"), ours)


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "euclidean"])
@pytest.mark.parametrize(
    "hnsw",
    [None, HNSWConfig(ef_search=300), HNSWConfig(ef_search=300, dtype="float16")],
    ids=["exact", "vector", "halfvec"],
)
def test_metrics_score_as_elsewhere(config: PostgresConfig, metric: Metric, hnsw: HNSWConfig | None) -> None:
    """The same entries and scores as in RAM, through an index of 16-bit numbers, too."""
    space = EmbeddingSpace(provider="test", model=None, dimensions=24, metric=metric)
    vectors = gaussian(300, 24)
    entries = [EpisodicEntry("s", "user", f"n{n}", id=f"n{n}", embedding=one) for n, one in enumerate(vectors)]
    local, backend = LocalBackend(space), PostgresBackend(config, space, hnsw=hnsw)
    for one in (local, backend):
        one.add(entries)
    for query in gaussian(5, 24, seed=9):
        ours, theirs = (one.search(query, 10, Filter()) for one in (backend, local))
        assert [hit.entry.id for hit in ours] == [hit.entry.id for hit in theirs]
        assert np.allclose([hit.score for hit in ours], [hit.score for hit in theirs], atol=1e-5)
    backend.close()


def test_wide_vectors_are_indexed_as_16_bit_numbers(config: PostgresConfig) -> None:
    """Above 2,000 dimensions; above 4,000 there is no index, and above 16,000 no store."""
    space = EmbeddingSpace(provider="test", model=None, dimensions=3072)
    backend = PostgresBackend(config, space, hnsw=HNSWConfig(m=8, ef_construction=32))
    vectors = gaussian(60, 3072)
    backend.add([EpisodicEntry("s", "user", f"n{n}", id=f"n{n}", embedding=one) for n, one in enumerate(vectors)])
    assert [hit.entry.id for hit in backend.search(vectors[7], 1, Filter())] == ["n7"]
    assert len(backend.search(vectors[7], 60, Filter())) == 60
    backend.close()
    for dimensions, match in ((4001, "4000 dimensions"), (16_001, "16000 dimensions")):
        wide = EmbeddingSpace(provider="test", model=None, dimensions=dimensions)
        with pytest.raises(ConfigError, match=match):
            PostgresBackend(PostgresConfig(dsn=shared().dsn, schema=f"wide_{dimensions}"), wide, hnsw=HNSWConfig())


@pytest.mark.parametrize("hnsw", [HNSWConfig(m=101), HNSWConfig(ef_search=1001), HNSWConfig(m=40, ef_construction=60)])
def test_parameters_that_pgvector_has_not_are_refused(config: PostgresConfig, hnsw: HNSWConfig) -> None:
    """When the store is opened, and when it is told to change."""
    space = EmbeddingSpace(provider="test", model=None, dimensions=8)
    with pytest.raises(ConfigError, match="pgvector takes"):
        PostgresBackend(config, space, hnsw=hnsw)
    backend = PostgresBackend(config, space)
    with pytest.raises(ConfigError, match="pgvector takes"):
        backend.configure(hnsw)
    assert backend.hnsw is None
    backend.close()


def test_one_change_of_configuration_moves_to_a_server(config: PostgresConfig) -> None:
    """The memory that `MemoryConfig` describes is there, its dsn is never shown, and it is awaited as any other."""
    service = EmbeddingService(HashingProvider(32))
    memory_config = MemoryConfig.for_postgres(config, service)
    assert shared().dsn not in repr(memory_config)
    with DefaultMemoryManager.with_config(memory_config) as memory:
        memory.episodic.add(EpisodicEntry("s", "user", "My dog is called Ada."))
        assert memory.stats().rows == "postgres"
        assert str(memory_config.backend) == "Postgres"

    async def ask() -> list[str]:
        async with await AsyncMemoryManager.with_config(memory_config) as memory:
            await memory.episodic.add(EpisodicEntry("s", "user", "The ferry leaves at seven."))
            found = await asyncio.gather(*(memory.episodic.search("what is my dog called?", 1) for _ in range(20)))
            return [hit.entry.content for hits in found for hit in hits]

    assert asyncio.run(ask()) == ["My dog is called Ada."] * 20
    with pytest.raises(ConfigError, match="for_postgres"):
        DefaultMemoryManager.with_config(MemoryConfig(backend=EpisodicBackendType.POSTGRES, service=service))


def test_another_language_makes_the_words_anew(config: PostgresConfig) -> None:
    """Of every row; the store remembers it."""
    service = EmbeddingService(HashingProvider(32))
    houses = EpisodicEntry("s", "user", "Die Häuser am Fluss")

    def finds(keywords: KeywordConfig | None) -> bool:
        opened = MemoryConfig.for_postgres(config, service).with_keywords(keywords)
        with DefaultMemoryManager.with_config(opened) as memory:
            if memory.episodic.count() == 0:
                memory.episodic.add(houses)
            return bool(memory.episodic.search("Haus", 1, mode="keyword"))

    german = KeywordConfig(language="german")
    assert [finds(one) for one in (None, german, None, KeywordConfig(), None)] == [False, True, True, False, False]


@pytest.mark.parametrize(
    "wrong",
    [
        {"dsn": 3},
        {"schema": "A b"},
        {"schema": "x" * 60},
        {"pool_size": 0},
        {"retry_seconds": -1},
        {"pool_seconds": "1"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    """Each says what it should be."""
    with pytest.raises(ConfigError):
        PostgresConfig(**{"dsn": "host=127.0.0.1", **wrong})
