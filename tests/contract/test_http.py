"""The client of a server is a backend under the one contract, over a real socket, and so is a key's namespace."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicBackendType
from llmspell_memory.backends import LocalBackend, SQLiteBackend
from llmspell_memory.client import HTTPBackend
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.operations.keys import add_key
from llmspell_memory.testing.backends import DurableContract, EntriesContract, entry
from llmspell_memory.testing.backends.following import NotesContract
from llmspell_memory.testing.backends.material import DIMENSIONS
from llmspell_memory.testing.backends.views import ViewContract
from llmspell_memory.testing.indexes import gaussian
from llmspell_memory.types import Filter, HNSWConfig
from tests.contract.test_backends import SCOPE, Scoped, neighbours
from tests.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace


class Served:
    """Servers that end with a test."""

    @pytest.fixture(autouse=True)
    def servers(self, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        for name in ("httpx", "llmspell_memory.server.access"):
            caplog.set_level(logging.WARNING, logger=name)
        with contextlib.ExitStack() as self.running:
            yield

    def client(self, store: EpisodicBackend, api_key: str | None = None) -> HTTPBackend:
        """Return a client of a server over a store."""
        manager = DefaultMemoryManager(store, EmbeddingService(HashingProvider(store.space.dimensions)), watch=None)
        server = self.running.enter_context(served(manager))
        self.url = server.url
        return HTTPBackend(server.url, api_key=api_key)


class TestHTTP(Served, DurableContract, ViewContract, NotesContract):
    # Of thousands of requests, and tested below, where it is harder.
    test_tenants_with_names_alike_never_meet = None  # type: ignore[assignment]

    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        return self.client(SQLiteBackend(folder / "memory.db", space))

    def test_ef_search_set_during_a_rebuild_stays_set(self, manager: DefaultMemoryManager) -> None:
        """As in the contract, where a call has begun when its thread has: here, when the server answers it."""
        manager.switch_backend(EpisodicBackendType.HNSW)
        manager.episodic.add_many(
            entry(f"n{n}", embedding=vector) for n, vector in enumerate(gaussian(3000, DIMENSIONS))
        )
        rebuild = threading.Thread(target=manager.rebuild, kwargs={"m": 8})
        rebuild.start()
        while not re.search(r"^llmspell_memory_http_requests_under_way 2$", self.metrics(), re.MULTILINE):
            assert rebuild.is_alive(), "the rebuild was over too soon to say anything"
        manager.set_ef_search(777)
        rebuild.join()
        assert manager.stats().index.config == HNSWConfig(m=8, ef_search=777)

    def metrics(self) -> str:
        return httpx.get(f"{self.url}/metrics").text


class TestHTTPKeyOfANamespace(Served, Scoped, EntriesContract):
    """What a key shows begins at its namespace; what others have, even with the same ids, is not seen nor changed."""

    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:  # noqa: ARG002 (it has no files)
        store = LocalBackend(space)
        self.opened.append(store)
        if store.count(Filter()) == 0:
            store.add(neighbours())
        _, secret = add_key(store, "alice", namespace=SCOPE, access="write")
        return self.client(store, secret)
