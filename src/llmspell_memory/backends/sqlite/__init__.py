"""Rows and vectors in one SQLite file, with the index in memory as a view of them."""

from llmspell_memory.backends.sqlite.backend import SQLiteBackend

__all__ = ["SQLiteBackend"]
