"""A memory moves to a server and back, is tried beside the one that serves, and its recall is told while it is used."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig
from tests import moving
from tests.postgres import shared

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server() -> Iterator[PostgresBackend]:
    shared().execute("DROP SCHEMA IF EXISTS moving CASCADE")
    config = PostgresConfig(dsn=shared().dsn, schema="moving", index_from=0)
    with closing(PostgresBackend(config, moving.SERVICE.space, hnsw=moving.HNSW)) as backend:
        yield backend


def test_a_memory_moves_to_a_server_and_back(tmp_path: Path, server: PostgresBackend) -> None:
    """Every entry keeps every field, its vector to the bit; each move is verified, and the last store is the first."""
    with (
        closing(moving.filled(tmp_path / "a.db", 700)) as first,
        closing(SQLiteBackend(tmp_path / "b.db", moving.SERVICE.space)) as last,
    ):
        moving.check_journey(first, server, last, count=700)


def test_a_move_can_be_undone(tmp_path: Path, server: PostgresBackend) -> None:
    """What was written to the server since comes back, what was deleted there goes."""
    with closing(moving.filled(tmp_path / "a.db", 700)) as home:
        moving.check_undone(home, server)


def test_a_server_is_tried_beside_a_file(tmp_path: Path, server: PostgresBackend) -> None:
    """It follows the one that serves, is compared with it, takes over, and the file can be gone back to."""
    moving.check_tried(moving.filled(tmp_path / "a.db", 300), server, kind="postgres", writes=30)


def test_recall_is_told_while_it_is_used(server: PostgresBackend) -> None:
    """A share of the searches is run again without the index, here all of them."""
    moving.check_watched(server, entries=500, searches=40, seconds=30)
