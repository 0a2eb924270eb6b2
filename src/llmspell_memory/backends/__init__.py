"""Where rows live: in RAM, or in one SQLite file. Each keeps a vector index as a view of its rows."""

from llmspell_memory.backends.local import LocalBackend
from llmspell_memory.backends.sqlite import SQLiteBackend

__all__ = ["LocalBackend", "SQLiteBackend"]
