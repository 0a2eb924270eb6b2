"""Filters as agent frameworks write them: equal values and comparison operators over the top level of a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.errors import InputError
from llmspell_memory.types import json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmspell_memory.types.json import JSON

OPERATORS: Final = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")
_COMBINATORS: Final = ("$and", "$or", "$not", "$nor")
_SHORT: Final = 200
"""Characters of the longest text that the store is asked for; longer ones are compared here."""


class DocumentFilter:
    """Says which documents pass: those that meet the condition of every key.

    A condition is a value, which must be equal (a missing key counts as None); an object of operators such as
    `{"$gte": 3}`; another object, whose own conditions the value must meet; or a list, whose items must be met one by
    one. Values compare as JSON: 1 equals 1.0, true does not equal 1. An order holds between two numbers, between two
    texts, and between a number and a text that reads as one; two texts that both read as numbers compare as those.
    Between all else there is no order, and `$gt` and its like do not pass.

    Args:
        conditions: by key; None for none.

    Raises:
        InputError: they are not JSON, or name an operator that there is not.
    """

    def __init__(self, conditions: Mapping[str, Any] | None) -> None:
        self._conditions = json.checked_object(conditions or {}, name="filter")
        for key, condition in self._conditions.items():
            if key in _COMBINATORS:
                raise InputError(f"filter has the key {key}, but combines its conditions by 'and' alone; search twice")
            _check(condition)

    @property
    def pushed(self) -> dict[str, JSON]:
        """What the store can look for itself: keys whose value must equal a short text, a number or a truth value."""
        wanted = {key: _wanted(condition) for key, condition in self._conditions.items()}
        return {key: value for key, value in wanted.items() if is_short(value)}

    @property
    def is_pushed(self) -> bool:
        """Whether that says all, so that what the store finds need not be looked at again."""
        return len(self.pushed) == len(self._conditions)

    def matches(self, document: Mapping[str, JSON]) -> bool:
        """Say whether a document passes."""
        return all(_meets(document.get(key), condition) for key, condition in self._conditions.items())


def is_short(value: JSON) -> bool:
    """Say whether the store is asked for this value: a short text, a number or a truth value, but not None."""
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _SHORT)


def _is_operators(condition: JSON) -> bool:
    return isinstance(condition, dict) and any(key.startswith("$") for key in condition)


def _check(condition: JSON) -> None:
    if isinstance(condition, dict) and _is_operators(condition):
        for name in condition:
            if name not in OPERATORS:
                raise InputError(f"filter has the unknown operator {name!r}; there are {', '.join(OPERATORS)}")
    elif isinstance(condition, dict | list):
        for inner in condition.values() if isinstance(condition, dict) else condition:
            _check(inner)


def _wanted(condition: JSON) -> JSON:
    """Return the value that a condition wants, None where it is not of that kind."""
    if isinstance(condition, dict):
        return condition["$eq"] if condition.keys() == {"$eq"} else None
    return condition


def _meets(value: JSON, condition: JSON) -> bool:
    if isinstance(condition, dict):
        if _is_operators(condition):
            return all(_holds(value, name, other) for name, other in condition.items())
        return isinstance(value, dict) and all(_meets(value.get(key), inner) for key, inner in condition.items())
    if isinstance(condition, list):
        return (
            isinstance(value, list)
            and len(value) == len(condition)
            and all(_meets(item, inner) for item, inner in zip(value, condition, strict=True))
        )
    return json.equal(value, condition)


def _holds(value: JSON, name: str, other: JSON) -> bool:
    if name in ("$eq", "$ne"):
        return json.equal(value, other) == (name == "$eq")
    left, right = _ordered(value, other)
    if left is None or right is None:
        return False
    return bool({"$gt": left > right, "$gte": left >= right, "$lt": left < right, "$lte": left <= right}[name])


def _ordered(left: JSON, right: JSON) -> tuple[Any, Any]:
    """Return both as something that has an order, None twice where they have none between them."""
    numbers = _number(left), _number(right)
    if None not in numbers:
        return numbers
    return (left, right) if isinstance(left, str) and isinstance(right, str) else (None, None)


def _number(value: JSON) -> int | float | None:
    if isinstance(value, int | float):
        return value
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None
