"""Memories and files for the tests of import and export."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from llmspell_memory import DefaultMemoryManager, EmbeddingService, MemoryConfig
from llmspell_memory.embeddings import HashingProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def service() -> EmbeddingService:
    return EmbeddingService(HashingProvider(64))


@pytest.fixture
def memory(tmp_path: Path, service: EmbeddingService) -> Iterator[DefaultMemoryManager]:
    with DefaultMemoryManager.with_config(MemoryConfig(service=service, path=tmp_path / "memory.db")) as opened:
        yield opened


@pytest.fixture
def lines(tmp_path: Path) -> Callable[..., Path]:
    """Write a JSONL file; a str is written as it is."""

    def write(*objects: dict[str, Any] | str, name: str = "entries.jsonl") -> Path:
        path = tmp_path / name
        texts = [one if isinstance(one, str) else json.dumps(one) for one in objects]
        path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
        return path

    return write


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make an installed package impossible to import."""
    return lambda package: monkeypatch.setitem(sys.modules, package, None)
