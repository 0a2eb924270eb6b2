"""How an entry is written as a row, and read back.

What names something may be as long as it likes; what is looked for in an index must not. So rows carry digests of it:
one of a fixed width for each segment of the namespace, so that what lies below a namespace is a range of its path.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llmspell_memory.errors import CorruptDataError
from llmspell_memory.types import EpisodicEntry, json
from llmspell_memory.types.moments import microseconds, moment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmspell_memory.types.json import JSON

SEGMENT_BYTES: Final = 8
"""Of a digest in a path; whoever has a namespace is told from others by the namespace itself as well."""

_DIGEST_BYTES: Final = 16

KEY: Final = "root, id_key, namespace_key"
"""Columns of the primary key of every table with rows, the one that rows are distributed by among them."""

WRITTEN: Final = (
    f"{KEY}, path, namespace, id, session_key, session_id, role_key, role, content, happened, learned, metadata, facts,"
    " processed, expires"
)
READ: Final = (
    "e.namespace, e.id, e.session_id, e.role, e.content, e.happened, e.learned, e.metadata, e.processed, e.expires"
)


def table_of(space: int) -> str:
    """Return the name of the table with a space's vectors."""
    return f"vectors_{space}"


def digest(text: str | bytes, size: int = _DIGEST_BYTES) -> bytes:
    """Return a digest of a text."""
    return sha256(text.encode() if isinstance(text, str) else text).digest()[:size]


def packed(namespace: tuple[str, ...]) -> bytes:
    """Segments in UTF-8, each ended by NUL."""
    return b"".join(segment.encode() + b"\0" for segment in namespace)


def unpacked(namespace: bytes) -> tuple[str, ...]:
    """The inverse of `packed`."""
    return tuple([segment.decode() for segment in namespace.split(b"\0")[:-1]])


def path(namespace: tuple[str, ...]) -> bytes:
    """Return the digests of all segments, one after the other."""
    return b"".join(digest(segment, SEGMENT_BYTES) for segment in namespace)


def root(namespace: tuple[str, ...]) -> bytes:
    """Return what rows are distributed by: the digest of the first segment, empty where there is none."""
    return path(namespace[:1])


def key(namespace: tuple[str, ...], entry_id: str) -> tuple[bytes, bytes, bytes]:
    """Return the values of KEY."""
    return root(namespace), digest(entry_id), digest(packed(namespace))


def facts(metadata: Mapping[str, JSON]) -> list[bytes]:
    """Return digests of the pairs of an object: a document contains what is wanted if it has all of these."""
    return [digest(one) for one in json.facts(metadata)]


def to_row(entry: EpisodicEntry) -> tuple[Any, ...]:
    """Return the values of WRITTEN."""
    return (
        *key(entry.namespace, entry.id),
        path(entry.namespace),
        packed(entry.namespace),
        entry.id,
        digest(entry.session_id),
        entry.session_id,
        digest(entry.role),
        entry.role,
        entry.content,
        microseconds(entry.timestamp),
        microseconds(entry.ingestion_time),
        json.canonical(entry.metadata),
        facts(entry.metadata),
        entry.processed,
        None if entry.expires_at is None else microseconds(entry.expires_at),
    )


def to_entry(row: tuple[Any, ...]) -> EpisodicEntry:
    """Return the entry of a row of READ and its vector.

    Raises:
        CorruptDataError: a value cannot be what was written.
    """
    namespace, entry_id, session_id, role, content, happened, learned, metadata, processed, expires, vector = row
    try:
        embedding = np.array(vector.to_numpy(), np.float32)
        embedding.flags.writeable = False
        return EpisodicEntry.restore(
            session_id,
            role,
            content,
            entry_id,
            unpacked(bytes(namespace)),
            moment(happened),
            moment(learned),
            json.parsed(metadata),
            processed,
            None if expires is None else moment(expires),
            embedding,
        )
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise CorruptDataError(f"the row of entry {entry_id!r} cannot be read: {error}") from error
