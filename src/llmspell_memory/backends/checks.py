"""What every backend asks of the entries it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.errors import DimensionError, InputError
from llmspell_memory.types.arrays import check_magnitude

if TYPE_CHECKING:
    from llmspell_memory.types import EmbeddingSpace, EpisodicEntry, Vector


def checked_vector(entry: EpisodicEntry, space: EmbeddingSpace) -> Vector:
    """Return the entry's vector, if the index will take it: a row must never be stored that no view can show.

    Raises:
        InputError: it has none, or one too long for the metric; a DimensionError when it is not of the space's width.
    """
    if entry.embedding is None:
        raise InputError(f"entry {entry.id!r} has no vector; EpisodicMemory embeds texts, a backend stores the result")
    if len(entry.embedding) != space.dimensions:
        raise DimensionError(expected=space.dimensions, got=len(entry.embedding))
    check_magnitude(entry.embedding[None], metric=space.metric)
    return entry.embedding
