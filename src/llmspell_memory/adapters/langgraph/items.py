"""How an item of a LangGraph store is written as entries, and read back.

An item is one entry of its namespace, with its key in id and session, and its value in the metadata. Its content and
vector are those of the first text that it is looked for by; where there are more texts, each is an entry beside it, a
part. An item that is looked for by none has a vector that means nothing, and is not searched. All are marked as
processed: they are what is known, not what was said.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np
from langgraph.store.base import Item, SearchItem

from llmspell_memory.adapters.filters import is_short
from llmspell_memory.errors import InputError
from llmspell_memory.types import EpisodicEntry, json, new_id
from llmspell_memory.types.moments import microseconds, moment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmspell_memory.types import Vector
    from llmspell_memory.types.json import JSON

ITEM: Final = "langgraph"
"""The role of an item's entry."""

PART: Final = "langgraph.part"
"""The role of the entries beside it."""

SEARCHED: Final = "searched"
"""The key of an entry's metadata that says whether its vector is its text's."""

TTL: Final = "ttl"
"""The key that holds the minutes an item lives after it was last touched; absent where it lives for ever."""

VALUE: Final = "value."
"""Before each key of the value."""

_PREFIX: Final = "langgraph:"
_UPDATED: Final = "updated_at"
_PARTS: Final = "parts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An item that is to be written.

    Attributes:
        namespace: the entry's, with that of the memory before it.
        key: the item's.
        value: what it holds, checked.
        texts: what it is looked for by.
        ttl: minutes; None for ever.
    """

    namespace: tuple[str, ...]
    key: str
    value: Mapping[str, JSON]
    texts: Sequence[str]
    ttl: float | None


def id_of(key: str) -> str:
    """Return the id of an item's entry, which is the session of its parts, too.

    Raises:
        InputError: the key is no text.
    """
    if not isinstance(key, str):
        raise InputError(f"a key must be a str, got {type(key).__name__}")
    return _PREFIX + key


def checked_ttl(ttl: float | None) -> float | None:
    """Return minutes to live, None for ever.

    Raises:
        InputError: they are no number, or negative.
    """
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not ttl >= 0:
        raise InputError(f"ttl must be a number of minutes from 0 up, or None, got {ttl!r}")
    return float(ttl)


def expiry(ttl: float | None, now: datetime) -> datetime | None:
    """Return the moment at which something ends that is touched now.

    Raises:
        InputError: that lies beyond the year 9999.
    """
    if ttl is None:
        return None
    try:
        return now + timedelta(minutes=ttl)
    except OverflowError as error:
        raise InputError(f"ttl of {ttl} minutes ends beyond the year 9999; None is for ever") from error


def entries_of(draft: Draft, *, created: datetime, now: datetime, dimensions: int) -> list[EpisodicEntry]:
    """Return the entries of an item, its own first; those of texts are without their vectors."""
    common: dict[str, JSON] = {_UPDATED: microseconds(now)} | ({} if draft.ttl is None else {TTL: draft.ttl})
    expires_at = expiry(draft.ttl, now)
    own = EpisodicEntry(
        id_of(draft.key),
        ITEM,
        draft.texts[0] if draft.texts else json.canonical(draft.value),
        id=id_of(draft.key),
        namespace=draft.namespace,
        timestamp=created,
        ingestion_time=created,
        metadata=common
        | {SEARCHED: bool(draft.texts), _PARTS: max(0, len(draft.texts) - 1)}
        | {VALUE + name: value for name, value in draft.value.items()},
        processed=True,
        expires_at=expires_at,
        embedding=None if draft.texts else _nowhere(draft, dimensions),
    )
    short = {VALUE + name: value for name, value in draft.value.items() if is_short(value)}
    parts = [
        EpisodicEntry(
            id_of(draft.key),
            PART,
            text,
            id=new_id(),
            namespace=draft.namespace,
            timestamp=created,
            ingestion_time=created,
            metadata=common | {SEARCHED: True} | short,
            processed=True,
            expires_at=expires_at,
        )
        for text in draft.texts[1:]
    ]
    return [own, *parts]


def _nowhere(draft: Draft, dimensions: int) -> Vector:
    """Return a unit vector that depends on nothing but the name: many equal ones would crowd one place of a graph."""
    name = json.canonical([*draft.namespace, draft.key])
    seed = int.from_bytes(blake2b(name.encode(), digest_size=8).digest())
    vector = np.random.default_rng(seed).standard_normal(dimensions).astype(np.float32)
    unit: Vector = vector / np.linalg.norm(vector)
    return unit


def is_item(entry: EpisodicEntry) -> bool:
    """Say whether an entry is an item's own."""
    return entry.role == ITEM and entry.id.startswith(_PREFIX) and _UPDATED in entry.metadata


def has_parts(entry: EpisodicEntry) -> bool:
    """Say whether parts stand beside an item's entry."""
    return bool(entry.metadata.get(_PARTS))


def of_one_write(left: EpisodicEntry, right: EpisodicEntry) -> bool:
    """Say whether two entries of an item were written together."""
    return left.metadata.get(_UPDATED) == right.metadata.get(_UPDATED)


def value_of(entry: EpisodicEntry) -> dict[str, JSON]:
    """Return the value that an item's entry holds."""
    return {name.removeprefix(VALUE): value for name, value in entry.metadata.items() if name.startswith(VALUE)}


def item(entry: EpisodicEntry, base: tuple[str, ...]) -> Item:
    """Return what LangGraph is given for an item's entry; `base` is the memory's own namespace."""
    return Item(
        value=value_of(entry),
        key=entry.id.removeprefix(_PREFIX),
        namespace=entry.namespace[len(base) :],
        created_at=entry.ingestion_time,
        updated_at=_updated(entry),
    )


def search_item(entry: EpisodicEntry, base: tuple[str, ...], score: float | None) -> SearchItem:
    """Return what LangGraph is given for one that was searched."""
    found = item(entry, base)
    return SearchItem(found.namespace, found.key, found.value, found.created_at, found.updated_at, score)


def _updated(entry: EpisodicEntry) -> datetime:
    number = entry.metadata[_UPDATED]
    return moment(number) if isinstance(number, int) else entry.ingestion_time


class Clock:
    """Tells moments, each later than the one before: what is written in one call keeps its order."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        """Return this moment, or the next one after the last that was told."""
        self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
        return self._last
