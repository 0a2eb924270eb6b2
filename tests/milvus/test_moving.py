"""A memory outgrows one server after the other and comes home; Milvus is tried, and its recall is told."""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.milvus import MilvusBackend, MilvusConfig
from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig
from tests import moving, postgres
from tests.milvus.server import shared

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def milvus() -> Iterator[MilvusBackend]:
    config = MilvusConfig(uri=shared().uri, prefix=f"moving_{secrets.token_hex(8)}")
    with closing(MilvusBackend(config, moving.SERVICE.space, hnsw=moving.HNSW)) as backend:
        yield backend


@pytest.fixture
def server() -> Iterator[PostgresBackend]:
    config = PostgresConfig(dsn=postgres.shared().dsn, schema="on_the_way", index_from=0)
    with closing(PostgresBackend(config, moving.SERVICE.space, hnsw=moving.HNSW)) as backend:
        yield backend
    postgres.shared().execute("DROP SCHEMA on_the_way CASCADE")


def test_a_memory_goes_from_server_to_server_and_home(
    tmp_path: Path, server: PostgresBackend, milvus: MilvusBackend
) -> None:
    """From a file to PostgreSQL, to Milvus, to a file: each move is verified, and every field is the first one's."""
    with (
        closing(moving.filled(tmp_path / "a.db", 300)) as first,
        closing(SQLiteBackend(tmp_path / "b.db", moving.SERVICE.space, hnsw=moving.HNSW)) as last,
    ):
        moving.check_journey(first, server, milvus, last, count=300)


def test_a_move_to_milvus_can_be_undone(tmp_path: Path, milvus: MilvusBackend) -> None:
    """What was written there since comes back, what was deleted there goes."""
    with closing(moving.filled(tmp_path / "a.db", 60)) as home:
        moving.check_undone(home, milvus)


def test_milvus_is_tried_beside_a_file(tmp_path: Path, milvus: MilvusBackend) -> None:
    """It follows the one that serves, is compared with it, takes over, and the file can be gone back to."""
    moving.check_tried(moving.filled(tmp_path / "a.db", 60), milvus, kind="milvus", writes=5)


def test_recall_is_told_while_milvus_is_used(milvus: MilvusBackend) -> None:
    """A share of the searches is run again without the index, here all of them."""
    moving.check_watched(milvus, entries=200, searches=10, seconds=60)
