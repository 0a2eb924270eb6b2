"""Memories over random vectors, among which a graph with a low ef_search misses many."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, HNSWConfig, MemoryConfig
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.types import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmspell_memory.types import Matrix

WIDTH = 48
ALWAYS = Watch(share=1.0, budget=1.0)


def rows(count: int, seed: int = 0) -> Matrix:
    made = np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)
    unit: Matrix = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit


@pytest.fixture
def opened() -> Iterator[Callable[..., DefaultMemoryManager]]:
    """Open memories of 5,000 entries in RAM, 50 sessions in two namespaces, that are closed in the end."""
    managers: list[DefaultMemoryManager] = []

    def open_one(watch: Watch | None = ALWAYS, *, ef_search: int = 10, count: int = 5_000) -> DefaultMemoryManager:
        config = MemoryConfig.for_production(EmbeddingService(HashingProvider(WIDTH)))
        config = config.with_hnsw_config(HNSWConfig(m=4, ef_construction=20, ef_search=ef_search)).with_watch(watch)
        manager = DefaultMemoryManager.with_config(config)
        managers.append(manager)
        manager.episodic.add_many(
            EpisodicEntry(
                f"s{number % 50}", "user", "x", id=f"{number}", embedding=vector, namespace=(f"t{number % 2}",)
            )
            for number, vector in enumerate(rows(count))
        )
        return manager

    yield open_one
    for manager in managers:
        manager.close()


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something holds; an error where it does not in time."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)
