"""A store in Milvus keeps the one contract, through its index and without it, and so does a scope over it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, ClassVar

from llmspell_memory.backends.milvus import MilvusBackend, MilvusConfig
from llmspell_memory.testing import DurableBackendContract
from llmspell_memory.testing.backends import DurableContract
from llmspell_memory.types import HNSWConfig
from tests.contract.test_backends import Scoped
from tests.milvus.server import shared

if TYPE_CHECKING:
    from pathlib import Path

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace


def opened(folder: Path, space: EmbeddingSpace | None, hnsw: HNSWConfig | None = None) -> MilvusBackend:
    """Return a store of this folder's name."""
    prefix = f"t_{hashlib.sha256(str(folder).encode()).hexdigest()[:24]}"
    return MilvusBackend(MilvusConfig(uri=shared().uri, prefix=prefix), space, hnsw=hnsw)


class TestMilvusExact(DurableBackendContract):
    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        return opened(folder, space)


class TestMilvusHNSW(DurableBackendContract):
    hnsw: ClassVar = HNSWConfig()

    def make(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        return opened(folder, space, self.hnsw)


class TestScopedMilvusHNSW(Scoped, DurableContract):
    def store(self, space: EmbeddingSpace, folder: Path) -> EpisodicBackend:
        return opened(folder, space, HNSWConfig())
