"""What was found about exact search and HNSW on a memory's own data, and how that is told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from llmspell_memory.types import HNSWConfig

WORTH: Final = 2.0
"""How many times quicker than exact search HNSW must be to pay for what it costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvicePoint:
    """Both views over a part of the data.

    Attributes:
        entries: in the part.
        exact_p50_us: median of an exact search of the index, in microseconds, on one thread.
        exact_p95_us: its 95th percentile.
        hnsw_p50_us: median of a search by HNSW; None where that was not measured.
        hnsw_p95_us: its 95th percentile.
        recall: of HNSW.
    """

    entries: int
    exact_p50_us: float
    exact_p95_us: float
    hnsw_p50_us: float | None
    hnsw_p95_us: float | None
    recall: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Whether HNSW pays for a memory. What could not be told is None.

    Attributes:
        entries: how many vectors there are.
        view: what answers searches now.
        hnsw: the parameters that HNSW was measured with.
        k: how many hits were asked for.
        points: what was measured, by size.
        exact_p50_us: median of an exact search at the present size, in microseconds.
        hnsw_p50_us: the same of HNSW.
        estimated: whether `hnsw_p50_us` and `recall` are of the largest part measured and a curve through all, and not
            of an index of the present size.
        recall: of HNSW at the present size.
        pays: whether HNSW is at least twice as quick at the present size.
        crossover: from how many entries on it is.
        exact_bytes: memory of an exact index, an entry.
        hnsw_bytes: memory of an HNSW index, an entry.
        build_seconds: how long building one of the present size takes, on all processors, from what the largest part
            took; it grows somewhat faster than the entries.
        entries_per_day: how many were added a day, in the last 30 days, or since the day after the first.
        days: until there are as many as `crossover`, at that pace; 0 where there are.
        seconds: how long all this took.
    """

    entries: int
    view: Literal["exact", "hnsw"]
    hnsw: HNSWConfig
    k: int
    points: tuple[AdvicePoint, ...]
    exact_p50_us: float | None
    hnsw_p50_us: float | None
    estimated: bool
    recall: float | None
    pays: bool | None
    crossover: int | None
    exact_bytes: int | None
    hnsw_bytes: int | None
    build_seconds: float | None
    entries_per_day: float | None
    days: float | None
    seconds: float

    @property
    def extra_bytes(self) -> int | None:
        """What HNSW takes in memory beyond an exact index, at the present size."""
        if self.exact_bytes is None or self.hnsw_bytes is None:
            return None
        return self.entries * (self.hnsw_bytes - self.exact_bytes)

    @property
    def verdict(self) -> str:
        """The advice, in one line."""
        if not self.entries:
            return (
                "the memory is empty: either view will do, for an HNSW index of few entries looks at all of them; ask "
                "again at some thousand"
            )
        if self.pays is None:
            entries = f"{self.entries:,} entries" if self.entries > 1 else "1 entry"
            found = f"exact search takes {self.exact_p50_us:,.0f} µs at {entries}"
            return f"either view will do: {found}, and an HNSW index of so few looks at all of them, too"
        about = "about " if self.estimated else ""
        compared = (
            f"at {self.entries:,} entries an exact search takes {self.exact_p50_us:,.0f} µs and one by HNSW "
            f"{about}{self.hnsw_p50_us:,.0f} µs, at recall@{self.k} {about}{self.recall:.3f}"
        )
        if self.pays:
            return f"HNSW pays{' and is in use' if self.view == 'hnsw' else ''}: {compared}{self._cost()}"
        return f"exact search is enough{self._in_use()}: {compared}{self._later()}"

    def _in_use(self) -> str:
        return ", though HNSW is in use" if self.view == "hnsw" else ""

    def _cost(self) -> str:
        if self.extra_bytes is None:
            return ""
        more = "more" if self.extra_bytes >= 0 else "less"
        built = "" if self.view == "hnsw" else f", and some {self.build_seconds:,.1f} s to build"
        return f"; it takes {abs(self.extra_bytes) / 2**20:,.1f} MiB {more} memory{built}"

    def _later(self) -> str:
        if self.crossover is None:
            return ""
        at = f"; HNSW is twice as quick from about {rounded(self.crossover):,} entries on"
        if self.days is None or not self.entries_per_day:
            return at
        return f"{at}, in {math.ceil(self.days):,} days at {self.entries_per_day:,.0f} entries a day"

    def table(self) -> str:
        """Return what was measured as a table of text, the verdict below it."""
        rows = [headings(self.k), *(row(point) for point in self.points)]
        widths = [max(len(line[place]) for line in rows) for place in range(len(rows[0]))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in rows]
        return "\n".join([*lines, "", self.verdict])


def rounded(count: int) -> int:
    """Return a number to two digits: no fit knows more."""
    digits = max(0, len(f"{count}") - 2)
    return int(round(count, -digits))


def headings(k: int) -> tuple[str, ...]:
    """Return what stands above the cells of `row`."""
    return ("entries", "exact p50 µs", "exact p95 µs", "HNSW p50 µs", "HNSW p95 µs", f"recall@{k}", "times as quick")


def row(point: AdvicePoint) -> tuple[str, ...]:
    """Return a point as cells."""
    exact = (f"{point.entries:,}", f"{point.exact_p50_us:,.1f}", f"{point.exact_p95_us:,.1f}")
    if point.hnsw_p50_us is None:
        return (*exact, "-", "-", "-", "-")
    times = point.exact_p50_us / point.hnsw_p50_us
    return (*exact, f"{point.hnsw_p50_us:,.1f}", f"{point.hnsw_p95_us:,.1f}", f"{point.recall:.4f}", f"{times:,.1f}")
