"""Which rows a filter lets pass, and what stands around a row: the rows without their texts, in columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from llmspell_memory import _core
from llmspell_memory.index.snapshots import checked_tag, translated
from llmspell_memory.types import json
from llmspell_memory.types.arrays import as_labels
from llmspell_memory.types.moments import microseconds

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from typing import Self

    from numpy.typing import ArrayLike

    from llmspell_memory.types import Filter
    from llmspell_memory.types.arrays import Labels
    from llmspell_memory.types.json import JSON

_EARLIEST: Final = -(2**63)
_NEVER: Final = 2**63 - 1


class Turn(NamedTuple):
    """A row without its text and its vector. Moments are microseconds since 1970.

    Attributes:
        label: the row's number, from 0 up.
        namespace: who it belongs to.
        session_id: the conversation or run it belongs to.
        role: who said or did it.
        timestamp: when it happened.
        ingestion_time: when it was learned.
        processed: whether some later step has read it.
        expires_at: when it becomes invisible, None for never.
        metadata: a JSON object.
        length: of its text, in characters; below 2**32.
        worth: how much its text tells, whatever is asked.
    """

    label: int
    namespace: tuple[str, ...]
    session_id: str
    role: str
    timestamp: int
    ingestion_time: int
    processed: bool
    expires_at: int | None
    metadata: Mapping[str, JSON]
    length: int
    worth: float = 0.0


class TurnTable:
    """The rows' columns, with a posting for every namespace, session, role, and value of metadata.

    No texts are kept, but hashes of them under a random key (SipHash-2-4, 128 bits). May be used from several threads;
    a reader waits for a writer for some microseconds at most.
    """

    def __init__(self) -> None:
        self.tag = 0
        self.core = _core.Turns()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Return the table that was saved at `path`, all of it read and compared with its checksums.

        Raises:
            CorruptDataError: it is not a snapshot of a table, or not what was written.
            SchemaError: it was written by a newer version.
            StorageError: it cannot be read.
        """
        table = cls()
        with translated(path, source="rows"):
            table.core, (table.tag,) = _core.open_turns(path)
        return table

    def save(self, path: str | os.PathLike[str], *, tag: int = 0) -> None:
        """Write the table to `path`, in place of what is there once all is on the disk; reading goes on meanwhile.

        Args:
            path: of the file. It holds nothing of rows that were removed.
            tag: a number of the caller's, from 0 to 2**64 - 1; `open` returns a table with it as its `tag`.

        Raises:
            InputError: `tag` is out of range.
            StorageError: it cannot be written; what was there is still there.
        """
        note = [checked_tag(tag)]
        with translated(path, source="rows"):
            self.core.save(path, note)

    def __len__(self) -> int:
        return len(self.core)

    def put(self, turns: Sequence[Turn]) -> None:
        """Put rows, each seen by readers as a whole; one whose label is known is replaced.

        Raises:
            InputError: a label is negative. Nothing is put.
        """
        as_labels([turn.label for turn in turns])
        self.core.put([(*turn[:8], _noted(turn), turn.length, turn.worth) for turn in turns])

    def remove(self, labels: ArrayLike) -> None:
        """Remove rows by their `labels`, shape (n,), and all that is known of them; unknown ones are ignored."""
        self.core.remove(as_labels(labels))

    def named(self, words: Iterable[str], where: Filter, *, now: datetime) -> list[str]:
        """Return which of `words` name a role, or are a word of one's name, in any case, of some row that matches."""
        facts = {role_fact(word): word for word in words}
        return [facts[fact] for fact in self.core.noted(list(facts)) if self._selected(where, [fact], now)]

    def select(self, where: Filter, *, now: datetime) -> _core.LabelSet | None:
        """Return the labels of the rows that match at the moment `now`; None where no row could fail.

        Exactly what `Filter.matches` says, but for `ids`, which are not looked at.
        """
        return self._selected(where, [], now)

    def _selected(self, where: Filter, facts: list[str], now: datetime) -> _core.LabelSet | None:
        return self.core.select(
            where.namespace,
            where.below,
            where.session_id,
            where.role,
            [*json.facts(where.metadata), *facts],
            _EARLIEST if where.since is None else microseconds(where.since),
            _NEVER if where.until is None else microseconds(where.until) - 1,
            _NEVER if where.known_by is None else microseconds(where.known_by),
            where.processed,
            where.expired,
            microseconds(now),
        )

    def neighbours(
        self,
        label: int,
        *,
        before: int = 0,
        after: int = 0,
        now: datetime | None = None,
        known_by: datetime | None = None,
    ) -> tuple[Labels, Labels]:
        """Return the labels of up to `before` and `after` rows around one in its session, by (timestamp, label).

        Args:
            label: of the row; an unknown one has no neighbours.
            before: how many of those before it, from 0 up: the last ones, in order.
            after: how many of those after it.
            now: pass over rows that have expired by this moment; None for all.
            known_by: pass over rows that were learned later; None for all.
        """
        moment = _EARLIEST if now is None else microseconds(now)
        learned = _NEVER if known_by is None else microseconds(known_by)
        earlier, later = self.core.neighbours(label, before, after, moment, learned)
        return np.array(earlier, np.int64), np.array(later, np.int64)

    def check(self) -> str:
        """Return what is wrong with the table, "" when every invariant holds; visits everything."""
        return self.core.check()

    @property
    def memory_bytes(self) -> int:
        """Bytes in memory."""
        return self.core.memory_bytes()


def role_fact(word: str) -> str:
    """Return what is noted with rows whose role is this word, or has it in its name; no metadata gives the same."""
    return f"\0\0{word.casefold()}"


def _noted(turn: Turn) -> list[str]:
    return [*json.facts(turn.metadata), *map(role_fact, {turn.role, *turn.role.split()})]
