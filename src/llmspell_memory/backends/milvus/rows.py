"""How an entry is written as a row of a collection, and read back.

A field of Milvus holds 65,535 bytes at most, so texts are arrays of pieces; and what is looked for is a digest of a
fixed width. A path is one such digest for each segment of the namespace: what lies below a namespace begins with its
path.
"""

from __future__ import annotations

import json as plain
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llmspell_memory.errors import CorruptDataError, InputError
from llmspell_memory.types import EpisodicEntry, json
from llmspell_memory.types.moments import microseconds, moment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmspell_memory.types import Vector
    from llmspell_memory.types.json import JSON

MOST_BYTES: Final = 65_535
"""Of a text in a field, or in one place of an array."""

MOST_PLACES: Final = 4_096
"""Of an array."""

_PIECE: Final = 16_000
"""Characters of a piece: no character has more than 4 bytes."""

_KEY_BYTES: Final = 20
_SEGMENT_BYTES: Final = 16

NEVER: Final = 2**63 - 1
"""When what never expires does."""

NAMES: Final = ("names",)
READ: Final = ("names", "content", "metadata", "happened", "learned", "processed", "expires")
"""Fields that an entry is made of, beside its vector."""

TURN: Final = ("pk", "label", "names", "path", "session_key", "happened", "content")
"""Fields that a turn is scored by, beside its vector."""

EVERY: Final = (
    *("pk", "root", "path", "id_key", "session_key", "role_key", "content_key", *READ, "facts", "terms", "words"),
    *("length", "characters", "size", "label", "seq"),
)
"""All fields but the vector."""


def digest(text: str | bytes, size: int = _KEY_BYTES) -> str:
    """Return a digest of a text, in hexadecimal."""
    return sha256(text.encode() if isinstance(text, str) else text).digest()[:size].hex()


def path(namespace: tuple[str, ...]) -> str:
    """Return the digests of all segments, one after the other."""
    return "".join(digest(segment, _SEGMENT_BYTES) for segment in namespace)


def root(namespace: tuple[str, ...]) -> str:
    """Return what rows are partitioned by."""
    return path(namespace[:1]) or "-"


def key(namespace: tuple[str, ...], entry_id: str) -> str:
    """Return the primary key of an entry; a write that is made again is the same write."""
    return digest("".join(f"{segment}\0" for segment in namespace) + entry_id)


def facts(metadata: Mapping[str, JSON]) -> list[str]:
    """Return digests of the pairs of an object: a document contains what is wanted if it has all of these."""
    return [digest(one, _SEGMENT_BYTES) for one in json.facts(metadata)]


def pieces(text: str, *, what: str) -> list[str]:
    """Return a text in pieces that a field can hold.

    Raises:
        InputError: it is too long even so.
    """
    if len(text) > _PIECE * MOST_PLACES:
        raise InputError(f"{what} of {len(text)} characters is longer than Milvus can keep, {_PIECE * MOST_PLACES}")
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


def joined(parts: Sequence[str]) -> str:
    """Return the text that was put in pieces."""
    return parts[0] if len(parts) == 1 else "".join(parts)


def names_of(row: Mapping[str, Any]) -> tuple[tuple[str, ...], str, str, str]:
    """Return namespace, id, session and role of a row."""
    namespace, entry_id, session_id, role = plain.loads(joined(row["names"]))
    return tuple(namespace), entry_id, session_id, role


def to_row(entry: EpisodicEntry) -> dict[str, Any]:
    """Return the fields of an entry, without those of words, numbers and vectors.

    Raises:
        InputError: it is more than a row can hold.
    """
    names = plain.dumps([entry.namespace, entry.id, entry.session_id, entry.role], ensure_ascii=False)
    where, pairs = path(entry.namespace), facts(entry.metadata)
    if len(where) > MOST_BYTES or len(pairs) > MOST_PLACES:
        raise InputError(
            f"entry {entry.id[:80]!r} has {len(entry.namespace)} segments in its namespace and {len(pairs)} keys in "
            f"its metadata; Milvus can keep {MOST_BYTES // (2 * _SEGMENT_BYTES)} and {MOST_PLACES}"
        )
    return {
        "pk": key(entry.namespace, entry.id),
        "root": root(entry.namespace),
        "path": where,
        "id_key": digest(entry.id),
        "session_key": digest(entry.session_id),
        "role_key": digest(entry.role),
        "content_key": digest(entry.content),
        "names": pieces(names, what="what names an entry"),
        "content": pieces(entry.content, what="a content"),
        "metadata": pieces(json.canonical(entry.metadata), what="metadata"),
        "happened": microseconds(entry.timestamp),
        "learned": microseconds(entry.ingestion_time),
        "expires": NEVER if entry.expires_at is None else microseconds(entry.expires_at),
        "processed": entry.processed,
        "facts": pairs,
        "characters": len(entry.content),
        "size": len(entry.content.encode()),
    }


def as_vector(value: Sequence[float]) -> Vector:
    """Return a vector as it was stored."""
    vector = np.array(value, np.float32)
    vector.flags.writeable = False
    return vector


def to_entry(row: Mapping[str, Any]) -> EpisodicEntry:
    """Return the entry of a row of READ and its vector.

    Raises:
        CorruptDataError: a value cannot be what was written.
    """
    try:
        namespace, entry_id, session_id, role = names_of(row)
        expires = row["expires"]
        return EpisodicEntry.restore(
            session_id,
            role,
            joined(row["content"]),
            entry_id,
            namespace,
            moment(row["happened"]),
            moment(row["learned"]),
            json.parsed(joined(row["metadata"])),
            row["processed"],
            None if expires == NEVER else moment(expires),
            as_vector(row["vector"]),
        )
    except (ValueError, TypeError, OverflowError, AttributeError, KeyError) as error:
        raise CorruptDataError(f"the row {row.get('pk')!r} cannot be read: {error}") from error
