"""Checksums over rows, that do not depend on their order, and what they say about where two stores differ."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from llmspell_memory.types import json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from datetime import datetime

    from llmspell_memory.types import EpisodicEntry, Identity

BUCKETS: Final = 1 << 16
"""Groups of identities."""

_WHOLE: Final = (1 << 128) - 1
_HALF: Final = (1 << 64) - 1

FIELDS: Final = (
    "namespace",
    "id",
    "session_id",
    "role",
    "content",
    "timestamp",
    "ingestion_time",
    "metadata",
    "processed",
    "expires_at",
    "embedding",
)


def identity_number(namespace: tuple[str, ...], name: str) -> int:
    """Return 64 bits that tell one identity from others."""
    return int.from_bytes(blake2b(_joined((*namespace, name)), digest_size=8).digest(), "little")


def field_texts(entry: EpisodicEntry, *, vectors: bool) -> Iterator[bytes]:
    """Yield every field's value, in the order of FIELDS, as bytes that are equal where the values are."""
    yield _joined(entry.namespace)
    yield entry.id.encode()
    yield entry.session_id.encode()
    yield entry.role.encode()
    yield entry.content.encode()
    yield _moment(entry.timestamp)
    yield _moment(entry.ingestion_time)
    yield json.canonical(entry.metadata).encode()
    yield b"1" if entry.processed else b"0"
    yield b"" if entry.expires_at is None else _moment(entry.expires_at)
    if vectors:
        yield b"" if entry.embedding is None else entry.embedding.tobytes()


def row_number(entry: EpisodicEntry, *, vectors: bool) -> int:
    """Return 128 bits over every field of a row."""
    whole = blake2b(digest_size=16)
    for text in field_texts(entry, vectors=vectors):
        whole.update(len(text).to_bytes(8, "little"))  # or else the end of one could be the beginning of the next
        whole.update(text)
    return int.from_bytes(whole.digest(), "little")


def _joined(segments: Iterable[str]) -> bytes:
    return b"".join(segment.encode() + b"\0" for segment in segments)


def _moment(value: datetime) -> bytes:
    return value.isoformat().encode()


class Digest:
    """A checksum of many rows: sums, so that the order is of no matter.

    Memory: some 5 MB, and about 100 bytes a session and a namespace.

    Args:
        vectors: whether vectors are among the fields.
        spare: identities that do not count.

    Attributes:
        rows: how many.
        namespaces: rows by namespace.
        sessions: rows by session, under 64 bits that tell it from others.
        buckets: 64 bits for each group of identities, to find those that differ.
    """

    def __init__(self, *, vectors: bool, spare: Collection[Identity] = ()) -> None:
        self.rows = 0
        self.namespaces: Counter[tuple[str, ...]] = Counter()
        self.sessions: Counter[int] = Counter()
        self.buckets = [0] * BUCKETS
        self._sum = 0
        self._vectors = vectors
        self._spare = spare

    def add(self, entry: EpisodicEntry) -> None:
        """Count a row."""
        if self._spare and entry.identity in self._spare:
            return
        number = row_number(entry, vectors=self._vectors)
        bucket = bucket_of(entry.identity)
        self.rows += 1
        self.namespaces[entry.namespace] += 1
        self.sessions[identity_number(entry.namespace, entry.session_id)] += 1
        self.buckets[bucket] = self.buckets[bucket] + number & _HALF
        self._sum = self._sum + number & _WHOLE

    @property
    def checksum(self) -> str:
        """The sum over all rows, 32 hexadecimal digits."""
        return f"{self._sum:032x}"

    def differing(self, other: Digest) -> set[int]:
        """Return the groups of identities in which two differ."""
        return {at for at, (ours, theirs) in enumerate(zip(self.buckets, other.buckets, strict=True)) if ours != theirs}


def bucket_of(name: Identity) -> int:
    """Return the group that an identity belongs to."""
    return identity_number(*name) % BUCKETS


def differing_fields(left: EpisodicEntry, right: EpisodicEntry, *, vectors: bool) -> list[str]:
    """Return the names of the fields in which two rows differ."""
    pairs = zip(FIELDS, field_texts(left, vectors=vectors), field_texts(right, vectors=vectors), strict=False)
    return [name for name, ours, theirs in pairs if ours != theirs]
