"""What filters and searches by words look at, in files beside the store."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from llmspell_memory.backends.row_view import SUFFIXES, RowIndex
from llmspell_memory.backends.sqlite.folders import ROWS
from llmspell_memory.backends.sqlite.saved import SavedFile

if TYPE_CHECKING:
    import sqlite3

    from llmspell_memory.types import KeywordConfig

logger = logging.getLogger(__name__)

_NUMBER = 0
"""No space has it."""


class RowFile(SavedFile[RowIndex]):
    """One store's row files.

    Args:
        store: path of the store.
    """

    def __init__(self, store: Path) -> None:
        super().__init__(Path(f"{store}{ROWS}"), number=_NUMBER, kind=RowIndex, suffixes=SUFFIXES)

    def load(self, db: sqlite3.Connection, config: KeywordConfig) -> tuple[RowIndex, int] | None:
        """Return the index and the sequence number it shows; None where there is none to be used."""
        found = self.read(db, RowIndex.open)
        if found is None:
            return None
        index, seen = found
        if index.words.config != config:
            logger.info("The keyword index is built from the rows: %s has other parameters", self.path)
            return None
        self.is_of(index, seen)
        return found
