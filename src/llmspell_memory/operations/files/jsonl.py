"""The library's own file format: JSON Lines, one entry a line, read and written without holding more than one.

    {"llmspell_memory": 1, "space": {"provider": "wordllama", "model": "…", "dimensions": 256, "metric": "cosine"}}
    {"id": "…", "session_id": "…", "role": "user", "content": "…", "timestamp": "2025-01-05T19:12:48+00:00", …}

The first line is a header that files from elsewhere need not have; its space is there only when vectors are.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

import numpy as np

from llmspell_memory.errors import EpisodicError, InputError, SchemaError
from llmspell_memory.types import EmbeddingSpace, EpisodicEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmspell_memory.types import Vector

VERSION: Final = 1
HEADER: Final = "llmspell_memory"

_REQUIRED: Final = ("session_id", "role", "content")
_OPTIONAL: Final = (
    "id",
    "namespace",
    "timestamp",
    "ingestion_time",
    "metadata",
    "processed",
    "expires_at",
    "embedding",
)
_SPACE: Final = ("provider", "model", "dimensions", "metric")
_IDS: Final = UUID("8f0f3f0e-6f3c-5c56-9d0c-4a4c4d454d01")
"""The namespace (RFC 9562, section 5.5) of ids made from an entry's own words."""

DIRECTION: Final = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Characters that turn the direction of writing, and so can make a text look like another one."""

_UNPRINTED: Final = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *DIRECTION)}
"""JSON escapes the control characters up to 0x1f by itself; these too would drive a terminal."""


def dumped(value: Any, *, indent: int | None = None) -> str:
    """Write JSON that is safe to show on a terminal, and reads back as the same value."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    return text.translate(_UNPRINTED)


def header_line(space: EmbeddingSpace | None) -> str:
    """Return the first line of a file; `space` of the vectors in it, None where there are none."""
    header: dict[str, Any] = {HEADER: VERSION}
    if space is not None:
        header["space"] = {name: getattr(space, name) for name in _SPACE}
    return dumped(header)


def entry_line(entry: EpisodicEntry, *, vector: bool) -> str:
    """Return an entry's line, with its vector or without."""
    return dumped(
        entry_object(entry) | ({"embedding": packed(entry.embedding)} if vector and entry.embedding is not None else {})
    )


def entry_object(entry: EpisodicEntry) -> dict[str, Any]:
    """Return an entry as a JSON object without its vector."""
    return {
        "id": entry.id,
        "session_id": entry.session_id,
        "role": entry.role,
        "content": entry.content,
        "namespace": list(entry.namespace),
        "timestamp": entry.timestamp.isoformat(),
        "ingestion_time": entry.ingestion_time.isoformat(),
        "metadata": dict(entry.metadata),
        "processed": entry.processed,
        **({} if entry.expires_at is None else {"expires_at": entry.expires_at.isoformat()}),
    }


def packed(vector: Vector) -> dict[str, str]:
    """Return a vector as a JSON object, exact to the bit."""
    data = base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode()
    return {"dtype": "float32", "data": data}


def entry_fields(given: dict[str, Any]) -> dict[str, Any]:
    """Return what an entry is made of, out of a JSON object; what is not there, or null, is left out.

    Raises:
        InputError: a key is missing or unknown, or a moment or the vector is none.
    """
    _check_keys(given)
    fields = {key: value for key, value in given.items() if value is not None or key in _REQUIRED}
    for key in ("timestamp", "ingestion_time", "expires_at"):
        if key in fields:
            fields[key] = as_moment(fields[key], name=key)
    if "embedding" in fields:
        fields["embedding"] = unpacked(fields["embedding"])
    return fields


class Lines:
    """A JSONL file being read.

    Args:
        lines: the file's lines in UTF-8, as iterating a binary file gives them.
        name: of the file, for messages.
        written: when the file was written. Lines without a timestamp get this moment and one microsecond more from
            line to line, which keeps their order and is the same when the file is read again.
        learned: the ingestion_time of lines without one; None for the moment they are read at.

    A line without an id gets one made from its session, role, content and timestamp, and from how many lines like it
    came before: the same line gets the same id in whatever file it stands. For that 16 bytes per such line are kept.
    A key that need not be there may also be null.

    Attributes:
        space: of the file's vectors, as its header says; None where it says none.

    Raises:
        InputError: the header cannot be read.
        SchemaError: a newer version of this library wrote the file.
    """

    def __init__(
        self, lines: Iterable[bytes], *, name: str, written: datetime, learned: datetime | None = None
    ) -> None:
        self._name = name
        self._written = written
        self._defaults = {} if learned is None else {"ingestion_time": learned}
        self._seen: dict[bytes, int] = {}
        self._objects = _objects(lines, name)
        self._first = next(self._objects, None)
        self.space: EmbeddingSpace | None = None
        if self._first is not None and HEADER in self._first[1]:
            number, header = self._first
            self.space = _space_of(header, f"{name}, line {number}")
            self._first = None

    def __iter__(self) -> Iterator[EpisodicEntry]:
        if self._first is not None:
            yield self._entry(*self._first)
            self._first = None
        for number, fields in self._objects:
            yield self._entry(number, fields)

    def _entry(self, number: int, given: dict[str, Any]) -> EpisodicEntry:
        try:
            fields = entry_fields(given)
            entry = EpisodicEntry(
                **{"timestamp": self._written + timedelta(microseconds=number)} | self._defaults | fields
            )
            if "id" in fields:
                return entry
            return entry.changed(id=self._made_id(entry, entry.timestamp if "timestamp" in fields else None))
        except EpisodicError as error:
            raise InputError(f"{self._name}, line {number}: {error}") from error

    def _made_id(self, entry: EpisodicEntry, happened: datetime | None) -> str:
        words = (entry.session_id, entry.role, entry.content, happened and happened.isoformat())
        key = uuid5(_IDS, json.dumps((entry.namespace, *words))).bytes
        before = self._seen.get(key, 0)
        self._seen[key] = before + 1
        return str(uuid5(_IDS, json.dumps((*words, before))))


def _objects(lines: Iterable[bytes], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        data = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line  # some editors begin a file so
        if not data.strip():
            continue
        try:
            value = json.loads(data.decode(), object_pairs_hook=distinct)
        except RecursionError as error:
            raise InputError(f"{name}, line {number}: it nests too deep") from error
        except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, and numbers too long to read
            raise InputError(f"{name}, line {number} is not JSON in UTF-8: {error}") from error
        if not isinstance(value, dict):
            raise InputError(f"{name}, line {number}: a line must be a JSON object, got {type(value).__name__}")
        yield number, value


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object of pairs; a ValueError where a key is there twice (an `object_pairs_hook`)."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has a key twice")
    return value


def _space_of(header: dict[str, Any], where: str) -> EmbeddingSpace | None:
    version = header[HEADER]
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise InputError(f'{where}: the header must say {{"{HEADER}": {VERSION}}}')
    if version > VERSION:
        raise SchemaError(f"{where}: written by a newer version of llmspell-memory; upgrade this one to read it")
    space = header.get("space")
    if space is None:
        return None
    if not isinstance(space, dict) or set(space) != set(_SPACE) or not isinstance(space["provider"], str):
        raise InputError(f"{where}: the header's space must be an object of {', '.join(_SPACE)}")
    try:
        return EmbeddingSpace(**space)
    except EpisodicError as error:
        raise InputError(f"{where}: {error}") from error


def _check_keys(fields: dict[str, Any]) -> None:
    missing = [key for key in _REQUIRED if key not in fields]
    if missing:
        raise InputError(f"it has no {' and no '.join(missing)}; every entry needs {', '.join(_REQUIRED)}")
    unknown = sorted(set(fields) - set(_REQUIRED) - set(_OPTIONAL))
    if unknown:
        raise InputError(
            f"unknown key {unknown[0]!r}; all but {', '.join((*_REQUIRED, *_OPTIONAL))} belongs into metadata"
        )


def as_moment(text: object, *, name: str) -> datetime:
    """Return the moment written in `text`: ISO 8601 with an offset.

    Raises:
        InputError: it is something else.
    """
    try:
        if isinstance(text, str) and (moment := datetime.fromisoformat(text)).utcoffset() is not None:
            return moment
    except ValueError:
        pass
    shown = str(text)[:40]
    raise InputError(f"{name} must be ISO 8601 with an offset, such as 2025-01-05T19:12:48+00:00, got {shown!r}")


def unpacked(value: object) -> Vector | list[Any]:
    """Return the vector in a JSON value: a list of numbers as it is, or what `packed` made."""
    if isinstance(value, list):
        if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in value):
            raise InputError("a list as embedding must hold numbers only")
        return value
    if not isinstance(value, dict) or set(value) != {"dtype", "data"} or value["dtype"] != "float32":
        raise InputError('embedding must be a list of numbers or {"dtype": "float32", "data": base64 of little-endian}')
    try:
        return np.frombuffer(base64.b64decode(value["data"], validate=True), "<f4").astype(np.float32, copy=False)
    except (binascii.Error, TypeError, ValueError) as error:
        raise InputError(f"the embedding's data is not base64 of float32 numbers: {error}") from error
