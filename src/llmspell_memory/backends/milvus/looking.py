"""What a store in Milvus says of itself, without opening it: where there is none, none is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.backends.looking import Found
from llmspell_memory.backends.milvus.connections import Connection, MissingCollectionError
from llmspell_memory.backends.milvus.schema import Collections, hnsw_of

if TYPE_CHECKING:
    from llmspell_memory.backends.milvus.settings import MilvusConfig


def look(config: MilvusConfig) -> Found | None:
    """Return what is there; None where there is no store, or an empty one without a space.

    Raises:
        MissingDependencyError: the extra `milvus` is not installed.
        SchemaError: it was made by a newer version.
        UnavailableError: the server cannot be reached.
    """
    connection = Connection(config)
    try:
        state = Collections(connection).state(strong=True)
    except MissingCollectionError:
        return None
    finally:
        connection.close()
    if not state.used:
        return None
    kept = state.kept[state.used]
    return Found(kept.space, hnsw_of(kept.index))
