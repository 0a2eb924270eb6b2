"""What can be known of a server's store before it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from llmspell_memory.types import EmbeddingSpace, HNSWConfig


class Found(NamedTuple):
    """A store that is there: the space of its vectors, and the index over them; None where they have none."""

    space: EmbeddingSpace
    hnsw: HNSWConfig | None
