"""`backup`, `check` and `repair`: a store copied, looked through, and made anew from what can be read."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from llmspell_memory.cli import options
from llmspell_memory.cli.opening import service_to_repair
from llmspell_memory.cli.progress import progress
from llmspell_memory.cli.render import console, entry_count, facts, one_line, path_of, print_json, table
from llmspell_memory.cli.stores import file_of
from llmspell_memory.operations import BackupReport, CheckReport, RepairReport
from llmspell_memory.operations import backup as back_up
from llmspell_memory.operations import check as look_through
from llmspell_memory.operations import repair as make_anew
from llmspell_memory.types.text import bytes_told

Target = Annotated[Path, typer.Argument(metavar="FILE", help="The new store; there must be none yet.")]


def backup(
    ctx: typer.Context,
    file: Target,
    *,
    foreign: Annotated[
        bool, typer.Option("--foreign", help="Take a store that another SQLite tool has copied or written to.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Copy the store to FILE as it is at one moment, while others go on reading and writing it.

    Opening the copy restores it. --json prints {"db": …, "file": …, "entries": …, "bytes": …, "seconds": …}.
    """
    db = file_of(options.settings_of(ctx).db, "backup")
    with progress("copying pages", quiet=as_json) as done:
        report = back_up(db, file, compared=not foreign, on_progress=lambda copied, _: done(copied))
    if as_json:
        print_json({"db": str(db), "file": str(file), **_figures(report)})
    else:
        typer.echo(f"copied {entry_count(report.entries)} to {one_line(str(file))} ({bytes_told(report.bytes)})")


def check(
    ctx: typer.Context,
    *,
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", min=0, help="Searches to measure the saved index's recall with.")
    ] = 100,
    as_json: options.AsJson = False,
) -> None:
    """Look through the store: pages, rows, vectors, numbers, and the saved index against the rows. Nothing is changed.

    Exit code 1 when a fault is found. --json prints {"db": …, "sound": …, "entries": …, "findings": [{"severity": …,
    "where": …, "what": …, "remedy": …}, …], …}.
    """
    db = file_of(options.settings_of(ctx).db, "check")
    report = look_through(db, sample=sample)
    if as_json:
        print_json({"db": str(db), "sound": report.sound, **_figures(report)})
    else:
        _print_check(db, report)
    if not report.sound:
        raise typer.Exit(1)


def repair(
    ctx: typer.Context,
    file: Target,
    *,
    no_embed: Annotated[
        bool, typer.Option("--no-embed", help="Embed nothing anew: an entry whose vector is lost is lost, too.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a new store FILE from all that can be read of a damaged one, which stays as it is, and list what is lost.

    An entry that has lost its vector is embedded anew, if the provider is there. --json prints {"db": …, "file": …,
    "entries": …, "embedded": …, "losses": [{"label": …, "id": …, "namespace": …, "why": …}, …], "seconds": …}.
    """
    settings = options.settings_of(ctx)
    db = file_of(settings.db, "repair")
    service = None if no_embed else service_to_repair(db, settings)
    with progress("reading rows", quiet=as_json) as done:
        report = make_anew(db, file, service=service, on_progress=lambda read, _: done(read))
    if as_json:
        print_json({"db": str(db), "file": str(file), **_figures(report)})
    else:
        _print_repair(file, report)


def _figures(report: BackupReport | CheckReport | RepairReport) -> dict[str, Any]:
    """A report as a JSON object, without the paths, which are told as they were given."""
    return {name: value for name, value in asdict(report).items() if name not in {"path", "target"}}


def _print_check(db: Path, report: CheckReport) -> None:
    recall = "" if report.recall is None else f", finds {report.recall:.1%} of the 10 nearest"
    out = console()
    out.print(
        facts(
            (
                ("store", one_line(str(db))),
                ("tables", "unreadable" if report.schema is None else f"version {report.schema}"),
                ("vectors", "unreadable" if report.space is None else one_line(str(report.space))),
                ("pages", f"{report.pages:,}, {'with' if report.checksums else 'without'} checksums"),
                ("entries", f"{report.entries:,} can be read, and {report.vectors:,} vectors"),
                ("index", f"{report.snapshot}{recall}"),
            )
        )
    )
    if report.findings:
        shown = table("", "where", "what")
        for one in report.findings:
            shown.add_row(one.severity, Text(one_line(one.where)), Text(one_line(one.what)))
        out.print(shown)
    for remedy in dict.fromkeys(one.remedy for one in report.findings):
        out.print(Text(f"to do: {one_line(remedy)}"))
    faults = sum(one.severity == "fault" for one in report.findings)
    typer.echo("no fault was found" if report.sound else f"{faults:,} fault{'s' if faults > 1 else ''} found")


def _print_repair(file: Path, report: RepairReport) -> None:
    if report.losses:
        shown = table("label", "id", "namespace", "why it is lost", right=["label"])
        for one in report.losses:
            label = "" if one.label is None else f"{one.label}"
            shown.add_row(
                label,
                *(Text(text) for text in (one_line(one.id or ""), path_of(one.namespace or ()), one_line(one.why))),
            )
        console().print(shown)
    typer.echo(
        f"brought {entry_count(report.entries)} to {one_line(str(file))}, {report.embedded:,} of them embedded "
        f"anew; {len(report.losses):,} losses"
    )
