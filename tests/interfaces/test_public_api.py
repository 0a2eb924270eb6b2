"""What is public is listed in one file, so that a change of it is seen and meant."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING

import pytest

import public_api

if TYPE_CHECKING:
    from pathlib import Path

MODULES = [
    "llmspell_memory",
    *(
        f"llmspell_memory.{name}"
        for name in ("embeddings", "index", "backends", "retrieval", "operations", "testing", "server", "mcp", "client")
    ),
    *(
        f"llmspell_memory.adapters.{name}"
        for name in ("google_adk", "langchain", "langgraph", "llama_index", "mem0", "openai_agents")
    ),
]


def test_the_code_offers_what_the_list_says() -> None:
    """Whoever changes a public name, a command, an operation or a tool means it: the list is written anew by hand."""
    changed = public_api.difference()
    assert not changed, (
        f"what is public has changed; if that is meant, run `make api` and note it in CHANGELOG:\n{changed}"
    )


def test_the_list_has_every_kind_of_name() -> None:
    """Signatures, fields, values, methods of parents, properties, errors; commands, operations, tools."""
    lines = public_api.FILE.read_text(encoding="utf-8").splitlines()
    for line in (
        "llmspell_memory.ConfigError: class(EpisodicError, ValueError)",
        "llmspell_memory.new_id() -> str",
        "llmspell_memory.HNSWConfig.ef_search: int",
        "llmspell_memory.EpisodicBackendType.HNSW = 'HNSW'",
        "llmspell_memory.DefaultMemoryManager.episodic: EpisodicMemory [property]",
        "llmspell_memory.DefaultMemoryManager.with_config(config: MemoryConfig) -> Self [classmethod]",
        "POST /v1/search search()",
    ):
        assert line in lines
    for beginning in (
        "llmspell_memory.Hit(entry: EpisodicEntry, score: float",
        "add_memory(content, session_id, role?",
    ):
        assert any(line.startswith(beginning) for line in lines), beginning
    assert any(line.startswith("llmspell-memory search [query]") and "[--session]" in line for line in lines)
    assert not any("._" in line.partition("(")[0] for line in lines)


def test_a_difference_names_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was taken away and what was added stand in the diff, and the command ends with 1."""
    before = public_api.FILE.read_text(encoding="utf-8")
    other = tmp_path / "public_api.txt"
    other.write_text(
        before.replace("llmspell_memory.new_id() -> str", "llmspell_memory.new_id(seed: int) -> str"), encoding="utf-8"
    )
    monkeypatch.setattr(public_api, "FILE", other)
    assert public_api.main([]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert "-llmspell_memory.new_id(seed: int) -> str" in printed
    assert "+llmspell_memory.new_id() -> str" in printed
    assert public_api.main(["--write"]) == 0
    assert other.read_text(encoding="utf-8") == before


@pytest.mark.parametrize("module", MODULES)
def test_names_that_a_module_lists_are_there(module: str) -> None:
    """`__all__` resolves, and each function and class in it is described."""
    found = importlib.import_module(module)
    assert found.__all__
    for name in found.__all__:
        one = getattr(found, name)
        assert inspect.getdoc(one) or not (inspect.isclass(one) or inspect.isfunction(one)), name
