"""Figures about embedding a store's texts anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from llmspell_memory.types.space import EmbeddingSpace

RowText: TypeAlias = tuple[int, int, str]
"""A row on its way to a vector: its number in the store, that of its last change, and its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceCount:
    """An embedding space that is kept beside the one in use, and how many vectors of it there are."""

    space: EmbeddingSpace
    vectors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideCounts:
    """How far the vectors of a space beside the one in use have come.

    Attributes:
        rows: of the store.
        missing: rows that have no vector there.
        characters: of their texts.
        bytes: of these texts in UTF-8.
    """

    rows: int
    missing: int
    characters: int
    bytes: int
