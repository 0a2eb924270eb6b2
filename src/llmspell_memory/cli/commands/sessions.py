"""`sessions`: what conversations there are."""

import typer

from llmspell_memory.cli import options
from llmspell_memory.cli.opening import open_to_read
from llmspell_memory.cli.render import console, print_json, session_object, sessions_table


def sessions(
    ctx: typer.Context,
    *,
    role: options.Role = None,
    since: options.Since = None,
    until: options.Until = None,
    processed: options.Processed = None,
    metadata: options.Metadata = None,
    namespace: options.Namespace = None,
    as_json: options.AsJson = False,
) -> None:
    """List sessions, latest activity first, with how many of their entries meet the conditions.

    --json prints {"sessions": [{"session_id": …, "entries": …, "unprocessed": …, "first": …, "last": …}, …]}.
    """
    settings = options.settings_of(ctx)
    where = options.filter_of(
        role=role, since=since, until=until, processed=processed, metadata=metadata, namespace=namespace
    )
    with open_to_read(settings) as memory:
        lines = memory.episodic.sessions(where)
    if as_json:
        print_json({"sessions": [session_object(line) for line in lines]})
    elif lines:
        console().print(sessions_table(lines))
    else:
        typer.echo("no session has an entry that meets the conditions")
