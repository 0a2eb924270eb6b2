"""What a rollout has measured, the bar that it is measured by, and the report of both."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from llmspell_memory.errors import ConfigError
from llmspell_memory.watch.interval import interval

if TYPE_CHECKING:
    from collections.abc import Iterable

RolloutState: TypeAlias = Literal["comparing", "ready", "promoted", "rolled back", "broken"]
Side: TypeAlias = Literal["primary", "candidate"]

_WINDOW: Final = 1000
"""The most comparisons that figures are taken over: what a candidate did long ago excuses nothing that it does now."""

_ENOUGH: Final = 20
"""Comparisons before a low recall is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What a candidate must show before it may take over.

    Attributes:
        recall: the least share of the primary's answers that it must find, from 0 to 1. Where the 95 % interval lies
            below, the bar is broken.
        p95_ratio: the most that its 95th percentile of latency may be, as a multiple of the primary's.
        queries: how many compared queries it takes; figures are over the last so many, 1000 at most.
        errors: how many errors of the candidate are let pass; one more breaks the bar.

    Raises:
        ConfigError: a value is out of range.
    """

    recall: float = 0.95
    p95_ratio: float = 1.1
    queries: int = 200
    errors: int = 0

    def __post_init__(self) -> None:
        if not _is_number(self.recall) or not 0.0 <= self.recall <= 1.0:
            raise ConfigError(f"Bar.recall must be a number from 0 to 1, got {self.recall!r}")
        if not _is_number(self.p95_ratio) or not self.p95_ratio > 0.0:
            raise ConfigError(f"Bar.p95_ratio must be a number above 0, got {self.p95_ratio!r}")
        for name, least in (("queries", 1), ("errors", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"Bar.{name} must be an integer from {least} up, got {value!r}")

    @property
    def window(self) -> int:
        """How many of the last comparisons figures are over."""
        return min(self.queries, _WINDOW)

    def missing(self, figures: Figures) -> tuple[str, ...]:
        """Return what figures lack, a sentence each; nothing where they meet the bar."""
        lacking = []
        if figures.queries < self.queries:
            lacking.append(f"{figures.queries:,} of {self.queries:,} queries are compared")
        if figures.errors > self.errors:
            lacking.append(f"the candidate has failed {figures.errors:,} times, and may {self.errors:,} times")
        if figures.recall is not None and figures.recall < self.recall:
            lacking.append(f"recall is {figures.recall:.4f}, and must be {self.recall:g}")
        if figures.p95_ratio is not None and figures.p95_ratio > self.p95_ratio:
            lacking.append(f"p95 is {figures.p95_ratio:.2f} times the primary's, and may be {self.p95_ratio:g} times")
        return tuple(lacking)

    def broken(self, figures: Figures) -> str | None:
        """Say what breaks the bar, so that more queries will hardly mend it; None where nothing does."""
        if figures.errors > self.errors:
            return f"the candidate has failed: {figures.last_error}"
        if (
            figures.interval is not None
            and len(figures.recalls) >= min(_ENOUGH, self.queries)
            and figures.interval[1] < self.recall
        ):
            low, high = figures.interval
            return f"recall is {figures.recall:.4f} ({low:.4f} to {high:.4f}), and must be {self.recall:g}"
        return None


class Latencies(NamedTuple):
    """Percentiles of a latency, in microseconds."""

    p50: float
    p95: float
    p99: float


@dataclass(slots=True)
class Figures:
    """What was counted since the comparing began.

    Attributes:
        window: how many of the last comparisons are kept.
        queries: compared.
        skipped: not counted, since the two stores were not of one moment, or the primary failed.
        dropped: not compared, since too many were waiting.
        errors: of the candidate.
        last_error: what it said.
        recalls: of the last comparisons.
        primary: latencies of these, in microseconds.
        candidate: its latencies.
    """

    window: int
    queries: int = 0
    skipped: int = 0
    dropped: int = 0
    errors: int = 0
    last_error: str | None = None
    recalls: deque[float] = field(init=False)
    primary: deque[float] = field(init=False)
    candidate: deque[float] = field(init=False)

    def __post_init__(self) -> None:
        for name in _KEPT:
            setattr(self, name, deque[float](maxlen=self.window))

    def count(self, recall: float, *, primary: float, candidate: float) -> None:
        """Count a comparison: its recall, and both latencies in microseconds."""
        self.queries += 1
        self.recalls.append(recall)
        self.primary.append(primary)
        self.candidate.append(candidate)

    @property
    def recall(self) -> float | None:
        """Mean over the last comparisons; None before the first."""
        kept = tuple(self.recalls)  # at once, for another thread may be counting
        return math.fsum(kept) / len(kept) if kept else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The recall's 95 % interval; None before the first comparison."""
        kept = tuple(self.recalls)
        return interval(kept)[1:] if kept else None

    @property
    def p95_ratio(self) -> float | None:
        """The candidate's 95th percentile over the primary's; None before the first comparison."""
        primary, candidate = latencies(self.primary), latencies(self.candidate)
        return candidate.p95 / primary.p95 if primary and candidate and primary.p95 else None

    def to_json(self) -> dict[str, Any]:
        """Return an object for a note."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        return counts | {name: [round(value, 4) for value in tuple(getattr(self, name))] for name in _KEPT}

    @classmethod
    def from_json(cls, known: dict[str, Any], *, window: int) -> Figures:
        """Return what a note tells."""
        figures = cls(window, **{name: known[name] for name in _COUNTS})
        for name in _KEPT:
            getattr(figures, name).extend(known[name])
        return figures


_COUNTS: Final = ("queries", "skipped", "dropped", "errors", "last_error")
_KEPT: Final = ("recalls", "primary", "candidate")


def latencies(values: Iterable[float]) -> Latencies | None:
    """Return percentiles, each the least value that so many of 100 do not exceed; None for no value."""
    ordered = sorted(values)
    if not ordered:
        return None
    return Latencies(*(ordered[math.ceil(len(ordered) * share) - 1] for share in (0.50, 0.95, 0.99)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutReport:
    """How a rollout stands. Printed, it is a table.

    Attributes:
        state: "comparing"; "ready" when the bar is met; "promoted" while the candidate serves; "rolled back" and
            "broken", after which nothing is compared until `restart`.
        serving: who answers and takes writes.
        reason: why it was rolled back or is broken; None otherwise.
        lag: how many numbers of the one that serves the other is behind; None where that is not known now.
        lag_seconds: for how long it has been behind; None in what was read from the stores alone.
        queries: compared.
        recall: of the last queries, how much of the primary's answers the candidate has found; None before the first.
        interval: that recall's 95 % interval.
        primary: latencies of the primary in these queries, in microseconds, measured beside the candidate's.
        candidate: latencies of the candidate.
        errors: of the candidate.
        last_error: what it said last.
        skipped: queries that were not counted, since the two stores were not of one moment.
        dropped: queries that were not compared, since too many were waiting.
        unerased: whether the store that follows may still hold what was forgotten.
        missing: what the bar still lacks, a sentence each; nothing when it is met.
    """

    state: RolloutState
    serving: Side
    reason: str | None
    lag: int | None
    lag_seconds: float | None
    queries: int
    recall: float | None
    interval: tuple[float, float] | None
    primary: Latencies | None
    candidate: Latencies | None
    errors: int
    last_error: str | None
    skipped: int
    dropped: int
    unerased: bool
    missing: tuple[str, ...]

    def lines(self) -> list[tuple[str, str]]:
        """Return the table, a name and what is told of it on each line."""
        told = [
            ("state", self.state),
            ("serving", self.serving),
            ("lag", self._lag()),
            ("queries", f"{self.queries:,} compared, {self.skipped:,} skipped, {self.dropped:,} dropped"),
            ("recall", self._recall()),
            ("primary", _told(self.primary)),
            ("candidate", _told(self.candidate)),
            ("errors", f"{self.errors:,}" + (f", the last: {self.last_error}" if self.last_error else "")),
        ]
        if self.reason:
            told.append(("reason", self.reason))
        if self.unerased:
            told.append(("to erase", "the store that follows may still hold what was forgotten"))
        return told + [("missing", one) for one in self.missing]

    def _lag(self) -> str:
        if self.lag is None:
            return "unknown"
        return f"{self.lag:,} changes" + ("" if self.lag_seconds is None else f", {self.lag_seconds:.1f} s")

    def _recall(self) -> str:
        if self.recall is None or self.interval is None:
            return "not measured"
        return f"{self.recall:.4f}, between {self.interval[0]:.4f} and {self.interval[1]:.4f}"

    def __str__(self) -> str:
        return "\n".join(f"{name:<10} {text}" for name, text in self.lines())


def report_of(
    figures: Figures,
    bar: Bar,
    *,
    phase: RolloutState,
    serving: Side,
    reason: str | None,
    lag: int | None,
    lag_seconds: float | None,
    unerased: bool,
) -> RolloutReport:
    """Return figures as a report; a phase of "comparing" is "ready" where they meet the bar."""
    missing = bar.missing(figures)
    return RolloutReport(
        state="ready" if phase == "comparing" and not missing else phase,
        serving=serving,
        reason=reason,
        lag=lag,
        lag_seconds=lag_seconds,
        queries=figures.queries,
        recall=figures.recall,
        interval=figures.interval,
        primary=latencies(figures.primary),
        candidate=latencies(figures.candidate),
        errors=figures.errors,
        last_error=figures.last_error,
        skipped=figures.skipped,
        dropped=figures.dropped,
        unerased=unerased,
        missing=missing,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _told(found: Latencies | None) -> str:
    if found is None:
        return "not measured"
    return f"p50 {found.p50:,.0f} µs, p95 {found.p95:,.0f} µs, p99 {found.p99:,.0f} µs"
