"""Filters of documents: what passes, what the store is asked for, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from llmspell_memory.adapters.filters import DocumentFilter
from llmspell_memory.errors import InputError

DOCUMENT: dict[str, Any] = {
    "n": 3, "text": "b", "when": "2025-03-01", "size": "10", "flag": True, "deep": {"a": 1, "b": [1, 2]}, "none": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("conditions", "passes"),
    [
        ({}, True),
        ({"n": 3.0}, True),
        ({"n": "3"}, False),
        ({"flag": True}, True),
        ({"flag": 1}, False),  # JSON's true is no number
        ({"n": 3, "text": "a"}, False),
        ({"none": None, "missing": None}, True),
        ({"missing": {"$ne": 1}}, True),
        ({"deep": {"a": 1}}, True),
        ({"deep": {"a": {"$gt": 1}}}, False),
        ({"deep": {"$eq": {"a": 1}}}, False),
        ({"deep": {"b": [1, {"$gte": 2}]}}, True),
        ({"deep": {"b": [1]}}, False),
        ({"n": {"$gt": 2, "$lte": 3}}, True),
        ({"n": {"$gt": 2**80}}, False),
        ({"when": {"$gte": "2025-02-28", "$lt": "2025-04-01"}}, True),
        ({"size": {"$gt": "9"}}, True),  # both read as numbers
        ({"size": {"$gt": 9}}, True),
        ({"missing": {"$gt": 0}}, False),
        ({"none": {"$lt": 0}}, False),
        ({"text": {"$gt": 0}}, False),
        ({"deep": {"a": 1, "c": None}}, True),
    ],
)
def test_what_passes(conditions: dict[str, Any], passes: bool) -> None:
    """Equality is JSON's, an order is there between numbers and between texts, and what has none does not pass."""
    assert DocumentFilter(conditions).matches(DOCUMENT) == passes


def test_what_the_store_is_asked_for() -> None:
    """Short texts, numbers and truth values are pushed down; the rest is said to be left."""
    assert DocumentFilter(None).is_pushed
    asked = DocumentFilter({"a": "x", "b": {"$eq": 1}, "c": False})
    assert asked.pushed == {"a": "x", "b": 1, "c": False}
    assert asked.is_pushed
    for left in ({"a": None}, {"a": {"$ne": 1}}, {"a": [1]}, {"a": {"b": 1}}, {"a": "long" * 100}):
        asked = DocumentFilter({"b": 1, **left})
        assert asked.pushed == {"b": 1}
        assert not asked.is_pushed


@pytest.mark.parametrize(
    "conditions",
    [
        {"n": {"$in": [1]}}, {"n": {"$gt": 1, "x": 1}}, {"deep": {"a": {"$near": 1}}}, {"$and": [{"n": 1}]},
        {"n": float("nan")}, {1: 1}, {"n": {1, 2}}, [("n", 1)],
    ],
)  # fmt: skip
def test_what_is_refused(conditions: Any) -> None:
    """An unknown operator, a combinator, or what is no JSON is an error, before anything is looked for."""
    with pytest.raises(InputError, match="filter"):
        DocumentFilter(conditions)
