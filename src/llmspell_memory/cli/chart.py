"""A curve of recall against latency in letters, for a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from llmspell_memory.operations import TuneReport

_WIDTH: Final = 72
_HEIGHT: Final = 14
_LEAST_LACK: Final = 1e-3
_TICKS: Final = (0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)


class _Axis:
    """Places values between two ends on some columns or lines."""

    def __init__(self, values: list[float], places: int) -> None:
        self._low, self._high = min(values), max(values)
        self._last = places - 1

    def place(self, value: float) -> int | None:
        """Return where a value belongs; None outside."""
        span = self._high - self._low
        if not span:
            return 0 if value == self._low else None
        at = round((value - self._low) / span * self._last)
        return at if 0 <= at <= self._last else None


def _lacking(recall: float) -> float:
    """What recall lacks, as a logarithm: that is where settings differ."""
    return -math.log10(max(1 + _LEAST_LACK - recall, _LEAST_LACK / 2))


def chart(report: TuneReport) -> list[str]:
    """Return the lines of a picture: p50 upwards, recall to the right, both on logarithms.

    `o` is the live index, `+` a trial index, `*` the chosen point, and the upright or level line the target.
    """
    if not report.points:
        return []
    across = _Axis([_lacking(point.recall) for point in report.points], _WIDTH)
    times = [point.p50_us for point in report.points]
    up = _Axis([math.log(one) for one in times], _HEIGHT)
    cells = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    if report.target_recall is not None and (column := across.place(_lacking(report.target_recall))) is not None:
        for row in cells:
            row[column] = "│"
    marks = [(point, "+" if point.trial else "o") for point in report.points]
    for point, mark in [*marks, *([(report.chosen, "*")] if report.chosen else [])]:
        line, column = up.place(math.log(point.p50_us)), across.place(_lacking(point.recall))
        cells[line or 0][column or 0] = mark
    labels = {_HEIGHT - 1: f"{max(times):,.0f}", 0: f"{min(times):,.0f}"}
    if report.chosen:
        labels[up.place(math.log(report.chosen.p50_us)) or 0] = f"{report.chosen.p50_us:,.0f}"
    margin = max(len(label) for label in labels.values())
    lines = [f"{labels.get(at, ''):>{margin}} ┤{''.join(cells[at]).rstrip()}" for at in reversed(range(_HEIGHT))]
    return [f"{'µs':>{margin}}", *lines, f"{'':{margin}} └{'─' * _WIDTH}", f"{'':{margin}}  {_ticks(across, report.k)}"]


def _ticks(across: _Axis, k: int) -> str:
    """Return recalls below the places where they belong, as many as there is room for."""
    text = ""
    for tick in _TICKS:
        column, label = across.place(_lacking(tick)), f"{tick:g}"
        if column is not None and (not text or column - len(label) // 2 > len(text)):
            text = f"{text:{max(0, column - len(label) // 2)}}{label}"
    return f"{text:{_WIDTH - 10}}  recall@{k}"
