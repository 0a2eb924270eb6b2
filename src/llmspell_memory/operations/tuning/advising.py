"""Whether HNSW pays for a memory, from how many entries on, and what it costs: measured on its own vectors.

Both views are built over parts of the data, each four times as large as the one before, and timed in turns. A line
through the exact times, and a curve through those of HNSW, tell of sizes that were not measured.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from llmspell_memory.backends.tuned import NOTE, tuned_or
from llmspell_memory.index import HNSWIndex
from llmspell_memory.operations.tuning.advice import WORTH, Advice, AdvicePoint
from llmspell_memory.operations.tuning.measuring import Judge, in_turns, latency
from llmspell_memory.operations.tuning.queries import FEW, Chooser, Queries, Query
from llmspell_memory.operations.tuning.stored import ALL, built, check_whole, live_index, stored
from llmspell_memory.types import Filter, HNSWConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.operations.tuning.measuring import Latency, Work
    from llmspell_memory.operations.tuning.queries import Recorded
    from llmspell_memory.operations.tuning.stored import Index, Stored
    from llmspell_memory.protocols import EpisodicBackend

    Progress = Callable[[str, int, int], object]

_EVERYTHING: Final = Filter()

_MOST: Final = 25_000
"""Entries in the largest part that both views are built over: some seconds' work."""

_LEAST: Final = 250
_TIMES: Final = 4
"""A part has so many times as many entries as the one before it."""

_QUERIES: Final = 300
_FURTHEST: Final = 1e9
"""Entries beyond which nothing is foretold."""

_WINDOW: Final = timedelta(days=30)
"""What the growth is taken from, up to now."""


def advise(
    backend: EpisodicBackend,
    service: EmbeddingService,
    *,
    k: int = 10,
    recorded: Sequence[Recorded] = (),
    on_progress: Progress | None = None,
) -> Advice:
    """Measure exact search and HNSW on the stored vectors, at the present size and at parts of it.

    Every entry is read once, for its `ingestion_time`; nothing is changed.

    Args:
        backend: the whole store, not a scope of it.
        service: of its space.
        k: how many hits a query asks for.
        recorded: searches that were made; queries made from stored entries otherwise.
        on_progress: called with what is being done, how much of it is done, and how much there is.

    Raises:
        ConfigError: the backend is a scope.
        InputError: `k` is not acceptable.
    """
    began = time.perf_counter()
    check_whole(backend)
    tell = on_progress or _silent
    rows, live = stored(backend), live_index(backend)
    parts = _parts(backend, rows, tell)
    largest = parts[-1].exact if parts else built(backend, rows, rows.labels(ALL), None)
    chosen = Chooser(rows, live or largest, service, _EVERYTHING).choose(None, recorded, k=k, sample=_QUERIES)
    queries = Queries(chosen.kind, chosen.k, tuple(Query(one.vector, _EVERYTHING) for one in chosen.each))
    tell("timing searches", 0, 1)
    entries = len(rows.labels(ALL))
    findings = _Findings(entries, parts, _measured(parts, live, entries, queries))
    pace = _pace(backend)
    crossover = findings.crossover()
    return Advice(
        entries=entries,
        view="exact" if backend.hnsw is None else "hnsw",
        hnsw=_parameters(backend),
        k=queries.k,
        points=tuple(findings.points),
        exact_p50_us=findings.exact_now,
        hnsw_p50_us=findings.hnsw_now,
        estimated=findings.estimated,
        recall=findings.recall,
        pays=findings.pays,
        crossover=crossover,
        exact_bytes=findings.bytes_of(exact=True),
        hnsw_bytes=findings.bytes_of(exact=False),
        build_seconds=findings.build_seconds,
        entries_per_day=pace,
        days=_days(entries, crossover, pace),
        seconds=round(time.perf_counter() - began, 3),
    )


def _silent(what: str, done: int, total: int) -> None:
    del what, done, total


def _parameters(backend: EpisodicBackend) -> HNSWConfig:
    return backend.hnsw or tuned_or(HNSWConfig(), backend.read_note(NOTE), backend.space)


@dataclass(frozen=True, slots=True)
class _Part:
    """Both views over some of the entries."""

    entries: int
    exact: Index
    hnsw: HNSWIndex
    build_seconds: float


def _parts(backend: EpisodicBackend, rows: Stored, tell: Progress) -> list[_Part]:
    """Build both views over parts of the data, each within the next, the smallest first."""
    labels = np.random.default_rng(0).permutation(rows.labels(ALL))
    size, sizes = min(len(labels), _MOST), []
    while size >= _LEAST:
        sizes.append(size)
        size //= _TIMES
    parts = []
    for place, count in enumerate(reversed(sizes)):
        tell(f"building both views of {count:,} entries", place, len(sizes))
        exact = built(backend, rows, labels[:count], None)
        began = time.perf_counter()
        hnsw = built(backend, rows, labels[:count], _parameters(backend))
        assert isinstance(hnsw, HNSWIndex)  # noqa: S101 (for the type checker: it has parameters)
        parts.append(_Part(count, exact, hnsw, time.perf_counter() - began))
    return parts


def _measured(parts: Sequence[_Part], live: Index | None, entries: int, queries: Queries) -> list[AdvicePoint]:
    """Return a point for each part, and one for the live index where none of the parts is all of it."""
    if not queries.each:
        return []
    judges = [Judge(part.exact, queries) for part in parts]
    works = [_search(index, queries.k) for part in parts for index in (part.exact, part.hnsw)]
    beyond = live is not None and (not parts or entries > parts[-1].entries)
    if live is not None and beyond:
        works.append(_search(live, queries.k, exact=True))
        works.extend([_search(live, queries.k)] if isinstance(live, HNSWIndex) else [])
    spent = [latency(one) for one in in_turns(works, queries.each)]
    points = [
        _point(
            part.entries,
            spent[2 * place],
            spent[2 * place + 1],
            judge.recall(part.hnsw, part.hnsw.ef_search).mean,
        )
        for place, (part, judge) in enumerate(zip(parts, judges, strict=True))
    ]
    if live is not None and beyond:
        exact, *hnsw = spent[2 * len(parts) :]
        found = Judge(live, queries).recall(live, live.ef_search).mean if isinstance(live, HNSWIndex) else None
        points.append(_point(entries, exact, hnsw[0] if hnsw else None, found))
    return points


def _point(entries: int, exact: Latency, hnsw: Latency | None, recall: float | None) -> AdvicePoint:
    return AdvicePoint(
        entries=entries,
        exact_p50_us=exact.p50,
        exact_p95_us=exact.p95,
        hnsw_p50_us=hnsw and hnsw.p50,
        hnsw_p95_us=hnsw and hnsw.p95,
        recall=recall,
    )


def _search(index: Index, k: int, *, exact: bool = False) -> Work:
    if exact and isinstance(index, HNSWIndex):
        return lambda query: index.search(query.vector, k, exact=True)
    return lambda query: index.search(query.vector, k)


class _Findings:
    """What the points say of the present size, and of others.

    Args:
        entries: how many there are.
        parts: what was built.
        points: what was measured, the smallest first.
    """

    def __init__(self, entries: int, parts: Sequence[_Part], points: Sequence[AdvicePoint]) -> None:
        self._entries = entries
        self._parts = parts
        self.points = points
        self._walked = [point for point in points if point.hnsw_p50_us is not None and point.entries >= FEW]

    def _exact(self, entries: float) -> float:
        """A search that looks at all: so much, and so much more for each entry."""
        sizes, times = zip(*((point.entries, point.exact_p50_us) for point in self.points), strict=True)
        each, fixed = np.polyfit(sizes, times, 1, w=1 / np.array(times))
        return float(fixed + each * entries)

    def _hnsw(self, entries: float) -> float:
        """A walk down a graph: so much more each time that there are as many times more entries."""
        sizes, times = zip(*((point.entries, point.hnsw_p50_us or 0.0) for point in self._walked), strict=True)
        each, fixed = np.polyfit(np.log(sizes), times, 1, w=1 / np.array(times))
        return float(fixed + max(0.0, each) * math.log(entries))

    @property
    def _enough(self) -> bool:
        """Whether there are points enough for a line."""
        return len(self._walked) > 1

    @property
    def exact_now(self) -> float | None:
        """The median of an exact search at the present size."""
        if not self.points:
            return None
        last = self.points[-1]
        return last.exact_p50_us if last.entries == self._entries else round(self._exact(self._entries), 1)

    @property
    def estimated(self) -> bool:
        """Whether HNSW was not measured at the present size."""
        return bool(self._walked) and self._walked[-1].entries != self._entries

    @property
    def hnsw_now(self) -> float | None:
        """The median of a search by HNSW at the present size."""
        if not self._walked:
            return None
        if self.estimated and self._enough:
            return round(self._hnsw(self._entries), 1)
        return self._walked[-1].hnsw_p50_us

    @property
    def recall(self) -> float | None:
        """The recall of HNSW at the largest size that was measured."""
        return self._walked[-1].recall if self._walked else None

    @property
    def pays(self) -> bool | None:
        """Whether HNSW is so much quicker."""
        exact, hnsw = self.exact_now, self.hnsw_now
        return None if exact is None or hnsw is None else exact >= WORTH * hnsw

    def crossover(self) -> int | None:
        """From how many entries on HNSW is so much quicker; None where the points do not tell."""
        if not self._enough:
            return None
        sizes = np.unique(np.geomspace(self._walked[0].entries, _FURTHEST, 2_000).astype(np.int64)).tolist()
        return next((size for size in sizes if self._exact(size) >= WORTH * self._hnsw(size)), None)

    def bytes_of(self, *, exact: bool) -> int | None:
        """Memory of an index, an entry: of the largest part, for memory is taken many entries at a time."""
        if not self._parts:
            return None
        part = self._parts[-1]
        return round((part.exact if exact else part.hnsw).stats().memory_bytes / part.entries)

    @property
    def build_seconds(self) -> float | None:
        """How long building an HNSW index of the present size takes, at the pace of the largest part."""
        if not self._parts:
            return None
        return round(self._parts[-1].build_seconds * self._entries / self._parts[-1].entries, 1)


def _pace(backend: EpisodicBackend) -> float | None:
    """Return how many entries came a day lately; None where they all came within two days."""
    learned = np.sort(np.array([entry.ingestion_time.timestamp() for entry in backend.scan(ALL)]))
    if not len(learned):
        return None
    now = datetime.now(UTC).timestamp()
    day = timedelta(days=1).total_seconds()
    since = max(now - _WINDOW.total_seconds(), float(learned[0]) + day)  # the first day's may be what was brought along
    if now - since < day:
        return None
    return round(float(np.count_nonzero(learned >= since)) / ((now - since) / day), 2)


def _days(entries: int, crossover: int | None, pace: float | None) -> float | None:
    if crossover is None or (entries < crossover and not pace):
        return None
    return round(max(0.0, (crossover - entries) / (pace or 1.0)), 1)
