"""A memory that is served, and who may ask it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llmspell_memory import DefaultMemoryManager, EmbeddingService
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.operations.keys import add_key
from llmspell_memory.server import ServerConfig
from tests.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DIMENSIONS = 32
SMALL = ServerConfig(
    port=0,
    body_bytes=20_000,
    header_bytes=4_000,
    batch=50,
    k=20,
    rate=None,
    header_seconds=0.5,
    body_seconds=0.5,
    send_seconds=0.5,
)
"""Limits that a test can come to."""


@dataclass
class Place:
    """A server, its memory, and the keys to it."""

    url: str
    port: int
    manager: DefaultMemoryManager
    keys: dict[str, str]

    def http(self, key: str | None = "all") -> httpx.Client:
        """Return a plain client with a key."""
        headers = {} if key is None else {"Authorization": f"Bearer {self.keys.get(key, key)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, trust_env=False)

    def post(self, path: str, body: Any, key: str | None = "all", **headers: str) -> httpx.Response:
        """Post a JSON object."""
        with self.http(key) as http:
            return http.post(path, json=body, headers=headers)


def manager_at(path: Path) -> DefaultMemoryManager:
    """Return a memory in a file, which embeds offline."""
    service = EmbeddingService(HashingProvider(DIMENSIONS))
    return DefaultMemoryManager(SQLiteBackend(path, service.space), service, watch=None)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    manager = manager_at(tmp_path / "memory.db")
    keys = {
        "all": add_key(manager.backend, "all", access="write")[1],
        "read": add_key(manager.backend, "read")[1],
        "alice": add_key(manager.backend, "alice", namespace=("acme", "alice"), access="write")[1],
        "bob": add_key(manager.backend, "bob", namespace=("acme", "bob"), access="write")[1],
    }
    with served(manager, SMALL) as server:
        yield Place(server.url, server.port, manager, keys)
