"""A Filter as an SQL condition over the table `entries`, named `e`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmspell_memory.backends.postgres.rows import digest, facts, packed, path, root
from llmspell_memory.types.moments import microseconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from llmspell_memory.types import Filter


def condition(where: Filter, now: datetime) -> tuple[str, list[Any]]:
    """Return an SQL condition and its parameters; "TRUE" when everything passes.

    Args:
        where: the filter.
        now: the moment by which entries have expired.
    """
    parts = list(_parts(where, microseconds(now)))
    sql = " AND ".join(text for text, _ in parts) or "TRUE"
    return sql, [parameter for _, parameters in parts for parameter in parameters]


def _parts(where: Filter, now: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    if where.namespace or not where.below:
        yield from _namespace(where.namespace, below=where.below)
    if where.session_id is not None:
        yield "e.session_key = %s AND e.session_id = %s", (digest(where.session_id), where.session_id)
    simple = (
        ("e.role = %s", where.role),
        ("e.happened >= %s", None if where.since is None else microseconds(where.since)),
        ("e.happened < %s", None if where.until is None else microseconds(where.until)),
        ("e.learned <= %s", None if where.known_by is None else microseconds(where.known_by)),
        ("e.processed = %s", where.processed),
        ("e.facts @> %s", facts(where.metadata) or None),
    )
    yield from ((sql, (value,)) for sql, value in simple if value is not None)
    if where.expired is not None:
        yield ("e.expires <= %s" if where.expired else "(e.expires IS NULL OR e.expires > %s)"), (now,)
    if where.ids is not None:
        ids = sorted(where.ids)
        yield "e.id_key = ANY(%s) AND e.id = ANY(%s)", ([digest(one) for one in ids], ids)


def _namespace(namespace: tuple[str, ...], *, below: bool) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The path finds rows by an index; the namespace itself is compared as well, so that no digest need be trusted."""
    whole, steps = packed(namespace), path(namespace)
    yield "e.root = %s", (root(namespace),)
    if not below:
        yield "e.path = %s AND e.namespace = %s", (steps, whole)
        return
    yield "e.path >= %s AND substring(e.namespace FROM 1 FOR %s) = %s", (steps, len(whole), whole)
    if (end := _after(steps)) is not None:
        yield "e.path < %s", (end,)


def _after(steps: bytes) -> bytes | None:
    """Return what comes after everything that begins so; None where nothing does."""
    kept = steps.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None
