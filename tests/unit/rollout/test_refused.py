"""What makes no rollout is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from llmspell_memory import (
    ConfigError,
    EmbeddingSpace,
    InputError,
    SchemaError,
    StorageError,
)
from llmspell_memory.backends import LocalBackend, ScopedBackend, SQLiteBackend
from llmspell_memory.operations import Bar, Rollout, backup
from llmspell_memory.operations.rollout import record
from tests.stores import ALL, equal
from tests.unit.rollout.common import (
    LENIENT,
    SPACE,
    compare,
    rows,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.rollout.common import Files, Opened


def test_stores_that_make_no_pair_are_refused(files: Files, tmp_path: Path) -> None:
    """Another space, a scope, one store twice, a copy of its file, a store with entries of its own."""
    primary, candidate = files()
    primary.add(rows(3))
    with pytest.raises(SchemaError, match="one embedding space"):
        Rollout(primary, LocalBackend(EmbeddingSpace(provider="test", model=None, dimensions=8)))
    with pytest.raises(InputError, match="whole stores"):
        Rollout(primary, ScopedBackend(candidate, ("acme",)))
    with pytest.raises(InputError, match="same store"):
        Rollout(primary, primary)
    backup(tmp_path / "primary.db", tmp_path / "copy.db")
    copy = SQLiteBackend(tmp_path / "copy.db")
    with pytest.raises(InputError, match="copy of the other"):
        Rollout(primary, copy)
    candidate.add(rows(5, 9))
    with pytest.raises(InputError, match="holds 4 entries"):
        Rollout(primary, candidate)
    assert candidate.count(ALL) == 4
    for store in (primary, candidate, copy):
        store.close()


def test_settings_are_checked() -> None:
    """What is out of range is a ConfigError that names it."""
    one, other = LocalBackend(SPACE), LocalBackend(SPACE)
    for settings in ({"share": 1.5}, {"share": True}, {"timeout": 0}):
        with pytest.raises(ConfigError, match=next(iter(settings))):
            Rollout(one, other, **settings)
    for values in ({"recall": 1.2}, {"p95_ratio": 0}, {"queries": 0}, {"errors": -1}, {"queries": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(values))):
            Bar(**values)


def test_a_rollout_is_open_once(files: Files) -> None:
    """A second one over the same stores is refused until the first is closed, in this process and in another."""
    rollout = Rollout(*files())
    others = files()
    with pytest.raises(StorageError, match="open already"):
        Rollout(*others)
    rollout.close()
    Rollout(*others).close()


def test_a_primary_that_was_replaced_does_not_serve_again(files: Files, opened: Opened) -> None:
    """With another candidate than the one that serves in its place, opening is refused."""
    primary, candidate = files()
    rollout = Rollout(primary, candidate)
    rollout.add(rows(5))
    rollout.promote(force=True)
    rollout.close()
    primary, candidate = files()
    with pytest.raises(ConfigError, match="in place of this primary serves"):
        Rollout(primary, LocalBackend(SPACE))
    third = LocalBackend(SPACE)
    onward = opened(candidate, third)
    onward.catch_up()
    assert equal(candidate, third)
    primary.close()


def test_a_backup_of_before_the_promotion_does_not_overwrite_what_came_after(files: Files, tmp_path: Path) -> None:
    """Put back in the primary's place, it would have the candidate's newer entries deleted; so it is refused."""
    primary, candidate = files()
    rollout = Rollout(primary, candidate)
    rollout.add(rows(5))
    rollout.catch_up()
    backup(tmp_path / "primary.db", tmp_path / "old.db")
    rollout.add(rows(5, 10))
    rollout.promote(force=True)
    rollout.add(rows(10, 15))
    rollout.close()
    for path in tmp_path.glob("primary.db*"):
        path.unlink()
    (tmp_path / "old.db").rename(tmp_path / "primary.db")
    primary, candidate = files()
    with pytest.raises(InputError, match="older state"):
        Rollout(primary, candidate)
    assert candidate.count(ALL) == 15
    candidate.write_note("rollout", None)
    rollout = Rollout(primary, candidate)
    rollout.catch_up()
    assert candidate.count(ALL) == 5
    rollout.close()


def test_a_report_is_printed_as_a_table(opened: Opened) -> None:
    """A line for each figure, and one for each thing that is missing."""
    rollout = opened(LocalBackend(SPACE), LocalBackend(SPACE))
    rollout.add(rows(20))
    compare(rollout, 4)
    lines = str(rollout.report()).splitlines()
    assert lines[0].split(None, 1) == ["state", "comparing"]
    assert [line.split()[0] for line in lines] == [
        *("state", "serving", "lag", "queries", "recall", "primary", "candidate", "errors", "missing"),
    ]
    assert lines[-1].split(None, 1)[1] == "4 of 10 queries are compared"


def test_a_candidate_that_is_not_whole_is_refused(files: Files) -> None:
    """A migration into it that was not finished has marked it, and that is to be finished first."""
    primary, candidate = files()
    candidate.write_note("migration", '{"state": "unfinished"}')
    with pytest.raises(InputError, match="migration into it was not finished"):
        Rollout(primary, candidate)
    primary.close()
    candidate.close()


def test_what_is_recorded_can_be_read_beside_the_one_who_has_it_open(files: Files, opened: Opened) -> None:
    """Without beginning or changing anything; where there is no rollout, there is nothing."""
    primary, candidate = files()
    assert Rollout.recorded(primary, candidate) is None
    rollout = opened(primary, candidate)
    rollout.add(rows(20))
    compare(rollout)
    rollout.promote()
    rollout.catch_up()
    others = files()
    for pair in (others, others[::-1]):
        report = Rollout.recorded(*pair, bar=LENIENT)
        assert report is not None
        assert (report.state, report.serving, report.queries, report.lag) == ("promoted", "candidate", 12, 0)
        assert report.lag_seconds is None
    for store in others:
        store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no ps")
def test_a_process_is_told_from_a_later_one_by_ps(tmp_path: Path) -> None:
    """As macOS is asked: the same answer twice for a living process, another for another, none for a dead one."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, cwd=tmp_path)
    try:
        own = record.asked_ps(os.getpid())
        assert own == record.asked_ps(os.getpid())
        assert record.asked_ps(other.pid) not in {None, own}
    finally:
        other.communicate(b"\n")
    assert record.asked_ps(other.pid) is None
