"""A candidate that fails does no harm, and what is to be erased is erased."""

from __future__ import annotations

import logging
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from llmspell_memory import (
    Filter,
    UnavailableError,
)
from llmspell_memory.backends import LocalBackend
from llmspell_memory.errors import NotReadyError
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
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.rollout.common import Files, Opened


@pytest.mark.parametrize("verb", ["search", "add", "changes", "stats", "read_note", "write_note", "space", "*"])
def test_a_candidate_that_raises_hurts_nobody(opened: Opened, verb: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every verb of the primary goes on; the candidate is rolled back, and the log is not flooded."""
    candidate = Unruly(LocalBackend(SPACE))
    candidate.instead[verb] = broken
    if verb == "space":
        candidate.instead["stats"] = broken
    primary = LocalBackend(SPACE)
    candidate.namespace = ()  # type: ignore[attr-defined]
    rollout = opened(primary, candidate)
    for number in range(50):
        rollout.add([row(number)])
        assert rollout.search(VECTORS[number], 1, Filter())[0].entry.id == f"id-{number}"
    assert rollout.delete(ids(1)) == 1
    assert len(rollout.forget(ids(2))) == 1
    assert eventually(lambda: state_of(rollout) == "rolled back")
    assert rollout.count(ALL) == primary.count(ALL) == 48
    told = [record for record in caplog.records if "has failed" in record.message and record.levelno == logging.WARNING]
    assert 1 <= len(told) <= 10


@pytest.mark.parametrize("verb", ["search", "add", "changes"])
def test_a_candidate_that_hangs_hurts_nobody(
    opened: Opened, never: Callable[..., Any], verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes and searches do not wait for it; it is found out after the timeout; closing does not wait for ever."""
    monkeypatch.setattr("llmspell_memory.operations.rollout.rollout._CLOSING", 0.2)
    candidate = Unruly(LocalBackend(SPACE))
    rollout = opened(LocalBackend(SPACE), candidate, timeout=0.3)
    rollout.add(rows(5))
    rollout.catch_up()
    candidate.instead[verb] = never
    began = time.monotonic()
    for number in range(5, 50):
        rollout.add([row(number)])
        rollout.search(VECTORS[number], 3, Filter())
    assert time.monotonic() - began < 5.0
    assert eventually(lambda: state_of(rollout) == "rolled back")
    report = rollout.report()
    assert report.reason is not None
    assert "has not come back" in report.reason
    assert rollout.count(ALL) == 50
    assert len(rollout.forget(ids(1, 2))) == 2
    if verb == "add":
        assert rollout.report().unerased
    with pytest.raises(UnavailableError, match="has not come back"):
        rollout.restart()
    rollout.close()


def test_a_candidate_that_does_not_close_is_left_alone(
    opened: Opened, never: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The primary is closed all the same."""
    monkeypatch.setattr("llmspell_memory.operations.rollout.rollout._CLOSING", 0.2)
    candidate = Unruly(LocalBackend(SPACE))
    rollout = opened(LocalBackend(SPACE), candidate)
    rollout.add(rows(5))
    candidate.instead["close"] = never
    rollout.close()


def test_a_candidate_that_loses_its_disk_hurts_nobody(files: Files, opened: Opened, tmp_path: Path) -> None:
    """Its folder is gone from one moment to the next; the primary goes on, and the rollout is rolled back."""
    primary, candidate = files()
    rollout = opened(primary, candidate)
    rollout.add(rows(20))
    rollout.catch_up()
    shutil.rmtree(tmp_path / "candidate")
    rollout.add(rows(20, 40))
    assert eventually(lambda: state_of(rollout) == "rolled back")
    assert len(rollout.search(VECTORS[0], 40, Filter())) == 40


def test_errors_may_be_let_pass(opened: Opened) -> None:
    """A bar that allows some counts them; after one more it is broken."""
    candidate = Unruly(LocalBackend(SPACE))
    rollout = opened(LocalBackend(SPACE), candidate, bar=Bar(queries=10, errors=2, p95_ratio=1000))
    rollout.add(rows(20))
    rollout.catch_up()
    candidate.instead["search"] = broken
    compare(rollout, 2)
    assert state_of(rollout) == "comparing"
    del candidate.instead["search"]
    compare(rollout)
    assert state_of(rollout) == "ready"
    candidate.instead["search"] = broken
    compare(rollout, 1)
    assert state_of(rollout) == "rolled back"


def test_nothing_is_rolled_back_by_itself_where_that_is_not_wanted(opened: Opened) -> None:
    """The state is "broken" then, and `rollback`, `restart` and a forced promotion are somebody's to choose."""
    candidate = Unruly(LocalBackend(SPACE))
    rollout = opened(LocalBackend(SPACE), candidate, automatic=False)
    rollout.add(rows(20))
    candidate.instead["search"] = broken
    compare(rollout, 3)
    assert state_of(rollout) == "broken"
    with pytest.raises(NotReadyError, match="broken"):
        rollout.promote()
    candidate.instead.clear()
    assert rollout.restart().state == "comparing"
    compare(rollout)
    assert rollout.promote().state == "promoted"
    candidate.instead["search"] = broken
    with pytest.raises(OSError, match="no such disk"):
        rollout.search(VECTORS[0], 3, Filter())
    assert (state_of(rollout), rollout.report().serving) == ("broken", "candidate")
    assert rollout.rollback().serving == "primary"
    assert len(rollout.search(VECTORS[0], 3, Filter())) == 3


def test_what_is_forgotten_is_erased_from_both(files: Files, opened: Opened, tmp_path: Path) -> None:
    """When `forget` returns, no file of either store has its text, nor that of what was deleted before."""
    primary, candidate = files()
    rollout = opened(primary, candidate)
    rollout.add([row(number, content=f"secret<{number}>") for number in range(60)])
    rollout.catch_up()
    rollout.delete(ids(1))
    assert {one.id for one in rollout.forget(ids(2, 3))} == {"id-2", "id-3"}
    for path in tmp_path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(f"secret<{number}>".encode() in content for number in (1, 2, 3)), path
    assert equal(primary, candidate)
    assert not rollout.report().unerased


@pytest.mark.parametrize("restarted", [False, True])
def test_what_a_failing_candidate_does_not_erase_is_erased_later(files: Files, tmp_path: Path, restarted: bool) -> None:
    """`forget` returns, the report says so, and it is done as soon as the candidate can, even after a restart."""
    primary, store = files()
    candidate: Any = Unruly(store)
    rollout = Rollout(primary, candidate, share=0)
    rollout.add([row(number, content=f"secret<{number}>") for number in range(60)])
    rollout.catch_up()
    candidate.instead |= {"forget": broken, "delete": broken}
    assert len(rollout.forget(ids(2, 3))) == 2
    report = rollout.report()
    assert report.unerased
    assert report.state == "rolled back"
    if restarted:
        rollout.close()
        primary, store = files()
        rollout = Rollout(primary, store)
    candidate.instead.clear()
    rollout.catch_up()
    assert not rollout.report().unerased
    for path in (tmp_path / "candidate").iterdir():
        content = path.read_bytes()
        assert b"secret<2>" not in content
        assert b"secret<3>" not in content
    assert equal(primary, store)
    rollout.close()
