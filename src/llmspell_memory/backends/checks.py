"""What every backend asks of the entries it is given, and of the process that it is used in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from llmspell_memory.errors import DimensionError, InputError, SpaceChangedError, StorageError
from llmspell_memory.index import check_storable
from llmspell_memory.types.arrays import check_magnitude

if TYPE_CHECKING:
    from llmspell_memory.types import EmbeddingSpace, EpisodicEntry, HNSWConfig, Vector


class Birthplace:
    """The process that a backend was opened in, which a fork of it is not.

    What a fork inherits must be left alone there: locks that other threads held are never given back, a file's locks
    are not its own, and rows in RAM would silently go another way than its parent's. Nor may it be waited for.
    """

    def __init__(self) -> None:
        self._process = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this process is the one; takes 60 ns."""
        return os.getpid() == self._process

    def check(self, what: object) -> None:
        """Raise a StorageError in any other process; `what` names what was opened."""
        if os.getpid() != self._process:
            raise StorageError(f"{what} was opened before this process was forked; open it again in this process")


def checked_vector(entry: EpisodicEntry, space: EmbeddingSpace, hnsw: HNSWConfig | None) -> Vector:
    """Return the entry's vector, if the index will take it: a row must never be stored that no view can show.

    Raises:
        InputError: it has none, or one too long for the metric or for the numbers of the index; a DimensionError when
            it is not of the space's width.
    """
    if entry.embedding is None:
        raise InputError(f"entry {entry.id!r} has no vector; EpisodicMemory embeds texts, a backend stores the result")
    if len(entry.embedding) != space.dimensions:
        raise DimensionError(expected=space.dimensions, got=len(entry.embedding))
    check_magnitude(entry.embedding[None], metric=space.metric)
    if hnsw is not None:
        check_storable(entry.embedding, metric=space.metric, dtype=hnsw.dtype)
    return entry.embedding


def check_space(own: EmbeddingSpace, given: EmbeddingSpace | None) -> None:
    """Raise a SpaceChangedError where a vector's space is given and is not `own`."""
    if given is not None and given is not own and given != own:
        raise SpaceChangedError(f"the store holds vectors of {own} by now, not of {given}")
