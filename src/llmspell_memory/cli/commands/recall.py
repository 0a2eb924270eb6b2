"""`context` and `recent`: what is remembered, as a text for a prompt, and the newest of it."""

from typing import Annotated

import typer
from rich.text import Text

from llmspell_memory.cli import options
from llmspell_memory.cli.opening import open_to_read, open_to_search
from llmspell_memory.cli.render import console, print_json, turn, visible
from llmspell_memory.operations.files.jsonl import entry_object
from llmspell_memory.types import Filter


@options.with_conditions()
def context(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A question or any text.")],
    *,
    budget: Annotated[int, typer.Option("--budget", metavar="TOKENS", min=0, help="The most it may count.")] = 2000,
    k: Annotated[int, typer.Option("-k", metavar="N", min=0, help="How many entries are tried.")] = 20,
    where: Filter,
    as_json: options.AsJson = False,
) -> None:
    """Print what answers QUERY best as a text for a prompt, in the order it happened, within a budget of tokens.

    --json prints {"text": …, "tokens": …, "sources": [[namespace, id], …]}.
    """
    settings = options.settings_of(ctx)
    with open_to_search(settings, hnsw=settings.db.parameters(hnsw=None)) as memory:
        found = memory.episodic.context(query, budget_tokens=budget, k=k, where=where)
    if as_json:
        sources = [[list(below), entry_id] for below, entry_id in found.sources]
        print_json({"text": found.text, "tokens": found.tokens, "sources": sources})
    else:
        console().print(Text(visible(found.text)))


@options.with_conditions()
def recent(
    ctx: typer.Context,
    *,
    count: Annotated[int, typer.Option("-n", metavar="N", min=0, help="How many.")] = 10,
    where: Filter,
    as_json: options.AsJson = False,
) -> None:
    """Show the newest entries that meet every condition given, the oldest of them first.

    --json prints {"entries": […]}.
    """
    settings = options.settings_of(ctx)
    with open_to_read(settings) as memory:
        entries = memory.episodic.recent(count, where=where)
    if as_json:
        print_json({"entries": [entry_object(entry) for entry in entries]})
        return
    out = console()
    for entry in entries:
        for line in turn(entry):
            out.print(line)
