"""A candidate follows the primary and is compared with it."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from llmspell_memory import (
    Filter,
    Hit,
    HNSWConfig,
)
from llmspell_memory.backends import LocalBackend, SQLiteBackend
from llmspell_memory.operations import Bar, Rollout
from tests.stores import ALL, equal
from tests.unit.rollout.common import (
    SPACE,
    VECTORS,
    Unruly,
    broken,
    compare,
    eventually,
    ids,
    row,
    rows,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.rollout.common import Files, Opened


def test_writes_go_to_the_primary_and_the_candidate_follows(files: Files, opened: Opened) -> None:
    """Adds, replacements, marks and deletes: acknowledged by the primary, and level in every field soon after."""
    primary, candidate = files()
    primary.add(rows(100))
    rollout = opened(primary, candidate)
    rollout.add(rows(100, 150))
    rollout.add([row(3, content="other words"), row(4, metadata={"n": 1}, namespace=("acme",))])
    assert rollout.mark_processed(ids(5, 6)) == 2
    assert rollout.delete(ids(7, 8)) == 2
    assert primary.count(ALL) == rollout.count(ALL) == 149
    rollout.catch_up()
    assert equal(primary, candidate)
    report = rollout.report()
    assert (report.state, report.serving, report.lag, report.lag_seconds) == ("comparing", "primary", 0, 0.0)


def test_lag_is_told_in_numbers_and_seconds(opened: Opened) -> None:
    """While the candidate cannot be written to, the primary is, and the report says how far apart they are."""
    primary, candidate = LocalBackend(SPACE), Unruly(LocalBackend(SPACE))
    rollout = opened(primary, candidate, bar=Bar(errors=1000))
    rollout.add(rows(3))
    rollout.catch_up()
    candidate.instead["add"] = broken
    rollout.add(rows(3, 13))
    assert eventually(lambda: rollout.report().errors > 0)
    report = rollout.report()
    assert report.lag == 10
    assert report.lag_seconds
    assert report.last_error == "OSError: no such disk"
    candidate.instead.clear()
    rollout.catch_up()
    assert rollout.report().lag == 0


def test_another_writer_of_the_primary_is_followed(files: Files, opened: Opened, tmp_path: Path) -> None:
    """While the primary serves, what others write to its file gets to the candidate, too."""
    primary, candidate = files()
    rollout = opened(primary, candidate)
    rollout.add(rows(3))
    other = SQLiteBackend(tmp_path / "primary.db")
    other.add(rows(3, 9))
    other.close()
    assert eventually(lambda: candidate.count(ALL) == 9)


def test_threads_begin_with_the_first_call_and_end_with_the_last(files: Files) -> None:
    """Opening starts none; closing leaves none."""
    before = set(threading.enumerate())
    rollout = Rollout(*files(), share=1.0)
    assert set(threading.enumerate()) <= before
    rollout.add(rows(3))
    rollout.search(VECTORS[0], 2, Filter())
    assert len(set(threading.enumerate()) - before) == 2
    rollout.close()
    assert set(threading.enumerate()) <= before


def test_a_rollout_that_was_not_closed_lets_the_interpreter_end(tmp_path: Path) -> None:
    """Its threads are in the midst of their work when the program ends; it ends well, and all is there."""
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import numpy as np
from llmspell_memory import EmbeddingSpace, EpisodicEntry, Filter, HNSWConfig
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.operations import Rollout
space = EmbeddingSpace(provider="test", model=None, dimensions=16)
rollout = Rollout(
    SQLiteBackend({str(tmp_path / "a.db")!r}, space),
    SQLiteBackend({str(tmp_path / "b.db")!r}, space, hnsw=HNSWConfig()), share=1.0)
vectors = np.random.default_rng(0).standard_normal((2000, 16)).astype(np.float32)
rollout.add([EpisodicEntry("s", "user", "x", id=str(n), embedding=one) for n, one in enumerate(vectors)])
for one in vectors[:40]:
    rollout.search(one, 5, Filter())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    primary, candidate = SQLiteBackend(tmp_path / "a.db"), SQLiteBackend(tmp_path / "b.db")
    with_rest = Rollout(primary, candidate)
    with_rest.catch_up()
    assert primary.count(ALL) == candidate.count(ALL) == 2000
    with_rest.close()


def test_a_share_of_the_searches_is_compared(opened: Opened) -> None:
    """Every fourth of a hundred, by count and not by chance; exact searches and those for nothing are none of them."""
    primary = LocalBackend(SPACE)
    primary.add(rows(50))
    rollout = opened(primary, LocalBackend(SPACE, hnsw=HNSWConfig()), share=0.25, bar=Bar(queries=25, p95_ratio=1000))
    rollout.catch_up()
    for number in range(100):
        assert len(rollout.search(VECTORS[number], 5, Filter())) == 5
        rollout.drain()
    report = rollout.report()
    assert (report.queries, report.skipped, report.dropped) == (25, 0, 0)
    assert report.recall == 1.0
    assert report.interval is not None
    assert report.interval[0] < report.interval[1] == 1.0
    for found in (report.primary, report.candidate):
        assert found is not None
        assert 0 < found.p50 <= found.p95 <= found.p99
    assert report.state == "ready"


def test_searches_that_the_worker_cannot_keep_up_with_are_dropped(opened: Opened, never: Callable[..., Any]) -> None:
    """They wait in a place of bounded size, and those that find none are counted; no search waits itself."""
    candidate = Unruly(LocalBackend(SPACE))
    rollout = opened(LocalBackend(SPACE), candidate)
    rollout.add(rows(10))
    rollout.catch_up()
    candidate.instead["search"] = never
    for _ in range(200):
        rollout.search(VECTORS[0], 3, Filter())
    assert 120 <= rollout.report().dropped <= 140


def test_answers_of_different_moments_are_not_compared(opened: Opened) -> None:
    """Where the candidate is behind and stays so, the query is counted as skipped."""
    candidate = Unruly(LocalBackend(SPACE))
    rollout = opened(LocalBackend(SPACE), candidate, bar=Bar(errors=1000))
    rollout.add(rows(10))
    rollout.catch_up()
    candidate.instead["add"] = broken
    rollout.add(rows(10, 12))
    compare(rollout, 3)
    report = rollout.report()
    assert (report.queries, report.skipped) == (0, 3)


def test_entries_of_the_same_score_count_alike(opened: Opened) -> None:
    """Which of twenty equal vectors are found does not matter, as long as they are there and as near as they should."""

    class Reversed(Unruly):
        def __getattr__(self, name: str) -> Any:
            if name != "search":
                return super().__getattr__(name)
            return lambda vector, k, where: self._backend.search(vector, 20, where)[::-1][:k]

    rollout = opened(LocalBackend(SPACE), Reversed(LocalBackend(SPACE)))
    rollout.add([row(number, embedding=VECTORS[0]) for number in range(20)])
    rollout.catch_up()
    rollout.compare(VECTORS[0], 5)
    assert rollout.report().recall == 1.0


WRONG: dict[str, Callable[[list[Hit]], Any]] = {
    "nothing": lambda _: [],
    "no list": lambda _: None,
    "no hits": lambda hits: [hit.entry for hit in hits],
    "other entries": lambda hits: [Hit(row(900 + n), hit.score) for n, hit in enumerate(hits)],
    "other words": lambda hits: [Hit(hit.entry.changed(content="forged"), hit.score) for hit in hits],
    "the farthest, said to be near": lambda hits: [Hit(hit.entry, 2.0) for hit in hits[-5:]],
    "one entry again and again": lambda hits: [hits[0]] * 5,
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_candidate_that_answers_wrongly_is_caught(opened: Opened, wrong: Callable[[list[Hit]], Any]) -> None:
    """Whatever it answers in place of the nearest, it is rolled back, and whoever searches sees nothing of it."""
    primary, store = LocalBackend(SPACE), LocalBackend(SPACE)
    candidate = Unruly(store)
    rollout = opened(primary, candidate)
    rollout.add(rows(60))
    rollout.catch_up()
    candidate.instead["search"] = lambda vector, k, where: wrong(store.search(vector, 60, where)[: max(k, 60)])
    for number in range(40):
        hits = rollout.search(VECTORS[number], 5, Filter())
        assert hits[0].entry.id == f"id-{number}"
        rollout.drain()
    report = rollout.report()
    assert (report.state, report.serving) == ("rolled back", "primary")
    assert report.reason is not None
    assert ("recall is" in report.reason) != ("has failed" in report.reason)
