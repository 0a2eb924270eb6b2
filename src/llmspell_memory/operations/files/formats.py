"""Which format a file is in, by looking into it, and a stream of entries out of any of them."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from llmspell_memory.errors import ConfigError, InputError
from llmspell_memory.operations.files import chatgpt, claude
from llmspell_memory.operations.files.jsonl import Lines

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator
    from io import BufferedReader

    from llmspell_memory.types import EmbeddingSpace, EpisodicEntry

Format: TypeAlias = Literal["jsonl", "chatgpt", "claude"]
"""The library's own lines, or `conversations.json` out of ChatGPT's or Claude's data export."""

FORMATS: Final[tuple[Format, ...]] = get_args(Format)

_READERS: Final = {"chatgpt": chatgpt.entries, "claude": claude.entries}
_MARKS: Final[dict[str, Format]] = {"mapping": "chatgpt", "chat_messages": "claude"}
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"
_BOM: Final = b"\xef\xbb\xbf"
_LOOK: Final = 4096


@dataclass(frozen=True, slots=True)
class Source:
    """An open file of entries, to be iterated once.

    Attributes:
        format: of the file.
        space: of the vectors in it, None where it says none.
        entries: the entries, read as they are asked for.
        left_out: messages of a chat export that are no entries, counted by the reason; complete when all are read.
    """

    format: Format
    space: EmbeddingSpace | None
    entries: Iterable[EpisodicEntry]
    left_out: Counter[str] = field(default_factory=Counter)


def detect(path: str | os.PathLike[str]) -> Format:
    """Return the format of a file, by its content whatever its name is.

    A chat export is one JSON document and is read whole for this.

    Raises:
        InputError: the file cannot be read, or is in none of the formats.
    """
    with open_source(path) as source:
        return source.format


@contextmanager
def open_source(
    path: str | os.PathLike[str],
    *,
    format: Format | None = None,  # noqa: A002 (its name)
    learned: datetime | None = None,
) -> Iterator[Source]:
    """Open a file of entries, plain or gzipped, and close it at the end of the `with` block.

    JSONL is read line by line; a chat export, one JSON document, is held in memory while it is open.

    Args:
        path: of the file.
        format: of the file; None to find out by its content.
        learned: the ingestion_time of lines of JSONL without one; None for the moment they are read at.

    Raises:
        InputError: the file cannot be read, or is in none of the formats; while iterating, what is wrong and where.
        SchemaError: a newer version of this library wrote the file.
    """
    if format is not None and format not in FORMATS:
        raise ConfigError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    path = Path(path)
    with _opened(path) as file:
        with _readable(path):
            written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            data = _unzipped(file, path)
            is_list = data.peek(_LOOK)[:_LOOK].removeprefix(_BOM).lstrip()[:1] == b"["
        if format == "jsonl" or (format is None and not is_list):
            lines = Lines(_lines(data, path), name=str(path), written=written, learned=learned)
            yield Source("jsonl", lines.space, lines)
        else:
            document = _document(data, path)
            found = format or _kind(document, path)
            left_out = Counter[str]()
            entries = _READERS[found](document, name=str(path), written=written, left_out=left_out)
            yield Source(found, None, entries, left_out)


def _opened(path: Path) -> BufferedReader:
    with _readable(path):
        return path.open("rb")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """The border to the file system and to gzip."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:  # the latter two from a damaged gzip file
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path} cannot be read: {reason}") from error


def _unzipped(file: BufferedReader, path: Path) -> BufferedReader | gzip.GzipFile:
    start = file.peek(_LOOK)
    if start.startswith(_ZIP):
        raise InputError(f"{path} is a zip archive; unpack it and give the conversations.json in it")
    return gzip.GzipFile(fileobj=file) if start.startswith(_GZIP) else file


def _lines(data: BufferedReader | gzip.GzipFile, path: Path) -> Iterator[bytes]:
    with _readable(path):
        yield from data


def _document(data: BufferedReader | gzip.GzipFile, path: Path) -> list[Any]:
    with _readable(path):
        text = data.read()
    try:
        document = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON in UTF-8: {error}") from error
    if not isinstance(document, list):
        raise InputError(f"{path} must be a list of conversations, as in conversations.json of an export")
    return document


def _kind(document: list[Any], path: Path) -> Format:
    for conversation in document:
        if isinstance(conversation, dict):
            for key, kind in _MARKS.items():
                if key in conversation:
                    return kind
    raise InputError(
        f"{path} is a JSON list, but no export of ChatGPT or Claude: no conversation in it has {' or '.join(_MARKS)}. "
        "Entries of one's own are written one object a line, not as a list"
    )
