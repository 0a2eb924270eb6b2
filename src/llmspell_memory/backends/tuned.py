"""The parameters of an HNSW index that were measured to be right for a store, as the note "tuned" keeps them."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from llmspell_memory.errors import ConfigError
from llmspell_memory.types import HNSWConfig

if TYPE_CHECKING:
    from llmspell_memory.types import EmbeddingSpace

logger = logging.getLogger(__name__)

NOTE: Final = "tuned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What a store was tuned to.

    Attributes:
        hnsw: the parameters.
        entries: how many there were.
        k: the number of hits that was asked for.
        recall: that was measured.
        space: of the vectors.
        at: when, as ISO 8601.
    """

    hnsw: HNSWConfig
    entries: int
    k: int
    recall: float
    space: str
    at: str

    def text(self) -> str:
        """Return the note."""
        return json.dumps(asdict(self))


def read_tuned(text: str | None, space: EmbeddingSpace) -> Tuned | None:
    """Return what a note says of a space; None where it is of another, or cannot be understood, which is logged."""
    if text is None:
        return None
    try:
        said = json.loads(text)
        fields = {name: said["hnsw"][name] for name in ("m", "ef_construction", "ef_search", "seed", "dtype")}
        if said["space"] != str(space):
            return None
        return Tuned(
            hnsw=HNSWConfig(**fields),
            entries=int(said["entries"]),
            k=int(said["k"]),
            recall=float(said["recall"]),
            space=str(space),
            at=str(said["at"]),
        )
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        logger.warning("The parameters recorded by tuning cannot be read and are left alone: %s", error)
        return None


def tuned_or(hnsw: HNSWConfig, text: str | None, space: EmbeddingSpace) -> HNSWConfig:
    """Return the parameters that a note records for a space, else `hnsw`; the log tells where they are from."""
    tuned = read_tuned(text, space)
    if tuned is None:
        return hnsw
    logger.info("HNSW parameters taken from the tuning of %s, at %d entries: %s", tuned.at, tuned.entries, tuned.hnsw)
    return tuned.hnsw
