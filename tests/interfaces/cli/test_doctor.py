"""`doctor` on the command line."""

from __future__ import annotations

import json
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result


def test_it_tells_of_machine_extras_store_and_speed(filled: Callable[..., Result], db: Path) -> None:
    """Whatever is installed is named with its version; nothing is left beside the store."""
    before = sorted(one.name for one in db.parent.iterdir())
    told = json.loads(filled("doctor", "--json").stdout)
    assert told["environment"]["llmspell-memory"] == metadata.version("llmspell-memory")
    assert told["extras"]["cli"]["typer"] == metadata.version("typer")
    assert told["extras"]["sentence-transformers"] == {"sentence-transformers": None}
    assert "all" not in told["extras"]
    assert told["store"]["entries"] == 4
    assert [one["what"] for one in told["speed"]][:2] == ["exact search among 10,000", "HNSW search among 10,000"]
    assert all(one["microseconds"] > 0 for one in told["speed"])
    assert sorted(one.name for one in db.parent.iterdir()) == before
    shown = filled("doctor").stdout
    assert 'pip install "llmspell-memory[sentence-transformers]"' in " ".join(shown.split())
    assert "4 entries" in shown


def test_a_store_need_not_be_there(invoke: Callable[..., Result], db: Path) -> None:
    """And none is made."""
    result = invoke("doctor")
    assert result.exit_code == 0
    assert "there is none" in result.stdout
    assert not db.exists()


def test_a_store_that_is_damaged_is_told(invoke: Callable[..., Result], db: Path) -> None:
    """With the reason, and the exit code says so, too."""
    db.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    result = invoke("doctor", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["store"]["error"]
