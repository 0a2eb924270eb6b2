"""`migrate` and `rollback`: a memory moved to another store, compared, and back."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from llmspell_memory.cli import options
from llmspell_memory.cli.moving import Moved, open_pair, place_for
from llmspell_memory.cli.progress import phases
from llmspell_memory.cli.render import console, facts, one_line, print_json
from llmspell_memory.cli.stores import store_of
from llmspell_memory.errors import InputError
from llmspell_memory.operations import MigrationPlan, MigrationReport
from llmspell_memory.operations import migrate as move
from llmspell_memory.operations import rollback as move_back
from llmspell_memory.operations.migration.file import from_file, plan_from_file, to_file
from llmspell_memory.operations.migration.plan import planned
from llmspell_memory.operations.migration.report import Progress

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
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="A store by path or URL, or a JSONL export with vectors, .gz too.")
    ],
    target: Annotated[
        str, typer.Argument(metavar="DST", help="A store, made if there is none; or a new file in .jsonl, .jsonl.gz.")
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
    moved = Moved(
        source=store_of(source),
        target=store_of(target),
        settings=options.settings_of(ctx),
        indexed=view is options.View.HNSW,
        reembed=reembed,
    )
    if moved.to_file is not None and (moved.indexed or reembed):
        raise typer.BadParameter("--view and --reembed are for stores; a file takes the vectors that there are")
    if dry_run:
        _tell_plan(moved.named(_planned(moved, batch=batch, verify=verify)), as_json=as_json)
        return
    with phases(quiet=as_json) as on_progress:
        report = _migrated(moved, verify=verify, batch=batch, on_progress=on_progress)
    _tell(moved.named(report), as_json=as_json, verify=verify)


def rollback(
    ctx: typer.Context,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The store that was migrated to.")],
    old: Annotated[str, typer.Argument(metavar="OLD", help="The store that was migrated from.")],
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
    moved = Moved(source=store_of(new), target=store_of(old), settings=settings, indexed=False, reembed=reembed)
    for store in (moved.source, moved.target):
        if not store.is_store():
            raise InputError(f"there is no store at {store}")
    with phases(quiet=as_json) as on_progress, open_pair(moved) as (source, target):
        report = move_back(source, target, verify=verify, batch=batch, reembed=reembed, on_progress=on_progress)
    _tell(moved.named(report), as_json=as_json, verify=verify)


def _migrated(moved: Moved, *, verify: bool, batch: int, on_progress: Progress) -> MigrationReport:
    given: dict[str, Any] = {"verify": verify, "on_progress": on_progress}
    if moved.to_file is not None:
        if moved.source.path is not None and not moved.source.is_store():
            raise InputError(f"{moved.source} is a file of entries already; copy it")
        with open_pair(moved) as (source, _):
            return to_file(source, moved.to_file, **given)
    with open_pair(moved) as (source, target):
        given |= {"batch": batch, "reembed": moved.reembed}
        if source is None:
            return from_file(moved.from_file, target, **given)
        report: MigrationReport = move(source, target, **given)
        return report


def _planned(moved: Moved, *, batch: int, verify: bool) -> MigrationPlan:
    if moved.to_file is not None:
        raise InputError("a file of entries is written in one go; --dry-run is for stores")
    if moved.target.path is None:
        raise InputError(
            "--dry-run measures on a sample what a file would take, which tells nothing of a server; without it, SRC "
            "stays as it is, too"
        )
    if moved.target.is_store() and moved.source.is_store():
        with open_pair(moved) as (source, target):
            return move(source, target, dry_run=True, verify=verify, batch=batch, reembed=moved.reembed)
    place, service = place_for(moved)
    if not moved.source.is_store():
        return plan_from_file(moved.from_file, place, service=service, reembed=moved.reembed, verify=verify)
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
