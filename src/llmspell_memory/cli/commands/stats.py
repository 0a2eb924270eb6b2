"""`stats`: how much there is, and what it costs."""

import dataclasses
import time
from typing import Annotated, Any

import typer

from llmspell_memory.cli.opening import open_to_read
from llmspell_memory.cli.options import AsJson, View, settings_of
from llmspell_memory.cli.render import console, facts, one_line, print_json, size
from llmspell_memory.manager import DefaultMemoryManager
from llmspell_memory.types import HNSWConfig


def stats(
    ctx: typer.Context,
    *,
    index: Annotated[
        View | None, typer.Option("--index", help="Also build this index, to see how long it takes and its size.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how many entries and sessions there are, the embedding space, and bytes on disk.

    --json prints {"db": …, "entries": …, "space": {…}, "disk_bytes": …, "index": {…} or null, …}.
    """
    settings = settings_of(ctx)
    hnsw = HNSWConfig() if index is View.HNSW else None
    with open_to_read(settings, hnsw=hnsw) as memory:
        seconds = _build(memory, memory.backend.hnsw) if index is not None else None
        figures = {"db": str(settings.db), **_figures(memory, seconds)}
    if as_json:
        print_json(figures)
    else:
        console().print(facts(_lines(figures)))


def _build(memory: DefaultMemoryManager, hnsw: HNSWConfig | None) -> float:
    began = time.perf_counter()
    memory.backend.configure(hnsw, rebuild=True)
    return time.perf_counter() - began


def _figures(memory: DefaultMemoryManager, seconds: float | None) -> dict[str, Any]:
    found = memory.stats()
    figures: dict[str, Any] = {
        "entries": found.entries,
        "unprocessed": found.unprocessed,
        "sessions": found.sessions,
        "space": dataclasses.asdict(found.space),
        "disk_bytes": found.disk_bytes,
        "disk_bytes_per_entry": round(found.disk_bytes / found.entries) if found.entries else None,
        "index": None,
    }
    if seconds is not None:
        built = dataclasses.asdict(found.index)
        per_entry = round(found.index.memory_bytes / found.entries) if found.entries else None
        figures["index"] = built | {"memory_bytes_per_entry": per_entry, "build_seconds": seconds}
    return figures


def _lines(figures: dict[str, Any]) -> list[tuple[str, str]]:
    space = figures["space"]
    lines = [
        ("store", one_line(figures["db"])),
        ("entries", f"{figures['entries']:,} ({figures['unprocessed']:,} unprocessed)"),
        ("sessions", f"{figures['sessions']:,}"),
        ("provider", one_line("/".join(part for part in (space["provider"], space["model"]) if part))),
        ("vectors", f"{space['dimensions']} dimensions, {space['metric']}"),
        ("on disk", f"{size(figures['disk_bytes'])}{_each(figures['disk_bytes_per_entry'])}"),
    ]
    if (index := figures["index"]) is None:
        return [*lines, ("index", "built in memory at the first search of a process (see --index)")]
    return [
        *lines,
        ("index", f"{index['kind']}, built in {index['build_seconds']:.3f} s"),
        ("in memory", f"{size(index['memory_bytes'])}{_each(index['memory_bytes_per_entry'])}"),
    ]


def _each(count: int | None) -> str:
    return "" if count is None else f" ({count:,} bytes an entry)"
