"""A Filter as an expression of Milvus over the fields of a row; nothing but digests and numbers is written in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.backends.milvus.rows import digest, facts, path, root
from llmspell_memory.types.moments import microseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from llmspell_memory.types import Filter


def condition(where: Filter, now: datetime) -> str:
    """Return an expression; "" when everything passes.

    Args:
        where: the filter.
        now: the moment by which entries have expired.
    """
    return both(*_parts(where, microseconds(now)))


def both(*parts: str) -> str:
    """Return what holds where all parts do; an empty one always does."""
    return " and ".join(part for part in parts if part)


def listed(values: Iterable[str]) -> str:
    """Return digests as a list is written."""
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


def _parts(where: Filter, now: int) -> Iterator[str]:
    if where.namespace or not where.below:
        yield f'root == "{root(where.namespace)}"'
        steps = path(where.namespace)
        yield f'path like "{steps}%"' if where.below else f'path == "{steps}"'
    if where.session_id is not None:
        yield f'session_key == "{digest(where.session_id)}"'
    if where.role is not None:
        yield f'role_key == "{digest(where.role)}"'
    simple = (
        ("happened >= {}", None if where.since is None else microseconds(where.since)),
        ("happened < {}", None if where.until is None else microseconds(where.until)),
        ("learned <= {}", None if where.known_by is None else microseconds(where.known_by)),
        ("processed == {}", None if where.processed is None else str(where.processed).lower()),
        ("expires <= {}" if where.expired else "expires > {}", None if where.expired is None else now),
        ("array_contains_all(facts, {})", listed(facts(where.metadata)) if where.metadata else None),
        ("id_key in {}", None if where.ids is None else listed(sorted(map(digest, where.ids)))),
    )
    yield from (text.format(value) for text, value in simple if value is not None)
