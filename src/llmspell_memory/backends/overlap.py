"""What backends have in common where a store moves from one embedding space to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

FEW: Final = 256
"""Rows that may be embedded while writers wait."""

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmspell_memory.backends.view import IndexView
    from llmspell_memory.types import Matrix


def overlap(
    one: tuple[IndexView[Any], Matrix], other: tuple[IndexView[Any], Matrix], labels: Sequence[int], k: int
) -> Iterator[float]:
    """Yield, for each label, the share of its k nearest others in one space that is among those in the other.

    Args:
        one: a view, and the vectors of `labels` in its space.
        other: another view of the same rows, and the same.
        labels: of the entries to ask about.
        k: how many neighbours are compared; fewer where there are not so many.
    """
    for place, label in enumerate(labels):
        found = [
            [near for near in view.search(vectors[place], k + 1, None, exact=True)[0].tolist() if near != label][:k]
            for view, vectors in (one, other)
        ]
        if most := min(map(len, found)):
            yield len(set(found[0]) & set(found[1])) / most
