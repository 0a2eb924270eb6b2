"""The HNSW index of a store in a file beside it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmspell_memory.backends.sqlite.folders import INDEX
from llmspell_memory.backends.sqlite.saved import SavedFile
from llmspell_memory.errors import StorageError
from llmspell_memory.index import HNSWIndex

if TYPE_CHECKING:
    import sqlite3

    from llmspell_memory.types import EmbeddingSpace, HNSWConfig

logger = logging.getLogger(__name__)


class IndexFile(SavedFile[HNSWIndex]):
    """One store's index file.

    Args:
        store: path of the store.
        space: of its vectors.
        number: of the space among those of the store.
    """

    def __init__(self, store: Path, space: EmbeddingSpace, *, number: int) -> None:
        super().__init__(Path(f"{store}{INDEX}"), number=number, kind=HNSWIndex)
        self._space = space

    def load(self, db: sqlite3.Connection, config: HNSWConfig) -> tuple[HNSWIndex, int] | None:
        """Return the index and the sequence number it shows; None where there is none to be used."""
        found = self.read(db, _whole)
        if found is None:
            return None
        index, seen = found
        if (index.dimensions, index.metric) != (self._space.dimensions, self._space.metric) or config != replace(
            index.config, ef_search=config.ef_search
        ):
            logger.info("The index is built from the rows: %s has other parameters, %s", self.path, index.config)
            return None
        index.ef_search = config.ef_search
        self.is_of(index, seen)
        return found


def _whole(path: Path) -> HNSWIndex:
    index = HNSWIndex.open(path)
    index.verify()  # all of it, before it answers anything
    return index


def saved_parameters(store: Path) -> HNSWConfig | None:
    """Return the parameters of the index saved beside a store; None where there is none that can be opened."""
    try:
        return HNSWIndex.open(f"{store}{INDEX}").config
    except StorageError:
        return None
