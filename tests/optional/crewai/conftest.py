"""CrewAI without its telemetry, its tracing and a network, and stores over exact search and over HNSW in a file."""

# ruff: noqa: E402 (CrewAI reads its environment when it is imported)

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from typing import TYPE_CHECKING

import pytest

# Read when CrewAI is imported; its own files go where nothing else is.
os.environ["CREWAI_DISABLE_TELEMETRY"] = os.environ["OTEL_SDK_DISABLED"] = "true"
os.environ["CREWAI_TRACING_ENABLED"] = "false"
os.environ["CREWAI_DISABLE_VERSION_CHECK"] = "true"
_home = tempfile.TemporaryDirectory(prefix="crewai-", ignore_cleanup_errors=True)
os.environ["XDG_DATA_HOME"] = os.environ["HOME"] = _home.name

with warnings.catch_warnings():  # what CrewAI warns of when it is imported is not ours
    warnings.simplefilter("ignore")
    import crewai.memory  # noqa: F401 (imported once, here)

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicBackendType, MemoryConfig
from llmspell_memory.adapters.crewai import EpisodicStorage
from llmspell_memory.embeddings import HashingProvider

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_asked: list[str] = []


def _watch(event: str, args: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        _asked.append(f"{event}: {args[1:] if event == 'socket.connect' else args}")


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def offline() -> Iterator[None]:
    """Nothing is asked of a network, by whatever thread."""
    _asked.clear()
    yield
    assert _asked == []


@pytest.fixture(params=["exact", "hnsw"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DefaultMemoryManager]:
    config = MemoryConfig.for_production(EmbeddingService(HashingProvider()), path=tmp_path / "memory.db")
    if request.param == "exact":
        config = config.with_path(None).with_backend(EpisodicBackendType.IN_MEMORY)
    with DefaultMemoryManager.with_config(config) as opened:
        yield opened


@pytest.fixture
def storage(manager: DefaultMemoryManager) -> EpisodicStorage:
    return EpisodicStorage(manager)
