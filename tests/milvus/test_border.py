"""Settings are checked, what Milvus cannot keep is refused, and every error of the driver is one of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import grpc
import pytest
from pymilvus import MilvusException
from pymilvus import exceptions as theirs

from llmspell_memory import (
    ConfigError,
    DefaultMemoryManager,
    EmbeddingService,
    EpisodicBackendType,
    EpisodicEntry,
    EpisodicError,
    Filter,
    HNSWConfig,
    InputError,
    MemoryConfig,
    StorageError,
    UnavailableError,
)
from llmspell_memory.backends.milvus import MilvusBackend, MilvusConfig
from llmspell_memory.backends.milvus.connections import MissingCollectionError, NotLoadedError, TooLargeError, told
from llmspell_memory.backends.milvus.rows import MOST_PLACES, joined, pieces, to_row
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.types import KeywordConfig, Query
from tests.milvus.server import shared

SERVICE = EmbeddingService(HashingProvider(16))


class Refused(grpc.RpcError):  # type: ignore[misc]  # the package has no types
    def __init__(self, status: grpc.StatusCode) -> None:
        super().__init__("refused")
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (MilvusException(100, "collection 'x' does not exist"), MissingCollectionError),
        (MilvusException(101, "call load() before search"), NotLoadedError),
        (MilvusException(2, "Fail connecting to server"), UnavailableError),
        (MilvusException(8, "rate limit exceeded"), UnavailableError),
        (MilvusException(1, "Retry timeout: 1s"), UnavailableError),
        (MilvusException(1100, "length of varchar field exceeds max length"), InputError),
        (MilvusException(1, "something else"), StorageError),
        (MilvusException(16, "auth check failure, please check"), StorageError),
        (Refused(grpc.StatusCode.UNAVAILABLE), UnavailableError),
        (Refused(grpc.StatusCode.DEADLINE_EXCEEDED), UnavailableError),
        (Refused(grpc.StatusCode.RESOURCE_EXHAUSTED), TooLargeError),
        (Refused(grpc.StatusCode.PERMISSION_DENIED), StorageError),
        (ValueError("Cannot invoke RPC on closed channel!"), UnavailableError),
    ],
    ids=str,
)
def test_errors_of_the_driver_are_told_as_ours(error: Exception, ours: type[EpisodicError]) -> None:
    """By their codes, and by what is said where there is none; the store is named."""
    found = told(error, "Milvus store x")
    assert type(found) is ours
    assert "Milvus store x" in str(found)


def test_all_errors_of_the_driver_have_one_root() -> None:
    """So that none gets past the border."""
    kinds = [one for one in vars(theirs).values() if isinstance(one, type) and issubclass(one, Exception)]
    assert all(issubclass(one, MilvusException) for one in kinds)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("uri", "memory.db"),
        ("uri", 1),
        ("token", None),
        ("prefix", "a-b"),
        ("prefix", ""),
        ("consistency", "strong"),
        ("partitions", 0),
        ("partitions", True),
        ("call_seconds", -1),
        ("retry_seconds", "1"),
    ],
)
def test_settings_are_checked(name: str, value: Any) -> None:
    """A value of the wrong kind or range is refused, and named."""
    with pytest.raises(ConfigError, match=name):
        MilvusConfig(**{"uri": "http://127.0.0.1:19530", name: value})


def test_a_token_is_not_shown() -> None:
    """It may be a password."""
    assert "secret" not in repr(MilvusConfig(uri="http://127.0.0.1:19530", token="root:secret"))  # noqa: S106 (none)


def test_a_memory_is_made_of_a_configuration() -> None:
    """And one that does not name its server is refused."""
    config = MemoryConfig.for_milvus(MilvusConfig(uri=shared().uri, prefix="by_config"), SERVICE)
    with DefaultMemoryManager.with_config(config) as manager:
        manager.episodic.add(EpisodicEntry("s", "user", "The spare key is with Tom."))
        assert manager.episodic.search("spare key")[0].entry.role == "user"
        assert manager.stats().rows == "milvus"
    with pytest.raises(ConfigError, match="for_milvus"):
        DefaultMemoryManager.with_config(MemoryConfig(backend=EpisodicBackendType.MILVUS, service=SERVICE))


def test_an_index_that_milvus_has_not_is_refused() -> None:
    """Before anything is made."""
    with pytest.raises(ConfigError, match="ef_search"):
        MilvusBackend(
            MilvusConfig(uri=shared().uri, prefix="no_index"), SERVICE.space, hnsw=HNSWConfig(ef_search=40_000)
        )


def test_half_precision_finds_by_whole_vectors() -> None:
    """An index of 16-bit numbers gives the scores of the vectors that are stored."""
    config = MilvusConfig(uri=shared().uri, prefix=f"half_{os.getpid()}")
    backend = MilvusBackend(config, SERVICE.space, hnsw=HNSWConfig(dtype="float16"))
    texts = [f"what was said as number {n}" for n in range(200)]
    vectors = SERVICE.embed(texts)
    backend.add(
        [EpisodicEntry("s", "user", text, embedding=vector) for text, vector in zip(texts, vectors, strict=True)]
    )
    (hit,) = backend.search(vectors[17], 1, Filter())
    assert hit.entry.content == texts[17]
    assert hit.score == pytest.approx(1.0, abs=1e-6)
    backend.close()


def test_what_a_dead_builder_left_is_dropped_by_the_next() -> None:
    """Collections that the record does not know go when an index is built; those in use, and other stores', stay."""
    config = MilvusConfig(uri=shared().uri, prefix=f"left_{os.getpid()}")
    backend = MilvusBackend(config, SERVICE.space, hnsw=HNSWConfig())
    other = MilvusBackend(replace(config, prefix=f"{config.prefix}_rows"), SERVICE.space, hnsw=HNSWConfig())
    for one in (backend, other):
        one.add([EpisodicEntry("s", "user", "kept", embedding=SERVICE.embed_one("kept"))])
    state = backend._collections.state()
    backend._collections.make_rows(99, state.kept[state.used])
    backend.configure(HNSWConfig(m=8))
    names = backend._connection.run(lambda client: client.list_collections())
    assert {backend._rows, other._rows} <= set(names)
    assert f"{config.prefix}_rows_99" not in names
    assert backend.count(Filter()) == other.count(Filter()) == 1
    backend.close()
    other.close()


def test_another_language_makes_the_words_of_all_rows_anew() -> None:
    """And the store remembers it."""
    config = MilvusConfig(uri=shared().uri, prefix=f"words_{os.getpid()}")
    first = MilvusBackend(config, SERVICE.space)
    first.add([EpisodicEntry("s", "user", "Die Häuser am Fluss", embedding=SERVICE.embed_one("x"))])
    asked = Query(text="Haus", mode="keyword")
    assert first.retrieve(asked, 3, Filter()) == []
    first.close()
    for keywords in (KeywordConfig(language="german"), None):
        again = MilvusBackend(config, SERVICE.space, keywords=keywords)
        assert len(again.retrieve(asked, 3, Filter())) == 1
        again.close()


def test_texts_are_kept_in_pieces() -> None:
    """Pieces are no longer than a field's bytes, and what would need too many of them is refused."""
    text = "🦀" * 100_001
    parts = pieces(text, what="a content")
    assert joined(parts) == text
    assert max(len(part.encode()) for part in parts) <= 65_535
    entry = EpisodicEntry("s", "user", "x", metadata={str(n): n for n in range(MOST_PLACES + 1)})
    with pytest.raises(InputError, match="4096"):
        to_row(entry)
    with pytest.raises(InputError, match="longer than Milvus can keep"):
        pieces("x" * 70_000_000, what="a content")


def test_without_the_driver_the_error_says_what_to_install() -> None:
    """And settings can be made all the same."""
    code = (
        "import sys; sys.modules['pymilvus'] = None\n"
        "from llmspell_memory import MemoryConfig\n"
        "from llmspell_memory.backends import milvus\n"
        "milvus.MilvusConfig(uri='http://127.0.0.1:1')\n"
        "try:\n    milvus.MilvusBackend\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "llmspell-memory[milvus]"' in done.stdout


def test_the_driver_is_not_loaded_without_need() -> None:
    """It takes most of a second."""
    code = "import sys, llmspell_memory; print('pymilvus' in sys.modules or 'grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
