"""The two stores change places, and nothing that was acknowledged is lost."""

from __future__ import annotations

import threading
import time
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from llmspell_memory import (
    EmbeddingSpace,
    Filter,
    HNSWConfig,
    InputError,
    UnavailableError,
)
from llmspell_memory.backends import LocalBackend, SQLiteBackend
from llmspell_memory.errors import NotReadyError
from llmspell_memory.operations import Bar, Rollout
from tests.stores import ALL, equal
from tests.unit.rollout.common import (
    LENIENT,
    SPACE,
    VECTORS,
    Unruly,
    broken,
    compare,
    eventually,
    ids,
    row,
    rows,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.rollout.common import Files, Opened


def test_a_promotion_needs_the_bar_to_be_met(opened: Opened) -> None:
    """Before, an error says all that is missing; with force, it takes place."""
    rollout = opened(LocalBackend(SPACE), LocalBackend(SPACE), bar=Bar(queries=200))
    rollout.add(rows(20))
    compare(rollout, 3)
    with pytest.raises(NotReadyError, match="3 of 200 queries are compared") as raised:
        rollout.promote()
    assert raised.value.missing[0] == "3 of 200 queries are compared"
    assert rollout.report().missing == raised.value.missing
    assert rollout.promote(force=True).state == "promoted"
    assert rollout.promote().state == "promoted"


def test_after_a_promotion_the_candidate_serves_and_the_primary_follows(files: Files, opened: Opened) -> None:
    """Reads, writes, `hnsw`, `stats` and `configure` are the candidate's; a rollback loses nothing of it all."""
    primary, candidate = files()
    rollout = opened(primary, candidate)
    rollout.add(rows(100))
    compare(rollout)
    assert rollout.stats().index.config is None
    report = rollout.promote()
    assert (report.state, report.serving) == ("promoted", "candidate")
    assert rollout.hnsw == candidate.hnsw != None  # noqa: E711 (both)
    rollout.add(rows(100, 120))
    rollout.add([row(3, content="other words")])
    rollout.mark_processed(ids(4))
    rollout.delete(ids(5, 6))
    assert len(rollout.forget(ids(7))) == 1
    assert rollout.stats().id == candidate.stats().id
    rollout.configure(HNSWConfig(m=8, ef_construction=64, ef_search=99))
    assert candidate.hnsw == HNSWConfig(m=8, ef_construction=64, ef_search=99)
    assert candidate.count(ALL) == 117
    report = rollout.rollback("for a test")
    assert (report.state, report.serving, report.reason) == ("rolled back", "primary", "for a test")
    assert equal(primary, candidate)
    rollout.add(rows(120, 125))
    assert primary.count(ALL) == 122
    rollout.catch_up()
    assert equal(primary, candidate)


def test_a_rollout_goes_on_after_a_restart(files: Files) -> None:
    """State, counts, figures and who serves are as they were, whichever way round the stores are given."""
    rollout = Rollout(*files(), share=1.0, bar=LENIENT)
    rollout.add(rows(50))
    compare(rollout)
    before = rollout.report()
    rollout.close()
    primary, candidate = files()
    rollout = Rollout(primary, candidate, bar=LENIENT)
    rollout.catch_up()
    after = rollout.report()
    for name in ("state", "queries", "recall", "interval", "errors", "skipped"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.primary is not None
    assert before.primary is not None
    assert after.primary.p95 == pytest.approx(before.primary.p95, abs=0.01)
    rollout.promote()
    rollout.add(rows(50, 60))
    rollout.close()
    primary, candidate = files()
    rollout = Rollout(candidate, primary, bar=LENIENT)
    assert rollout.report().state == "promoted"
    assert rollout.stats().id == candidate.stats().id
    rollout.catch_up()
    assert equal(primary, candidate)
    rollout.rollback()
    rollout.close()
    primary, candidate = files()
    rollout = Rollout(primary, candidate, bar=LENIENT)
    assert rollout.report().state == "rolled back"
    assert primary.count(ALL) == 60
    rollout.close()


def test_writers_and_readers_see_nothing_of_the_change(files: Files, opened: Opened) -> None:
    """While it is promoted and rolled back again and again, every write is kept and every search finds its own."""
    primary, candidate = files()
    rollout = opened(primary, candidate, share=0.1)
    rollout.add(rows(20))
    done, faults = threading.Event(), list[str]()

    def write(first: int) -> None:
        for number in count(first, 3):
            if done.is_set():
                return
            rollout.add([row(number)])
            written.append(number)
            hits = rollout.search(VECTORS[number % 1000], 3, ids(number))
            if [hit.entry.id for hit in hits] != [f"id-{number}"]:
                faults.append(f"{number} is not found after it was acknowledged")

    written: list[int] = []
    writers = [threading.Thread(target=write, args=(20 + n,)) for n in range(3)]
    for writer in writers:
        writer.start()
    for _ in range(6):
        rollout.promote(force=True)
        time.sleep(0.05)
        rollout.rollback()
        time.sleep(0.05)
    done.set()
    for writer in writers:
        writer.join()
    assert faults == []
    rollout.catch_up()
    assert primary.count(ALL) == 20 + len(written) > 50
    assert equal(primary, candidate)


@pytest.mark.parametrize("verb", ["search", "count", "add", "delete", "forget", "stats"])
def test_a_promoted_candidate_that_fails_is_rolled_back_at_once(opened: Opened, verb: str) -> None:
    """The very call that it has failed in is done by the former primary, which has all that was acknowledged."""
    primary, candidate = LocalBackend(SPACE), Unruly(LocalBackend(SPACE))
    rollout = opened(primary, candidate)
    rollout.add(rows(50))
    rollout.promote(force=True)
    rollout.add(rows(50, 60))
    rollout.catch_up()
    uses: dict[str, Callable[[], Any]] = {
        "search": lambda: len(rollout.search(VECTORS[0], 60, Filter())),
        "count": lambda: rollout.count(ALL),
        "add": lambda: rollout.add(rows(60, 61)),
        "delete": lambda: rollout.delete(ids(0)),
        "forget": lambda: len(rollout.forget(ids(0))),
        "stats": lambda: rollout.stats().entries,
    }
    candidate.instead[verb] = broken
    assert uses[verb]() == {"search": 60, "count": 60, "add": ["id-60"], "delete": 1, "forget": 1, "stats": 60}[verb]
    assert (state_of(rollout), rollout.report().serving) == ("rolled back", "primary")
    assert primary.count(ALL) == {"add": 61, "delete": 59, "forget": 59}.get(verb, 60)


def test_a_callers_own_error_is_none_of_the_candidates(opened: Opened) -> None:
    """What the primary would refuse, too, is raised and not counted."""
    rollout = opened(LocalBackend(SPACE), LocalBackend(SPACE))
    rollout.promote(force=True)
    with pytest.raises(InputError):
        rollout.add([row(1, embedding=None)])
    assert state_of(rollout) == "promoted"
    assert rollout.report().errors == 0


def test_a_promoted_candidate_that_answers_wrongly_is_rolled_back(opened: Opened) -> None:
    """After the promotion searches are still compared, with the former primary's answers."""
    primary, candidate = LocalBackend(SPACE), Unruly(LocalBackend(SPACE))
    rollout = opened(primary, candidate)
    rollout.add(rows(50))
    rollout.promote(force=True)
    candidate.instead["search"] = lambda *_, **__: []
    for number in range(40):
        rollout.search(VECTORS[number], 5, Filter())
        rollout.drain()
    assert (state_of(rollout), rollout.report().serving) == ("rolled back", "primary")


def test_nothing_acknowledged_is_given_up_with_a_dead_candidate(opened: Opened) -> None:
    """What only the candidate has is not lost by a rollback, unless forced; what both have, needs no candidate."""
    primary, candidate = Unruly(LocalBackend(SPACE)), Unruly(LocalBackend(SPACE))
    rollout = opened(primary, candidate, automatic=False)
    rollout.add(rows(20))
    rollout.promote(force=True)
    primary.instead["add"] = broken
    rollout.add(rows(20, 25))
    candidate.instead["changes"] = broken
    primary.instead.clear()
    with pytest.raises(UnavailableError, match="force=True"):
        rollout.rollback()
    assert rollout.report().serving == "candidate"
    candidate.instead.clear()
    rollout.rollback()
    assert primary.count(ALL) == 25
    rollout.restart()
    rollout.promote(force=True)
    rollout.catch_up()
    candidate.instead["*"] = broken
    assert rollout.rollback().serving == "primary"
    candidate.instead.clear()
    rollout.catch_up()
    assert equal(primary, candidate)


def test_what_a_forced_rollback_gives_up_is_taken_from_the_candidate_too(opened: Opened) -> None:
    """The primary is the truth again, and the candidate is made equal to it."""
    primary, candidate = Unruly(LocalBackend(SPACE)), Unruly(LocalBackend(SPACE))
    rollout = opened(primary, candidate, automatic=False)
    rollout.add(rows(20))
    rollout.promote(force=True)
    primary.instead["add"] = broken
    rollout.add(rows(20, 25))
    rollout.delete(ids(1))
    candidate.instead["*"] = broken
    primary.instead.clear()
    assert rollout.rollback(force=True).serving == "primary"
    candidate.instead.clear()
    rollout.add(rows(30, 31))
    rollout.catch_up()
    assert primary.count(ALL) == 21
    assert equal(primary, candidate)


def test_a_write_that_hangs_in_a_promoted_candidate_is_done_by_the_primary(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not acknowledged by the candidate, not even when it comes back; so it is in the primary when it returns."""
    monkeypatch.setattr("llmspell_memory.operations.rollout.places.PAUSE", 0.3)
    primary, store = LocalBackend(SPACE), LocalBackend(SPACE)
    candidate = Unruly(store)
    rollout = opened(primary, candidate)
    rollout.add(rows(5))
    rollout.promote(force=True)
    rollout.catch_up()
    go_on = threading.Event()

    def slow(entries: Any, **named: Any) -> None:
        go_on.wait(30)
        store.add(entries, **named)

    candidate.instead["add"] = slow
    writer = threading.Thread(target=rollout.add, args=(rows(5, 6),))
    writer.start()
    time.sleep(0.1)
    assert rollout.rollback().serving == "primary"
    rollout.add([row(5, content="written meanwhile", id="other")])
    candidate.instead.clear()
    go_on.set()
    writer.join()
    assert primary.count(ALL) == 7
    rollout.catch_up()
    assert eventually(lambda: equal(primary, store))


def test_what_others_have_written_to_the_former_primary_is_kept(files: Files, opened: Opened, tmp_path: Path) -> None:
    """A program that was not told of the promotion loses nothing when it is rolled back, and the candidate gets it."""
    primary, candidate = files()
    rollout = opened(primary, candidate)
    rollout.add(rows(20))
    rollout.promote(force=True)
    rollout.add(rows(20, 30))
    untold = SQLiteBackend(tmp_path / "primary.db")
    untold.add(rows(30, 35))
    untold.close()
    rollout.rollback()
    assert primary.count(ALL) == 35
    rollout.catch_up()
    assert equal(primary, candidate)


def test_what_others_have_written_to_the_candidate_does_not_serve(files: Files, opened: Opened) -> None:
    """A promotion finds that the candidate holds more than the primary, and has it made equal first."""
    primary, candidate = files()
    rollout = opened(primary, candidate)
    rollout.add(rows(20))
    rollout.catch_up()
    candidate.add(rows(30, 35))
    with pytest.raises(UnavailableError, match="something else has written to it"):
        rollout.promote(force=True)
    rollout.promote(force=True)
    assert candidate.count(ALL) == 20
    assert equal(primary, candidate)


@pytest.mark.parametrize("promoted", [False, True])
def test_a_change_of_space_ends_the_rollout(opened: Opened, promoted: bool) -> None:
    """The one that serves moves to another embedding space; the other cannot follow, and the one serves on."""
    primary, candidate = LocalBackend(SPACE), LocalBackend(SPACE)
    rollout = opened(primary, candidate)
    rollout.add(rows(10))
    if promoted:
        rollout.promote(force=True)
        rollout.catch_up()
    other = EmbeddingSpace(provider="other", model=None, dimensions=8)
    beside = rollout.beside(other)
    missing = beside.missing(100)
    beside.put(missing, VECTORS[: len(missing), :8])
    assert beside.take_over()
    assert rollout.space == other
    rollout.add([row(11, embedding=VECTORS[11, :8])])
    assert eventually(lambda: rollout.state == "broken")
    assert rollout.report().serving == ("candidate" if promoted else "primary")
    assert len(rollout.search(VECTORS[0, :8], 20, Filter())) == 11
