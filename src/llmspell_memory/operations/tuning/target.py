"""What tuning aims at, and which of the measured settings comes off best."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from llmspell_memory.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from llmspell_memory.operations.tuning.report import TunePoint

_WORTH: Final = 0.9
"""Another graph must take this share of the present one's time at most: less is noise, and a rebuild costs."""


@dataclass(frozen=True, slots=True)
class Target:
    """A recall that must be reached, or a time that must be kept.

    Args:
        recall: the least recall.
        p95_us: the most that the 95th percentile of a search of the index may be, in microseconds.

    Raises:
        ConfigError: not exactly one of them is given, or it is out of range.
    """

    recall: float | None
    p95_us: float | None

    def __post_init__(self) -> None:
        if (self.recall is None) == (self.p95_us is None):
            raise ConfigError("give one target: target_recall, such as 0.95, or target_p95_us, in microseconds")
        _check(self.recall, "target_recall must be a number above 0, up to 1", most=1.0)
        _check(self.p95_us, "target_p95_us must be a number of microseconds above 0", most=math.inf)

    def met(self, point: TunePoint) -> bool:
        """Say whether a setting meets it, as measured."""
        return point.recall >= self.recall if self.recall is not None else point.p95_us <= (self.p95_us or 0.0)

    def sure(self, point: TunePoint) -> bool:
        """Say whether it does so even at the lower end of the interval of its recall."""
        return point.low >= self.recall if self.recall is not None else self.met(point)

    def best(self, points: Sequence[TunePoint]) -> TunePoint:
        """Return the cheapest that meets it; where none does, the one that comes nearest.

        For a recall that is the quickest, for a time the one that finds most. The graph that is there is kept, where
        another gains no more than what measurements are off by.
        """
        met = [point for point in points if self.met(point)]
        if self.recall is None:
            return _most_found(met) if met else min(points, key=lambda point: point.p95_us)
        return _quickest(met) if met else max(points, key=_by_recall)


def _check(value: object, message: str, *, most: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most or value == math.inf:
        raise ConfigError(f"{message}, got {value!r}")


def _by_recall(point: TunePoint) -> tuple[float, float]:
    return point.recall, -point.p50_us


def _most_found(points: Iterable[TunePoint]) -> TunePoint:
    best = max(points, key=_by_recall)
    live = (point for point in points if not point.trial and point.recall >= best.low)
    return max(live, key=_by_recall, default=best) if best.trial else best


def _quickest(points: Iterable[TunePoint]) -> TunePoint:
    """Of each graph the least `ef_search`, which is its quickest whatever the clock said; of these the quickest."""
    least: dict[object, TunePoint] = {}
    for point in sorted(points, key=lambda point: point.hnsw.ef_search):
        least.setdefault((point.trial, replace(point.hnsw, ef_search=1)), point)
    best = min(least.values(), key=lambda point: point.p50_us)
    live = (point for point in least.values() if not point.trial and best.p50_us > _WORTH * point.p50_us)
    return next(live, best)
