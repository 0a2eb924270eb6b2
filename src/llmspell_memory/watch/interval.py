"""How sure one may be of a mean of recalls: an interval that is honest near 1, and where queries in a row are alike.

Recall lies between 0 and 1 and mostly at 1, where mean plus and minus two standard errors would claim certainty. The
score interval (Wilson 1927) does not. It is made for successes and failures; for a mean of numbers in between, the
number of trials is the one that would have the variance observed (Korn & Graubard 1998, "Confidence intervals for
proportions with small expected number of positive counts estimated from survey data"). Two corrections keep that from
claiming too much:

- Queries that come one after the other may be alike. The variance of the mean includes the covariances between them, as
  far as these can be told from noise (initial positive sequence, Geyer 1992, "Practical Markov chain Monte Carlo").
- Rare failures may not have been seen yet. One query that finds nothing is added to the variance, not to the mean.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_Z: Final = 1.959964
"""The 97.5th percentile of the normal distribution: 95 % lie between it and its opposite."""

_MOST: Final = 4.0
"""Trials that one query may count as: a recall of 10 hits is not worth 10 queries."""

_NOISE: Final = 0.05
"""Correlations below this are taken for none."""


class Interval(NamedTuple):
    """A mean, and where the 95 % confidence interval around it begins and ends."""

    mean: float
    low: float
    high: float


def interval(recalls: Sequence[float]) -> Interval:
    """Return the mean of recalls, in the order they were measured, with its interval; of one at least."""
    values = np.fromiter(recalls, np.float64, len(recalls))
    mean, count = float(values.mean()), float(len(values))
    if not 0.0 < mean < 1.0:
        return Interval(mean, *_wilson(mean, count, _Z))
    most = mean * (1.0 - mean)  # no numbers from 0 to 1 vary more
    variance = min(float(values.var()) + mean**2 / count, most)
    count /= 1.0 + 2.0 * _correlations(values - mean)
    return Interval(mean, *_wilson(mean, min(most / variance, _MOST) * count, _quantile(count)))


def _quantile(count: float) -> float:
    """Return Student's quantile, whose first terms do, for a variance known from so many independent numbers."""
    return _Z * (1.0 + (_Z**2 + 1.0) / (4.0 * max(count - 1.0, 1.0)))


def _wilson(mean: float, trials: float, z: float) -> tuple[float, float]:
    """Return Wilson's interval for a share `mean` of so many trials."""
    shrunk = z**2 / trials
    middle = (mean + shrunk / 2) / (1 + shrunk)
    half = z / (1 + shrunk) * math.sqrt(mean * (1 - mean) / trials + shrunk / trials / 4)
    return max(0.0, min(mean, middle - half)), min(1.0, max(mean, middle + half))


def _correlations(deviations: NDArray[np.float64]) -> float:
    """Return the sum of the autocorrelations, of lag 1 and up, until those of two neighbouring lags vanish."""
    count = len(deviations)
    square = float(deviations @ deviations)
    if not square:
        return 0.0
    width = 1 << (2 * count - 1).bit_length()
    spectrum = np.fft.rfft(deviations, width)
    lags = np.fft.irfft(spectrum * spectrum.conj(), width)[: count // 2] / square
    pairs = lags[1 : len(lags) - 1 : 2] + lags[2 : len(lags) : 2]
    ends = np.flatnonzero(pairs <= _NOISE)
    return float(pairs[: ends[0] if len(ends) else len(pairs)].sum())
