"""The list of all that is public, in one text: what a release may not take back.

    python tools/public_api.py [--write]

It has the Python names of `docs/reference.md` with their signatures, the commands and options of the command line, the
operations of the HTTP API and the tools of the MCP server. The Python names are read from the sources and not from
objects, so that neither Python's version nor that of a framework that an adapter derives from changes the list. Without
`--write` it prints the difference to `tests/golden/public_api.txt`, and ends with 1 where there is one.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import griffe

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
FILE: Final = ROOT / "tests" / "golden" / "public_api.txt"
HEADING: Final = """\
# What is public, and so changes only as docs/versions.md says. Made by `make api` from the code and docs/reference.md.
"""


def listing() -> str:
    """Return the list as the code has it now."""
    parts = {
        "Python": python_names(),
        "Command line": command_line(),
        "HTTP API": http_operations(),
        "MCP tools": mcp_tools(),
    }
    sections = (f"\n## {title}\n\n" + "".join(f"{line}\n" for line in lines) for title, lines in parts.items())
    return HEADING + "".join(sections)


def difference() -> str:
    """Return what the code has otherwise than the file, as a unified diff; nothing where they agree."""
    before = FILE.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(difflib.unified_diff(before, listing().splitlines(keepends=True), "public_api.txt", "the code"))


def python_names() -> Iterator[str]:
    """Yield a line for each name of the reference, and for each public member of a class."""
    package = griffe.load("llmspell_memory", search_paths=[ROOT / "src"], resolve_aliases=True)
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    for name in sorted(re.findall(r"^::: llmspell_memory\.([\w.]+)$", reference, re.MULTILINE)):
        found = package[name]
        yield from _lines(f"llmspell_memory.{name}", _target(found))


def command_line() -> Iterator[str]:
    """Yield a line for each command, with its arguments and options; what every command takes stands in the first."""
    import typer.main  # noqa: PLC0415 (it takes long, and the other lists need none)

    from llmspell_memory.cli.app import app  # noqa: PLC0415 (as above)

    whole = typer.main.get_command(app)
    commands = {"": whole, **getattr(whole, "commands", {})}
    for name, command in sorted(commands.items()):
        words = [
            " / ".join((*one.opts, *one.secondary_opts)) for one in command.params if not getattr(one, "hidden", False)
        ]
        yield " ".join(("llmspell-memory", name, *(f"[{one}]" for one in words))).replace("  ", " ")


def http_operations() -> Iterator[str]:
    """Yield a line for each operation, with the parameters of its query; what the page alone asks is no promise."""
    from llmspell_memory.server.operations import VERBS, WORDS  # noqa: PLC0415 (as above)

    for one in sorted((*WORDS, *VERBS), key=lambda one: (one.path, one.method)):
        yield f"{one.method} {one.path} {one.name}({', '.join(one.parameters)})"


def mcp_tools() -> Iterator[str]:
    """Yield a line for each tool, with its arguments; those that may be left out end with a question mark."""
    from llmspell_memory.mcp.tools import TOOLS  # noqa: PLC0415 (as above)

    for name, tool in sorted(TOOLS.items()):
        given = (f"{key}{'' if field.is_required() else '?'}" for key, field in tool.arguments.model_fields.items())
        yield f"{name}({', '.join(given)})"


def _lines(name: str, found: griffe.Object | griffe.Alias) -> Iterator[str]:
    """Yield what is public of one name. A contract's tests are promises of backends, and no names to call."""
    if isinstance(found, griffe.Function):
        yield f"{name}{_signature(found)}"
    elif isinstance(found, griffe.Class):
        yield f"{name}: class({', '.join(str(base) for base in found.bases)})"
        for member, one in sorted(found.all_members.items()):
            target = _target(one)
            if member == "__init__" and isinstance(target, griffe.Function):
                yield f"{name}{_signature(target, returns=False)}"
            elif not member.startswith(("_", "test_")):
                yield from _member(f"{name}.{member}", target)
    else:
        yield f"{name}: {found.kind.value}"


def _target(found: griffe.Object | griffe.Alias) -> griffe.Object | griffe.Alias:
    """Return what an imported or inherited name means."""
    return found.final_target if isinstance(found, griffe.Alias) else found


def _member(name: str, found: griffe.Object | griffe.Alias) -> Iterator[str]:
    """Yield the line of a class's member."""
    if isinstance(found, griffe.Function):
        labels = [one for one in ("classmethod", "staticmethod") if one in found.labels]
        yield f"{name}{_signature(found)}{''.join(f' [{one}]' for one in labels)}"
    elif isinstance(found, griffe.Attribute):
        value = f" = {found.value}" if found.annotation is None and found.value is not None else ""
        annotation = f": {found.annotation}" if found.annotation is not None else ""
        yield f"{name}{annotation}{value}{' [property]' if 'property' in found.labels else ''}"


def _signature(found: griffe.Function, *, returns: bool = True) -> str:
    """Return the parameters without `self`, and what comes back."""
    whole = griffe.Function("", parameters=griffe.Parameters(*_without_self(found)))
    text = whole.signature() or "()"
    return f"{text} -> {found.returns}" if returns and found.returns is not None else text


def _without_self(found: griffe.Function) -> Iterator[griffe.Parameter]:
    bound = found.parent is not None and found.parent.is_class and "staticmethod" not in found.labels
    for place, one in enumerate(found.parameters):
        if not (place == 0 and bound and one.name in ("self", "cls")):
            yield one


def main(arguments: list[str] | None = None) -> int:
    """Write the list, or say how it differs."""
    parser = argparse.ArgumentParser(description="List all that is public.")
    parser.add_argument("--write", action="store_true", help="write the file instead of comparing it")
    if parser.parse_args(arguments).write:
        FILE.write_text(listing(), encoding="utf-8")
        return 0
    changed = difference()
    sys.stdout.write(changed)
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
