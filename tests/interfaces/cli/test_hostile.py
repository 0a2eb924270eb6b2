"""Stored text cannot drive the terminal, and nothing in it is taken as markup."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Invoke = Callable[..., Result]
    Run = Callable[..., subprocess.CompletedProcess[str]]

MARKUP = "[red]x[/red] [/] [link=file:///] :smile: \\[b] 1.5"
CONTROL = "\x1b[31mred \x1b]0;title\x07 \r\x08\x9b2J\x7f \N{RIGHT-TO-LEFT OVERRIDE}abc"


def drives(text: str) -> list[str]:
    """Return the characters of an output that a terminal would obey."""
    return [one for one in text if (unicodedata.category(one) == "Cc" and one not in "\n\t") or one in "\u202e\u2066"]


@pytest.fixture
def hostile(invoke: Invoke) -> Invoke:
    for number, text in enumerate((MARKUP, CONTROL)):
        fields = ("--session", f"s{number}{text}", "--role", text, "--id", f"{number}{text}", "--namespace", text)
        metadata = ("--metadata", json.dumps({text: text}))
        assert invoke("add", text, *fields, *metadata, new=True).exit_code == 0
    return invoke


@pytest.mark.parametrize(
    "command",
    [
        ("search", "x"),
        ("search", "x", "--json"),
        ("search", "x", "--around", "2", "--parts"),
        ("context", "x"),
        ("recent",),
        ("sessions",),
        ("sessions", "--json"),
        ("show", f"1{CONTROL}"),
        ("show", f"1{CONTROL}", "--json"),
        ("show", f"s1{CONTROL}"),
        ("show", f"s1{CONTROL}", "--json"),
        ("show", CONTROL),
        ("export",),
        ("stats",),
        ("search", "x", "--since", CONTROL),
    ],
)
def test_control_characters_reach_no_terminal(hostile: Invoke, command: tuple[str, ...]) -> None:
    """Whatever is printed holds no control character but line feeds; errors neither, but the parser's about options."""
    result = hostile(*command)
    assert drives(result.stdout) == []
    if result.exit_code == 1:
        assert drives(result.stderr) == []


def test_markup_is_printed_as_it_is(hostile: Invoke) -> None:
    """What looks like the markup of the library that prints is shown literally."""
    assert MARKUP in hostile("show", f"0{MARKUP}").stdout
    assert MARKUP in hostile("show", f"s0{MARKUP}").stdout
    assert "[red]x[/red]" in hostile("search", "x").stdout


@pytest.mark.parametrize("text", [MARKUP, CONTROL])
def test_json_is_exact(hostile: Invoke, text: str) -> None:
    """JSON holds every character as it was stored, escaped."""
    number = int(text == CONTROL)
    entry = json.loads(hostile("show", f"{number}{text}", "--json").stdout)["entry"]
    assert (entry["content"], entry["role"], entry["namespace"], entry["metadata"]) == (
        text,
        text,
        [text],
        {text: text},
    )


def test_a_long_content_is_shortened(invoke: Invoke) -> None:
    """A megabyte in an entry is a few lines in a table."""
    invoke("add", "-", "--session", "s", "--role", "u", stdin="word " * 200_000, new=True)
    assert len(invoke("search", "word").stdout) < 3_000


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437"])
def test_a_terminal_without_the_letters_ends_no_command(run: Run, tmp_path: Path, encoding: str) -> None:
    """What cannot be shown is shown as a question mark; JSON and exports are UTF-8 whatever the terminal has."""
    text, store = "記憶 naïve проба ☂", ("--db", tmp_path / "memory.db")
    new = ("--provider", "hashing", "--dimensions", "64")
    added = run(*store, *new, "add", text, "--session", "s", "--role", "user", PYTHONIOENCODING=encoding)
    assert (added.returncode, added.stderr) == (0, "")
    for command in (("search", "naïve"), ("recent",), ("sessions",), ("stats",), ("show", "s"), ("--help",)):
        shown = run(*store, *command, encoding=encoding, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
        assert (shown.returncode, shown.stderr) == (0, ""), command
    exported = run(*store, "export", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert json.loads(exported.stdout.splitlines()[-1])["content"] == text
