"""A Filter as an SQL condition over the table `entries`."""

from __future__ import annotations

import json as stdlib_json
from typing import TYPE_CHECKING

from llmspell_memory.backends.sqlite.rows import packed_namespace
from llmspell_memory.types import json
from llmspell_memory.types.moments import microseconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from llmspell_memory.types import Filter

    Parameter = str | int | bytes

_EXPIRED = "(expires_at IS NOT NULL AND expires_at <= ?)"
_NOT_EXPIRED = "label NOT IN (SELECT label FROM entries WHERE expires_at IS NOT NULL AND expires_at <= ?)"
"""The few that have expired are looked up once, so that an index which does not hold the expiry still serves."""


def condition(where: Filter, *, now: int | None) -> tuple[str, list[Parameter]]:
    """Return an SQL condition and its parameters; "TRUE" when everything passes.

    Args:
        where: the filter.
        now: the moment by which entries have expired, in microseconds since 1970; None where none have.
    """
    parts = list(_parts(where))
    if now is None:
        parts += [("FALSE", ())] if where.expired else []
    elif where.expired is not None:
        parts.append((_EXPIRED if where.expired else _NOT_EXPIRED, (now,)))
    sql = " AND ".join(text for text, _ in parts) or "TRUE"
    return sql, [parameter for _, parameters in parts for parameter in parameters]


def _parts(where: Filter) -> Iterator[tuple[str, tuple[Parameter, ...]]]:
    simple: tuple[tuple[str, Parameter | None], ...] = (
        ("session_id = ?", where.session_id),
        ("role = ?", where.role),
        ("timestamp >= ?", _microseconds(where.since)),
        ("timestamp < ?", _microseconds(where.until)),
        ("ingestion_time <= ?", _microseconds(where.known_by)),
        ("processed = ?", where.processed),
    )
    for sql, parameter in simple:
        if parameter is not None:
            yield sql, (parameter,)
    if where.ids is not None:
        yield "id IN (SELECT value FROM json_each(?))", (stdlib_json.dumps(sorted(where.ids)),)
    prefix = packed_namespace(where.namespace)
    if not where.below:
        yield "namespace = ?", (prefix,)
    elif prefix:
        # Every segment ends in NUL, which no segment holds: a prefix of segments is a range of bytes.
        yield "namespace >= ? AND namespace < ?", (prefix, prefix[:-1] + b"\x01")
    for key, value in where.metadata.items():
        # The canonical text of a pair stands in every document that holds the pair, so most rows are passed over
        # without being parsed. Numbers have several texts (1, 1.0), so of those only the key is looked for.
        pair = json.canonical({key: value})[1:-1]
        hint = pair if isinstance(value, str) else json.canonical(key) + ":"
        yield "instr(metadata, ?) > 0 AND json_contains(metadata, ?)", (hint, "{" + pair + "}")


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else microseconds(moment)
