"""Where rows live: in RAM, or in one SQLite file. Each keeps a vector index as a view of its rows.

`ScopedBackend` shows one namespace of either.
"""

from llmspell_memory.backends.local import LocalBackend
from llmspell_memory.backends.scoped import ScopedBackend
from llmspell_memory.backends.sqlite import SQLiteBackend

__all__ = ["LocalBackend", "SQLiteBackend", "ScopedBackend"]
