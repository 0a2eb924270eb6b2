"""`search`: find what answers a question."""

from typing import Annotated

import typer

from llmspell_memory.backends.notes import KEYWORDS, noted_keywords
from llmspell_memory.cli import options
from llmspell_memory.cli.excerpts import Excerpts
from llmspell_memory.cli.opening import open_to_search
from llmspell_memory.cli.render import console, hit_object, hits_table, print_json
from llmspell_memory.types import Filter
from llmspell_memory.types.query import DEFAULT_MODE, checked_mode


@options.with_conditions()
def search(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A question or any text.")],
    *,
    k: Annotated[int, typer.Option("-k", metavar="N", min=0, help="How many to find.")] = 5,
    where: Filter,
    mode: Annotated[
        options.Mode, typer.Option("--mode", help="By meaning, by words, or by both and what stands around.")
    ] = options.Mode(DEFAULT_MODE),
    index: Annotated[
        options.View | None,
        typer.Option(
            "--index",
            help="exact looks at every vector; hnsw first builds a graph, if there is none. Unless given, a file is "
            "searched exactly, a server by its index.",
        ),
    ] = None,
    around: Annotated[
        int, typer.Option("--around", metavar="N", min=0, help="Bring so many turns before and after each, too.")
    ] = 0,
    parts: Annotated[bool, typer.Option("--parts", help="Tell what each score is made of.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Find the entries that answer QUERY best, among those that meet every condition given.

    --json prints {"query": …, "hits": [{"score": …, "entry": {…}}, …]}, best first; with "parts", "before" and
    "after" in each hit that has them.
    """
    settings = options.settings_of(ctx)
    with open_to_search(settings, hnsw=settings.db.parameters(hnsw=options.is_hnsw(index))) as memory:
        hits = memory.episodic.search(query, k, where=where, mode=checked_mode(mode.value), around=around, parts=parts)
        language = None if as_json else noted_keywords(memory.backend.read_note(KEYWORDS)).language
    if as_json:
        print_json({"query": query, "hits": [hit_object(hit) for hit in hits]})
    elif hits:
        console().print(hits_table(hits, Excerpts(query, language).of))
    else:
        typer.echo("nothing found: no entry meets the conditions")
