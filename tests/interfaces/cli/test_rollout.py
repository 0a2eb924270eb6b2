"""`rollout` on the command line."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from llmspell_memory import EmbeddingSpace
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.operations import Rollout
from llmspell_memory.types import Filter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Invoke = Callable[..., Result]

LENIENT = ("--p95-ratio", "1000")


def document(result: Result, code: int = 0) -> Any:
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def count(path: Path) -> int:
    backend = SQLiteBackend(path, warm=False)
    try:
        return backend.count(Filter())
    finally:
        backend.close()


@pytest.fixture
def fast(tmp_path: Path) -> Path:
    return tmp_path / "fast.db"


def test_a_candidate_is_made_compared_and_promoted(filled: Invoke, db: Path, fast: Path) -> None:
    """It gets every entry; the report says what was measured, and which path programs are to be given."""
    told = document(filled("rollout", db, fast, "--sample", "30", *LENIENT, "--json"))
    assert (told["state"], told["serving"], told["queries"], told["recall"], told["lag"]) == (
        "ready",
        "primary",
        30,
        1,
        0,
    )
    assert set(told["candidate"]) == {"p50", "p95", "p99"}
    assert count(fast) == count(db)
    result = filled("rollout", db, fast, "--sample", "30", *LENIENT, "--promote")
    assert result.exit_code == 0
    assert f"programs are to be started with {fast} from now on" in result.stdout.replace("\n", "")


def test_what_is_written_to_the_promoted_one_comes_back(filled: Invoke, db: Path, fast: Path) -> None:
    """--status tells of it and changes nothing; --rollback brings it home, and a further run begins anew."""
    assert filled("rollout", db, fast, "--sample", "5", *LENIENT, "--promote").exit_code == 0
    assert filled("--db", fast, "add", "new", "--session", "s", "--role", "u", "--id", "new").exit_code == 0
    before = db.read_bytes()
    told = document(filled("rollout", db, fast, "--status", "--json"))
    assert (told["state"], told["lag"]) == ("promoted", 1)
    assert db.read_bytes() == before
    told = document(filled("rollout", db, fast, "--rollback", "--json"))
    assert (told["state"], told["serving"]) == ("rolled back", "primary")
    assert document(filled("show", "new", "--json"))["entry"]["content"] == "new"
    assert document(filled("rollout", db, fast, "--sample", "5", *LENIENT, "--json"))["state"] == "ready"


def test_a_promotion_that_is_not_ready_is_exit_code_1(filled: Invoke, db: Path, fast: Path) -> None:
    """The report says what is missing, and the primary serves on."""
    arguments = ("rollout", db, fast, "--sample", "5", "--p95-ratio", "0.0001", "--promote")
    told = document(filled(*arguments, "--json"), code=1)
    assert (told["state"], told["serving"]) == ("comparing", "primary")
    assert "times the primary's" in told["missing"][0]
    result = filled(*arguments)
    assert result.exit_code == 1
    assert "missing" in result.stdout
    assert "programs are to be" not in result.stdout


def test_questions_may_be_given(filled: Invoke, db: Path, fast: Path, tmp_path: Path) -> None:
    """One a line, embedded by the provider that the store records; a file without any is an error."""
    questions = tmp_path / "questions.txt"
    questions.write_text("what is my dog called?\n\nwhen does the lease end?\n", encoding="utf-8")
    told = document(filled("rollout", db, fast, "--queries", questions, "-k", "2", *LENIENT, "--json"))
    assert (told["queries"], told["state"]) == (2, "ready")
    questions.write_text("\n", encoding="utf-8")
    result = filled("rollout", db, fast, "--queries", questions)
    assert result.exit_code == 1
    assert "holds no query" in result.output
    questions.write_text('{"query": "what is\u2028my dog called?"}\n', encoding="utf-8-sig")
    told = document(filled("rollout", db, fast, "--queries", questions, "-k", "2", *LENIENT, "--json"))
    assert told["queries"] == 3
    result = filled("--db", "other.db", "--provider", "local", "rollout", db, fast, "--queries", questions)
    assert f"{db} holds vectors of hashing" in result.output


def test_what_makes_no_sense_is_refused(filled: Invoke, db: Path, fast: Path, tmp_path: Path) -> None:
    """No store, no rollout, two acts at once, or one that a program has open: told, and nothing changed."""
    assert "no store at" in filled("rollout", tmp_path / "none.db", fast).output
    assert "no store at" in filled("rollout", db, fast, "--status").output
    assert "no store at" in filled("rollout", db, fast, "--rollback").output
    assert not fast.exists()
    assert filled("rollout", db, fast, "--promote", "--rollback").exit_code == 2
    assert filled("rollout", db, fast, "--sample", "0").exit_code == 0
    opened = Rollout(SQLiteBackend(db), SQLiteBackend(fast))
    assert "open already" in filled("rollout", db, fast, "--promote").output
    assert filled("rollout", db, fast, "--status").exit_code == 0
    opened.close()
    assert "no rollout between" in filled("rollout", fast, tmp_path / "fast.db", "--status").output
    with closing(SQLiteBackend(tmp_path / "other.db", EmbeddingSpace(provider="hashing", model=None, dimensions=64))):
        assert "no rollout between" in filled("rollout", db, tmp_path / "other.db", "--rollback").output
