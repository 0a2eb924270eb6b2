"""The command line on a store in Milvus: commands, a memory moved there and back, and how errors end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pymilvus import MilvusClient
from typer.testing import CliRunner

from llmspell_memory import Filter
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.cli.app import app
from llmspell_memory.embeddings import EmbeddingService, HashingProvider
from tests.milvus.server import shared
from tests.stores import NAMESPACES, equal, made

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result

NEW = ("--provider", "hashing", "--dimensions", "64")
SPACE = EmbeddingService(HashingProvider(64)).space
SAID = "Tr0ub4dor"


def call(*arguments: str | Path) -> Result:
    """Run a command in this process, and see that it does not say the token."""
    result = CliRunner().invoke(app, [*map(str, arguments)], prog_name="llmspell-memory")
    assert SAID not in result.output + repr(result.exception)
    return result


def document(*arguments: str | Path) -> Any:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the URL of a store that is not there."""
    monkeypatch.setenv("MILVUS_TOKEN", f"root:{SAID}")
    yield f"milvus+{shared().uri}#of_commands"
    client = MilvusClient(uri=shared().uri)
    for name in client.list_collections():
        if name.startswith("of_commands_"):
            client.drop_collection(name)
    client.close()


def test_commands_on_a_store(url: str) -> None:
    """What is added is found, shown, counted and deleted; a store that is not there is not made by looking."""
    assert "there is no store at" in call("--db", url, "stats").stderr
    assert MilvusClient(uri=shared().uri).has_collection("of_commands_meta") is False
    for number, text in enumerate(("the kettle is red", "the lease ends in May")):
        add = ("add", text, "--session", "s", "--role", "user", "--id", f"e{number}")
        assert call("--db", url, *NEW, *add).stdout == f"e{number}\n"
    hits = document("--db", url, "search", "kettle", "-k", "1", "--index", "hnsw")["hits"]
    assert hits[0]["entry"]["id"] == "e0"
    assert "the lease" in call("--db", url, "show", "e1").stdout
    told = document("--db", url, "stats", "--probe", "2")
    assert (told["db"], told["rows"], told["entries"], told["probe"]["index"]["m"]) == (url, "milvus", 2, 16)
    assert "the server's: hnsw, m 16" in call("--db", url, "stats").stdout
    assert call("--db", url, "delete", "--id", "e0", "--yes").stdout == "deleted 1 entry\n"
    refused = call("--db", url, "backup", "copy.db")
    assert refused.exit_code == 1
    assert "milvus-backup" in refused.stderr


def test_a_file_moves_to_milvus_and_back(url: str, tmp_path: Path) -> None:
    """Both moves are verified, and the last store has every field of the first."""
    first, last = tmp_path / "first.db", tmp_path / "last.db"
    one = SQLiteBackend(first, SPACE, warm=False)
    one.add([made(n, 64, namespace=NAMESPACES[n % 4]) for n in range(50)])
    one.mark_processed(Filter(session_id="session-1"))
    there = document("migrate", first, url, "--view", "hnsw")
    assert (there["verified"], there["entries"], there["target"]) == (True, 50, url)
    back = document("migrate", url, last)
    assert (back["verified"], back["entries"], back["source"]) == (True, 50, url)
    two = SQLiteBackend(last, warm=False)
    assert equal(one, two)
    one.close()
    two.close()


def test_a_server_that_is_not_there() -> None:
    """One line says that it cannot be reached."""
    result = call("--db", "milvus+http://127.0.0.1:1", "stats")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "the server cannot be reached" in line
