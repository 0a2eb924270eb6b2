"""The command line, run as users run it: the installed script in a process of its own, or in this one where quicker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llmspell_memory.cli.app import app

Invoke = Callable[..., Result]
Run = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[3]
KEPT = ("PATH", "HOME", "SYSTEMROOT", "TEMP", "USERPROFILE")
"""Variables without which no program runs; the last three are Windows's."""

PROGRAM = Path(sys.executable).with_name("llmspell-memory")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


@pytest.fixture
def invoke(db: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a command on `db` in this process; a new store is made with the hashing provider."""
    for name in ("LLMSPELL_MEMORY_DB", "OPENAI_API_KEY", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str | Path, stdin: str | bytes | None = None, new: bool = False) -> Result:
        options = ["--db", str(db), *(["--provider", "hashing", "--dimensions", "64"] if new else [])]
        return CliRunner().invoke(app, [*options, *map(str, arguments)], input=stdin, prog_name="llmspell-memory")

    return call


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the installed script with exactly these arguments, in an empty folder unless another is given."""
    empty = tmp_path / "empty"
    empty.mkdir()

    def call(
        *arguments: str | Path,
        stdin: str | None = None,
        folder: Path = empty,
        encoding: str = "utf-8",
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        return subprocess.run(
            [PROGRAM, *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            cwd=folder,
            env=kept | environment,
            capture_output=True,
            encoding=encoding,
            timeout=120,
            check=False,
        )

    return call


@pytest.fixture
def filled(invoke: Invoke) -> Invoke:
    """The same as `invoke`, on a store of three sessions."""
    for session, role, entry_id, when, metadata, text in (
        ("dogs", "user", "d1", "2025-01-05T10:00", '{"topic": "dog", "n": 1}', "My dog is called Ada."),
        ("dogs", "assistant", "d2", "2025-01-05T10:01", "{}", "A good name for a dog."),
        ("bread", "user", "b1", "2025-02-05T10:00", '{"topic": "bread"}', "The sourdough needs another hour."),
    ):
        fields = ["--session", session, "--role", role, "--id", entry_id, "--timestamp", when, "--metadata", metadata]
        assert invoke("add", text, *fields, new=True).exit_code == 0
    acme = ["--namespace", "acme", "--namespace", "alice"]
    assert invoke("add", "The lease ends in September.", "--session", "lease", "--role", "user", "--id", "d1", *acme)
    return invoke
