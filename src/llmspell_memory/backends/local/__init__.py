"""Rows in RAM."""

from llmspell_memory.backends.local.backend import LocalBackend

__all__ = ["LocalBackend"]
