"""Entries read lately, so that a search need not read and decode them again.

They are a view of the rows, as the index is: both change by the same feed, between the same two moments.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmspell_memory.types import EpisodicEntry

_MOST_BYTES: Final = 32 * 2**20
"""What is kept at most, both generations together: some 12,000 entries of 384 dimensions."""

_ENTRY_BYTES: Final = 1000
"""An entry's objects beside its content and vector."""


class RecentEntries:
    """Entries by label, in two generations: when the young one is full, it becomes the old one, which is dropped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._young: dict[int, EpisodicEntry] = {}
        self._old: dict[int, EpisodicEntry] = {}
        self._young_bytes = self._old_bytes = 0

    @property
    def memory_bytes(self) -> int:
        """What they take, estimated."""
        return self._young_bytes + self._old_bytes

    def find(self, labels: Iterable[int]) -> dict[int, EpisodicEntry]:
        """Return those that are here; whether they are of one moment is for the caller to know."""
        young, old = self._young, self._old
        return {label: entry for label in labels if (entry := young.get(label) or old.get(label))}

    def keep(self, entries: dict[int, EpisodicEntry], *, if_still: Callable[[], bool]) -> None:
        """Keep entries read from rows, if what they were read at is still the moment of the others."""
        size = sum(map(_size, entries.values()))
        with self._lock:
            if size > _MOST_BYTES // 2 or not if_still():
                return
            if self._young_bytes + size > _MOST_BYTES // 2:
                self._old, self._old_bytes = self._young, self._young_bytes
                self._young, self._young_bytes = {}, 0
            self._young.update(entries)
            self._young_bytes += size

    def forget(self, labels: Iterable[int]) -> None:
        """Drop entries that have changed."""
        with self._lock:
            for label in labels:
                self._young.pop(label, None)
                self._old.pop(label, None)

    def clear(self) -> None:
        """Drop all."""
        with self._lock:
            self._young, self._old = {}, {}
            self._young_bytes = self._old_bytes = 0


def _size(entry: EpisodicEntry) -> int:
    vector = 0 if entry.embedding is None else entry.embedding.nbytes
    return _ENTRY_BYTES + sys.getsizeof(entry.content) + vector
