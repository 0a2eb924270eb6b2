"""`migrate` and `rollback`: a memory moved to another store, compared, and back."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from llmspell_memory.cli import options
from llmspell_memory.cli.moving import Moved, is_file_name, is_store, open_pair, place_for
from llmspell_memory.cli.progress import phases
from llmspell_memory.cli.render import console, facts, one_line, print_json
from llmspell_memory.errors import InputError
from llmspell_memory.operations import MigrationPlan, MigrationReport
from llmspell_memory.operations import migrate as move
from llmspell_memory.operations import rollback as move_back
from llmspell_memory.operations.migration.file import from_file, plan_from_file, to_file
from llmspell_memory.operations.migration.plan import planned
from llmspell_memory.operations.migration.report import Progress
from llmspell_memory.types import HNSWConfig

Verify = Annotated[
    bool,
    typer.Option(
        "--verify/--no-verify", help="Compare counts, a checksum over every field, and a sample of searches afterwards."
    ),
]
Batch = Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Entries read and written at a time.")]
Reembed = Annotated[
    bool, typer.Option("--reembed", help="Embed the texts anew, by --provider, where the embedding spaces differ.")
]


def migrate(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A store, or a JSONL export with vectors, .gz too.")],
    target: Annotated[
        Path, typer.Argument(metavar="DST", help="A store, made if there is none; or a new file in .jsonl, .jsonl.gz.")
    ],
    *,
    verify: Verify = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; measure on a sample what it would take.")
    ] = False,
    batch: Batch = 512,
    view: Annotated[
        options.View, typer.Option("--view", help="What is to search the target: hnsw builds and saves its index.")
    ] = options.View.EXACT,
    reembed: Reembed = False,
    as_json: options.AsJson = False,
) -> None:
    """Bring every entry of SRC into DST as it is: ids, times, flags, metadata, namespaces, vectors; SRC stays as it is.

    SRC may be written meanwhile. Interrupted, the same command goes on. Exit code 1 when the two are not equal
    afterwards; DST is then marked as unfinished. --json prints {"source": …, "target": …, "finished": …, "verified": …,
    "entries": …, "verification": {…}, "seconds": {…}, …}, and with --dry-run {"entries": …, "disk_bytes": …, "fits": …,
    "seconds": {…}, "steps": […], …}.
    """
    hnsw = HNSWConfig() if view is options.View.HNSW else None
    if is_file_name(target) and (hnsw or reembed):
        raise typer.BadParameter("--view and --reembed are for stores; a file takes the vectors that there are")
    moved = Moved(source=source, target=target, settings=options.settings_of(ctx), hnsw=hnsw, reembed=reembed)
    if dry_run:
        _tell_plan(_planned(moved, batch=batch, verify=verify), as_json=as_json)
        return
    with phases(quiet=as_json) as on_progress:
        report = _migrated(moved, verify=verify, batch=batch, on_progress=on_progress)
    _tell(report, as_json=as_json, verify=verify)


def rollback(
    ctx: typer.Context,
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The store that was migrated to.")],
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The store that was migrated from.")],
    *,
    verify: Verify = True,
    batch: Batch = 512,
    reembed: Reembed = False,
    as_json: options.AsJson = False,
) -> None:
    """Bring OLD level with what was written to NEW since it was migrated; NEW stays as it is.

    What was written to OLD meanwhile is kept, and named. Interrupted, the same command goes on. Exit code 1 when the
    two are not equal afterwards. --json prints what `migrate` does, {"kept": [[namespace, id], …], "restored": …} too.
    """
    settings = options.settings_of(ctx)
    for path in (new, old):
        if not is_store(path):
            raise InputError(f"there is no store at {path}")
    moved = Moved(source=new, target=old, settings=settings, hnsw=None, reembed=reembed)
    with phases(quiet=as_json) as on_progress, open_pair(moved) as (source, target):
        report = move_back(source, target, verify=verify, batch=batch, reembed=reembed, on_progress=on_progress)
    _tell(report, as_json=as_json, verify=verify)


def _migrated(moved: Moved, *, verify: bool, batch: int, on_progress: Progress) -> MigrationReport:
    given: dict[str, Any] = {"verify": verify, "on_progress": on_progress}
    if is_file_name(moved.target):
        if not is_store(moved.source):
            raise InputError(f"{moved.source} is a file of entries already; copy it")
        with open_pair(moved) as (source, _):
            return to_file(source, moved.target, **given)
    with open_pair(moved) as (source, target):
        given |= {"batch": batch, "reembed": moved.reembed}
        if source is None:
            return from_file(moved.source, target, **given)
        report: MigrationReport = move(source, target, **given)
        return report


def _planned(moved: Moved, *, batch: int, verify: bool) -> MigrationPlan:
    if is_file_name(moved.target):
        raise InputError("a file of entries is written in one go; --dry-run is for stores")
    if is_store(moved.target) and is_store(moved.source):
        with open_pair(moved) as (source, target):
            return move(source, target, dry_run=True, verify=verify, batch=batch, reembed=moved.reembed)
    place, service = place_for(moved)
    if not is_store(moved.source):
        return plan_from_file(moved.source, place, service=service, reembed=moved.reembed, verify=verify)
    with open_pair(moved, target=False) as (source, _):
        embeds = source.space != place.space
        return planned(source, place, batch=batch, service=service if embeds else None, verify=verify)


def _tell_plan(plan: MigrationPlan, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(plan) | {"fits": plan.fits, "total_seconds": plan.total_seconds})
    else:
        console().print(facts((name, one_line(value)) for name, value in plan.lines()))


def _tell(report: MigrationReport, *, as_json: bool, verify: bool) -> None:
    if as_json:
        print_json(asdict(report) | {"verified": report.verified})
    else:
        console().print(facts((name, one_line(value)) for name, value in report.lines()))
    if verify and not report.verified:
        raise typer.Exit(1)
