"""The rows without their vectors, as filters and searches by words see them: a view beside that of the vectors."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from llmspell_memory.backends.view import Rows, View
from llmspell_memory.errors import CorruptDataError
from llmspell_memory.index import KeywordIndex, Turn, TurnTable, worth
from llmspell_memory.types.moments import microseconds

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

    from llmspell_memory.backends.view import Source
    from llmspell_memory.types import EpisodicEntry, KeywordConfig
    from llmspell_memory.types.arrays import Labels


SUFFIXES: Final = ("-turns", "-words")
"""Of the two files of a `RowIndex`, behind the path it is saved to."""

_TRIES: Final = 20
_PAUSE_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class RowBatch:
    """A batch of what happened to rows: labels gone, rows put with their texts, and the number reached by it."""

    reached: int
    gone: Labels
    turns: list[Turn]
    texts: list[str]

    @property
    def count(self) -> int:
        """How many rows were put."""
        return len(self.turns)


class RowIndex:
    """Who said what when, and in which words, by label.

    Args:
        turns: namespaces, sessions, roles, times, marks and metadata.
        words: the terms of the contents.
    """

    def __init__(self, turns: TurnTable, words: KeywordIndex) -> None:
        self.turns = turns
        self.words = words
        self.tag = words.tag

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the index that was saved at `path`, all of it read.

        Raises:
            CorruptDataError: a file is damaged, or the two are of different indexes.
            SchemaError: it was written by a newer version.
            StorageError: it cannot be read.
        """
        for _ in range(_TRIES):
            turns, words = TurnTable.open(f"{path}{SUFFIXES[0]}"), KeywordIndex.open(f"{path}{SUFFIXES[1]}")
            if turns.tag == words.tag:
                return cls(turns, words)
            time.sleep(_PAUSE_SECONDS)  # another process may be replacing them
        raise CorruptDataError(f"the files of {path} are of different indexes; they are made anew from the rows")

    def save(self, path: str | os.PathLike[str], *, tag: int) -> None:
        """Write it to files that begin with `path`.

        Raises:
            StorageError: they cannot be written.
        """
        self.turns.save(f"{path}{SUFFIXES[0]}", tag=tag)
        self.words.save(f"{path}{SUFFIXES[1]}", tag=tag)

    def __len__(self) -> int:
        return len(self.turns)

    def put(self, batch: RowBatch) -> None:
        """Show what happened to the rows."""
        self.turns.remove(batch.gone)
        self.words.remove(batch.gone)
        language = self.words.config.language
        self.turns.put(
            [turn._replace(worth=worth(text, language)) for turn, text in zip(batch.turns, batch.texts, strict=True)]
        )
        self.words.add([turn.label for turn in batch.turns], batch.texts)

    @property
    def memory_bytes(self) -> int:
        """Bytes in memory."""
        return self.turns.memory_bytes + self.words.stats().memory_bytes


class RowView(View[Rows, RowIndex, RowBatch]):
    """A `RowIndex` of one backend.

    Args:
        config: how words are told apart and scored.
        source: the rows.
        saved: returns an index of these rows, and the number it shows; None where there is none.
    """

    name: Final = "keyword index"

    def __init__(
        self,
        config: KeywordConfig,
        *,
        source: Source[Rows, RowBatch],
        saved: Callable[[Rows, KeywordConfig], tuple[RowIndex, int] | None] | None = None,
    ) -> None:
        self._config = config
        self._saved = saved
        super().__init__(self._new(), source=source)

    def _new(self) -> RowIndex:
        return RowIndex(TurnTable(), KeywordIndex(self._config))

    def _begin(self, rows: Rows | None) -> tuple[RowIndex, int]:
        saved, config = self._saved, self._config
        found = saved and self._brought_up_to_date(lambda opened: saved(opened, config), rows)
        return found or (self._new(), 0)

    def _put(self, made: RowIndex, batch: RowBatch) -> None:
        made.put(batch)

    def release(self) -> None:
        """Let go of everything."""
        with self.lock:
            self._made, self._seen, self._moment = self._new(), 0, None


def turn_of(label: int, entry: EpisodicEntry) -> Turn:
    """Return what filters and searches by words look at, of an entry."""
    return Turn(
        label=label,
        namespace=entry.namespace,
        session_id=entry.session_id,
        role=entry.role,
        timestamp=microseconds(entry.timestamp),
        ingestion_time=microseconds(entry.ingestion_time),
        processed=entry.processed,
        expires_at=None if entry.expires_at is None else microseconds(entry.expires_at),
        metadata=entry.metadata,
        length=len(entry.content),
    )
