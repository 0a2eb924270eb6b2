"""`doctor`: what this machine has for the library, how the store is, and how quick both are."""

from pathlib import Path
from typing import Any

import typer

from llmspell_memory.cli import options
from llmspell_memory.cli.checkup import Speed, environment, extras, speeds
from llmspell_memory.cli.opening import open_to_read
from llmspell_memory.cli.render import console, entry_count, facts, one_line, print_json, table
from llmspell_memory.cli.settings import Settings
from llmspell_memory.errors import StorageError
from llmspell_memory.types.text import bytes_told


def doctor(ctx: typer.Context, *, as_json: options.AsJson = False) -> None:
    """Look at this machine, at what is installed and at the store, and measure for some seconds how quick it all is.

    Exit code 1 when there is a store that cannot be opened; `check` looks through all of it. --json prints
    {"environment": {…}, "extras": {"local": {"wordllama": "0.4.0" or null, …}, …}, "store": {…}, "speed": [{"what": …,
    "microseconds": …, "detail": …}, …]}.
    """
    settings = options.settings_of(ctx)
    store = _store(settings)
    found, packages, measured = environment(), extras(), _speeds(settings)
    if as_json:
        speed = [one._asdict() for one in measured]
        print_json({"environment": found, "extras": packages, "store": store, "speed": speed})
    else:
        _tell(found, packages, store, measured)
    if "error" in store:
        raise typer.Exit(1)


def _store(settings: Settings) -> dict[str, Any]:
    """Return what is to be said of the store, which need not be there."""
    place = {"db": str(settings.db)}
    try:
        if not settings.db.exists():
            return {**place, "exists": False}
        with open_to_read(settings) as memory:
            stats = memory.stats()
    except StorageError as error:
        return {**place, "exists": True, "error": str(error)}
    told = {"entries": stats.entries, "sessions": stats.sessions, "space": str(stats.space), "bytes": stats.disk_bytes}
    return {**place, "exists": True, **told, "unfinished": stats.unfinished}


def _speeds(settings: Settings) -> list[Speed]:
    """Measure; writes are measured on the disk that the store is on, or would be."""
    folder = Path.cwd() if settings.db.path is None else settings.db.path.absolute().parent
    try:
        return speeds(folder)
    except OSError as error:
        raise StorageError(f"nothing can be written in {folder}: {error}") from error


def _tell(
    found: dict[str, str], packages: dict[str, dict[str, str | None]], store: dict[str, Any], measured: list[Speed]
) -> None:
    out = console()
    out.print(facts(found.items()))
    there = table("extra", "installed", "missing")
    for name, versions in packages.items():
        has = ", ".join(f"{package} {version}" for package, version in versions.items() if version)
        lacks = [package for package, version in versions.items() if not version]
        cure = f'{", ".join(lacks)}: pip install "llmspell-memory[{name}]"' if lacks else ""
        there.add_row(name, has, cure)
    out.print(there)
    out.print(facts([("store", one_line(_words(store)))]))
    speed = table("measured here", "median µs", "", right=["median µs"])
    for one in measured:
        speed.add_row(one.what, f"{one.microseconds:,.1f}", one_line(one.detail))
    out.print(speed)


def _words(store: dict[str, Any]) -> str:
    if not store["exists"]:
        return f"there is none at {store['db']} yet"
    if "error" in store:
        return f"{store['db']} cannot be opened: {store['error']}"
    unfinished = f"; its {store['unfinished']} is unfinished" if store["unfinished"] else ""
    size = bytes_told(store["bytes"])
    return f"{store['db']}: {entry_count(store['entries'])}, {size}, vectors of {store['space']}{unfinished}"
