"""How long things took: histograms of fixed size, in which recording costs some tens of nanoseconds.

Buckets are log-linear, as in HdrHistogram (Tene 2012): exact below 32 ns, then 32 of equal width in each power of two,
up to 18 minutes; what took longer counts there. A bucket is at most 1/32 of its values wide, and a percentile is given
as the middle of its bucket, so it is off by at most 1/64.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

_BITS: Final = 5
_TOP: Final = 40
"""Powers of two that are told apart: 2**40 ns are 18 minutes."""

_BUCKETS: Final = (_TOP - _BITS + 1) << _BITS
_BOUNDS: Final = tuple(range(12, 35))
"""Powers of two of nanoseconds, 4 µs to 17 s, at which `LatencyStats.buckets` counts: edges of buckets, so exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyStats:
    """How long an operation took, in microseconds.

    Attributes:
        count: how many were recorded.
        mean: of all of them.
        p50: half of them took no longer; off by 1/64 at most, as the other percentiles are.
        p95: 95 of 100 took no longer.
        p99: 99 of 100 took no longer.
        max: the longest.
        seconds: of all of them together.
        buckets: how many took no longer than so many seconds, for bounds from 4 µs to 17 s; the rest took longer.
    """

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    max: float
    seconds: float
    buckets: tuple[tuple[float, int], ...]


class Histogram:
    """Durations in nanoseconds, counted in buckets; takes 10 KB once there is one, however many there are.

    There is no lock. In CPython a thread gives up the interpreter only at calls and at jumps back, and there is neither
    between reading a count and writing it. Where an interpreter does otherwise, a count may be lost; nothing else can
    be: the number of durations is the sum of the buckets and always fits them.
    """

    __slots__ = ("_counts", "_longest", "_total")

    def __init__(self) -> None:
        self._counts: list[int] = []
        self._total = 0
        self._longest = 0

    def record(self, ns: int) -> None:
        """Count a duration of `ns` nanoseconds, 0 or more."""
        shift = ns.bit_length() - _BITS - 1
        try:
            self._counts[(shift << _BITS) + (ns >> shift) if shift > 0 else ns] += 1
        except IndexError:
            self._count_beyond(ns)
        self._total += ns
        if ns > self._longest:  # noqa: PLR1730 (max() takes 60 ns more)
            self._longest = ns

    def _count_beyond(self, ns: int) -> None:
        """Count a duration for which there is no bucket, or none yet."""
        if not self._counts:
            self._counts = [0] * _BUCKETS
        self._counts[_place_of(ns)] += 1

    def merge(self, other: Histogram) -> Self:
        """Count what `other` has counted as well, and return this one."""
        none = [0] * _BUCKETS
        ours, theirs = self._counts or none, other._counts or none
        self._counts = [one + two for one, two in zip(ours, theirs, strict=True)]
        self._total += other._total
        self._longest = max(self._longest, other._longest)
        return self

    def snapshot(self) -> LatencyStats:
        """Return what was recorded so far."""
        counts = self._counts.copy() or [0] * _BUCKETS
        total, longest = self._total, self._longest
        upto = list(accumulate(counts))
        count = upto[-1]

        def percentile(share: float) -> float:
            """The middle of the bucket in which so many have been counted; no longer than the longest."""
            wanted = max(1, -int(-share * count // 1))
            place = next((place for place, reached in enumerate(upto) if reached >= wanted), 0)
            low, high = _edges(place)
            return min((low + high - 1) / 2, longest) / 1e3

        return LatencyStats(
            count=count,
            mean=total / count / 1e3 if count else 0.0,
            p50=percentile(0.50),
            p95=percentile(0.95),
            p99=percentile(0.99),
            max=longest / 1e3,
            seconds=total / 1e9,
            buckets=tuple((2**power / 1e9, upto[_first_of(power) - 1]) for power in _BOUNDS),
        )


def _place_of(ns: int) -> int:
    """Return the number of a duration's bucket, the last one for what is beyond it."""
    shift = max(0, ns.bit_length() - _BITS - 1)
    return min((shift << _BITS) + (ns >> shift), _BUCKETS - 1)


def _first_of(power: int) -> int:
    """Return the number of the bucket that begins at 2**power."""
    return (power - _BITS + 1) << _BITS


def _edges(place: int) -> tuple[int, int]:
    """Return the first duration of a bucket, and the first of the next."""
    shift = max(0, (place >> _BITS) - 1)
    low = (place - (shift << _BITS)) << shift
    return low, low + (1 << shift)


class Both(Histogram):
    """A histogram whose durations count in another one, too.

    Args:
        other: the other one.
    """

    __slots__ = ("_other",)

    def __init__(self, other: Histogram) -> None:
        super().__init__()
        self._other = other

    def record(self, ns: int) -> None:
        """Count a duration in both."""
        Histogram.record(self, ns)
        self._other.record(ns)


class _Spent(threading.local):
    """What a thread's search has spent in the index so far, and whether its searches are recorded."""

    ns = 0
    recorded = True


in_index: Final = _Spent()
"""An index adds what its search took; the backend takes it from there, once for each of its own."""


class SearchParts:
    """Times of the two parts of a backend's searches: in the index, and with rows (finding and reading them).

    The backend times a search as a whole, and its index says how much of that it took, in `in_index`.
    """

    def __init__(self) -> None:
        self._index = Histogram()
        self._rows = Histogram()

    def whole_took(self, ns: int) -> None:
        """Record this thread's search, which took `ns` as a whole: what the index did not take was spent on rows."""
        index, in_index.ns = in_index.ns, 0
        if in_index.recorded:
            self._index.record(index)
            self._rows.record(ns - index)

    def snapshot(self) -> dict[str, LatencyStats]:
        """Return the times of each part by its name."""
        return {"search.index": self._index.snapshot(), "search.rows": self._rows.snapshot()}


@contextmanager
def unrecorded() -> Iterator[None]:
    """Leave what this thread searches out of the parts of searches: it is no search of the user's."""
    before, in_index.recorded = in_index.recorded, False
    try:
        yield
    finally:
        in_index.recorded = before
