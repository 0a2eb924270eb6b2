"""`stats`: how much there is, what it costs, how it changes, and how well it is searched."""

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Annotated, Any

import typer
from rich.live import Live

from llmspell_memory.cli.figures import document, tables
from llmspell_memory.cli.opening import open_to_read, open_to_tune
from llmspell_memory.cli.options import AsJson, View, is_hnsw, settings_of
from llmspell_memory.cli.probing import Probe
from llmspell_memory.cli.render import console, print_json, print_text
from llmspell_memory.cli.settings import Settings
from llmspell_memory.cli.stores import file_of
from llmspell_memory.manager import DefaultMemoryManager
from llmspell_memory.operations import prometheus_text
from llmspell_memory.types import HNSWConfig


def stats(
    ctx: typer.Context,
    *,
    index: Annotated[
        View | None, typer.Option("--index", help="Also build this index, to see how long it takes and its size.")
    ] = None,
    probe: Annotated[
        int | None,
        typer.Option(
            "--probe", metavar="N", min=1, help="Also search for N stored vectors, to see latency and recall now."
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the figures again and again, until interrupted.")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.05, help="How long --watch waits in between.")
    ] = 2.0,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Print the figures in Prometheus' text format.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show how many entries there are and where, the embedding space, bytes on disk, and how the store is searched.

    A command sees its own searches alone, not those of other processes: latency and recall are those of --probe, which
    searches through an HNSW index (--index exact: exactly). --watch shows what others write.

    --json prints {"db": …, "entries": …, "space": {…}, "disk_bytes": …, "index": {…} or null, …}; with --watch, one
    such object a line.
    """
    if prometheus and (watch or as_json):
        raise typer.BadParameter("--prometheus goes with neither --watch nor --json")
    settings = settings_of(ctx)
    if index is not None and (not probe or index is View.HNSW):
        file_of(settings.db, "stats --index", instead="measure its index by --probe")
    with _opened(settings, index, probes=probe is not None) as memory:
        builds = index is not None and not memory.backend.is_remote
        seconds = _build(memory, memory.backend.hnsw) if builds else None
        probing = None if probe is None else Probe(memory, probe)

        def figures() -> dict[str, Any]:
            behind = None if probing is None else probing.run()
            recall = None if probing is None else probing.recall()
            return document(memory.stats(), db=str(settings.db), seconds=seconds, recall=recall, behind=behind)

        if prometheus:
            figures()
            print_text(prometheus_text(memory.stats()))
        elif watch:
            _watch(figures, every=every, as_json=as_json)
        elif as_json:
            print_json(figures())
        else:
            console().print(tables(figures()))


def _opened(settings: Settings, index: View | None, *, probes: bool) -> DefaultMemoryManager:
    if probes and index is None and settings.db.path is not None:
        return open_to_tune(settings, embeds=False)
    return open_to_read(settings, hnsw=settings.db.parameters(hnsw=is_hnsw(index)))


def _watch(figures: Callable[[], dict[str, Any]], *, every: float, as_json: bool) -> None:
    """Show figures until interrupted, which is how it ends."""
    screen, before = console(), None
    moving = screen.is_terminal and not as_json
    display = Live(console=screen, auto_refresh=False, vertical_overflow="visible") if moving else nullcontext()
    with suppress(KeyboardInterrupt), display as live:
        while True:
            told, now = figures(), time.monotonic()
            rate = "so far" if before is None else _rate(told["seq"] - before[0], now - before[1])
            before = told["seq"], now
            if as_json:
                print_json(told, indent=None)
            elif live is not None:
                live.update(tables(told, rate=rate), refresh=True)
            else:
                screen.print(tables(told, rate=rate))
            sys.stdout.flush()
            time.sleep(every)


def _rate(changes: int, seconds: float) -> str:
    return f"{changes:+,} in {seconds:.1f} s, {changes / seconds:,.1f} a second"


def _build(memory: DefaultMemoryManager, hnsw: HNSWConfig | None) -> float:
    began = time.perf_counter()
    memory.backend.configure(hnsw, rebuild=True)
    return time.perf_counter() - began
