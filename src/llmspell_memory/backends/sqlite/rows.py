"""How an entry is written as a row, and read back."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llmspell_memory.errors import CorruptDataError
from llmspell_memory.index import Turn
from llmspell_memory.types import EpisodicEntry, json
from llmspell_memory.types.moments import microseconds, moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from llmspell_memory.types import Matrix, Vector

_FLOAT32: Final = np.dtype("<f4")

COLUMNS: Final = "namespace, id, session_id, role, content, timestamp, ingestion_time, metadata, processed, expires_at"


def packed_namespace(namespace: tuple[str, ...]) -> bytes:
    """Segments in UTF-8, each ended by NUL."""
    return b"".join(segment.encode() + b"\0" for segment in namespace)


def unpacked_namespace(packed: bytes) -> tuple[str, ...]:
    """The inverse of `packed_namespace`."""
    return tuple([segment.decode() for segment in packed.split(b"\0")[:-1]])


def packed_vector(vector: Vector) -> bytes:
    """float32, little-endian."""
    return vector.astype("<f4", copy=False).tobytes()


@contextmanager
def told_as_damage(path: Path) -> Iterator[None]:
    """Tell what cannot be decoded, though SQLite has read it, as a CorruptDataError."""
    try:
        yield
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise CorruptDataError(f"{path}: a row cannot be read: {error}") from error


def unpacked_vectors(page: list[tuple[int, bytes]], dimensions: int) -> Matrix:
    """The vectors of (label, bytes) pairs as one matrix.

    Raises:
        CorruptDataError: a vector has another width or is not finite; names its label.
    """
    for label, blob in page:
        if not isinstance(blob, bytes) or len(blob) != 4 * dimensions:
            raise CorruptDataError(f"the vector of label {label} is not {dimensions} numbers of 4 bytes")
    joined = b"".join(blob for _, blob in page)
    matrix: Matrix = np.frombuffer(joined, "<f4").reshape(len(page), dimensions).astype(np.float32, copy=False)
    whole = np.isfinite(matrix).all(axis=1)
    if not whole.all():
        raise CorruptDataError(f"the vector of label {page[int(whole.argmin())][0]} holds NaN or infinity")
    return matrix


def to_row(entry: EpisodicEntry) -> tuple[Any, ...]:
    """Return the values of COLUMNS."""
    return (
        packed_namespace(entry.namespace),
        entry.id,
        entry.session_id,
        entry.role,
        entry.content,
        microseconds(entry.timestamp),
        microseconds(entry.ingestion_time),
        json.canonical(entry.metadata),
        int(entry.processed),
        None if entry.expires_at is None else microseconds(entry.expires_at),
    )


def to_turn(row: Sequence[Any]) -> Turn:
    """Return what filters and searches by words look at, of a row's label and its columns."""
    label, namespace, session_id, role, happened, learned, processed, expires_at, metadata, content = row
    return Turn(
        label=label,
        namespace=unpacked_namespace(namespace) if namespace else (),
        session_id=session_id,
        role=role,
        timestamp=happened,
        ingestion_time=learned,
        processed=bool(processed),
        expires_at=expires_at,
        metadata=json.parsed(metadata),
        length=len(content),
    )


def to_entry(row: tuple[Any, ...], *, dimensions: int) -> EpisodicEntry:
    """Return the entry of a row of COLUMNS and its vector's bytes.

    Raises:
        CorruptDataError: a value cannot be what was written.
    """
    namespace, entry_id, session_id, role, content, happened, learned, metadata, processed, expires_at, blob = row
    try:
        embedding = np.frombuffer(blob, _FLOAT32)
        if len(embedding) != dimensions:
            raise ValueError(f"its vector has {len(embedding)} dimensions")  # noqa: TRY301 (one border for all faults)
        return EpisodicEntry.restore(
            session_id,
            role,
            content,
            entry_id,
            unpacked_namespace(namespace) if namespace else (),
            moment(happened),
            moment(learned),
            json.parsed(metadata),
            bool(processed),
            None if expires_at is None else moment(expires_at),
            embedding,
        )
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise CorruptDataError(f"the row of entry {entry_id!r} cannot be read: {error}") from error
