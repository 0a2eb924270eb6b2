"""Providers that count and misbehave, for the tests of the service."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.types import BatchLimits


class Recorder:
    """A hashing provider that keeps its calls, and fails as it is told."""

    def __init__(self, dimensions: int = 32, limits: BatchLimits | None = None) -> None:
        self.name = "recorder"
        self.model = "test"
        self.dimensions = dimensions
        self.limits = limits or BatchLimits()
        self.calls: list[list[str]] = []
        self.kinds: list[str] = []
        self.failures: list[BaseException] = []
        self.spoil: Any = None
        self._hashing = HashingProvider(dimensions)

    def embed(self, texts: Any, *, kind: str = "document") -> Any:
        self.calls.append(list(texts))
        self.kinds.append(kind)
        if self.failures:
            raise self.failures.pop(0)
        rows = self._hashing.embed(texts) * (1.0 if kind == "document" else 2.0)
        return rows if self.spoil is None else self.spoil(np.array(rows))


@pytest.fixture
def provider() -> Recorder:
    return Recorder()


@pytest.fixture
def make_provider() -> type[Recorder]:
    return Recorder
