"""Stores whose vectors are made by a server, the real client against a server of the test's own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from llmspell_memory.testing.embedding_server import EmbeddingServer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]

ADD = ("add", "My dog is called Ada.", "--session", "s", "--role", "user")


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as running:
        yield running


@pytest.mark.parametrize("name", ["openai", "ollama"])
def test_a_server_embeds(run: Run, server: EmbeddingServer, db: Path, name: str) -> None:
    """A store made with a server's model records it, and needs only to be told where the server is."""
    url = server.openai_url if name == "openai" else server.url
    options = ("--db", db, "--base-url", url)
    made = ("--provider", name, "--model", "test", "--dimensions", str(server.dimensions))
    added = run(*options, *made, *ADD, OPENAI_API_KEY="a-key")
    assert added.returncode == 0, added.stderr
    result = run(*options, "search", "dog", "--json", OPENAI_API_KEY="a-key")
    assert json.loads(result.stdout)["hits"][0]["entry"]["content"] == "My dog is called Ada."
    assert len(server.requests) == 2
    keys = {request.headers.get("authorization") for request in server.requests}
    assert keys == ({"Bearer a-key"} if name == "openai" else {None})
    assert json.loads(run("--db", db, "stats", "--json").stdout)["space"]["model"] == "test"
    assert len(server.requests) == 2


def test_the_key_is_shown_nowhere(run: Run, server: EmbeddingServer, db: Path) -> None:
    """The key stands neither in an error nor in the log nor in the store."""
    options = ("--db", db, "--verbose", "--provider", "openai", "--model", "test", "--dimensions", "7")
    result = run(*options, "--base-url", server.openai_url, *ADD, OPENAI_API_KEY="secret-key")
    assert result.returncode == 1
    assert "secret-key" not in result.stdout + result.stderr
    assert not db.exists() or b"secret-key" not in db.read_bytes()


def test_a_server_of_ones_own_needs_no_key(run: Run, server: EmbeddingServer, db: Path) -> None:
    """With --base-url the provider openai works without a key."""
    made = ("--provider", "openai", "--model", "test", "--dimensions", str(server.dimensions))
    assert run("--db", db, *made, "--base-url", server.openai_url, *ADD).returncode == 0
