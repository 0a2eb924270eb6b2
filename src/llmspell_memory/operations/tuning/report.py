"""What tuning found: points of recall against latency, the one that was chosen, and how that is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmspell_memory.operations.tuning.queries import MEANING

if TYPE_CHECKING:
    import os

    from llmspell_memory.operations.tuning.queries import QueryKind
    from llmspell_memory.types import HNSWConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TunePoint:
    """One setting, measured.

    Attributes:
        hnsw: the parameters.
        recall: the share of the k nearest that were found.
        low: lower end of its 95 % interval.
        high: upper end.
        p50_us: median of a search of the index alone, in microseconds, on one thread.
        p95_us: its 95th percentile.
        trial: whether it was measured on an index built for that, beside the live one.
        build_seconds: how long building that took, on all processors; None for the live index.
        memory_bytes: of the index.
    """

    hnsw: HNSWConfig
    recall: float
    low: float
    high: float
    p50_us: float
    p95_us: float
    trial: bool
    build_seconds: float | None
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneReport:
    """What `tune` measured, chose and did.

    Attributes:
        points: what was measured, index by index, by ef_search.
        chosen: the cheapest point that meets the target; where none does, the best there is. None for an empty memory.
        met: whether the chosen point meets the target.
        sure: whether its whole 95 % interval does, where the target is a recall.
        applied: whether the chosen parameters are in force and recorded in the store, by this call.
        confirmed: the chosen setting measured again in the live index, after that was rebuilt with it; None otherwise.
        search_us: median and 95th percentile of a whole search through the memory with the chosen setting, where the
            entries it finds were read before; measured where the setting is in force, else what such a search takes
            now beyond its index, added to the chosen point's own times. None where nothing was measured.
        kind: "given", "recorded" or "sampled" queries.
        queries: how many there were.
        k: how many hits were asked for.
        entries: how many vectors the index holds.
        target_recall: the recall wanted; None where a latency was.
        target_p95_us: the latency wanted; None where a recall was.
        before: the parameters that were in force; None where the search was exact.
        few: whether there are so few entries that their number, and not the graph, decides.
        seconds: how long all this took.
    """

    points: tuple[TunePoint, ...]
    chosen: TunePoint | None
    met: bool
    sure: bool
    applied: bool
    confirmed: TunePoint | None
    search_us: tuple[float, float] | None
    kind: QueryKind
    queries: int
    k: int
    entries: int
    target_recall: float | None
    target_p95_us: float | None
    before: HNSWConfig | None
    few: bool
    seconds: float

    @property
    def target(self) -> str:
        """The target in words."""
        if self.target_recall is not None:
            return f"recall@{self.k} of {self.target_recall:g}"
        return f"p95 of {self.target_p95_us:g} µs"

    @property
    def verdict(self) -> str:
        """What was chosen and why, in one line."""
        if self.chosen is None:
            return "the memory is empty: there is nothing to measure; tune it once it holds some thousand entries"
        what = f"{setting(self.chosen.hnsw)}: {figures(self.chosen, self.k)}"
        if self.few:
            few = f"{self.entries:,} entries are" if self.entries > 1 else "1 entry is"
            return f"{few} too few to choose by: nearly all searches look at all of them. {what}"
        if not self.met:
            return f"nothing measured meets the target, {self.target}; the best is {what}{self._remedy()}"
        return f"the cheapest that meets the target, {self.target}, is {what}{self._doubt()}{self._done()}"

    def _remedy(self) -> str:
        if any(point.trial for point in self.points):
            return ""
        return "; other graphs may: measure them with trial builds"

    def _doubt(self) -> str:
        if self.sure or self.chosen is None:
            return ""
        return f"; its interval begins at {self.chosen.low:.4f}, below the target, so more queries may say otherwise"

    def _done(self) -> str:
        if self.confirmed is not None:
            return f"; applied: the rebuilt index has {figures(self.confirmed, self.k)}"
        if self.applied:
            return "; applied"
        return ", as now" if self.chosen is not None and self.chosen.hnsw == self.before else ""

    @property
    def meaning(self) -> str:
        """What kind of queries these figures are of."""
        return f"{self.queries:,} {MEANING[self.kind]}"

    def table(self) -> str:
        """Return all points as a table of text, the chosen one marked by an asterisk, and the verdict below."""
        heads = headings(self.k)
        rows = [heads, *(row(point, chosen=point == self.chosen) for point in self.points)]
        widths = [max(len(line[place]) for line in rows) for place in range(len(heads))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in rows]
        return "\n".join([*lines, "", f"measured with {self.meaning}", self.verdict])

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw recall against latency into a file, .png or .svg by its name.

        Raises:
            MissingDependencyError: the extra `plot` is not installed.
            InputError: nothing was measured, or the name ends otherwise.
            StorageError: the file cannot be written.
        """
        from llmspell_memory.operations.tuning.plots import draw  # noqa: PLC0415 (its package is optional)

        draw(self, path)


def setting(hnsw: HNSWConfig) -> str:
    """Return parameters in short."""
    return f"m={hnsw.m}, ef_construction={hnsw.ef_construction}, ef_search={hnsw.ef_search}"


def figures(point: TunePoint, k: int) -> str:
    """Return what was measured of a point, in words."""
    return f"recall@{k} {point.recall:.4f} at p50 {point.p50_us:,.0f} µs, p95 {point.p95_us:,.0f} µs"


def headings(k: int) -> tuple[str, ...]:
    """Return what stands above the cells of `row`."""
    return ("", "m", "ef_construction", "ef_search", f"recall@{k}", "95 %", "p50 µs", "p95 µs", "MiB", "build s")


def row(point: TunePoint, *, chosen: bool) -> tuple[str, ...]:
    """Return a point as cells."""
    return (
        "*" if chosen else "",
        f"{point.hnsw.m}",
        f"{point.hnsw.ef_construction}",
        f"{point.hnsw.ef_search}",
        f"{point.recall:.4f}",
        f"{point.low:.4f}-{point.high:.4f}",
        f"{point.p50_us:,.1f}",
        f"{point.p95_us:,.1f}",
        f"{point.memory_bytes / 2**20:,.1f}",
        "live" if point.build_seconds is None else f"{point.build_seconds:,.1f}",
    )
