"""Rollouts that are closed when a test has ended."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from llmspell_memory import HNSWConfig
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.operations import Rollout
from tests.unit.rollout.common import LENIENT, SPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def never() -> Iterator[Callable[..., Any]]:
    """What does not return before the test has ended."""
    ended = threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        ended.wait(60)
        raise OSError("woken up at last")

    yield hang
    ended.set()


@pytest.fixture
def opened() -> Iterator[Callable[..., Rollout]]:
    """Open rollouts that the test need not close."""
    made: list[Rollout] = []

    def make(primary: Any, candidate: Any, **settings: Any) -> Rollout:
        given: dict[str, Any] = {"share": 1.0, "bar": LENIENT} | settings
        made.append(Rollout(primary, candidate, **given))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def files(tmp_path: Path) -> Callable[[], tuple[SQLiteBackend, SQLiteBackend]]:
    """Open the two stores in files: one that is exact, one with HNSW."""

    def make() -> tuple[SQLiteBackend, SQLiteBackend]:
        (tmp_path / "candidate").mkdir(exist_ok=True)
        return (
            SQLiteBackend(tmp_path / "primary.db", SPACE),
            SQLiteBackend(tmp_path / "candidate" / "memory.db", SPACE, hnsw=HNSWConfig(m=8, ef_construction=64)),
        )

    return make
