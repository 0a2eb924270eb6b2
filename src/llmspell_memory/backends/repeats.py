"""Which of a call's entries say again what their session holds already."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from llmspell_memory.types import EpisodicEntry, Identity

    Read = Callable[[tuple[str, ...], str, set[str]], Iterable[tuple[str, str, str]]]

_Session: TypeAlias = tuple[tuple[str, ...], str]
_Words: TypeAlias = tuple[str, str]


class Repeats:
    """Finds the entry that another repeats, while a call's entries are put one after the other.

    A session is read once in a call, not once for every entry.

    Args:
        entries: of the call.
        known: says whether an identity has a row.
        read: returns role, content and id of the entries of a namespace's session that have one of the contents and
            have not expired, in the order they were added.
    """

    def __init__(self, entries: Sequence[EpisodicEntry], *, known: Callable[[Identity], bool], read: Read) -> None:
        self._known = known
        self._read = read
        self._now = datetime.now(UTC)
        self._contents: defaultdict[_Session, set[str]] = defaultdict(set)
        for entry in entries:
            self._contents[entry.namespace, entry.session_id].add(entry.content)
        self._first: dict[_Session, dict[_Words, str]] = {}

    def instead_of(self, entry: EpisodicEntry) -> str | None:
        """Return the id of the first entry that `entry` repeats; None where it is to be put, and then counts itself."""
        if self._known(entry.identity):
            self._first.clear()  # what it replaces may have been the first of others
            return None
        session = entry.namespace, entry.session_id
        if session not in self._first:
            first = self._first[session] = {}
            for role, content, entry_id in self._read(*session, self._contents[session]):
                first.setdefault((role, content), entry_id)
        words = entry.role, entry.content
        if (other := self._first[session].get(words)) is not None:
            return other
        if entry.expires_at is None or entry.expires_at > self._now:
            self._first[session][words] = entry.id
        return None
