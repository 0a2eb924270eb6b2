"""Tuning: which parameters of the HNSW index give this data the recall that is wanted, or the speed, measured on it.

The live index is searched with other values of `ef_search` for each search alone, so it goes on answering as it did.
Other graphs are built beside it, one after the other.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from llmspell_memory.backends.tuned import NOTE, Tuned
from llmspell_memory.errors import ConfigError, SpaceChangedError
from llmspell_memory.index import HNSWIndex
from llmspell_memory.memory import EpisodicMemory
from llmspell_memory.operations.tuning.measuring import Judge, Latency, in_turns, latency, timed
from llmspell_memory.operations.tuning.queries import FEW, Chooser
from llmspell_memory.operations.tuning.report import TunePoint, TuneReport
from llmspell_memory.operations.tuning.stored import (
    ALL,
    ShowsIndex,
    built,
    check_whole,
    exact_index,
    live_index,
    stored,
)
from llmspell_memory.operations.tuning.target import Target
from llmspell_memory.retrieval.asking import checked_where
from llmspell_memory.types import Filter, HNSWConfig
from llmspell_memory.types.histogram import unrecorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.operations.tuning.measuring import Work
    from llmspell_memory.operations.tuning.queries import Queries, Query, Recorded
    from llmspell_memory.operations.tuning.stored import Index, Stored
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.watch.interval import Interval

    Progress = Callable[[str, int, int], object]

logger = logging.getLogger(__name__)

_EVERYTHING: Final = Filter()

_GRID: Final = (10, 12, 16, 20, 24, 32, 40, 50, 64, 80, 100, 128, 160, 200, 256, 320, 400, 512, 640, 800, 1000)
_COMPLETE: Final = 0.9995
"""Recall from which on a larger `ef_search` has nothing left to find."""

_FLAT_TIMES: Final = 3
_HALVINGS: Final = 3
"""Steps by which the least `ef_search` that meets a recall is looked for between two of the grid."""

_GRAPHS: Final = tuple((m, ef_construction) for m in (8, 16, 32) for ef_construction in (100, 200, 400))

_WHOLE: Final = 200
"""Queries that whole searches are timed with."""


def tune(
    backend: EpisodicBackend,
    service: EmbeddingService,
    *,
    target_recall: float | None = None,
    target_p95_us: float | None = None,
    k: int | None = None,
    queries: Iterable[str | ArrayLike] | None = None,
    recorded: Sequence[Recorded] = (),
    sample: int = 1_000,
    where: Filter = _EVERYTHING,
    builds: bool | Iterable[HNSWConfig] = False,
    apply: bool = False,
    on_progress: Progress | None = None,
) -> TuneReport:
    """Measure recall against latency on the stored vectors, and name the cheapest parameters that meet a target.

    Args:
        backend: the whole store, not a scope of it.
        service: embeds queries given as texts.
        target_recall: the least recall, above 0 up to 1.
        target_p95_us: the most that the 95th percentile of a search of the index may be, in microseconds. Give one of
            the two.
        k: how many hits a query asks for; when None, as many as most recorded ones did, or 10.
        queries: texts and vectors to measure with. None: the recorded ones, or else some made from stored entries.
        recorded: searches that were made, latest last.
        sample: how many recorded queries, or stored entries, are taken at most.
        where: a filter for given queries and those made from entries; recorded ones have theirs.
        builds: True also tries graphs of other m and ef_construction, built beside the live index; a collection of
            HNSWConfig tries those. One trial index at a time is in memory.
        apply: put the chosen parameters in force, by a rebuild beside the live index where they are of another graph,
            and record them in the store for later openings. Nothing is applied where the target is not met.
        on_progress: called with what is being done, how much of it is done, and how much there is.

    Raises:
        ConfigError: not exactly one target; or the search is exact, so that there is nothing to tune without `builds`;
            or the backend is a scope; or what was measured under a filter is to be applied to all searches.
        InputError: a query, `k`, `sample` or `where` is not acceptable.
        EmbeddingError: a query could not be embedded.
        SpaceChangedError: the store was moved to another embedding space meanwhile; nothing is applied.
    """
    began = time.perf_counter()
    target = Target(target_recall, target_p95_us)
    check_whole(backend)
    space = backend.space
    if apply and not checked_where(where).is_everything:
        raise ConfigError("parameters are for all searches: measure without `where` to apply them")
    live = live_index(backend)
    graphs = _graphs(builds, backend.hnsw, live)
    rows = stored(backend)
    exact = exact_index(backend, rows, live)
    chosen = Chooser(rows, exact, service, checked_where(where)).choose(queries, recorded, k=k, sample=sample)
    setup = _Setup(backend, service, target, chosen, rows, live, on_progress or _silent)
    tuning = _Tuning(setup, exact, few=len(rows.labels(where)) < FEW)
    report = tuning.report(graphs)
    if apply and report.met and not report.few:
        if backend.space != space:
            raise SpaceChangedError(f"the store was moved from {space} to {backend.space} meanwhile; tune it again")
        report = tuning.applied(report)
    return replace(report, seconds=round(time.perf_counter() - began, 3))


def _silent(what: str, done: int, total: int) -> None:
    del what, done, total


def _graphs(builds: object, present: HNSWConfig | None, live: Index | None) -> list[HNSWConfig]:
    """Return the parameters of the graphs to build."""
    base = present or HNSWConfig()
    if builds is True:
        wanted = [replace(base, m=m, ef_construction=ef_construction) for m, ef_construction in _GRAPHS]
    elif builds is False:
        wanted = []
    else:
        try:
            wanted = list(builds)  # type: ignore[call-overload]  # checked by trying
        except TypeError as error:
            raise ConfigError(f"builds must be True, False or HNSWConfigs, got {builds!r}") from error
        if wrong := [one for one in wanted if not isinstance(one, HNSWConfig)]:
            raise ConfigError(f"builds must be HNSWConfigs, got {wrong[0]!r}")
    if not wanted and not isinstance(live, HNSWIndex):
        what = "shows no index" if present else "searches exactly, so its recall is 1 and there is nothing to tune"
        raise ConfigError(f"this memory {what}; builds=True measures HNSW indexes beside it, advise() whether one pays")
    have = [live.config] if isinstance(live, HNSWIndex) else []
    alike = {replace(one, ef_search=1) for one in have}
    return list({replace(one, ef_search=1): one for one in wanted if replace(one, ef_search=1) not in alike}.values())


class _Setup(NamedTuple):
    backend: EpisodicBackend
    service: EmbeddingService
    target: Target
    queries: Queries
    rows: Stored
    live: Index | None
    on_progress: Progress


@dataclass(frozen=True, slots=True)
class _Graph:
    index: HNSWIndex
    build_seconds: float | None


@dataclass
class _Session:
    """What was measured of one graph, beside the reference that every session has."""

    graph: _Graph
    found: dict[int, Interval]
    spent: list[NDArray[np.float64]]
    memory_bytes: int
    reference: float


class _Tuning:
    """One run of measurements.

    Args:
        setup: what is measured, how, and to which end.
        exact: an index that can be searched exactly.
        few: whether the queries have so few candidates that a graph has no part in the answers.
    """

    def __init__(self, setup: _Setup, exact: Index, *, few: bool) -> None:
        self._setup = setup
        self._few = few
        self._all = setup.rows.labels(ALL)
        setup.on_progress("searching exactly", 0, len(setup.queries.each))
        self._judge = Judge(exact, setup.queries)

    def report(self, graphs: Sequence[HNSWConfig]) -> TuneReport:
        """Measure everything, and choose."""
        sessions = [self._session(graph) for graph in self._indexes(graphs)] if self._judge.queries else []
        points = [point for session in sessions for point in self._points(session, sessions)]
        target, queries = self._setup.target, self._setup.queries
        chosen = self._chosen(points)
        return TuneReport(
            points=tuple(points),
            chosen=chosen,
            met=chosen is not None and target.met(chosen),
            sure=chosen is not None and target.sure(chosen),
            applied=False,
            confirmed=None,
            search_us=None if chosen is None else self._whole_search(chosen),
            kind=queries.kind,
            queries=len(self._judge.queries),
            k=queries.k,
            entries=len(self._all),
            target_recall=target.recall,
            target_p95_us=target.p95_us,
            before=self._setup.backend.hnsw,
            few=self._few,
            seconds=0.0,
        )

    def _chosen(self, points: list[TunePoint]) -> TunePoint | None:
        if not points:
            return None
        if self._few:  # what the index happens to find by scanning says nothing of larger ones
            return next((point for point in points if not point.trial), points[0])
        return self._setup.target.best(points)

    def _indexes(self, graphs: Sequence[HNSWConfig]) -> Iterator[_Graph]:
        """Yield the live index, then one trial index after the other."""
        if isinstance(self._setup.live, HNSWIndex):
            yield _Graph(self._setup.live, None)
        for place, hnsw in enumerate(graphs):
            what = f"building m={hnsw.m}, ef_construction={hnsw.ef_construction} ({place + 1} of {len(graphs)})"
            logger.info("Trial index: %s, about %d MiB", what, self._estimated_bytes(hnsw) >> 20)
            began = time.perf_counter()
            index = built(
                self._setup.backend,
                self._setup.rows,
                self._all,
                hnsw,
                on_progress=partial(self._setup.on_progress, what),
            )
            assert isinstance(index, HNSWIndex)  # noqa: S101 (for the type checker: hnsw is given)
            yield _Graph(index, round(time.perf_counter() - began, 3))

    def _estimated_bytes(self, hnsw: HNSWConfig) -> int:
        """A vector with its code of half a byte a number, twice m links of 4 bytes, and some bytes beside."""
        number = 4.5 if hnsw.dtype == "float32" else 2.5
        return round(len(self._all) * (number * self._setup.backend.space.dimensions + 8 * hnsw.m + 64))

    def _session(self, graph: _Graph) -> _Session:
        found = self._recalls(graph.index)
        works = [self._search(graph.index, ef) for ef in found]
        self._setup.on_progress("timing searches", 0, len(works))
        live = self._setup.live
        *spent, reference = in_turns(
            [*works, self._search(graph.index if live is None else live, None)], self._judge.queries
        )
        return _Session(graph, found, spent, graph.index.stats().memory_bytes, float(np.median(reference)))

    def _search(self, index: Index, ef: int | None) -> Work:
        k = self._setup.queries.k
        if ef is None or not isinstance(index, HNSWIndex):
            return lambda query: index.search(query.vector, k, among=query.among)
        return lambda query: index.search(query.vector, k, among=query.among, ef_search=ef)

    def _recalls(self, index: HNSWIndex) -> dict[int, Interval]:
        """Return the recall at values of `ef_search`, in ascending order."""
        if self._few:
            return {index.config.ef_search: self._judge.recall(index, index.config.ef_search)}
        k = self._setup.queries.k
        found: dict[int, Interval] = {}
        complete = max(_COMPLETE, self._setup.target.recall or 0.0)
        grid = sorted({k, *(ef for ef in _GRID if ef > k)})
        for place, ef in enumerate(grid):
            self._setup.on_progress("measuring recall", place, len(grid))
            found[ef] = self._judge.recall(index, ef)
            if found[ef].mean >= complete or self._flat(found):
                break
        if index.config.ef_search not in found:
            found[index.config.ef_search] = self._judge.recall(index, index.config.ef_search)
        return dict(sorted(self._refined(index, found).items()))

    def _flat(self, found: dict[int, Interval]) -> bool:
        """Say whether three times the candidates have found next to nothing more, and enough was found before."""
        last = max(found)
        before = [one.mean for ef, one in found.items() if ef * _FLAT_TIMES <= last]
        enough = self._setup.target.recall or 0.0
        return bool(before) and before[-1] >= enough and found[last].mean - before[-1] < 1 - _COMPLETE

    def _refined(self, index: HNSWIndex, found: dict[int, Interval]) -> dict[int, Interval]:
        """Halve the gap in which the least `ef_search` that meets a recall lies."""
        recall = self._setup.target.recall
        for _ in range(_HALVINGS if recall is not None else 0):
            meeting = min((ef for ef, one in found.items() if one.mean >= (recall or 0.0)), default=None)
            short = max((ef for ef in found if meeting is not None and ef < meeting), default=None)
            if meeting is None or short is None or meeting - short <= max(1, meeting // 16):
                break
            between = (meeting + short) // 2
            found[between] = self._judge.recall(index, between)
        return found

    def _points(self, session: _Session, sessions: Sequence[_Session]) -> Iterator[TunePoint]:
        """Yield a session's points; its times are those of a session in which the reference took its median time."""
        usual = float(np.median([one.reference for one in sessions]))
        for (ef, estimate), spent in zip(session.found.items(), session.spent, strict=True):
            took = latency(spent * (usual / session.reference if self._setup.live is not None else 1.0))
            yield TunePoint(
                hnsw=replace(session.graph.index.config, ef_search=ef),
                recall=round(estimate.mean, 6),
                low=round(estimate.low, 6),
                high=round(estimate.high, 6),
                p50_us=took.p50,
                p95_us=took.p95,
                trial=session.graph.build_seconds is not None,
                build_seconds=session.graph.build_seconds,
                memory_bytes=session.memory_bytes,
            )

    def _whole_search(self, chosen: TunePoint) -> Latency | None:
        """Time searches through the memory, of entries that were read before.

        Where the chosen setting is not in force, what they take besides the index is added to its own times.
        """
        memory = EpisodicMemory(self._setup.backend, self._setup.service)
        k, queries, live = self._setup.queries.k, self._judge.queries[:_WHOLE], self._setup.live
        if live is None:
            return None

        def search(query: Query) -> object:
            return memory.search(query.vector, k, where=query.where)

        with unrecorded():  # they are nobody's searches
            timed(search, queries)
            alone = timed(self._search(live, None), queries)
            whole = timed(search, queries)
        if self._setup.backend.hnsw == chosen.hnsw:
            return latency(whole)
        besides = max(0.0, float(np.median(whole) - np.median(alone)))
        return Latency(round(chosen.p50_us + besides, 1), round(chosen.p95_us + besides, 1))

    def applied(self, report: TuneReport) -> TuneReport:
        """Put the chosen parameters in force and on record; measure again what was rebuilt."""
        chosen, backend = report.chosen, self._setup.backend
        assert chosen is not None  # noqa: S101 (the target is met)
        self._setup.on_progress("applying", 0, 1)
        backend.configure(chosen.hnsw)
        if isinstance(backend, ShowsIndex):
            self._setup = self._setup._replace(live=backend.index())
        confirmed = self._confirmed(chosen) if chosen.trial else None
        now = confirmed or chosen
        at = datetime.now(UTC).isoformat(timespec="seconds")
        space = str(backend.space)
        note = Tuned(hnsw=chosen.hnsw, entries=report.entries, k=report.k, recall=now.recall, space=space, at=at)
        backend.write_note(NOTE, note.text())
        return replace(report, applied=True, confirmed=confirmed, search_us=self._whole_search(chosen))

    def _confirmed(self, chosen: TunePoint) -> TunePoint | None:
        index = self._setup.live
        if not isinstance(index, HNSWIndex):
            return None
        estimate = self._judge.recall(index, chosen.hnsw.ef_search)
        took = latency(in_turns([self._search(index, chosen.hnsw.ef_search)], self._judge.queries)[0])
        return replace(
            chosen,
            recall=round(estimate.mean, 6),
            low=round(estimate.low, 6),
            high=round(estimate.high, 6),
            p50_us=took.p50,
            p95_us=took.p95,
            trial=False,
            build_seconds=None,
            memory_bytes=index.stats().memory_bytes,
        )
