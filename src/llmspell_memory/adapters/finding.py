"""The best of what passes a condition that the store does not know: more is asked for until enough pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Given = TypeVar("Given")
Kept = TypeVar("Kept")

_GROWTH: Final = 4


def best(
    search: Callable[[int], list[Given]], passing: Callable[[list[Given]], list[Kept]], wanted: int, *, first: int
) -> list[Kept]:
    """Return the `wanted` best that pass, fewer only where no more do.

    Args:
        search: returns the k best, fewer only where there are fewer.
        passing: returns what is to be kept of them, best first.
        wanted: how many are wanted.
        first: how many are searched for at first.
    """
    k = max(first, wanted)
    while wanted:
        given = search(k)
        kept = passing(given)
        if len(kept) >= wanted or len(given) < k:
            return kept[:wanted]
        k *= _GROWTH
    return []
