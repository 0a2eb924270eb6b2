"""How long entries are kept, and what is told when some are removed for good."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from llmspell_memory.errors import ConfigError
from llmspell_memory.types.text import checked_namespace

if TYPE_CHECKING:
    from llmspell_memory.types.changes import Identity
    from llmspell_memory.types.filter import Filter


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """What a sweep removes from a namespace, and from those below it, beside what has expired.

    Attributes:
        namespace: whose entries; () for all.
        max_age: entries that happened longer ago go.
        max_entries: of each single namespace the newest so many stay.

    Raises:
        ConfigError: neither limit is given, or one is not positive.
    """

    namespace: tuple[str, ...] = ()
    max_age: timedelta | None = None
    max_entries: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "namespace", checked_namespace(self.namespace))
        if self.max_age is None and self.max_entries is None:
            raise ConfigError("a RetentionRule needs max_age or max_entries")
        if self.max_age is not None and not (isinstance(self.max_age, timedelta) and self.max_age > timedelta()):
            raise ConfigError(f"max_age must be a positive timedelta, got {self.max_age!r}")
        count: object = self.max_entries
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise ConfigError(f"max_entries must be a positive integer, got {count!r}")

    def concerns(self, namespace: tuple[str, ...]) -> bool:
        """Say whether entries of `namespace`, or of one below it, may be meant."""
        return all(ours == theirs for ours, theirs in zip(self.namespace, namespace, strict=False))


Reason: TypeAlias = Literal["expired", "too old", "too many"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """Entries of one namespace that a sweep removed for one reason."""

    reason: Reason
    namespace: tuple[str, ...]
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """What a sweep removed.

    Attributes:
        removals: by reason and namespace; only where there was something to remove.
        at: the moment that ages and expiries were measured from.
    """

    removals: tuple[Removal, ...]
    at: datetime

    @property
    def entries(self) -> int:
        """How many were removed."""
        return sum(one.entries for one in self.removals)


class Erased(NamedTuple):
    """An entry that a backend has erased."""

    namespace: tuple[str, ...]
    id: str
    session_id: str
    content: str

    @property
    def identity(self) -> Identity:
        """What it was known by: its namespace and its id."""
        return self.namespace, self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetReceipt:
    """What was forgotten: named by ids, no word of what it said.

    Attributes:
        where: the filter that was given, within the namespace of the memory.
        entries: how many entries were erased.
        ids: namespace and id of each.
        sessions: how many sessions they belonged to.
        texts: how many distinct texts the embedding cache was told to discard.
        began: when it was asked.
        finished: when nothing was left.
    """

    where: Filter
    entries: int
    ids: tuple[tuple[tuple[str, ...], str], ...]
    sessions: int
    texts: int
    began: datetime
    finished: datetime
