"""Rows in PostgreSQL, and searches by what it has for them: pgvector, and its full-text search.

The driver is loaded when `PostgresBackend` is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.backends.postgres.settings import PostgresConfig

if TYPE_CHECKING:
    from llmspell_memory.backends.postgres.backend import PostgresBackend

__all__ = ["PostgresBackend", "PostgresConfig"]


def __getattr__(name: str) -> object:
    if name == "PostgresBackend":
        from llmspell_memory.backends.postgres.backend import PostgresBackend  # noqa: PLC0415 (it needs the driver)

        return PostgresBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
