"""Stores of both adapters, each over exact search in RAM and over HNSW in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicBackendType, MemoryConfig
from llmspell_memory.adapters.langchain import EpisodicVectorStore
from llmspell_memory.adapters.langgraph import EpisodicStore
from llmspell_memory.embeddings import HashingProvider

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["exact", "hnsw"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DefaultMemoryManager]:
    config = MemoryConfig.for_production(EmbeddingService(HashingProvider()), path=tmp_path / "memory.db")
    if request.param == "exact":
        config = config.with_path(None).with_backend(EpisodicBackendType.IN_MEMORY)
    with DefaultMemoryManager.with_config(config) as opened:
        yield opened


@pytest.fixture
def store(manager: DefaultMemoryManager) -> EpisodicStore:
    return EpisodicStore(manager, fields=["text", "tags[*]"])


@pytest.fixture
def vectors(manager: DefaultMemoryManager) -> EpisodicVectorStore:
    return EpisodicVectorStore(manager)
