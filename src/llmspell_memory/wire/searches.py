"""Queries and hits as JSON objects, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.errors import InputError
from llmspell_memory.operations.files.jsonl import packed
from llmspell_memory.types import Hit, NamedDate, Part, Query
from llmspell_memory.types.arrays import as_vector, checked_k
from llmspell_memory.types.query import checked_mode
from llmspell_memory.types.text import checked_text
from llmspell_memory.wire.values import as_list, as_object, as_whole, checked_keys, entry_from, entry_to, vector_from

if TYPE_CHECKING:
    from collections.abc import Iterable

_QUERY: Final = ("text", "roles", "dates", "vector", "mode", "around", "parts", "exact")


def hit_to(hit: Hit, root: tuple[str, ...] = (), *, vector: bool = True) -> dict[str, Any]:
    """Return a hit as a JSON object; parts and surroundings only where there are some."""
    told: dict[str, Any] = {"entry": entry_to(hit.entry, root, vector=vector), "score": float(hit.score)}
    if hit.parts is not None:
        told["parts"] = {
            name: {"score": float(part.score), "share": float(part.share), "rank": part.rank}
            for name, part in hit.parts.items()
        }
    for name in ("before", "after"):
        if beside := getattr(hit, name):
            told[name] = [entry_to(one, root, vector=vector) for one in beside]
    return told


def hit_from(given: dict[str, Any]) -> Hit:
    """Return the hit that a JSON object describes."""
    parts = given.get("parts")
    return Hit(
        entry=entry_from(given["entry"]),
        score=given["score"],
        parts=None if parts is None else {name: Part(**part) for name, part in parts.items()},
        before=tuple(entry_from(one) for one in given.get("before", ())),
        after=tuple(entry_from(one) for one in given.get("after", ())),
    )


def query_to(query: Query) -> dict[str, Any]:
    """Return a query as a JSON object."""
    return {
        "text": query.text,
        "roles": list(query.roles),
        "dates": [list(date) for date in query.dates],
        "vector": None if query.vector is None else packed(query.vector),
        "mode": query.mode,
        "around": query.around,
        "parts": query.parts,
        "exact": query.exact,
    }


def query_from(given: object) -> Query:
    """Return the query that a JSON object describes.

    Raises:
        InputError: a field is of the wrong kind.
    """
    fields = checked_keys(as_object(given, name="query"), _QUERY, name="query")
    text = fields.get("text", "")
    vector = fields.get("vector")
    query = Query(
        text=text and checked_text(text, name="text"),
        roles=tuple(checked_text(one, name="a role") for one in as_list(fields.get("roles", []), name="roles")),
        dates=tuple(_date(one) for one in as_list(fields.get("dates", []), name="dates")),
        vector=None if vector is None else as_vector(vector_from(vector)),
        mode=checked_mode(fields.get("mode", "hybrid")),
        around=checked_k(as_whole(fields.get("around", 0))),
        parts=as_flag(fields.get("parts", False), name="parts"),
        exact=as_flag(fields.get("exact", False), name="exact"),
    )
    if query.vector is None and query.mode != "keyword":
        raise InputError(f"a {query.mode} query needs a vector")
    return query


def as_flag(value: object, *, name: str) -> bool:
    """Return `value` if it is true or false, else raise an InputError."""
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, got {type(value).__name__}")
    return value


def _date(given: object) -> NamedDate:
    numbers = [as_whole(one) for one in as_list(given, name="a date")]
    if len(numbers) != len(NamedDate._fields) or any(isinstance(n, bool) or not isinstance(n, int) for n in numbers):
        raise InputError("a date is [year, month, day], year and day 0 for any")
    date = NamedDate(*numbers)
    if not (0 <= date.year <= 9999 and 1 <= date.month <= 12 and 0 <= date.day <= 31):  # noqa: PLR2004 (a calendar's)
        raise InputError(f"there is no date {numbers}; it is [year, month, day], year and day 0 for any")
    return date


def hits_to(hits: Iterable[Hit], root: tuple[str, ...] = (), *, vector: bool = True) -> dict[str, Any]:
    """Return hits as the JSON object of an answer."""
    return {"hits": [hit_to(hit, root, vector=vector) for hit in hits]}
