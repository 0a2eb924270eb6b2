"""The page of commands against what the program prints when it is asked for help."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from llmspell_memory.cli.app import app
from tests.interfaces.site.conftest import ROOT, Section, page_of, squeezed

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = [command.name for command in app.registered_commands if command.name]
NOTE = re.compile(r"\[((?:default|env var|required|x[<>=]|[\d.]+<=?x)[^\[\]]*)\]$")


def help_of(*command: str) -> str:
    asked = CliRunner().invoke(app, [*command, "--help"], prog_name="llmspell-memory", env={"COLUMNS": "200"})
    assert asked.exit_code == 0
    return asked.stdout


def records(told: str) -> list[tuple[str, str]]:
    """Return name and explanation of each argument and option that a help text lists, but for --help."""
    found: list[list[str]] = []
    for line in re.split(r"\n(?:Arguments|Options):\n", told.partition("\nCommands:")[0], maxsplit=1)[1].splitlines():
        if re.match(r"  \S", line):
            found.append(re.split(r"  +", line.strip(), maxsplit=1))
        elif line.startswith("   "):
            found[-1].append(line.strip())
    return [(name, " ".join(rest)) for name, *rest in found if "--help" not in name]


@pytest.fixture(scope="module")
def sections(site: Path) -> dict[str, Section]:
    return page_of(site, "commands.html").sections


def test_every_command_has_its_section(sections: dict[str, Section]) -> None:
    """The program's commands and the page's sections are the same, in the same order."""
    commands = re.findall(r"^  ([a-z]+)  +\S", help_of().partition("\nCommands:")[2], re.MULTILINE)
    assert commands == COMMANDS
    assert len(commands) > 20
    assert [*sections] == ["options", *commands, "environment"]


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids=" ".join)
def test_a_command_is_told_as_it_tells_itself(sections: dict[str, Section], command: tuple[str, ...]) -> None:
    """Each argument and option with what is said of it, and no others; the help text itself, and how it is called."""
    section, told = sections[command[0] if command else "options"], help_of(*command)
    asked = records(told)
    assert asked, "every command has an option"
    assert len(section.terms) == len(asked)
    for (name, explained), term, meaning in zip(asked, section.terms, section.meanings, strict=True):
        note = NOTE.search(explained)
        bare = squeezed(name.partition(" <")[0] if not name.startswith("-") else name)
        assert squeezed(term).removesuffix("required") == bare
        assert squeezed(NOTE.sub("", explained)) in squeezed(meaning), name
        for one in note[1].split("; ") if note else ():
            value = squeezed(one.partition(": ")[2] or one)
            assert value in squeezed(term if one == "required" else meaning), name
        assert term.endswith("required") == bool(note and "required" in note[1]), name
    before = re.split(r"\n(?:Arguments|Options):\n", told, maxsplit=1)[0]
    usage, _, text = before.removeprefix("Usage: ").partition("\n\n")
    assert squeezed(usage) in squeezed(section.text)
    assert len(text.split()) > 8
    assert squeezed(text) in squeezed(section.text)


def test_every_variable_that_the_command_line_reads_is_named(sections: dict[str, Section]) -> None:
    """Names of environment variables in the code of the command line, those of the drivers' own apart, are listed."""
    code = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "src" / "llmspell_memory" / "cli").rglob("*.py")
    )
    named = set(re.findall(r'(?<!metavar=)"([A-Z]+(?:_[A-Z]+)+)"', code))
    assert {"LLMSPELL_MEMORY_DB", "LLMSPELL_MEMORY_MCP_TOKEN", "MILVUS_TOKEN", "OPENAI_API_KEY"} <= named
    assert named | {"PGPASSWORD"} == set(sections["environment"].terms)
