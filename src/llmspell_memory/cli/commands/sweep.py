"""`sweep`: remove what has expired, and what is too old or too many."""

from datetime import timedelta
from typing import Annotated

import typer
from rich.text import Text

from llmspell_memory.cli import options
from llmspell_memory.cli.opening import open_to_read
from llmspell_memory.cli.render import console, path_of, print_json, table
from llmspell_memory.types import RetentionRule


def sweep(
    ctx: typer.Context,
    *,
    max_age: Annotated[
        float | None,
        typer.Option(
            "--max-age", metavar="DAYS", min=0, max=timedelta.max.days, help="Also what happened longer ago than this."
        ),
    ] = None,
    max_entries: Annotated[
        int | None,
        typer.Option("--max-entries", metavar="N", min=1, help="Also all but the newest N of each namespace."),
    ] = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option("--namespace", metavar="SEGMENT", help="Those limits hold below this namespace; once a segment."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Delete entries that have expired, and those that the limits given do not keep; show what that was.

    Meant to be run by a scheduler. --json prints {"entries": …, "removals": [{"reason": …, "namespace": …, …}, …]}.
    """
    settings = options.settings_of(ctx)
    limits = {"max_age": None if max_age is None else timedelta(days=max_age), "max_entries": max_entries}
    limited = any(limit is not None for limit in limits.values())
    rules = [RetentionRule(namespace=tuple(namespace or ()), **limits)] if limited else []  # type: ignore[arg-type]
    with open_to_read(settings) as memory:
        report = memory.episodic.sweep(*rules)
    if as_json:
        print_json(
            {
                "entries": report.entries,
                "removals": [
                    {"reason": one.reason, "namespace": list(one.namespace), "entries": one.entries}
                    for one in report.removals
                ],
            }
        )
        return
    if report.removals:
        shown = table("reason", "namespace", "entries", right=["entries"])
        for one in report.removals:
            shown.add_row(one.reason, Text(path_of(one.namespace)), f"{one.entries:,}")
        console().print(shown)
    typer.echo(f"removed {report.entries:,} entries")
