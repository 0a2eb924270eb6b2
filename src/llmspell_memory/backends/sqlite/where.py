"""A Filter as an SQL condition over the table `entries`."""

from __future__ import annotations

import json as stdlib_json
from typing import TYPE_CHECKING

from llmspell_memory.backends.sqlite.rows import microseconds, packed_namespace
from llmspell_memory.types import json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmspell_memory.types import Filter

    Parameter = str | int | bytes


def condition(where: Filter) -> tuple[str, list[Parameter]]:
    """Return an SQL condition and its parameters; "TRUE" when everything passes."""
    parts = list(_parts(where))
    sql = " AND ".join(text for text, _ in parts) or "TRUE"
    return sql, [parameter for _, parameters in parts for parameter in parameters]


def _parts(where: Filter) -> Iterator[tuple[str, tuple[Parameter, ...]]]:
    if where.session_id is not None:
        yield "session_id = ?", (where.session_id,)
    if where.role is not None:
        yield "role = ?", (where.role,)
    if where.since is not None:
        yield "timestamp >= ?", (microseconds(where.since),)
    if where.until is not None:
        yield "timestamp < ?", (microseconds(where.until),)
    if where.known_by is not None:
        yield "ingestion_time <= ?", (microseconds(where.known_by),)
    if where.processed is not None:
        yield "processed = ?", (int(where.processed),)
    if where.ids is not None:
        yield "id IN (SELECT value FROM json_each(?))", (stdlib_json.dumps(sorted(where.ids)),)
    if where.namespace:
        # Every segment ends in NUL, which no segment holds: a prefix of segments is a range of bytes.
        prefix = packed_namespace(where.namespace)
        yield "namespace >= ? AND namespace < ?", (prefix, prefix[:-1] + b"\x01")
    for key, value in where.metadata.items():
        # The canonical text of a pair stands in every document that holds the pair, so most rows are passed over
        # without being parsed. Numbers have several texts (1, 1.0), so of those only the key is looked for.
        pair = json.canonical({key: value})[1:-1]
        hint = pair if isinstance(value, str) else json.canonical(key) + ":"
        yield "instr(metadata, ?) > 0 AND json_contains(metadata, ?)", (hint, "{" + pair + "}")
