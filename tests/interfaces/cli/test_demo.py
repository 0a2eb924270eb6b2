"""The demo: everything it prints is computed, and it touches no store but its own."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[3]
CHATS = ROOT / "tests" / "unit" / "operations" / "data"


def document(result: subprocess.CompletedProcess[str]) -> Any:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_example(run: Run, tmp_path: Path) -> None:
    """In a checkout the demo needs no argument, names its store and a next command, and that command works."""
    result = run("demo", folder=ROOT, TMPDIR=str(tmp_path), COLUMNS="100")
    assert result.returncode == 0, result.stderr
    for part in (
        "377 entries of 31 sessions in 10 months",
        "✓",
        "recall@10",
        "the HNSW view, too, looks at every vector",
        "377 after",
    ):
        assert part in result.stdout
    assert "DIFFERENT" not in result.stdout
    command = shlex.split(result.stdout.splitlines()[-1])
    assert Path(command[2]).parent.parent == tmp_path
    assert "score" in run(*command[1:]).stdout


def test_its_numbers_are_consistent(run: Run, db: Path) -> None:
    """The JSON of the demo holds what the terminal shows: hits, evidence, times, both views, and the store reopened."""
    found = document(run("--db", db, "--provider", "hashing", "demo", "--json", folder=ROOT))
    questions = json.loads((ROOT / "examples" / "questions.json").read_text(encoding="utf-8"))
    assert [one["question"] for one in found["questions"]] == [one["question"] for one in questions]
    for one in found["questions"]:
        assert len(one["hits"]) == 10
        assert all(hit["is_evidence"] == (hit["entry"]["id"] in one["evidence"]) for hit in one["hits"])
        assert one["search_us"] > 0
    exact, hnsw = found["views"]
    assert (exact["view"], exact["recall"], hnsw["view"]) == ("exact", 1.0, "hnsw")
    assert hnsw["recall"] == 1.0
    assert min(exact["runs"], hnsw["runs"]) >= 500
    assert all(0 < view["p50_us"] <= view["p95_us"] for view in found["views"])
    again = found["reopened"]
    assert (again["before"], again["after"], again["entry_equal"], again["hits_equal"]) == (377, 377, True, True)
    assert json.loads(run("--db", db, "stats", "--json").stdout)["entries"] == 377


def test_a_file_of_ones_own(run: Run, db: Path) -> None:
    """Any importable file will do; without questions its own user turns are asked, and left out of their own hits."""
    found = document(run("--db", db, "--provider", "hashing", "demo", CHATS / "claude.json", "--json"))
    assert found["import"]["entries"] == 3
    for one in found["questions"]:
        assert one["question"] not in [hit["entry"]["content"] for hit in one["hits"]]


def test_questions_of_ones_own(run: Run, db: Path) -> None:
    """--question asks what one likes; nothing is marked, as nobody has said where the answer stands."""
    options = ("--question", "Which oven?", "--question", "What is cheaper?")
    result = run("--db", db, "--provider", "hashing", "demo", CHATS / "claude.json", *options)
    assert result.returncode == 0, result.stderr
    assert "The questions are yours." in result.stdout
    assert "✓" not in result.stdout
    assert "2. What is cheaper?" in result.stdout


@pytest.mark.parametrize("how", ["option", "environment"])
def test_the_store_of_the_user_is_left_alone(run: Run, db: Path, tmp_path: Path, how: str) -> None:
    """A store that exists is refused where it is named, and not taken where the environment names it."""
    run("--db", db, "--provider", "hashing", "add", "x", "--session", "s", "--role", "u")
    before = db.read_bytes()
    if how == "option":
        result = run("--db", db, "--provider", "hashing", "demo", folder=ROOT)
        assert result.returncode == 1
        assert "makes a store of its own" in result.stderr
    else:
        names = {"LLMSPELL_MEMORY_DB": str(db), "TMPDIR": str(tmp_path)}
        found = document(run("--provider", "hashing", "demo", "--json", folder=ROOT, **names))
        assert found["db"] != str(db)
    assert db.read_bytes() == before


def test_outside_a_checkout(run: Run, tmp_path: Path) -> None:
    """Where the example is not at hand, the demo says where it was looked for and what else will do."""
    result = run("--provider", "hashing", "demo", TMPDIR=str(tmp_path))
    assert result.returncode == 1
    assert "llmspell-memory demo FILE" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_nothing_to_ask_about(run: Run, tmp_path: Path) -> None:
    """A file without entries is an error."""
    path = tmp_path / "empty.jsonl"
    path.touch()
    result = run("--provider", "hashing", "demo", path, TMPDIR=str(tmp_path))
    assert result.returncode == 1
    assert "holds no entries" in result.stderr
