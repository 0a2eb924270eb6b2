"""What an adapter says where its framework is not installed."""

from __future__ import annotations

from typing import Final

from llmspell_memory.errors import MissingDependencyError

_PACKAGES: Final = {
    "langgraph": "langgraph",
    "langchain_core": "langchain-core",
    "agents": "openai-agents",
    "llama_index": "llama-index-core",
    "google": "google-adk",
    "crewai": "crewai",
}
"""What is installed, by what is imported."""


def missing(error: ModuleNotFoundError, *, extra: str) -> ImportError:
    """Return what to raise for a failed import: the pip line, if it is a framework's package that is not there."""
    package = _PACKAGES.get((error.name or "").partition(".")[0])
    return error if package is None else MissingDependencyError(package, extra=extra)
