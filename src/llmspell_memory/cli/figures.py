"""A store's figures as a JSON document and as tables."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from llmspell_memory.cli.render import facts, one_line, path_of, table
from llmspell_memory.types.text import bytes_told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from llmspell_memory.types import EntryCount, MemoryStats, RecallEstimate

SERVERS = ("postgres", "milvus")
"""What keeps rows that are not in a file."""

_HNSW = "hnsw, m {m}, ef_construction {ef_construction}, ef_search {ef_search}"

PARTS = ("search", "search.index", "search.rows")
"""Operations of a probe; there are no others in a process that only looks."""


def document(
    found: MemoryStats, *, db: str, seconds: float | None, recall: RecallEstimate | None, behind: int | None = None
) -> dict[str, Any]:
    """Return the figures as a JSON object.

    Args:
        found: what the memory tells.
        db: the store, as it was named.
        seconds: that building an index took, where one was asked for.
        recall: of a probe, where there was one.
        behind: how many changes the index had yet to read before the probe, where there was one before it.
    """
    per_entry = round(found.disk_bytes / found.entries) if found.entries else None
    return {
        "db": db,
        "id": found.id,
        "entries": found.entries,
        "unprocessed": found.unprocessed,
        "sessions": found.sessions,
        "namespaces": found.namespaces,
        "seq": found.seq,
        "space": dataclasses.asdict(found.space),
        "beside": [{"space": dataclasses.asdict(one.space), "vectors": one.vectors} for one in found.beside],
        "unfinished": found.unfinished,
        "disk_bytes": found.disk_bytes,
        "disk_bytes_per_entry": per_entry,
        "rows": found.rows,
        "index": _index(found, seconds),
        "largest_namespaces": [_count(one) for one in found.largest_namespaces],
        "largest_sessions": [_count(one) for one in found.largest_sessions],
        "probe": None if recall is None else _probe(found, recall, behind),
    }


def _index(found: MemoryStats, seconds: float | None) -> dict[str, Any] | None:
    if seconds is None and found.rows not in SERVERS:
        return None
    per_entry = round(found.index.memory_bytes / found.entries) if found.entries else None
    return dataclasses.asdict(found.index) | {"memory_bytes_per_entry": per_entry, "build_seconds": seconds}


def _count(one: EntryCount) -> dict[str, Any]:
    session = {} if one.session_id is None else {"session_id": one.session_id}
    return {"namespace": list(one.namespace), **session, "entries": one.entries}


def _probe(found: MemoryStats, recall: RecallEstimate, behind: int | None) -> dict[str, Any]:
    timings = {
        name: {
            part: round(value, 3)
            for part, value in dataclasses.asdict(one).items()
            if part in {"count", "mean", "p50", "p95", "p99", "max"}
        }
        for name, one in found.timings.items()
        if name in PARTS
    }
    config = found.index.config
    return {
        "index": None if config is None else dataclasses.asdict(config),
        "index_lag": behind,
        "recall": dataclasses.asdict(recall),
        "timings_us": timings,
    }


def tables(figures: dict[str, Any], *, rate: str | None = None) -> RenderableType:
    """Return the figures for people; `rate` tells of changes while one looks on."""
    return Group(*_blocks(figures, rate))


def _blocks(figures: dict[str, Any], rate: str | None) -> Iterator[RenderableType]:
    yield facts(_lines(figures, rate))
    namespaces, sessions = figures["largest_namespaces"], figures["largest_sessions"]
    if len(namespaces) > 1:
        yield _sizes("largest namespaces", namespaces, figures["namespaces"])
    if len(sessions) > 1:
        yield _sizes("largest sessions", sessions, figures["sessions"])
    if (probe := figures["probe"]) is not None:
        yield _probed(probe)


def _lines(figures: dict[str, Any], rate: str | None) -> list[tuple[str, str]]:
    space = figures["space"]
    lines = [
        ("store", one_line(figures["db"])),
        ("entries", f"{figures['entries']:,} ({figures['unprocessed']:,} unprocessed)"),
        ("sessions", f"{figures['sessions']:,}"),
        ("namespaces", f"{figures['namespaces']:,}"),
        ("changes", f"{figures['seq']:,}{'' if rate is None else f' ({rate})'}"),
        ("provider", one_line("/".join(part for part in (space["provider"], space["model"]) if part))),
        ("vectors", f"{space['dimensions']} dimensions, {space['metric']}"),
    ]
    if figures["disk_bytes"] or figures["rows"] not in SERVERS:
        lines.append(("on disk", f"{bytes_told(figures['disk_bytes'])}{_each(figures['disk_bytes_per_entry'])}"))
    lines += [("kept beside", _beside(one)) for one in figures["beside"]]
    if figures["unfinished"]:
        lines.append(("unfinished", f"its {figures['unfinished']}, so it may lack entries; the same command goes on"))
    index, probe = figures["index"], figures["probe"]
    if index is not None and index["build_seconds"] is None:
        used = "none, so that searches are exact" if index["config"] is None else _HNSW.format(**index["config"])
        lines += [
            ("index", f"the server's: {used}"),
            ("takes", f"{bytes_told(index['memory_bytes'])}{_each(index['memory_bytes_per_entry'])}, with its vectors"),
        ]
    elif index is not None:
        lines += [
            ("index", f"{index['kind']}, built in {index['build_seconds']:.3f} s"),
            ("in memory", f"{bytes_told(index['memory_bytes'])}{_each(index['memory_bytes_per_entry'])}"),
        ]
    elif probe is None:
        lines += [("index", "built in memory at the first search of a process (see --index, --probe)")]
    if probe is not None:
        config, recall = probe["index"], probe["recall"]
        interval = f"between {recall['low']:.3f} and {recall['high']:.3f} (95 %)"
        lines += [
            ("probed", "exact" if config is None else _HNSW.format(**config)),
            *([] if (lag := probe["index_lag"]) is None else [("lag", f"{lag:,} changes before the probe")]),
            ("recall", f"{recall['recall']:.3f}, {interval}, of {recall['comparisons']:,} searches"),
        ]
    return lines


def _beside(one: dict[str, Any]) -> str:
    space = one["space"]
    name = one_line("/".join(part for part in (space["provider"], space["model"]) if part))
    return f"{one['vectors']:,} vectors of {name}, {space['dimensions']} dimensions"


def _each(count: int | None) -> str:
    return "" if count is None else f" ({count:,} bytes an entry)"


def _sizes(title: str, counts: list[dict[str, Any]], total: int) -> RenderableType:
    sessions = "session_id" in counts[0]
    namespaced = any(one["namespace"] for one in counts)
    made = table(
        *(["session"] if sessions else []),
        *(["namespace"] if namespaced or not sessions else []),
        "entries",
        right=["entries"],
        title=title if total <= len(counts) else f"{title} of {total:,}",
    )
    for one in counts:
        cells = [Text(one_line(one["session_id"]), style="cyan")] if sessions else []
        cells += [Text(path_of(tuple(one["namespace"])) or "none")] if namespaced or not sessions else []
        made.add_row(*cells, Text(f"{one['entries']:,}"))
    return made


def _probed(probe: dict[str, Any]) -> RenderableType:
    made = table("µs", "p50", "p95", "p99", "max", "count", right=["p50", "p95", "p99", "max", "count"])
    for name, one in probe["timings_us"].items():
        told = [f"{one[part]:,.0f}" for part in ("p50", "p95", "p99", "max")]
        made.add_row(Text(name), *map(Text, told), Text(f"{one['count']:,}"))
    return made
