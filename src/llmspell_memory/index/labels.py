"""Sets of labels: what a filter lets pass, made once and used by many searches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory import _core
from llmspell_memory.types.arrays import as_labels

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import ArrayLike

    AnyLabelSet: TypeAlias = _core.LabelSet


class LabelSet(_core.LabelSet):
    """Labels in a bitmap: a bit each where they are dense, and some bytes each where they are not.

    Args:
        labels: integers from 0 up, shape (n,), in any order.

    A search given an array of labels makes such a set first, which at tens of thousands of labels costs more than the
    search.

    Raises:
        InputError: not integers, or negative.
    """

    def __init__(self, labels: ArrayLike) -> None:
        super().__init__(as_labels(labels))
