"""Which entries an operation is about: one value instead of twenty arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmspell_memory.errors import InputError
from llmspell_memory.types import json
from llmspell_memory.types.text import checked_moment, checked_namespace, checked_text

if TYPE_CHECKING:
    from datetime import datetime

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
    ids: frozenset[str] | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__  # the dataclass is frozen; this is its own constructor
        for name in ("session_id", "role"):
            if getattr(self, name) is not None:
                checked_text(getattr(self, name), name=name)
        for name in ("since", "until", "known_by"):
            if (moment := getattr(self, name)) is not None:
                put(self, name, checked_moment(moment, name=name))
        if self.processed is not None and not isinstance(self.processed, bool):
            raise InputError(f"processed must be a bool or None, got {type(self.processed).__name__}")
        put(self, "metadata", json.checked_object(self.metadata, name="metadata"))
        put(self, "namespace", checked_namespace(self.namespace))
        if self.ids is not None:
            put(self, "ids", _checked_ids(self.ids))

    @property
    def is_everything(self) -> bool:
        """Whether no condition is given, so that every entry passes."""
        return self == _EVERYTHING

    def matches(self, entry: EpisodicEntry) -> bool:
        """Say whether `entry` passes; what this says is what every backend must do."""
        return (
            (self.session_id is None or entry.session_id == self.session_id)
            and (self.role is None or entry.role == self.role)
            and (self.since is None or entry.timestamp >= self.since)
            and (self.until is None or entry.timestamp < self.until)
            and (self.known_by is None or entry.ingestion_time <= self.known_by)
            and (self.processed is None or entry.processed == self.processed)
            and (self.ids is None or entry.id in self.ids)
            and entry.namespace[: len(self.namespace)] == self.namespace
            and json.contains(entry.metadata, self.metadata)
        )


_EVERYTHING = Filter()


def _checked_ids(ids: object) -> frozenset[str]:
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise InputError(f"ids must be a collection of texts, got {type(ids).__name__}")
    return frozenset(checked_text(one, name="an id") for one in ids)
