"""Histograms of durations: what they tell is near the truth, and nothing is lost."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspell_memory.types.histogram import Both, Histogram, SearchParts, in_index, unrecorded

DURATIONS = st.integers(min_value=0, max_value=2**40 - 1)


def filled(durations: list[int]) -> Histogram:
    histogram = Histogram()
    for one in durations:
        histogram.record(one)
    return histogram


@given(st.lists(DURATIONS, min_size=1, max_size=200))
def test_percentiles_are_off_by_a_64th_at_most(durations: list[int]) -> None:
    """Each percentile is within 1/64 (and half a nanosecond) of the duration at that rank; they rise up to the max."""
    told = filled(durations).snapshot()
    ranked = sorted(durations)
    for share, value in ((0.50, told.p50), (0.95, told.p95), (0.99, told.p99)):
        true = ranked[max(1, int(np.ceil(share * len(ranked) - 1e-9))) - 1]
        assert abs(value * 1e3 - true) <= true / 64 + 0.5
    assert told.p50 <= told.p95 <= told.p99 <= told.max == max(durations) / 1e3
    assert told.count == len(durations)
    assert told.mean == pytest.approx(sum(durations) / len(durations) / 1e3)
    assert told.seconds == pytest.approx(sum(durations) / 1e9)


@given(st.lists(DURATIONS, max_size=200))
def test_buckets_count_exactly_what_is_below_their_bounds(durations: list[int]) -> None:
    """Every bound counts the durations below it, no more and no less."""
    for bound, count in filled(durations).snapshot().buckets:
        assert count == sum(one < round(bound * 1e9) for one in durations)


@given(st.lists(DURATIONS, max_size=100), st.lists(DURATIONS, max_size=100))
def test_merging_is_recording_both(first: list[int], second: list[int]) -> None:
    """A histogram merged into another tells what one over both would tell."""
    assert filled(first).merge(filled(second)).snapshot() == filled(first + second).snapshot()


@pytest.mark.parametrize("ns", [2**40 - 1, 2**40, 2**63, 10**30])
def test_what_takes_longer_than_the_last_bucket_is_counted_there(ns: int) -> None:
    """No duration is too long to be counted, and the longest is told exactly."""
    told = filled([1, ns]).snapshot()
    assert (told.count, told.max) == (2, ns / 1e3)
    assert told.p99 > 1e9


def test_nothing_recorded_is_zeros() -> None:
    """An empty histogram has no percentiles to be wrong about."""
    told = Histogram().snapshot()
    assert (told.count, told.mean, told.p50, told.p99, told.max, told.seconds) == (0, 0, 0, 0, 0, 0)


def test_threads_lose_nothing() -> None:
    """Four threads that record at once, switched as often as can be, are counted in full."""
    histogram = Histogram()

    def work() -> None:
        for one in range(50_000):
            histogram.record(one)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    told = histogram.snapshot()
    assert told.count == 200_000
    assert told.seconds == pytest.approx(4 * sum(range(50_000)) / 1e9)


def test_both_counts_in_the_other_too() -> None:
    """What a scope records, the memory it was made from records as well, and not the other way round."""
    outer = Histogram()
    inner = Both(outer)
    inner.record(100)
    outer.record(200)
    assert (inner.snapshot().count, outer.snapshot().count) == (1, 2)


def test_parts_of_a_search_add_up() -> None:
    """What the index did not take of a search was spent on rows, however often it was searched; each search anew."""
    parts = SearchParts()
    for _ in range(2):
        in_index.ns += 1_000
        in_index.ns += 2_000
        parts.whole_took(10_000)
    told = parts.snapshot()
    assert [told[name].seconds for name in ("search.index", "search.rows")] == [6e-6, 14e-6]
    with unrecorded():
        in_index.ns += 500
        parts.whole_took(500)
    parts.whole_took(1_000)
    told = parts.snapshot()
    assert [told[name].count for name in ("search.index", "search.rows")] == [3, 3]
    assert told["search.index"].seconds == 6e-6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forks beside threads
def test_a_fork_records_whatever_threads_there_were() -> None:
    """A thread that was left out is none of those in a forked process, though one may get its number."""
    begun, end = threading.Event(), threading.Event()

    def stay_out() -> None:
        with unrecorded():
            begun.set()
            end.wait()

    outside = threading.Thread(target=stay_out)
    outside.start()
    begun.wait()
    child = os.fork()
    if child == 0:
        parts = SearchParts()
        searchers = [threading.Thread(target=parts.whole_took, args=(1_000,)) for _ in range(8)]
        for one in searchers:
            one.start()
            one.join()
        os._exit(parts.snapshot()["search.rows"].count != len(searchers))
    end.set()
    outside.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
