"""What an adapter says where its framework is not installed."""

from __future__ import annotations

from llmspell_memory.errors import MissingDependencyError


def missing(error: ModuleNotFoundError, *, extra: str) -> ImportError:
    """Return what to raise for a failed import: the pip line, if it is a framework's package that is not there."""
    package = (error.name or "").partition(".")[0]
    return MissingDependencyError(package, extra=extra) if package in ("langgraph", "langchain_core") else error
