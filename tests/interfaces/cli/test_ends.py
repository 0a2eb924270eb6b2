"""How commands end: exit codes, one line about an error, and what happens without optional packages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

    Invoke = Callable[..., Result]
    Run = Callable[..., subprocess.CompletedProcess[str]]

PROGRAM = Path(sys.executable).with_name("llmspell-memory")
READING = [("sessions",), ("show", "x"), ("stats",), ("export",), ("delete", "--all", "--yes"), ("search", "x")]
READING += [("tune", "--target-recall", "0.9"), ("advise",)]


@pytest.mark.parametrize("command", READING)
def test_reading_makes_no_store(run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    """A command that only reads fails on a missing store, says its path and the way out, and makes no file."""
    db = tmp_path / "absent.db"
    result = run("--db", db, *command)
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert f"there is no store at {db}" in result.stderr
    assert "llmspell-memory import" in result.stderr
    assert not list(tmp_path.glob("absent.db*"))


def test_the_environment_names_the_store(run: Run, tmp_path: Path) -> None:
    """LLMSPELL_MEMORY_DB stands for --db; without either it is memory.db in the current folder."""
    named = tmp_path / "named.db"
    run("--provider", "hashing", "add", "x", "--session", "s", "--role", "u", LLMSPELL_MEMORY_DB=str(named))
    assert named.exists()
    run("--provider", "hashing", "add", "x", "--session", "s", "--role", "u", folder=tmp_path)
    assert (tmp_path / "memory.db").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("search",),
        ("add", "x"),
        ("search", "x", "-k", "-1"),
        ("search", "x", "--since", "yesterday"),
        ("search", "x", "--metadata", "nothing"),
        ("search", "x", "--index", "flat"),
        ("--provider", "nobody", "stats"),
        ("import",),
        ("import", "x", "--format", "csv"),
        ("export", "-", "--json"),
        ("add", "x", "--session", "s", "--role", "u", "--metadata", "{"),
    ],
)
def test_a_command_not_understood(run: Run, arguments: tuple[str, ...]) -> None:
    """Wrong usage ends with 2 and an explanation on stderr."""
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Usage: llmspell-memory" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "", "--session", "s", "--role", "u"), "content must not be empty"),
        (("add", "x", "--session", "s", "--role", "u", "--metadata", "[]"), "metadata must be a mapping"),
        (
            ("--provider", "local", "--model", "x", "add", "x", "--session", "s", "--role", "u"),
            "--model has no meaning",
        ),
        (("--provider", "openai", "add", "x", "--session", "s", "--role", "u"), "OPENAI_API_KEY is not set"),
        (("--db", "/absent/folder/x.db", "add", "x", "--session", "s", "--role", "u"), "cannot be opened"),
        (("import", "absent.jsonl"), "absent.jsonl cannot be read"),
    ],
)
def test_an_error_is_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    """An error of the library ends with 1 and one line on stderr, without a traceback."""
    result = run(*arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("llmspell-memory: ")
    assert message in line


@pytest.mark.parametrize("content", [b"no database at all", b"SQLite format 3\0" + bytes(4096)])
def test_a_file_that_is_no_store(run: Run, tmp_path: Path, content: bytes) -> None:
    """A file of something else is refused in one line, and left as it is."""
    path = tmp_path / "other"
    path.write_bytes(content)
    result = run("--db", path, "stats")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert path.read_bytes() == content


def test_a_reader_that_goes_away(filled: Invoke, db: Path) -> None:
    """`| head` ends the command quietly, with the code that shells give to it."""
    for n in range(3):
        filled("add", "many words " * 20_000, "--session", "long", "--role", "u", "--id", str(n))
    for command in (["export"], ["show", "long"], ["show", "long", "--json"], ["sessions"]):
        with subprocess.Popen(
            [PROGRAM, "--db", db, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == ""
            assert process.wait(60) == 141


def test_an_interrupt(run: Run, db: Path, tmp_path: Path) -> None:
    """Ctrl-C ends with 130 and one line; the store can be used as before."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    with subprocess.Popen(
        [PROGRAM, "--db", db, "--provider", "hashing", "import", pipe], stderr=subprocess.PIPE, text=True
    ) as process:
        signal.signal(signal.SIGINT, ours)
        with pipe.open("w", encoding="utf-8") as file:  # opens when the command has opened its end
            file.write('{"session_id": "s", "role": "u", "content": "x"}\n')
            file.flush()
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            lines = process.stderr.read().splitlines()
        assert process.wait(60) == 130
    assert len(lines) == 1
    assert lines[0].startswith("llmspell-memory: interrupted")
    assert run("--db", db, "--provider", "hashing", "add", "x", "--session", "s", "--role", "u").returncode == 0
    assert json.loads(run("--db", db, "stats", "--json").stdout)["entries"] == 1


def test_watching_ends_when_interrupted(run: Run, tmp_path: Path) -> None:
    """`stats --watch` shows what others write, one JSON object a line, and ends quietly by the interruption."""
    db = tmp_path / "m.db"
    add = ("--db", db, "--provider", "hashing", "add", "x", "--session", "s", "--role", "u")
    assert run(*add).returncode == 0
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    with subprocess.Popen(
        [PROGRAM, "--db", db, "stats", "--watch", "--every", "0.1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as watching:
        signal.signal(signal.SIGINT, ours)
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert json.loads(watching.stdout.readline())["entries"] == 1
        assert run(*add).returncode == 0
        seen = next(one for line in watching.stdout if (one := json.loads(line))["entries"] == 2)
        assert seen["seq"] == 2
        watching.send_signal(signal.SIGINT)
        watching.stdout.read()
        assert watching.stderr.read() == ""
        assert watching.wait(30) == 0


def without(package: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a Python where a package is not installed."""
    code = f"import sys; sys.modules[{package!r}] = None; from llmspell_memory.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_extra(package: str) -> None:
    """Without typer or rich the command says which pip line installs them."""
    result = without(package, "stats")
    assert result.returncode == 1
    assert result.stderr == (f'llmspell-memory: {package} is not installed; run: pip install "llmspell-memory[cli]"\n')


def test_as_a_module() -> None:
    """`python -m llmspell_memory.cli` is the same command."""
    result = subprocess.run(
        [sys.executable, "-m", "llmspell_memory.cli", "--help"], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("Usage: llmspell-memory")


def test_without_the_provider(tmp_path: Path) -> None:
    """Commands that embed nothing work without the provider's package; the others say how to install it."""
    db, other, file = tmp_path / "m.db", tmp_path / "other.db", tmp_path / "export.jsonl"
    add = ("add", "hello", "--session", "s", "--role", "u", "--id", "e")
    assert subprocess.run([PROGRAM, "--db", db, *add], capture_output=True, check=True).stdout == b"e\n"
    for command in (("sessions",), ("show", "e"), ("show", "s"), ("stats",), ("export", file)):
        result = without("wordllama", "--db", db, *command)
        assert (result.returncode, result.stderr) == (0, "")
    moved = without("wordllama", "--db", other, "import", file, "--json")
    assert json.loads(moved.stdout)["files"][0]["with_vectors"] == 1
    for refused in (("search", "x"), add, ("import", file, "--reembed")):
        result = without("wordllama", "--db", db, *refused)
        assert result.returncode == 1
        assert 'pip install "llmspell-memory[local]"' in result.stderr
    assert without("wordllama", "--db", db, "delete", "--all", "--yes").stdout == "deleted 1 entry\n"


def test_verbose_logs_to_stderr(run: Run, tmp_path: Path) -> None:
    """--verbose writes the log to stderr, and nothing more to stdout."""
    options = ("--db", tmp_path / "m.db", "--provider", "hashing", "--verbose")
    run(*options, "add", "x", "--session", "s", "--role", "u")
    result = run(*options, "stats", "--index", "hnsw", "--json")
    assert "Rebuilt the vector index" in result.stderr
    assert json.loads(result.stdout)["entries"] == 1
