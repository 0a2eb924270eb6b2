"""How entries are spread over namespaces and sessions, in few lines however many there are."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING, Final, TypedDict

from llmspell_memory.types import EntryCount

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST: Final = 10
"""Namespaces and sessions that are named; of the others, only how many there are is told."""


class Sizes(TypedDict):
    """The fields of `BackendStats` that tell it."""

    sessions: int
    namespaces: int
    largest_namespaces: tuple[EntryCount, ...]
    largest_sessions: tuple[EntryCount, ...]


def sizes(entries: Mapping[tuple[tuple[str, ...], str], int]) -> Sizes:
    """Return the figures, given how many entries each (namespace, session) has."""
    of_namespace: Counter[tuple[str, ...]] = Counter()
    for (namespace, _), count in entries.items():
        of_namespace[namespace] += count
    sessions = heapq.nsmallest(LARGEST, entries.items(), key=lambda one: (-one[1], one[0]))
    namespaces = heapq.nsmallest(LARGEST, of_namespace.items(), key=lambda one: (-one[1], one[0]))
    return Sizes(
        sessions=len(entries),
        namespaces=len(of_namespace),
        largest_namespaces=tuple(EntryCount(namespace=name, session_id=None, entries=n) for name, n in namespaces),
        largest_sessions=tuple(
            EntryCount(namespace=name, session_id=session, entries=n) for (name, session), n in sessions
        ),
    )
