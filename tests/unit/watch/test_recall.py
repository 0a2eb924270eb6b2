"""Live recall: it tells the truth, of one's own searches, within its budget, and warns where that is bad."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory import ConfigError, DefaultMemoryManager, EpisodicBackendType, Filter, StorageError
from llmspell_memory.types import EpisodicEntry, Hit, Watch
from llmspell_memory.watch.comparing import recall_of
from llmspell_memory.watch.recall import LiveRecall, conditions
from tests.unit.watch.conftest import ALWAYS, rows, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmspell_memory.types import RecallStats

    Opened = Callable[..., DefaultMemoryManager]

UNCLOSED = """
import numpy as np
from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, MemoryConfig, Watch
from llmspell_memory.embeddings import HashingProvider

config = MemoryConfig.for_production(EmbeddingService(HashingProvider(512))).with_watch(Watch(share=1.0, budget=1.0))
memory = DefaultMemoryManager.with_config(config)
rows = np.random.default_rng(0).standard_normal((8_000, 512)).astype(np.float32)
memory.episodic.add_many(EpisodicEntry("s", "user", "x", embedding=row) for row in rows)
for row in rows[:40]:
    memory.episodic.search(row, 10)
"""

THREAD = "llmspell-memory-recall"
SESSION = Filter(session_id="s1")


def compared(manager: DefaultMemoryManager, count: int) -> RecallStats:
    """Wait until so many searches are compared, and return the estimate."""

    def found() -> RecallStats | None:
        told = manager.stats().recall
        return told if told is not None and told.comparisons >= count else None

    wait_for(found)
    told = found()
    assert told is not None
    return told


def searched(manager: DefaultMemoryManager, count: int, where: Filter | None = None, *, seed: int = 1) -> None:
    """Search and let each search be compared: no more at once than may wait."""
    for number, query in enumerate(rows(count, seed)):
        manager.episodic.search(query, 10, where=where or Filter())
        if number % 20 == 0:
            wait_for(lambda: not waiting(manager))


def waiting(manager: DefaultMemoryManager) -> int:
    assert manager.recall is not None
    return len(manager.recall._comparer._waiting)


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == THREAD]


def true_recall(manager: DefaultMemoryManager, queries: Any) -> float:
    found = [manager.backend.search(query, 10, Filter()) for query in queries]
    best = [manager.backend.search(query, 10, Filter(), exact=True) for query in queries]
    return float(np.mean([recall_of(one, other) for one, other in zip(found, best, strict=True)]))


def test_the_estimate_is_the_recall_of_the_searches(opened: Opened) -> None:
    """Where every search is compared, the estimate is exactly their recall, and the interval holds it."""
    manager = opened()
    searched(manager, 100)
    told = compared(manager, 100)
    truth = true_recall(manager, rows(100, 1))
    assert truth < 0.8  # or this would tell nothing
    assert told.recall == pytest.approx(truth)
    assert told.low < truth < told.high
    assert (told.comparisons, told.sampled, told.dropped, told.failed) == (100, 100, 0, 0)


def test_a_share_of_the_searches_is_chosen(opened: Opened) -> None:
    """About a tenth is compared where a tenth is asked for, in no rhythm, and none at a share of 0."""
    manager = opened(Watch(share=0.1, budget=1.0))
    assert manager.recall is not None
    chosen = []
    for number, query in enumerate(rows(2_000, 1)):
        before = manager.recall._sampled
        manager.episodic.search(query, 1)
        if manager.recall._sampled > before:
            chosen.append(number)
    assert 140 <= len(chosen) <= 270
    assert len(set(np.diff(chosen))) > 5
    none = opened(Watch(share=0.0))
    for query in rows(300, 1):
        none.episodic.search(query, 1)
    assert none.recall is not None
    assert none.recall._sampled == 0


def test_it_is_told_by_the_conditions_of_filters(opened: Opened) -> None:
    """Filtered searches have an estimate of their own; beyond 16 kinds they share one."""
    manager = opened()
    searched(manager, 40)
    searched(manager, 40, SESSION)
    told = compared(manager, 80)
    assert list(told.by_filter) == ["none", "session"]
    assert told.by_filter["session"].recall == 1.0  # so few are scanned
    assert told.by_filter["none"].recall < 0.8
    assert told.recall == pytest.approx((told.by_filter["none"].recall + 1.0) / 2)
    kinds: list[dict[str, Any]] = [
        {"session_id": "s1"}, {"role": "user"}, {"processed": False}, {"metadata": {}}, {"ids": frozenset(["1"])},
    ]  # fmt: skip
    for number in range(32):
        given = {name: value for place, kind in enumerate(kinds) if number >> place & 1 for name, value in kind.items()}
        where = Filter(**given, expired=None if number % 3 else False)
        manager.episodic.search(rows(1, number)[0], 2, where=where)
        wait_for(lambda: not waiting(manager))
    told = compared(manager, 100)
    assert len(told.by_filter) <= 16
    assert "other" in told.by_filter
    assert sum(one.comparisons for one in told.by_filter.values()) == told.comparisons


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (Filter(), "none"),
        (SESSION, "session"),
        (Filter(role="user", metadata={"a": 1}), "role+metadata"),
        (Filter(namespace=("a",)), "namespace"),
        (Filter(below=False), "namespace"),
        (Filter(ids=[]), "ids"),  # type: ignore[arg-type]  # any collection will do
        (Filter(processed=False, expired=None), "processed+expired"),
    ],
)
def test_names_of_conditions(where: Filter, name: str) -> None:
    """A kind is named by the conditions, never by their values."""
    assert conditions(where) == name


def test_an_entry_that_ties_for_the_last_place_counts_as_found() -> None:
    """Of entries with equal scores any will do."""
    entry = EpisodicEntry("s", "user", "x")
    best = [Hit(entry, 0.9), Hit(entry, 0.5)]
    assert recall_of([Hit(entry, 0.9), Hit(entry, 0.5)], best) == 1.0
    assert recall_of([Hit(entry, 0.5), Hit(entry, 0.5)], best) == 1.0
    assert recall_of([Hit(entry, 0.9), Hit(entry, 0.4)], best) == 0.5
    assert recall_of([], best) == 0.0


def test_a_write_in_between_drops_the_comparison(opened: Opened) -> None:
    """An exact answer over other rows than the approximate one is not held against it."""
    manager = opened(ef_search=2_000)  # which finds what is written
    backend = manager.backend
    search = backend.search

    def disturbed(vector: Any, *args: Any, exact: bool = False, **more: Any) -> list[Hit]:
        if exact:
            manager.episodic.add(EpisodicEntry("new", "user", "x", embedding=vector))
        return search(vector, *args, exact=exact, **more)

    backend.search = disturbed  # type: ignore[method-assign]  # a write at the worst moment
    assert manager.recall is not None
    for query in rows(5, 9):
        manager.episodic.search(query, 3)
    wait_for(lambda: manager.recall is not None and manager.recall._dropped == 5)
    assert manager.stats().recall is None


def test_exact_search_is_not_watched(opened: Opened) -> None:
    """Where no HNSW index answers, nothing is compared and no thread started."""
    manager = opened()
    manager.switch_backend(EpisodicBackendType.IN_MEMORY)
    for query in rows(20, 1):
        manager.episodic.search(query, 10)
    assert manager.stats().recall is None
    assert threads() == []


@pytest.mark.parametrize("watch", [None, Watch(share=0.0)])
def test_it_can_be_switched_off(opened: Opened, watch: Watch | None) -> None:
    """Without a watch nothing is chosen, no thread runs, and there is no estimate."""
    manager = opened(watch)
    searched_one = rows(1, 1)[0]
    manager.episodic.search(searched_one, 10)
    assert manager.stats().recall is None
    assert threads() == []


class TestAnew:
    @pytest.mark.parametrize(
        "change",
        [
            lambda manager: manager.set_ef_search(300),
            lambda manager: manager.rebuild(),
            lambda manager: manager.rebuild(m=16),
            lambda manager: manager.backend.configure(manager.backend.hnsw.__class__(ef_search=300)),
        ],
    )
    def test_another_index_begins_anew(self, opened: Opened, change: Callable[[DefaultMemoryManager], None]) -> None:
        """What was found through an index before says nothing of the one after, not of a scope's either."""
        manager = opened()
        scope = manager.scoped("t1")
        searched(manager, 20)
        searched(scope, 20)
        compared(manager, 40)
        compared(scope, 20)
        change(manager)
        assert manager.stats().recall is None
        assert scope.stats().recall is None
        searched(manager, 5, seed=2)
        assert compared(manager, 5).comparisons == 5


class TestScopes:
    def test_a_scope_knows_of_its_own_searches_alone(self, opened: Opened) -> None:
        """Neighbours' searches are in the estimate of the whole store, and not in the scope's."""
        manager = opened()
        first, second = manager.scoped("t0"), manager.scoped("t1")
        searched(first, 30)
        searched(second, 20, SESSION)
        own, other, whole = compared(first, 30), compared(second, 20), compared(manager, 50)
        assert (own.comparisons, own.sampled, list(own.by_filter)) == (30, 30, ["none"])
        assert (other.comparisons, list(other.by_filter), other.cpu_share) == (20, ["session"], 0.0)
        assert (whole.comparisons, list(whole.by_filter)) == (50, ["namespace", "session+namespace"])
        assert whole.sampled == 50
        assert whole.cpu_share > 0

    def test_recorded_queries_are_those_asked(self, opened: Opened) -> None:
        """A scope keeps its queries as they were asked, the whole store as they were meant; copies, the last 256."""
        manager = opened()
        assert manager.recall is not None
        scope = manager.scoped("t0")
        assert scope.recall is not None
        mine = rows(1, 5)[0].copy()
        scope.episodic.search(mine, 7, where=SESSION)
        asked = mine.copy()
        mine[:] = 0
        ((vector, k, where),) = scope.recall.recorded()
        assert (vector.tolist(), k, where) == (asked.tolist(), 7, SESSION)
        ((_, _, meant),) = manager.recall.recorded()
        assert meant == SESSION.within(("t0",))
        for query in rows(300, 6):
            manager.episodic.search(query, 1)
        assert len(manager.recall.recorded()) == 256
        assert len(scope.recall.recorded()) == 1

    def test_a_closed_scope_leaves_the_store_watched(self, opened: Opened) -> None:
        """Closing a scope stops nothing."""
        manager = opened()
        scope = manager.scoped("t0")
        searched(scope, 5)
        compared(scope, 5)
        scope.close()
        searched(manager, 5)
        assert compared(manager, 10).failed == 0


class TestWarning:
    def test_it_warns_once_and_again_after_it_was_well(self, opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
        """Below the floor one line names the remedy; it comes again only once the recall had recovered."""
        manager = opened(ef_search=10)
        caplog.clear()
        caplog.set_level(logging.WARNING)
        searched(manager, 100)
        compared(manager, 100)
        (line,) = caplog.records
        assert line.levelname == "WARNING"
        assert "raise ef_search from 10 to 20" in line.message
        assert "llmspell-memory tune" in line.message
        given = line.__dict__
        assert (given["filter"], given["ef_search"], given["recall_floor"]) == ("none", 10, 0.9)
        assert given["recall_low"] < given["recall"] < given["recall_high"] < 0.9
        manager.set_ef_search(2_000)
        searched(manager, 50)
        compared(manager, 50)
        assert len(caplog.records) == 1
        manager.set_ef_search(11)
        searched(manager, 50)
        compared(manager, 50)
        assert ["ef_search from 11 to 22" in one.message for one in caplog.records] == [False, True]

    def test_few_comparisons_are_no_reason(self, opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
        """A handful of bad answers does not make a warning."""
        manager = opened(ef_search=10)
        searched(manager, 20)
        compared(manager, 20)
        assert [one for one in caplog.records if one.levelname == "WARNING"] == []


class TestThread:
    def test_it_ends_with_the_manager(self, opened: Opened) -> None:
        """The thread starts with the first search chosen, and none is left after close."""
        manager = opened()
        assert threads() == []
        searched(manager, 3)
        assert threads() == [THREAD]
        manager.close()
        assert threads() == []
        manager.close()

    def test_no_close_is_missed(self, opened: Opened) -> None:
        """At whatever moment it is told to stop, it does."""
        backend = opened().backend
        for number in range(300):
            recall = LiveRecall(ALWAYS, backend)
            recall.sample(rows(1, 1)[0], 1, Filter())
            time.sleep(number % 30 / 10_000)
            recall.close()
            assert threads() == []

    def test_it_ends_when_it_has_nothing_to_do(self, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
        """A thread without work ends by itself, and another one takes up the next search."""
        monkeypatch.setattr("llmspell_memory.watch.comparing._IDLE_SECONDS", 0.02)
        manager = opened()
        searched(manager, 3)
        compared(manager, 3)
        wait_for(lambda: not threads())
        searched(manager, 3, seed=2)
        assert compared(manager, 6).comparisons == 6

    def test_it_keeps_to_its_budget(self, opened: Opened) -> None:
        """Whatever is asked, comparing takes no more processor time than allowed, and says how much it took."""
        manager = opened(Watch(share=1.0, budget=0.05))
        began = time.monotonic()
        query = rows(1, 1)[0]
        while time.monotonic() - began < 2.0:
            manager.episodic.search(query, 10)
        told = manager.stats().recall
        assert told is not None
        assert told.cpu_share <= 0.06  # one comparison beyond it may be under way
        assert told.dropped > 0
        assert told.comparisons + told.dropped + waiting(manager) in range(told.sampled - 1, told.sampled + 1)

    def test_a_failing_search_does_not_end_it(self, opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
        """What a second search raises is counted and logged, and the next one is compared."""
        manager = opened()
        search, broken = manager.backend.search, [StorageError("broken"), ZeroDivisionError("a bug")]

        def failing(*args: Any, exact: bool = False, **more: Any) -> list[Hit]:
            if exact and broken:
                raise broken.pop()
            return search(*args, exact=exact, **more)

        manager.backend.search = failing  # type: ignore[method-assign]  # a store that fails
        searched(manager, 4)
        told = compared(manager, 2)
        assert (told.comparisons, told.failed, told.dropped) == (2, 2, 2)
        assert "ZeroDivisionError" in caplog.text

    def test_a_failing_handler_of_the_log_does_not_end_it(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a handler raises at a warning is told as an error of the thread, and the next search is compared."""
        told: list[object] = []
        monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_value))

        class Broken(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raise OSError(record.levelname)

        handler = Broken(logging.WARNING)
        logging.getLogger("llmspell_memory.watch").addHandler(handler)
        try:
            manager = opened(ef_search=5)
            for query in rows(40, 1):
                manager.episodic.search(query, 10)
                wait_for(lambda: not threads() or not waiting(manager))
            assert compared(manager, 40).comparisons == 40
        finally:
            logging.getLogger("llmspell_memory.watch").removeHandler(handler)
        assert [str(one) for one in told] == ["WARNING"]

    @pytest.mark.parametrize("again", range(3))
    def test_the_interpreter_ends_while_it_is_at_work(self, again: int) -> None:
        """A process that closes nothing ends as any: no thread comes back from the index to find no interpreter."""
        ended = subprocess.run([sys.executable, "-c", UNCLOSED], capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, ""), again

    def test_its_searches_are_not_counted(self, opened: Opened) -> None:
        """Neither operations nor parts of searches include those that were run again."""
        manager = opened()
        searched(manager, 10)
        compared(manager, 10)
        timings = manager.stats().timings
        assert [timings[name].count for name in ("search", "search.index", "search.rows")] == [10, 10, 10]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no forks")
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forks beside threads
    def test_a_fork_begins_without_it(self, opened: Opened) -> None:
        """In a forked process there is no thread to wait for; the parent's goes on."""
        manager = opened()
        searched(manager, 5)
        child = os.fork()
        if child == 0:
            try:
                assert manager.recall is not None
                query = rows(1, 3)[0]
                for _ in range(200):  # more than may wait, so that a lock held for ever would be met
                    manager.recall.sample(query, 1, Filter())
                manager.recall.stats()
                manager.close()
                os._exit(0)
            finally:
                os._exit(1)
        searched(manager, 5, seed=2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert compared(manager, 10).comparisons == 10


@pytest.mark.parametrize(
    "wrong", [{"share": -0.1}, {"share": 1.1}, {"share": "1"}, {"budget": 0}, {"budget": 2}, {"floor": True}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    """A share, a budget or a floor that is none is a ConfigError that names it."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Watch(**wrong)


def test_tuning_takes_the_queries_that_were_asked(opened: Opened) -> None:
    """What was searched for lately is what `tune` measures with, and its measurements are no searches of the user's."""
    manager = opened()
    searched(manager, 120)
    before = manager.stats().timings["search.index"].count
    report = manager.tune(target_recall=0.5)
    assert report.kind == "recorded"
    assert manager.stats().timings["search.index"].count == before
    unwatched = opened(None)
    for query in rows(120, 1):
        unwatched.episodic.search(query, 10)
    assert unwatched.tune(target_recall=0.5).kind == "sampled"
