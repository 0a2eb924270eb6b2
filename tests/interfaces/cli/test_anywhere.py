"""The options of the store stand before the command or behind it, and say the same."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING

import pytest

from llmspell_memory.cli.app import app, main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    Run = Callable[..., CompletedProcess[str]]

STORE = {"db", "provider", "model", "base_url", "dimensions", "language"}


def test_every_command_takes_every_option_of_the_store() -> None:
    """The options of the first level, but those that are about the process, are options of each command."""
    assert set(inspect.signature(main).parameters) - {"ctx", "verbose", "version"} == STORE
    for command in app.registered_commands:
        assert command.callback is not None
        assert set(inspect.signature(command.callback).parameters) >= STORE, command.name


def test_options_behind_make_and_read_the_same_store(run: Run, tmp_path: Path) -> None:
    """A store made by options behind the command is that which the same options before it make."""
    kept = {}
    for name, before, behind in (
        ("before.db", ["--db", "before.db", "--provider", "hashing", "--dimensions", "64", "--language", "none"], []),
        ("behind.db", [], ["--db", "behind.db", "--provider", "hashing", "--dimensions", "64", "--language", "none"]),
    ):
        made = run(*before, "add", "The lease ends.", "--session", "s", "--role", "user", *behind)
        assert made.returncode == 0, made.stderr
        shown = json.loads(run("stats", "--json", "--db", name).stdout)
        kept[name] = {key: shown[key] for key in ("entries", "space", "rows")}
    assert kept["before.db"] == kept["behind.db"]
    assert (tmp_path / "empty" / "behind.db").exists()


def test_the_one_behind_counts(run: Run) -> None:
    """What is said last is meant, also beside the environment; a store that is named is never made by reading it."""
    for name, text in (("one.db", "The first."), ("two.db", "The second.")):
        assert run("--db", name, "--provider", "hashing", "add", text, "--session", "s", "--role", "r").returncode == 0
    assert "The second." in run("--db", "one.db", "recent", "--db", "two.db", LLMSPELL_MEMORY_DB="one.db").stdout
    assert "The first." in run("recent", LLMSPELL_MEMORY_DB="one.db").stdout
    missing = run("recent", "--db", "three.db", LLMSPELL_MEMORY_DB="one.db")
    assert missing.returncode == 1
    assert "there is no store at three.db" in missing.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--provider", "nobody"], "--provider"),
        (["--dimensions", "0"], "--dimensions"),
        (["--db", "redis://host/store"], "redis"),
        (["--provider", "openai"], "--provider asks for others"),
    ],
)
def test_what_is_wrong_behind_is_told_as_before(run: Run, options: list[str], said: str) -> None:
    """A wrong value is refused in words that name the option, wherever it stands."""
    assert run("--provider", "hashing", "add", "A text.", "--session", "s", "--role", "r").returncode == 0
    behind = run("search", "text", *options)
    before = run(*options, "search", "text")
    assert behind.returncode == before.returncode != 0
    assert said in behind.stderr
    assert said in before.stderr
