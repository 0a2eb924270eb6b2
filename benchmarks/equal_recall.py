"""Engines compared where they find the same: a quick index that finds less has not won."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from engines import OURS, YARDSTICK

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TARGETS: Final = (0.95, 0.99)
YARDSTICK_EF: Final = 50

Row = dict[str, Any]


def summary(rows: Sequence[Row]) -> list[Row]:
    """Return a row per size and engine: its p50 at each target, and at what the yardstick finds at its usual ef.

    Each comes with how many times quicker that is than the yardstick. Engines that failed have their row, too.
    """
    result = []
    for size in dict.fromkeys(row["size"] for row in rows):
        engines = by_engine(row for row in rows if row["size"] == size)
        usual = next((row for row in engines.get(YARDSTICK, []) if row.get("ef") == YARDSTICK_EF), None)
        for name, measured in engines.items():
            line: Row = {"size": size, "index": name, "ours": name.startswith(OURS)}
            if "failed" in measured[0]:
                result.append(line | {"failed": measured[0]["failed"]})
                continue
            for target in TARGETS:
                quick = quickest(measured, target)
                if quick is not None:
                    line |= {f"p50@{target}": quick["p50"], f"setting@{target}": quick["setting"]}
                    line[f"ratio@{target}"] = ratio(quickest(engines.get(YARDSTICK, []), target), quick["p50"])
            if usual is not None:
                line["p50@usual"] = interpolated(measured, usual["recall"])
                line["ratio@usual"] = ratio(usual, line["p50@usual"])
            result.append(line | {key: measured[0][key] for key in ("build_seconds", "entry_bytes")})
    return result


def by_engine(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of each engine."""
    result: dict[str, list[Row]] = {}
    for row in rows:
        result.setdefault(row["index"], []).append(row)
    return result


def quickest(rows: Sequence[Row], target: float) -> Row | None:
    """Return the row with the least p50 of those that reach the target, if any does."""
    return min((row for row in rows if row.get("recall", 0) >= target), key=lambda row: float(row["p50"]), default=None)


def ratio(yardstick: Row | None, p50: float | None) -> float | None:
    """Return how many times quicker than the yardstick `p50` is."""
    return None if yardstick is None or p50 is None else round(yardstick["p50"] / p50, 2)


def front(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that no other beats in both recall and p50, by rising recall."""
    kept: list[Row] = []
    for row in sorted((row for row in rows if "failed" not in row), key=lambda row: (-row["recall"], row["p50"])):
        if not kept or row["p50"] < kept[-1]["p50"]:
            kept.append(row)
    return kept[::-1]


def interpolated(rows: Sequence[Row], recall: float) -> float | None:
    """Return the p50 at `recall` on the engine's line, whose p50 is logarithmic; None beyond its end."""
    line = front(rows)
    if line[-1]["recall"] < recall:
        return None
    at = np.interp(recall, [row["recall"] for row in line], np.log([row["p50"] for row in line]))
    return round(float(np.exp(at)), 1)
