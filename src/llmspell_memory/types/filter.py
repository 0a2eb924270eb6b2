"""Which entries an operation is about: one value instead of twenty arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from llmspell_memory.errors import InputError
from llmspell_memory.types import json
from llmspell_memory.types.text import checked_moment, checked_namespace, checked_text, shortened

if TYPE_CHECKING:
    from llmspell_memory.types.entry import EpisodicEntry
    from llmspell_memory.types.json import JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Entries that meet every condition given; a condition left out (None) lets everything pass.

    Attributes:
        session_id: the session is this one.
        role: the role is this one.
        since: it happened at this moment or later.
        until: it happened before this moment.
        known_by: it had been learned (ingestion_time) at this moment or earlier.
        processed: the flag has this value.
        metadata: every key given is there with an equal value; numbers compare by value, true is not 1.
        namespace: its namespace starts with these segments; () lets every namespace pass.
        below: whether namespaces below `namespace` pass, too; False for that one alone.
        expired: False lets pass what has not expired (see `EpisodicEntry.expires_at`), True what has, None both.
        ids: the id is one of these; an empty collection lets nothing pass.

    Raises:
        InputError: a condition is of the wrong kind.
    """

    session_id: str | None = None
    role: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    known_by: datetime | None = None
    processed: bool | None = None
    metadata: Mapping[str, JSON] = field(default_factory=dict, hash=False)
    namespace: tuple[str, ...] = ()
    below: bool = True
    expired: bool | None = False
    ids: frozenset[str] | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__  # the dataclass is frozen; this is its own constructor
        for name in ("session_id", "role"):
            if getattr(self, name) is not None:
                checked_text(getattr(self, name), name=name)
        for name in ("since", "until", "known_by"):
            if (moment := getattr(self, name)) is not None:
                put(self, name, checked_moment(moment, name=name))
        for name in ("processed", "expired"):
            if (flag := getattr(self, name)) is not None and not isinstance(flag, bool):
                raise InputError(f"{name} must be a bool or None, got {type(flag).__name__}")
        if not isinstance(self.below, bool):
            raise InputError(f"below must be a bool, got {type(self.below).__name__}")
        put(self, "metadata", json.checked_object(self.metadata, name="metadata"))
        put(self, "namespace", checked_namespace(self.namespace))
        if self.ids is not None:
            put(self, "ids", _checked_ids(self.ids))

    @property
    def is_everything(self) -> bool:
        """Whether no condition is given, so that every entry passes that has not expired."""
        return self is EVERYTHING or self == EVERYTHING

    def matches(self, entry: EpisodicEntry, *, now: datetime | None = None) -> bool:
        """Say whether `entry` passes at the moment `now`, this one if None; every backend must do what this says."""
        expires_at = entry.expires_at
        return (
            (self.session_id is None or entry.session_id == self.session_id)
            and (self.role is None or entry.role == self.role)
            and (self.since is None or entry.timestamp >= self.since)
            and (self.until is None or entry.timestamp < self.until)
            and (self.known_by is None or entry.ingestion_time <= self.known_by)
            and (self.processed is None or entry.processed == self.processed)
            and (self.ids is None or entry.id in self.ids)
            and entry.namespace[: len(self.namespace) if self.below else None] == self.namespace
            and (self.expired is None or self.expired == (expires_at is not None and expires_at <= (now or _now())))
            and json.contains(entry.metadata, self.metadata)
        )

    def within(self, namespace: tuple[str, ...]) -> Filter:
        """Return the same conditions for the entries of `namespace` alone, and those below it; () means `namespace`.

        Raises:
            InputError: the filter's own namespace is another, so that nothing could pass.
        """
        asked = self.namespace
        if asked[: len(namespace)] == namespace:
            return self
        if asked and (namespace[: len(asked)] != asked or not self.below):
            raise InputError(f"the namespace {shortened(asked)} lies outside of this memory's, {shortened(namespace)}")
        narrowed = copy(self)  # all else was checked before
        object.__setattr__(narrowed, "namespace", namespace)
        return narrowed


EVERYTHING: Final = Filter()
"""No condition: the one that calls without `where` use, which is known at a glance."""


def _now() -> datetime:
    return datetime.now(UTC)


def _checked_ids(ids: object) -> frozenset[str]:
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise InputError(f"ids must be a collection of texts, got {type(ids).__name__}")
    return frozenset(checked_text(one, name="an id") for one in ids)
