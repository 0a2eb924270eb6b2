"""Which stores `peers.py` measures, in the order of its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from peers_memories import GraphInMemory, GraphInSqlite, Mem0, Ours
from peers_vectors import Chroma, Lance, LanceIndexed, SqliteVec

if TYPE_CHECKING:
    from peers_base import Store

STORES: Final[tuple[type[Store], ...]] = (
    *(Ours, Chroma, LanceIndexed, Lance, SqliteVec),
    *(GraphInSqlite, GraphInMemory, Mem0),
)


def store_named(name: str) -> type[Store]:
    """Return a kind of store by its name."""
    return next(kind for kind in STORES if kind.name == name)
