"""An entry of memory, and a hit that found one."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, make_dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from llmspell_memory.errors import InputError
from llmspell_memory.types import json
from llmspell_memory.types.arrays import as_vector
from llmspell_memory.types.ids import new_id
from llmspell_memory.types.text import checked_moment, checked_namespace, checked_text, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmspell_memory.types.arrays import Vector
    from llmspell_memory.types.changes import Identity
    from llmspell_memory.types.json import JSON
    from llmspell_memory.types.query import Part


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class EpisodicEntry:
    """Something that was said or done, at one moment of one session.

    Attributes:
        session_id: the conversation or run it belongs to.
        role: who said or did it, such as "user" or "assistant".
        content: the text, from one character to megabytes.
        id: unique within its namespace; by default a UUID that sorts by the time it was made.
        namespace: who it belongs to, as segments such as ("acme", "alice"); the wall between tenants.
        timestamp: when it happened; aware, kept in UTC to the microsecond.
        ingestion_time: when it was learned; the first one stays when an id is added again.
        metadata: any JSON object.
        processed: whether some later step (a summary, a distillation) has read it.
        expires_at: from this moment on it is invisible, and the next sweep removes it; None for never.
        embedding: its vector, float32 of shape (dimensions,); None until it is stored.

    Raises:
        InputError: a field is not acceptable (empty text, NUL, lone surrogates, naive time, not JSON, NaN).
    """

    session_id: str
    role: str
    content: str
    _: KW_ONLY
    id: str = field(default_factory=new_id)
    namespace: tuple[str, ...] = ()
    timestamp: datetime = field(default_factory=_now)
    ingestion_time: datetime = field(default_factory=_now)
    metadata: Mapping[str, JSON] = field(default_factory=dict, hash=False)
    processed: bool = False
    expires_at: datetime | None = None
    embedding: Vector | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("session_id", "role", "content", "id"):
            checked_text(getattr(self, name), name=name)
        if not isinstance(self.processed, bool):
            raise InputError(f"processed must be a bool, got {type(self.processed).__name__}")
        put = object.__setattr__  # the dataclass is frozen; this is its own constructor
        put(self, "namespace", checked_namespace(self.namespace))
        put(self, "timestamp", checked_moment(self.timestamp, name="timestamp"))
        put(self, "ingestion_time", checked_moment(self.ingestion_time, name="ingestion_time"))
        if self.expires_at is not None:
            put(self, "expires_at", checked_moment(self.expires_at, name="expires_at"))
        put(self, "metadata", json.checked_object(self.metadata, name="metadata"))
        if self.embedding is not None:
            own = as_vector(self.embedding).copy()  # the caller may go on using theirs
            own.flags.writeable = False
            put(self, "embedding", own)

    @property
    def identity(self) -> Identity:
        """What it is known by: its namespace and its id."""
        return self.namespace, self.id

    def changed(self, **fields: Any) -> EpisodicEntry:
        """Return the same entry with other values in `fields`, which were checked before (see `restore`)."""
        entry = _Draft(*_values(self))
        for name, value in fields.items():
            setattr(entry, name, value)
        entry.__class__ = EpisodicEntry
        return entry  # type: ignore[no-any-return]

    def within(self, namespace: tuple[str, ...]) -> EpisodicEntry:
        """Return the entry with `namespace` where it has none of its own.

        Raises:
            InputError: it has one, and that is neither `namespace` nor below it.
        """
        if self.namespace[: len(namespace)] == namespace:
            return self
        if self.namespace:
            raise InputError(
                f"entry {shortened(self.id)} is of the namespace {shortened(self.namespace)}, outside of this "
                f"memory's, {shortened(namespace)}"
            )
        return self.changed(namespace=namespace)

    @classmethod
    def restore(cls, *values: Any) -> EpisodicEntry:
        """Make an entry from all fields' values, in order, checked before, as a backend does with its own rows."""
        entry = _Draft(*values)
        entry.__class__ = cls
        return entry  # type: ignore[no-any-return]


_NAMES = tuple(EpisodicEntry.__slots__)
_values = attrgetter(*_NAMES)
_Draft: Any = make_dataclass("_Draft", _NAMES, slots=True)
"""An entry as long as its fields may be assigned: the frozen class takes seven times as long to get past itself."""


def own(entry: EpisodicEntry) -> EpisodicEntry:
    """Return the entry with metadata of its own: what callers do to theirs leaves a store alone."""
    if not entry.metadata:
        return entry
    copy = _Draft(*_values(entry))
    copy.metadata = json.copied(entry.metadata)
    copy.__class__ = EpisodicEntry
    return copy  # type: ignore[no-any-return]


def same(left: EpisodicEntry, right: EpisodicEntry) -> bool:
    """Say whether two rows are equal in every field, their vectors to the bit."""
    if left != right or json.canonical(left.metadata) != json.canonical(right.metadata):  # to Python, 1 equals true
        return False
    if left.embedding is None or right.embedding is None:
        return left.embedding is right.embedding
    return left.embedding.tobytes() == right.embedding.tobytes()


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry that a search found.

    Attributes:
        entry: the entry.
        score: higher is better. By meaning it is the cosine similarity; the inner product, or the negated distance,
            where the embedding space compares so. By words it is the BM25 score. By both it is a sum of what the arms
            give.
        parts: what each arm gives, by its name; None unless asked for.
        before: the entries before it in its session, oldest first; () unless asked for.
        after: the entries after it in its session, oldest first; () unless asked for.
    """

    entry: EpisodicEntry
    score: float
    parts: Mapping[str, Part] | None = None
    before: tuple[EpisodicEntry, ...] = ()
    after: tuple[EpisodicEntry, ...] = ()


_HitDraft: Any = make_dataclass("_HitDraft", Hit.__slots__, slots=True)


def hit(
    entry: EpisodicEntry,
    score: float,
    parts: Mapping[str, Part] | None = None,
    before: tuple[EpisodicEntry, ...] = (),
    after: tuple[EpisodicEntry, ...] = (),
) -> Hit:
    """Return `Hit(...)` in a third of the time that the frozen class takes: a search makes k of them."""
    made = _HitDraft(entry, score, parts, before, after)
    made.__class__ = Hit
    return made  # type: ignore[no-any-return]
