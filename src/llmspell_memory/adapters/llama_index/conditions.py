"""LlamaIndex's metadata filters: what the store looks for itself, and what is looked at besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilters

from llmspell_memory.errors import InputError
from llmspell_memory.types.text import shortened

if TYPE_CHECKING:
    from llama_index.core.vector_stores.types import MetadataFilter

    from llmspell_memory.types.json import JSON

Passes: TypeAlias = Callable[[Mapping[str, Any]], bool]

_SHORT: Final = 200
_TAKES_A_LIST: Final = (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL)


def pushed(filters: MetadataFilters | None) -> dict[str, JSON]:
    """Return keys and values that all must be there: short texts, which the store compares as LlamaIndex does."""
    if filters is None or filters.condition not in (FilterCondition.AND, None):
        return {}
    return {
        one.key: one.value
        for one in filters.filters
        if not isinstance(one, MetadataFilters)
        and one.operator == FilterOperator.EQ
        and isinstance(one.value, str)
        and len(one.value) <= _SHORT
    }


def condition(filters: MetadataFilters | None) -> Passes | None:
    """Return what says whether metadata passes, None where all does.

    Values compare as LlamaIndex's own store compares them. What has no order (a list has none) passes no comparison,
    and a key that is missing passes `!=`, `nin` and `is_empty` alone.

    Raises:
        InputError: an operator wants a list, and has none.
    """
    if filters is None or not filters.filters:
        return None
    tests: list[Passes] = []
    for one in filters.filters:
        inner = condition(one) if isinstance(one, MetadataFilters) else _test(one)
        tests.append(inner or (lambda _: True))
    if filters.condition == FilterCondition.OR:
        return lambda metadata: any(test(metadata) for test in tests)
    if filters.condition == FilterCondition.NOT:
        return lambda metadata: not any(test(metadata) for test in tests)
    return lambda metadata: all(test(metadata) for test in tests)


def _test(one: MetadataFilter) -> Passes:
    if one.operator in _TAKES_A_LIST and not isinstance(one.value, list):
        raise InputError(f"the operator {one.operator.value} takes a list, got {shortened(one.value)}")
    return lambda metadata: _holds(metadata.get(one.key), one.operator, one.value)


def _holds(value: Any, operator: FilterOperator, wanted: Any) -> bool:
    if operator == FilterOperator.IS_EMPTY:
        return value is None or value in ("", [])
    if operator in (FilterOperator.NE, FilterOperator.NIN):
        return value is None or not _holds(value, _OPPOSITE[operator], wanted)
    if value is None:
        return False
    if operator in (FilterOperator.EQ, FilterOperator.IN):
        return bool(value == wanted if operator == FilterOperator.EQ else value in wanted)
    if operator in _ORDERED:
        return _ORDERED[operator](value, wanted) if _have_order(value, wanted) else False
    return _contains(value, operator, wanted)


def _contains(value: Any, operator: FilterOperator, wanted: Any) -> bool:
    if operator == FilterOperator.TEXT_MATCH_INSENSITIVE:
        return isinstance(value, str) and isinstance(wanted, str) and wanted.lower() in value.lower()
    if operator == FilterOperator.TEXT_MATCH:
        return isinstance(value, str) and isinstance(wanted, str) and wanted in value
    several = wanted if operator in (FilterOperator.ANY, FilterOperator.ALL) else [wanted]
    if isinstance(value, str):
        held = [isinstance(one, str) and one in value for one in several]
    elif isinstance(value, list | dict):
        held = [one in value for one in several]
    else:
        return False
    return all(held) if operator == FilterOperator.ALL else any(held)


def _have_order(left: Any, right: Any) -> bool:
    return (isinstance(left, str) and isinstance(right, str)) or (
        isinstance(left, int | float) and isinstance(right, int | float)
    )


_OPPOSITE: Final = {FilterOperator.NE: FilterOperator.EQ, FilterOperator.NIN: FilterOperator.IN}
_ORDERED: Final[dict[FilterOperator, Callable[[Any, Any], bool]]] = {
    FilterOperator.GT: lambda left, right: left > right,
    FilterOperator.GTE: lambda left, right: left >= right,
    FilterOperator.LT: lambda left, right: left < right,
    FilterOperator.LTE: lambda left, right: left <= right,
}
