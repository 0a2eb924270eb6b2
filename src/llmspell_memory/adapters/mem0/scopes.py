"""Whose a memory is: the ids of a user, an agent and a run, and what else filters may say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from llmspell_memory.errors import InputError
from llmspell_memory.types import json
from llmspell_memory.types.text import checked_text, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmspell_memory.types.json import JSON

IDS: Final = ("user_id", "agent_id", "run_id")
"""What isolates; every entry has one of these at least."""

Fields: TypeAlias = "Mapping[str, JSON]"
"""What conditions look at: a memory's metadata, and beside it whose it is and who said it."""

_ANY: Final = "*"


def scope_of(given: Mapping[str, Any]) -> dict[str, JSON]:
    """Return the ids among what was given, those that are None left out, as texts without blanks around them.

    Raises:
        InputError: there is none, or one is blank, has blanks inside, or is no text or number.
    """
    scope: dict[str, JSON] = {name: _id(name, given[name]) for name in IDS if given.get(name) is not None}
    if not scope:
        raise InputError(f"say whose memories are meant: at least one of {', '.join(IDS)}")
    return scope


def merged(filters: Mapping[str, Any] | None, ids: Mapping[str, Any]) -> dict[str, Any]:
    """Return filters with the ids that were given beside them.

    Raises:
        InputError: the filters are no mapping, or name another id than was given beside them.
    """
    if filters is not None and not hasattr(filters, "items"):
        raise InputError(f"filters must be a mapping, got {type(filters).__name__}")
    both = dict(filters or {})
    for name, value in ids.items():
        if value is not None and both.setdefault(name, value) != value:
            raise InputError(f"filters have another {name} than was given beside them")
    return both


def condition(filters: Mapping[str, Any]) -> tuple[dict[str, JSON], Callable[[Fields], bool] | None]:
    """Return what the store looks for itself, the ids, and what is to be looked at besides; None where that is nothing.

    Raises:
        InputError: no id is among them, an operator is unknown, or its operand is not one that it takes.
    """
    rest = {key: value for key, value in filters.items() if key not in IDS}
    return scope_of(filters), (_all(rest) if rest else None)


def _id(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"{name} must be one id, a str, got {shortened(value)}; ask once for each")
    text = checked_text(str(value).strip(), name=name)
    if text == _ANY or any(one.isspace() for one in text):
        raise InputError(f"{name} must not be * and not contain whitespace, got {shortened(text)}")
    return text


def _all(conditions: object) -> Callable[[Fields], bool]:
    if not isinstance(conditions, dict):
        raise InputError(f"a condition must be a mapping, got {type(conditions).__name__}")
    tests = [_test(key, value) for key, value in conditions.items()]
    return lambda fields: all(test(fields) for test in tests)


def _test(key: str, value: Any) -> Callable[[Fields], bool]:
    if key in ("AND", "OR", "NOT"):
        if not isinstance(value, list) or not value:
            raise InputError(f"{key} takes a list of conditions, got {shortened(value)}")
        inner = [_all(one) for one in value]
        if key == "AND":
            return lambda fields: all(test(fields) for test in inner)
        return lambda fields: any(test(fields) for test in inner) == (key == "OR")
    if value == _ANY:
        return lambda fields: fields.get(key) is not None
    if not isinstance(value, dict):
        return lambda fields: json.equal(fields.get(key), value)
    tests = [_operator(name, operand) for name, operand in value.items()]
    return lambda fields: all(test(fields.get(key)) for test in tests)


def _operator(name: str, operand: Any) -> Callable[[JSON], bool]:
    if name in ("in", "nin"):
        if not isinstance(operand, list | tuple):
            raise InputError(f"{name} takes a list, got {shortened(operand)}")
        return lambda value: any(json.equal(value, one) for one in operand) == (name == "in")
    if name in ("contains", "icontains"):
        return lambda value: _contains(value, operand, fold=name == "icontains")
    if name in ("eq", "ne"):
        return lambda value: json.equal(value, operand) == (name == "eq")
    if name in ("gt", "gte", "lt", "lte"):
        return lambda value: _ordered(value, name, operand)
    raise InputError(f"there is no operator {shortened(name)} in filters")


def _contains(value: JSON, operand: Any, *, fold: bool) -> bool:
    if isinstance(value, list):
        return any(json.equal(one, operand) for one in value)
    if not isinstance(value, str) or not isinstance(operand, str):
        return False
    return operand.casefold() in value.casefold() if fold else operand in value


def _ordered(value: JSON, name: str, operand: Any) -> bool:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (value, operand))
    if not numbers and not (isinstance(value, str) and isinstance(operand, str)):
        return False
    left: Any = value
    return bool({"gt": left > operand, "gte": left >= operand, "lt": left < operand, "lte": left <= operand}[name])
