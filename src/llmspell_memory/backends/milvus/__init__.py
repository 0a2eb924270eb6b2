"""Rows in Milvus, and searches by what it has for them: vectors dense and sparse, under filters that it applies itself.

The driver is loaded when `MilvusBackend` is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.backends.milvus.settings import MilvusConfig

if TYPE_CHECKING:
    from llmspell_memory.backends.milvus.backend import MilvusBackend

__all__ = ["MilvusBackend", "MilvusConfig"]


def __getattr__(name: str) -> object:
    if name == "MilvusBackend":
        from llmspell_memory.backends.milvus.backend import MilvusBackend  # noqa: PLC0415 (it needs the driver)

        return MilvusBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
