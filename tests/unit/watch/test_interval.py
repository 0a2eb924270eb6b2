"""The confidence interval of recall, against simulations in which the truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmspell_memory.watch.interval import interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

K = 10
RUNS = 400


def recalls(chance: np.random.Generator, mean: float, spread: float, count: int, burst: int) -> NDArray[np.float64]:
    """Recalls of queries about topics: each topic has its own recall, and queries about it come in bursts.

    A small `spread` is extreme: most topics are found wholly or hardly at all. With bursts of 1 a topic is drawn for
    each query.
    """
    if mean == 1.0:
        return np.ones(count)
    found: list[float] = []
    while len(found) < count:
        topic = chance.beta(mean * spread, (1 - mean) * spread)
        found += (chance.binomial(K, topic, chance.geometric(1 / burst)) / K).tolist()
    return np.array(found[:count])


def covered(mean: float, spread: float, count: int, burst: int) -> tuple[float, float]:
    """Return in which share of runs the interval covers the mean, and how wide it is on average."""
    chance = np.random.default_rng(round(mean * 1000) + count)
    intervals = [interval(recalls(chance, mean, spread, count, burst).tolist()) for _ in range(RUNS)]
    inside = [one.low <= mean <= one.high for one in intervals]
    return float(np.mean(inside)), float(np.mean([one.high - one.low for one in intervals]))


@pytest.mark.parametrize("mean", [0.8, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("spread", [0.5, 2, 10, 1e6])
@pytest.mark.parametrize("count", [30, 100, 300, 1000])
def test_it_covers_the_truth(mean: float, spread: float, count: int) -> None:
    """Neighbours of a query are found together or missed together, and yet 93 of 100 intervals hold the true mean."""
    share, width = covered(mean, spread, count, 1)
    assert share >= 0.93
    assert width < 4 / np.sqrt(count)  # an interval from 0 to 1 would cover everything


@pytest.mark.parametrize("mean", [0.8, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("count", [300, 1000])
def test_it_covers_the_truth_when_queries_come_in_bursts(mean: float, count: int) -> None:
    """The same where three queries in a row, on average, are about one topic."""
    assert covered(mean, 2, count, 3)[0] >= 0.93


def test_normal_approximation_would_not_do() -> None:
    """The simulation tells a dishonest interval from an honest one: two standard errors fail where recall is near 1."""
    chance = np.random.default_rng(0)
    inside = []
    for _ in range(RUNS):
        found = recalls(chance, 0.99, 2, 100, 1)
        half = 1.96 * found.std() / 10
        inside.append(abs(found.mean() - 0.99) <= half)
    assert np.mean(inside) < 0.9


def test_a_sample_without_a_miss_is_not_certain() -> None:
    """Where all was found the interval still reaches below 1, the less the more was asked."""
    some, more = interval([1.0] * 50), interval([1.0] * 1_000)
    assert (some.mean, some.high) == (1.0, 1.0)
    assert 0.9 < some.low < more.low < 1.0


@pytest.mark.parametrize("found", [[1.0], [0.0], [1.0] * 1000, [0.0] * 1000, [0.5], [0.3, 0.7], [1.0, 0.0] * 500])
def test_it_stays_within_bounds(found: list[float]) -> None:
    """The interval holds the mean, lies between 0 and 1, and is a point only where it may be: never."""
    mean, low, high = interval(found)
    assert 0 <= low <= mean <= high <= 1
    assert mean == pytest.approx(np.mean(found))
    assert high > low
