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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReembeddingEstimate:
    """What moving a store to another embedding space would cost.

    Attributes:
        source: the space in use.
        target: the space to move to.
        rows: of the store.
        texts: that have to be embedded; fewer where vectors of that space are there already.
        characters: of these texts.
        calls: of the provider, at least; equal texts and cached ones save some.
        disk_bytes: that the new vectors take in the file, about; they stand beside the old ones.
    """

    source: EmbeddingSpace
    target: EmbeddingSpace
    rows: int
    texts: int
    characters: int
    calls: int
    disk_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReembeddingProgress:
    """How far a re-embedding has come.

    Attributes:
        state: "running", "paused", "ready" (every entry has its vector), "switched", "stopped" or "failed".
        done: rows that have their new vector, as far as is known.
        total: rows when it began.
        embedded: texts embedded since it began.
        seconds: since it began; until it ended, where it did.
    """

    state: str
    done: int
    total: int
    embedded: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReembeddingReport:
    """What a re-embedding did.

    Attributes:
        source: the space the store was in.
        target: the space its texts were embedded in.
        rows: that have a vector there.
        embedded: texts embedded this time.
        seconds: how long that took.
        overlap: the mean share of an entry's ten nearest that is the same in both spaces; None where none was compared.
        sample: for how many entries that was compared.
        switched: whether the store is in the new space now.
    """

    source: EmbeddingSpace
    target: EmbeddingSpace
    rows: int
    embedded: int
    seconds: float
    overlap: float | None
    sample: int
    switched: bool
