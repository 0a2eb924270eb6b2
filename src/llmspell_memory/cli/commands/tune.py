"""`tune` and `advise`: which parameters this data wants, and whether it wants an index at all."""

from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from llmspell_memory.cli import options
from llmspell_memory.cli.chart import chart
from llmspell_memory.cli.opening import open_to_advise, open_to_tune
from llmspell_memory.cli.progress import progress
from llmspell_memory.cli.questions import questions_in
from llmspell_memory.cli.render import console, one_line, print_json, table
from llmspell_memory.cli.stores import file_of
from llmspell_memory.operations import Advice, TuneReport, checked_plot
from llmspell_memory.operations.tuning import advice
from llmspell_memory.operations.tuning import report as tune_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_INSTEAD = "measure its index by `llmspell-memory stats --probe`, or bring it into a file by `llmspell-memory migrate`"


def tune(
    ctx: typer.Context,
    *,
    target_recall: Annotated[
        float | None, typer.Option("--target-recall", metavar="R", help="The least recall, above 0 up to 1.")
    ] = None,
    target_p95: Annotated[
        float | None,
        typer.Option("--target-p95", metavar="US", help="The most microseconds that 95 % of searches may take."),
    ] = None,
    k: Annotated[
        int | None, typer.Option("-k", metavar="K", min=1, help="How many hits a query asks for; 10 unless given.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries", metavar="FILE", help="Texts to ask: one a line, or JSONL with a key query or content."
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", min=1, help="Without --queries: how many to make from entries.")
    ] = 1_000,
    builds: Annotated[
        bool, typer.Option("--builds", help="Also build graphs of other m and ef_construction, one after the other.")
    ] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Record the chosen parameters in the store, for all later openings.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the curve into FILE, .png or .svg.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure recall against latency on the store's own vectors, and name the cheapest parameters that meet a target.

    Give one of --target-recall and --target-p95. Exit code 1 when nothing measured meets it. --json prints {"points":
    [{"hnsw": {…}, "recall": …, "p50_us": …, …}, …], "chosen": {…}, "met": …, "applied": …, "verdict": …, …}.
    """
    settings = options.settings_of(ctx)
    file_of(settings.db, "tune", instead=_INSTEAD)
    if plot is not None:
        checked_plot(plot)
    asked = None if queries is None else questions_in(queries)
    with open_to_tune(settings, embeds=asked is not None) as memory, _progress(quiet=as_json) as tell:
        report = memory.tune(
            target_recall=target_recall,
            target_p95_us=target_p95,
            k=k,
            queries=asked,
            sample=sample,
            builds=builds,
            apply=apply,
            on_progress=tell,
        )
    if plot is not None and report.points:
        report.plot(plot)
    if as_json:
        print_json({"db": str(settings.db), **asdict(report), "verdict": report.verdict})
    else:
        _print_tune(report)
    if not report.met:
        raise typer.Exit(1)


def advise(
    ctx: typer.Context,
    *,
    k: Annotated[int, typer.Option("-k", metavar="K", min=1, help="How many hits a query asks for.")] = 10,
    as_json: options.AsJson = False,
) -> None:
    """Measure exact search and HNSW on the store's own vectors, and say whether and from when on HNSW pays.

    --json prints {"entries": …, "pays": …, "crossover": …, "recall": …, "points": […], "verdict": …, …}.
    """
    settings = options.settings_of(ctx)
    file_of(settings.db, "advise", instead=_INSTEAD)
    with open_to_advise(settings) as memory, _progress(quiet=as_json) as tell:
        found = memory.advise(k=k, on_progress=tell)
    if as_json:
        print_json({"db": str(settings.db), **asdict(found), "verdict": found.verdict})
    else:
        _print_advice(found)


@contextmanager
def _progress(*, quiet: bool) -> "Iterator[Callable[[str, int, int], None]]":
    with progress("measuring", quiet=quiet) as done:
        yield lambda what, finished, total: done(finished, what=what, total=total)


def _print_tune(report: TuneReport) -> None:
    out = console()
    if report.points:
        heads = tune_report.headings(report.k)
        shown = table(*heads, right=heads)
        for point in report.points:
            chosen = point == report.chosen
            shown.add_row(*tune_report.row(point, chosen=chosen), style="bold" if chosen else None)
        out.print(shown)
        for line in chart(report):
            out.print(Text(line, no_wrap=True))
        typer.echo(f"\nmeasured with {report.meaning}")
    if report.search_us is not None:
        p50, p95 = report.search_us
        typer.echo(f"a whole search of entries read before: p50 {p50:,.0f} µs, p95 {p95:,.0f} µs")
    typer.echo(one_line(report.verdict, 500))


def _print_advice(found: Advice) -> None:
    if found.points:
        heads = advice.headings(found.k)
        shown = table(*heads, right=heads)
        for point in found.points:
            shown.add_row(*advice.row(point))
        console().print(shown)
    if found.exact_bytes is not None and found.hnsw_bytes is not None:
        typer.echo(f"memory: exact {found.exact_bytes:,} bytes an entry, HNSW {found.hnsw_bytes:,}")
    if found.entries_per_day is not None:
        typer.echo(f"growth: {found.entries_per_day:,.0f} entries a day")
    if found.crossover is not None:
        typer.echo(f"HNSW is twice as quick from about {advice.rounded(found.crossover):,} entries on")
    typer.echo(one_line(found.verdict, 500))
