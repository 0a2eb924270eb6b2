"""Stores to try rollouts with, and candidates that misbehave."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from llmspell_memory import EmbeddingSpace, EpisodicEntry, Filter
from llmspell_memory.operations import Bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmspell_memory import EpisodicBackend
    from llmspell_memory.backends import SQLiteBackend
    from llmspell_memory.operations import Rollout

    Files = Callable[[], tuple[SQLiteBackend, SQLiteBackend]]
    Opened = Callable[..., Rollout]

SPACE = EmbeddingSpace(provider="test", model=None, dimensions=16)
VECTORS = np.random.default_rng(0).standard_normal((1000, 16)).astype(np.float32)
LENIENT = Bar(queries=10, p95_ratio=1000.0)
"""A bar that no noise of the machine can break."""


def row(number: int, **fields: Any) -> EpisodicEntry:
    given: dict[str, Any] = {
        "content": f"what was said as {number}",
        "id": f"id-{number}",
        "embedding": VECTORS[number % 1000],
    } | fields
    return EpisodicEntry(f"session-{number % 3}", "user", **given)


def rows(*numbers: int) -> list[EpisodicEntry]:
    return [row(number) for number in range(*numbers)]


def ids(*numbers: int) -> Filter:
    return Filter(ids=frozenset(f"id-{number}" for number in numbers))


def eventually(true: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Wait for something that another thread does."""
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.01)
    return true()


class Unruly:
    """A real backend whose verbs do what a test puts in their place."""

    def __init__(self, backend: EpisodicBackend) -> None:
        self._backend = backend
        self.instead: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        if name in self.instead:
            return self.instead[name]
        if "*" in self.instead and name != "close":
            return self.instead["*"]
        return getattr(self._backend, name)


def broken(*_: Any, **__: Any) -> Any:
    raise OSError("no such disk")


def compare(rollout: Rollout, queries: int = 12, start: int = 0) -> None:
    """Compare answers, with both stores level if the candidate lets that be."""
    with suppress(OSError):
        rollout.catch_up()
    for number in range(start, start + queries):
        rollout.compare(VECTORS[number] + 0.01, 5)


def state_of(rollout: Rollout) -> str:
    """Return the state of this moment, which no earlier comparison tells anything about."""
    return rollout.state
