"""`sessions`: what conversations there are."""

import typer

from llmspell_memory.cli import options
from llmspell_memory.cli.opening import open_to_read
from llmspell_memory.cli.render import console, print_json, session_object, sessions_table
from llmspell_memory.types import Filter


@options.with_conditions(but="session")
def sessions(
    ctx: typer.Context,
    *,
    where: Filter,
    as_json: options.AsJson = False,
) -> None:
    """List sessions, latest activity first, with how many of their entries meet the conditions.

    --json prints {"sessions": [{"session_id": …, "entries": …, "unprocessed": …, "first": …, "last": …}, …]}.
    """
    settings = options.settings_of(ctx)
    with open_to_read(settings) as memory:
        lines = memory.episodic.sessions(where)
    if as_json:
        print_json({"sessions": [session_object(line) for line in lines]})
    elif lines:
        console().print(sessions_table(lines))
    else:
        typer.echo("no session has an entry that meets the conditions")
