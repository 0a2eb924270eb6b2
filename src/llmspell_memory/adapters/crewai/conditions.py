"""Which records a search or a deletion of CrewAI's means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmspell_memory.adapters.crewai.records import CATEGORY, VALUE, WITHIN, in_utc, values_of
from llmspell_memory.adapters.crewai.scopes import path_of
from llmspell_memory.adapters.filters import is_short
from llmspell_memory.types import json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from llmspell_memory.types import EpisodicEntry, Filter
    from llmspell_memory.types.json import JSON


@dataclass(frozen=True, slots=True)
class Condition:
    """Records that match one of some filters, and have some values besides.

    Attributes:
        wheres: the filters, which the store is asked for.
        values: by key of the record's metadata, what the store is not asked for; a missing key counts as None.
    """

    wheres: tuple[Filter, ...]
    values: Mapping[str, JSON]

    def passes(self, entry: EpisodicEntry) -> bool:
        """Say whether an entry that matches a filter has the values, too."""
        found = values_of(entry) if self.values else {}
        return all(json.equal(found.get(key), value) for key, value in self.values.items())


def within(every: Filter, scope: str | None) -> Filter:
    """Return `every` for the records of a scope and the scopes below it.

    Raises:
        InputError: the scope is no text.
    """
    path = path_of(scope)
    return every if path == "/" else replace(every, metadata={WITHIN + path: True})


def possible(ids: Iterable[str]) -> frozenset[str]:
    """Return the ids without those that no record can have: models invent some, and an unknown id is no error."""
    return frozenset(one for one in ids if one and "\0" not in one and one.encode(errors="replace").decode() == one)


def condition(
    every: Filter,
    *,
    scope: str | None = None,
    categories: Iterable[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    ids: Iterable[str] | None = None,
    older_than: datetime | None = None,
) -> Condition:
    """Return the condition that what is given makes together; of the categories, one is enough.

    Raises:
        InputError: an argument is not acceptable.
    """
    given = json.checked_object(metadata or {}, name="metadata_filter")
    pushed = {VALUE + key: value for key, value in given.items() if is_short(value)}
    where = within(every, scope)
    where = replace(
        where,
        metadata={**where.metadata, **pushed},
        ids=None if ids is None else possible(ids),
        until=None if older_than is None else in_utc(older_than),
    )
    wanted = list(dict.fromkeys(categories or ()))
    wheres = [replace(where, metadata={**where.metadata, CATEGORY + one: True}) for one in wanted]
    return Condition(tuple(wheres or [where]), {key: value for key, value in given.items() if not is_short(value)})
