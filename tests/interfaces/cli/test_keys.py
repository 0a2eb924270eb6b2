"""`keys` and `serve` on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.operations.keys import Keys, read_keys

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interfaces.cli.conftest import Invoke


def test_keys_are_made_listed_and_revoked(invoke: Invoke, db: Path) -> None:
    """What is printed opens what was asked for; the list shows no secret."""
    made = invoke("keys", "add", "ops", "--access", "write", "--namespace", "acme", "--namespace", "a\x1bb", new=True)
    assert made.exit_code == 0
    secret = made.stdout.strip()
    told = json.loads(invoke("keys", "add", "reader", "--json").stdout)
    backend = SQLiteBackend(db)
    there = Keys(read_keys(backend))
    backend.close()
    key, reader = there.find(secret), there.find(told["key"])
    assert key is not None
    assert reader is not None
    assert (key.access, key.namespace, reader.access, reader.namespace) == ("write", ("acme", "a\x1bb"), "read", ())
    listed = invoke("keys", "list").stdout
    assert [line.split()[:2] for line in listed.splitlines()] == [[key.id, "write"], [reader.id, "read"]]
    assert "\x1b" not in listed
    assert secret not in listed
    assert [one["name"] for one in json.loads(invoke("keys", "list", "--json").stdout)] == ["ops", "reader"]
    assert "digest" not in invoke("keys", "list", "--json").stdout
    assert invoke("keys", "revoke", "ops").stdout == "revoked ops\n"
    assert json.loads(invoke("keys", "revoke", reader.id, "--json").stdout)["name"] == "reader"
    assert invoke("keys", "list").stdout == ""


def test_mistakes_are_told(invoke: Invoke) -> None:
    assert invoke("keys", "add", "one", new=True).exit_code == 0
    for arguments, code in (
        (["keys", "add"], 1),
        (["keys", "add", "one"], 1),
        (["keys", "revoke", "two"], 1),
        (["keys", "list", "one"], 2),
        (["keys", "lose", "one"], 2),
        (["keys", "add", "two", "--access", "all"], 2),
        (["serve", "--port", "70000"], 2),
    ):
        assert invoke(*arguments).exit_code == code, arguments


def test_a_missing_package_is_named_with_its_cure() -> None:
    """The server's and the client's; and the command line does without either until it is asked to serve."""
    for module, package, use in (
        ("server", "starlette", "Server"),
        ("server", "uvicorn", "Server"),
        ("client", "httpx", "MemoryClient('http://x')"),
    ):
        code = (
            f"import sys; sys.modules[{package!r}] = None\n"
            "import llmspell_memory.cli.app\n"
            f"import llmspell_memory.{module} as m\n"
            f"try: m.{use}\n"
            "except ImportError as error: print(type(error).__name__, error)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("MissingDependencyError"), done.stdout
        assert f'pip install "llmspell-memory[{module}]"' in done.stdout
