"""Which namespaces LangGraph's conditions mean."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Final

from llmspell_memory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langgraph.store.base import ListNamespacesOp, MatchCondition

_ANY: Final = "*"
_MOST: Final = 2**40


def listed(namespaces: Iterable[tuple[str, ...]], op: ListNamespacesOp) -> list[tuple[str, ...]]:
    """Return those that an operation asks for, in order, cut to its depth and its page.

    Raises:
        InputError: a condition is of no known kind, or a number is negative.
    """
    conditions = op.match_conditions or ()
    for condition in conditions:
        if condition.match_type not in ("prefix", "suffix"):
            raise InputError(f'match_type must be "prefix" or "suffix", got {condition.match_type!r}')
    found = {one[: op.max_depth] for one in namespaces if all(_matches(one, each) for each in conditions)}
    offset, limit = checked_page(op.offset, op.limit)
    return sorted(found)[offset : offset + limit]


def common_prefix(op: ListNamespacesOp) -> tuple[str, ...]:
    """Return the segments that all that is asked for begins with."""
    prefixes = [
        tuple(takewhile(lambda label: label != _ANY, one.path))
        for one in op.match_conditions or ()
        if one.match_type == "prefix"
    ]
    return max(prefixes, key=len, default=())


def checked_page(offset: int, limit: int) -> tuple[int, int]:
    """Return both if they are counts, no larger than any store could need, else raise an InputError."""
    for name, count in (("offset", offset), ("limit", limit)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise InputError(f"{name} must be an integer from 0 up, got {count!r}")
    return min(offset, _MOST), min(limit, _MOST)


def _matches(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    path = tuple(condition.path)
    if len(path) > len(namespace):
        return False
    of = namespace[: len(path)] if condition.match_type == "prefix" else namespace[len(namespace) - len(path) :]
    return all(wanted in (_ANY, label) for label, wanted in zip(of, path, strict=True))
