"""`reembed` on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Invoke = Callable[..., Result]

NEW = ("--provider", "hashing", "--dimensions", "32")


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_store_moves_and_moves_back(filled: Invoke) -> None:
    """Every text is embedded once, the store says in which space it is, and the way back costs nothing."""
    told = document(filled(*NEW, "reembed", "--json"))
    assert (told["rows"], told["embedded"], told["switched"], told["target"]["dimensions"]) == (4, 4, True, 32)
    stats = document(filled("stats", "--json"))
    assert stats["space"]["dimensions"] == 32
    assert document(filled("search", "My dog is called Ada.", "-k", "1", "--json"))["hits"][0]["entry"]["id"] == "d1"
    back = document(filled("--provider", "hashing", "--dimensions", "64", "reembed", "--json"))
    assert (back["embedded"], back["switched"]) == (0, True)


def test_a_dry_run_changes_nothing(filled: Invoke, db: Path) -> None:
    """It tells texts, characters and calls."""
    before = db.read_bytes()
    result = filled(*NEW, "reembed", "--dry-run")
    assert result.exit_code == 0
    assert "4 of 4 texts" in result.stdout
    told = document(filled(*NEW, "reembed", "--dry-run", "--json"))
    assert (told["texts"], told["calls"]) == (4, 1)
    assert db.read_bytes() == before


def test_the_switch_can_wait(filled: Invoke) -> None:
    """With --no-switch the store stays where it is; the same command without it moves it and embeds nothing again."""
    result = filled(*NEW, "reembed", "--no-switch", "--sample", "2")
    assert "still in its former space" in result.stdout
    assert document(filled("stats", "--json"))["space"]["dimensions"] == 64
    assert document(filled(*NEW, "reembed", "--json"))["embedded"] == 0
    assert document(filled("stats", "--json"))["space"]["dimensions"] == 32
    assert "dropped the vectors of hashing (64" in filled("reembed", "--drop").stdout
    assert document(filled("reembed", "--drop", "--json")) == {"dropped": []}


@pytest.mark.parametrize("other", ["--dry-run", "--no-switch"])
def test_nothing_is_dropped_where_that_may_not_be_meant(filled: Invoke, db: Path, other: str) -> None:
    """--drop beside an option that says to change less is not understood, and drops nothing."""
    assert filled(*NEW, "reembed").exit_code == 0
    before = db.read_bytes()
    result = filled("reembed", "--drop", other)
    assert result.exit_code == 2
    assert "--drop goes with neither" in result.stderr
    assert db.read_bytes() == before


def test_the_space_in_use_is_refused(filled: Invoke, invoke: Invoke, db: Path) -> None:
    """That, and a store that is not there, are errors in one line."""
    result = filled("--provider", "hashing", "--dimensions", "64", "reembed")
    assert result.exit_code == 1
    assert "already" in result.stderr
    db.unlink()
    assert "there is no store" in invoke(*NEW, "reembed").stderr
