"""The command line, `llmspell-memory`: a thin face over the library.

Its packages, typer and rich, are the extra `cli`. Exit codes: 0 done, 1 an error of the library's own kind, told in one
line on stderr, 2 a command that was not understood, 130 interrupted, 141 nobody reads the output any more.
"""

from __future__ import annotations

import io
import sys

from llmspell_memory.errors import MissingDependencyError


def main() -> None:
    """Run the command that the arguments of this process ask for, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without the letter must not end the command
    try:
        from llmspell_memory.cli.app import app  # noqa: PLC0415 (its packages are optional)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in {"typer", "rich"}:
            raise
        sys.stderr.write(f"llmspell-memory: {MissingDependencyError(package, extra='cli')}\n")
        raise SystemExit(1) from error
    app(prog_name="llmspell-memory")
