"""LangChain's own standard tests, unchanged, over each kind of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from llmspell_memory import DefaultMemoryManager, EpisodicBackendType, EpisodicEntry, MemoryConfig
from llmspell_memory.adapters.langchain import EpisodicRetriever, EpisodicVectorStore, embedding_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langchain_core.vectorstores import VectorStore


class TestExact(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> Iterator[VectorStore]:
        config = MemoryConfig(service=embedding_service(self.get_embeddings()))
        with DefaultMemoryManager.with_config(config) as manager:
            assert manager.backend_name == str(EpisodicBackendType.IN_MEMORY)
            yield EpisodicVectorStore(manager)


class TestDurableHNSW(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:
        config = MemoryConfig.for_production(embedding_service(self.get_embeddings()), path=tmp_path / "memory.db")
        with DefaultMemoryManager.with_config(config) as manager:
            yield EpisodicVectorStore(manager)


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _memory(self) -> Iterator[None]:
        with DefaultMemoryManager.new_in_memory() as manager:
            texts = ["The ferry is late.", "The ferry is full.", "A ferry to Kiel.", "Tea with milk."]
            manager.episodic.add_many(EpisodicEntry("s", "user", text) for text in texts)
            self._manager = manager
            yield

    @property
    def retriever_constructor(self) -> type[EpisodicRetriever]:
        return EpisodicRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"memory": self._manager}

    @property
    def retriever_query_example(self) -> str:
        return "when does the ferry leave?"
