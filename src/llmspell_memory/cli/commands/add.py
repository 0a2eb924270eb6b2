"""`add`: store one entry."""

import json
import sys
from datetime import datetime
from typing import Annotated, Any

import typer

from llmspell_memory.cli.opening import open_to_write
from llmspell_memory.cli.options import AsJson, OwnNamespace, SkipDuplicates, moment, settings_of
from llmspell_memory.cli.render import one_line, print_json
from llmspell_memory.types import EpisodicEntry


def add(
    ctx: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT|-", help="What was said; - reads it from stdin.")] = "-",
    *,
    session: Annotated[str, typer.Option("--session", metavar="ID", help="The conversation it belongs to.")],
    role: Annotated[str, typer.Option("--role", metavar="NAME", help="Who said it, such as user or assistant.")],
    entry_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="An id of your own; one that is there already is replaced.")
    ] = None,
    namespace: OwnNamespace = None,
    timestamp: Annotated[
        datetime | None,
        typer.Option("--timestamp", parser=moment, metavar="TIME", help="When it happened; now unless given."),
    ] = None,
    expires: Annotated[
        datetime | None,
        typer.Option("--expires", parser=moment, metavar="TIME", help="When it becomes invisible; never unless given."),
    ] = None,
    metadata: Annotated[str | None, typer.Option("--metadata", metavar="JSON", help="A JSON object.")] = None,
    skip_duplicates: SkipDuplicates = False,
    as_json: AsJson = False,
) -> None:
    """Store an entry and print its id; the store is made when it does not exist.

    With --skip-duplicates, the id may be that of the entry whose words it repeats. --json prints {"id": …, "db": …}.
    """
    settings = settings_of(ctx)
    given = {"id": entry_id, "timestamp": timestamp, "expires_at": expires, "metadata": _object(metadata)}
    entry = EpisodicEntry(
        session,
        role,
        _from_stdin() if text == "-" else text,
        namespace=tuple(namespace or ()),
        **{name: value for name, value in given.items() if value is not None},
    )
    with open_to_write(settings) as memory:
        stored = memory.episodic.add(entry, on_duplicate="skip" if skip_duplicates else "keep")
    if as_json:
        print_json({"id": stored, "db": str(settings.db)})
    else:
        typer.echo(one_line(stored))


def _object(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"--metadata is not JSON: {error}") from error


def _from_stdin() -> str:
    if sys.stdin.isatty():
        raise typer.BadParameter("give the text as an argument, or pipe it in")
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"what comes from stdin is not UTF-8: {error}") from error
