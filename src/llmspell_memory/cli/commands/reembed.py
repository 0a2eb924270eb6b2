"""`reembed`: move a store to another embedding space."""

import dataclasses
import time
from typing import Annotated

import typer

from llmspell_memory.cli import options
from llmspell_memory.cli.opening import open_to_read
from llmspell_memory.cli.progress import progress
from llmspell_memory.cli.providers import provider_for_new
from llmspell_memory.cli.render import print_json
from llmspell_memory.embeddings import EmbeddingService
from llmspell_memory.types import EmbeddingSpace, ReembeddingEstimate, ReembeddingReport

_LOOK_SECONDS = 0.1


def reembed(
    ctx: typer.Context,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be embedded, in how many calls.")
    ] = False,
    switch: Annotated[
        bool, typer.Option("--switch/--no-switch", help="Move to the new space when it is complete.")
    ] = True,
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", min=0, help="Entries whose neighbours in both spaces are compared.")
    ] = 100,
    drop: Annotated[
        bool, typer.Option("--drop", help="Instead drop the vectors of every space that is kept beside the one in use.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Embed every text anew by the provider that the options of the store name, and move the store to its space.

    The store may be searched and written to meanwhile. Programs that have it open must be restarted with the new
    provider after the move. Interrupted, the same command goes on. The former vectors are kept: the same command with
    the former provider goes back. --json prints what was done.
    """
    if drop and (dry_run or not switch):
        raise typer.BadParameter("--drop goes with neither --dry-run nor --no-switch")
    settings = options.settings_of(ctx)
    with open_to_read(settings, hnsw=settings.db.parameters(hnsw=None)) as memory:
        if drop:
            spaces = [one.space for one in memory.stats().beside]
            for space in spaces:
                memory.drop_space(space)
            if as_json:
                print_json({"dropped": [_told(space) for space in spaces]})
            else:
                typer.echo("\n".join(f"dropped the vectors of {space}" for space in spaces) or "no others are kept")
            return
        service = EmbeddingService(provider_for_new(settings))
        estimate = memory.estimate_reembedding(service)
        if not as_json:
            _show_estimate(estimate)
        if dry_run:
            if as_json:
                print_json(_told(estimate))
            return
        work = memory.reembed(service, switch=switch, sample=sample)
        with progress("embedding", total=estimate.rows, quiet=as_json) as done:
            while work.running:
                done(work.progress.done)
                time.sleep(_LOOK_SECONDS)
        report = work.wait()
    if as_json:
        print_json(_told(report))
    else:
        _show_report(report)


def _told(value: ReembeddingEstimate | ReembeddingReport | EmbeddingSpace) -> dict[str, object]:
    return dataclasses.asdict(value)


def _show_estimate(estimate: ReembeddingEstimate) -> None:
    typer.echo(f"from {estimate.source}\nto   {estimate.target}")
    typer.echo(
        f"to embed: {estimate.texts:,} of {estimate.rows:,} texts, {estimate.characters:,} characters, in at least "
        f"{estimate.calls:,} calls; {estimate.disk_bytes / 1e6:.1f} MB of vectors"
    )


def _show_report(report: ReembeddingReport) -> None:
    typer.echo(f"embedded {report.embedded:,} texts in {report.seconds:.1f} s")
    if report.overlap is not None:
        typer.echo(
            f"of an entry's ten nearest, {report.overlap:.0%} are the same in both spaces ({report.sample} entries)"
        )
    if report.switched:
        typer.echo("the store is in the new space; the former vectors are kept until `reembed --drop`")
    else:
        typer.echo("the store is still in its former space; the same command without --no-switch moves it")
