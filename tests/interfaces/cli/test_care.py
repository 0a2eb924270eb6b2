"""`backup`, `check` and `repair` on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Invoke = Callable[..., Result]

PAGE = 4096


def document(result: Result, code: int = 0) -> Any:
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def damage(db: Path, page: int) -> None:
    data = bytearray(db.read_bytes())
    data[(page - 1) * PAGE + 500] ^= 1
    db.write_bytes(data)


def leaf_of(db: Path, text: str) -> int:
    return db.read_bytes().index(text.encode()) // PAGE + 1


def test_a_backup_is_a_store(filled: Invoke, db: Path) -> None:
    """The copy has every entry, and its path, entries and size are told."""
    target = db.with_name("copy.db")
    result = filled("backup", target)
    assert (result.exit_code, result.stdout.startswith("copied 4 entries to ")) == (0, True)
    db.unlink()
    target.rename(db)
    assert document(filled("stats", "--json"))["entries"] == 4
    told = document(filled("backup", target, "--json"))
    assert (told["db"], told["file"], told["entries"], told["bytes"]) == (
        str(db),
        str(target),
        4,
        target.stat().st_size,
    )


def test_a_backup_takes_nobodys_place(filled: Invoke, invoke: Invoke, db: Path) -> None:
    """A file that is there, and a store that is not, are errors in one line."""
    target = db.with_name("copy.db")
    target.write_text("mine")
    result = filled("backup", target)
    assert (result.exit_code, target.read_text()) == (1, "mine")
    assert "exists" in result.stderr
    db.unlink()
    assert "there is no store" in invoke("backup", db.with_name("other.db")).stderr


def test_a_check_of_a_sound_store_ends_well(filled: Invoke) -> None:
    """Exit code 0, figures, and notes."""
    result = filled("check")
    assert result.exit_code == 0
    assert "4 can be read, and 4 vectors" in result.stdout
    assert "no fault was found" in result.stdout
    told = document(filled("check", "--json", "--sample", "0"))
    assert (told["sound"], told["entries"], told["vectors"], told["snapshot"]) == (True, 4, 4, "absent")
    assert [one["severity"] for one in told["findings"]] == ["note"]


def test_a_check_of_a_damaged_store_ends_with_1(filled: Invoke, db: Path) -> None:
    """Each fault is told with where, what and what to do; the findings are all there in JSON."""
    page = leaf_of(db, "sourdough")
    damage(db, page)
    result = filled("check")
    assert result.exit_code == 1
    assert f"page {page} (at byte" in result.stdout
    assert "repair FILE" in result.stdout
    told = document(filled("check", "--json"), code=1)
    assert not told["sound"]
    assert {one["severity"] for one in told["findings"]} == {"fault", "note"}
    assert all(one["where"] and one["what"] and one["remedy"] for one in told["findings"])


def test_a_repair_writes_a_new_store_and_names_losses(filled: Invoke, db: Path) -> None:
    """What is lost is listed with id, namespace and reason; the damaged store stays."""
    damage(db, leaf_of(db, "sourdough"))
    before = db.read_bytes()
    target = db.with_name("new.db")
    result = filled("repair", target)
    assert result.exit_code == 0
    assert "brought 0 entries to" in result.stdout
    assert "acme / alice" in result.stdout
    assert db.read_bytes() == before
    told = document(filled("repair", db.with_name("again.db"), "--json"))
    assert [(one["label"], one["id"], one["namespace"]) for one in told["losses"]] == [
        (1, "d1", []),
        (2, "d2", []),
        (3, "b1", []),
        (4, "d1", ["acme", "alice"]),
    ]
    assert "exists" in filled("repair", target).stderr


def test_a_repair_embeds_what_has_lost_its_vector(filled: Invoke, db: Path) -> None:
    """The provider that the store records makes lost vectors anew, unless that is not wanted."""
    damage(db, 16)  # where the vectors begin
    told = document(filled("repair", db.with_name("without.db"), "--no-embed", "--json"))
    assert (told["entries"], told["embedded"], len(told["losses"])) == (0, 0, 4)
    assert all("embedding service" in one["why"] for one in told["losses"])
    told = document(filled("repair", db.with_name("with.db"), "--json"))
    assert (told["entries"], told["embedded"], told["losses"]) == (4, 4, [])


def test_a_repair_needs_the_provider_where_nothing_tells_it(filled: Invoke, db: Path) -> None:
    """With the embedding space lost, the error says to name the provider, and then it goes."""
    damage(db, 3)
    result = filled("repair", db.with_name("new.db"))
    assert result.exit_code == 1
    assert "--provider" in result.stderr
    told = document(filled("repair", db.with_name("new.db"), "--json", new=True))
    assert (told["entries"], told["embedded"], told["losses"]) == (4, 0, [])
