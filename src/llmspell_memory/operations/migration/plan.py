"""What a migration would take, reckoned from rates measured right now on a sample of the source's own rows."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llmspell_memory.backends import LocalBackend, SQLiteBackend
from llmspell_memory.operations.migration.follow import about, kept_in, put
from llmspell_memory.operations.migration.report import MigrationPlan
from llmspell_memory.types import Filter, json

if TYPE_CHECKING:
    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.operations.migration.report import Phase
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace, EpisodicEntry, HNSWConfig

_SAMPLE: Final = 4096
_EMBEDDED: Final = 64
"""Texts embedded for the sample, where texts are: a service may cost something for each."""

_COMPARED: Final = 2.5
"""Passes over the rows that a comparison takes, in terms of reading them: both sides once, and their checksums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where rows would go: a folder of the target's file, None for memory; its space and its index."""

    name: str
    folder: Path | None
    space: EmbeddingSpace
    hnsw: HNSWConfig | None


def place_of(target: EpisodicBackend) -> Place:
    """Return where a backend that is open keeps its rows."""
    path = about(target).path
    return Place(
        name=f"a store in {kept_in(target)}" if path is None else str(path),
        folder=None if path is None else path.parent,
        space=target.space,
        hnsw=target.hnsw,
    )


def planned(
    source: EpisodicBackend, place: Place, *, batch: int, service: EmbeddingService | None, verify: bool
) -> MigrationPlan:
    """Return what it would take to bring a store to `place`; nothing is changed."""
    path = about(source).path
    began = time.perf_counter()
    rows: list[EpisodicEntry] = []
    at = 0
    while len(rows) < _SAMPLE and (some := source.changes(at, limit=batch)).reached > at:
        rows.extend(some.put)
        at = some.reached
    read = time.perf_counter() - began
    name = f"a store in {kept_in(source)}" if path is None else str(path)
    return plan_from(
        rows, read, entries=source.count(Filter(expired=None)), source=name, place=place, service=service, verify=verify
    )


def plan_from(
    rows: list[EpisodicEntry],
    read_seconds: float,
    *,
    entries: int,
    source: str,
    place: Place,
    service: EmbeddingService | None,
    verify: bool,
) -> MigrationPlan:
    """Return the plan for so many entries, of which `rows` are a sample that took so long to read."""
    count = len(rows)
    trial = _tried(rows, place, service) if rows else _Trial()
    rates = {
        "read": count / read_seconds if count and read_seconds else None,
        "write": trial.rows / trial.write_seconds if trial.write_seconds else None,
        "index": trial.rows / trial.index_seconds if trial.index_seconds else None,
    }
    times = entries / count if count else 0.0
    per_row = times * count / trial.rows if trial.rows else 0.0  # as many rows as the trial wrote, so many times
    seconds: dict[Phase, float] = {
        "copy": read_seconds * times + trial.write_seconds * per_row,
        **({"index": trial.index_seconds * per_row * _growth(trial.rows, entries)} if place.hnsw else {}),
        **({"compare": _COMPARED * read_seconds * times * 2} if verify else {}),
    }
    return MigrationPlan(
        source=source,
        target=place.name,
        entries=entries,
        bytes=round(sum(map(_bytes_of, rows)) * times),
        embedded=entries if service is not None else 0,
        steps=_steps(place, entries, service, verify=verify),
        sample=trial.rows,
        read_rate=rates["read"],
        write_rate=rates["write"],
        index_rate=rates["index"],
        seconds=seconds,
        disk_bytes=round((trial.disk_bytes + (trial.memory_bytes if place.folder else 0)) * per_row),
        disk_free=None if place.folder is None else shutil.disk_usage(place.folder).free,
        memory_bytes=round(trial.memory_bytes * per_row),
    )


def _steps(place: Place, entries: int, service: EmbeddingService | None, *, verify: bool) -> tuple[str, ...]:
    vectors = "their vectors as they are" if service is None else "vectors made anew by the target's service"
    steps = [f"copy {entries:,} entries, {vectors}, and follow the source until level"]
    if place.hnsw is not None:
        steps.append(f"build the index (m {place.hnsw.m}, ef_construction {place.hnsw.ef_construction})")
    if verify:
        steps.append("compare counts, a checksum over every field of every row, and a sample of searches")
    return (*steps, "mark the target as finished")


def _growth(sample: int, entries: int) -> float:
    """How much longer a row takes to link into a graph of all entries: its depth grows with their logarithm."""
    return max(1.0, math.log(max(entries, 2)) / math.log(max(sample, 2)))


def _bytes_of(entry: EpisodicEntry) -> int:
    texts = (entry.content, entry.id, entry.session_id, entry.role, *entry.namespace, json.canonical(entry.metadata))
    return sum(map(len, texts)) + (0 if entry.embedding is None else entry.embedding.nbytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """What it took to write some rows where the target is."""

    rows: int = 0
    write_seconds: float = 0.0
    index_seconds: float = 0.0
    disk_bytes: int = 0
    memory_bytes: int = 0


def _tried(rows: list[EpisodicEntry], place: Place, service: EmbeddingService | None) -> _Trial:
    """Write rows into a store that is thrown away, and index them."""
    with ExitStack() as stack:
        trial: EpisodicBackend
        if place.folder is None:
            trial = LocalBackend(place.space)
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".llmspell-plan-", dir=place.folder))
            trial = SQLiteBackend(Path(folder) / "plan.db", place.space, warm=False)
        stack.callback(trial.close)
        began = time.perf_counter()
        if service is not None:
            rows = rows[:_EMBEDDED]
            vectors = service.embed([entry.content for entry in rows])
            rows = [entry.changed(embedding=vector) for entry, vector in zip(rows, vectors, strict=True)]
        for start in range(0, len(rows), 512):
            put(trial, rows[start : start + 512])
        written = time.perf_counter()
        if place.hnsw is not None:
            trial.configure(place.hnsw, rebuild=True)
        indexed = time.perf_counter()
        stats = trial.stats()
        return _Trial(
            rows=len(rows),
            write_seconds=written - began,
            index_seconds=indexed - written if place.hnsw is not None else 0.0,
            disk_bytes=stats.disk_bytes,
            memory_bytes=stats.index.memory_bytes if place.hnsw is not None else 0,
        )
