"""`rollout`: a candidate tried beside a store, promoted, rolled back."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from llmspell_memory.cli import options
from llmspell_memory.cli.progress import progress
from llmspell_memory.cli.providers import provider_for
from llmspell_memory.cli.questions import questions_in
from llmspell_memory.cli.render import console, facts, one_line, print_json
from llmspell_memory.cli.settings import Settings
from llmspell_memory.cli.stores import Store, store_of
from llmspell_memory.embeddings import EmbeddingService
from llmspell_memory.errors import InputError, StorageError
from llmspell_memory.operations import Bar, Rollout, RolloutReport
from llmspell_memory.protocols import EpisodicBackend
from llmspell_memory.types import Filter, Vector

_DEFAULT = Bar()
_SEED = 0


class _Act(StrEnum):
    """What is to be done after the comparing, or in its place."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    STATUS = "status"


def rollout(
    ctx: typer.Context,
    primary: Annotated[str, typer.Argument(metavar="PRIMARY", help="The store that serves; a file or a URL.")],
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="The store to try; made if there is none.")],
    *,
    view: Annotated[
        options.View, typer.Option("--view", help="What searches the candidate; the primary is searched exactly.")
    ] = options.View.HNSW,
    queries: Annotated[
        Path | None,
        typer.Option("--queries", metavar="FILE", help="Compare answers to these texts, one a line or JSONL."),
    ] = None,
    sample: Annotated[
        int,
        typer.Option("--sample", metavar="N", min=0, help="Otherwise compare by the vectors of so many entries."),
    ] = _DEFAULT.queries,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="How many entries make an answer.")] = 10,
    recall: Annotated[
        float, typer.Option("--recall", metavar="R", min=0.0, max=1.0, help="The least recall of a promotion.")
    ] = _DEFAULT.recall,
    p95_ratio: Annotated[
        float,
        typer.Option("--p95-ratio", metavar="X", help="The most the candidate's p95 may be, times the primary's."),
    ] = _DEFAULT.p95_ratio,
    promote: Annotated[bool, typer.Option("--promote", help="Let the candidate serve, if it meets the bar.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Let the primary serve again; compare nothing.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only show how it stands; change nothing.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Let CANDIDATE come level with PRIMARY, compare their answers and latencies, and show what was found.

    Who serves is recorded in the stores; programs must be told of it: stop them, promote, and start them with
    CANDIDATE. A rollout inside of a program is `Rollout` from Python; while that is open, only --status is possible.
    Exit code 1 when --promote is asked and the bar is not met. --json prints {"state": …, "serving": …, "lag": …,
    "queries": …, "recall": …, "interval": […], "primary": {"p50": …, …}, "candidate": {…}, "missing": […], …}.
    """
    home, away = store_of(primary), store_of(candidate)
    settings = replace(options.settings_of(ctx), db=home)
    act = _act(promote=promote, rollback=rollback, status=status)
    asked = None if queries is None else questions_in(queries)
    number = sample if asked is None else len(asked)
    bar = Bar(recall=recall, p95_ratio=p95_ratio, queries=number or _DEFAULT.queries, errors=0)
    begun = act in {_Act.STATUS, _Act.ROLLBACK}  # otherwise it may begin with this
    with _stores(home, away, view, make=not begun) as (one, other):
        report = Rollout.recorded(one, other, bar=bar) if begun else None
        if act is not _Act.STATUS and (report is not None or not begun):
            with closing(Rollout(one, other, share=0.0, bar=bar, automatic=False)) as opened:
                vectors = [] if act is _Act.ROLLBACK else _vectors(opened, settings, asked, sample)
                report = _done(opened, act, vectors, k, quiet=as_json)
    if report is None:
        raise InputError(f"there is no rollout between {home} and {away}")
    _tell(report, act, away if report.serving == "candidate" else home, as_json=as_json)


def _act(**asked: bool) -> _Act | None:
    acts = [_Act(name) for name, given in asked.items() if given]
    if len(acts) > 1:
        raise typer.BadParameter(f"--{acts[0]} and --{acts[1]} exclude each other")
    return acts[0] if acts else None


@contextmanager
def _stores(
    primary: Store, candidate: Store, view: options.View, *, make: bool
) -> Iterator[tuple[EpisodicBackend, EpisodicBackend]]:
    """Open both stores, the candidate anew where there is none."""
    for store in (primary, candidate) if not make else (primary,):
        if not store.exists():
            raise StorageError(f"there is no store at {store}")
    builds = make or candidate.path is not None  # a file's index waits for its first search
    hnsw = candidate.parameters(hnsw=options.is_hnsw(view) if builds else None)
    with closing(primary.open()) as one:
        space = None if candidate.exists() else one.space
        with closing(candidate.open(space, hnsw=hnsw, warm=make)) as other:
            yield one, other


def _vectors(opened: Rollout, settings: Settings, asked: list[str] | None, sample: int) -> list[Vector]:
    """Return what to search for: the questions' vectors, or those of entries drawn at random, the same each time."""
    if asked is not None:
        service = EmbeddingService(provider_for(opened.space, settings), metric=opened.space.metric)
        return [service.embed_one(line, kind="query") for line in asked]
    entries = opened.count(Filter())
    drawn = np.random.default_rng(_SEED).permutation(entries)[:sample]
    wanted = frozenset(drawn.tolist())
    found = [
        entry.embedding
        for number, entry in enumerate(opened.scan(Filter()))
        if number in wanted and entry.embedding is not None
    ]
    return [found[number % len(found)] for number in range(sample)] if found else []


def _done(opened: Rollout, act: _Act | None, vectors: list[Vector], k: int, *, quiet: bool) -> RolloutReport:
    """Do what is asked, and return how it stands then."""
    if act is _Act.ROLLBACK:
        return opened.rollback()
    if opened.state in {"rolled back", "broken"} and vectors:
        opened.restart()
    opened.catch_up()
    with progress("comparing", total=len(vectors), quiet=quiet) as on_progress:
        for done, vector in enumerate(vectors, start=1):
            opened.compare(vector, k)
            on_progress(done)
    report = opened.report()
    ready = report.state == "ready"
    return opened.promote() if act is _Act.PROMOTE and ready else report


def _tell(report: RolloutReport, act: _Act | None, serves: Store, *, as_json: bool) -> None:
    if as_json:
        parts = {name: getattr(report, name) for name in ("primary", "candidate")}
        latencies = {name: None if part is None else part._asdict() for name, part in parts.items()}
        print_json(asdict(report) | latencies)
    else:
        console().print(facts((name, one_line(value)) for name, value in report.lines()))
        if act in {_Act.PROMOTE, _Act.ROLLBACK} and (act is _Act.ROLLBACK or report.state == "promoted"):
            typer.echo(f"programs are to be started with {one_line(str(serves))} from now on")
    if act is _Act.PROMOTE and report.state != "promoted":
        raise typer.Exit(1)
