"""What counts as acceptable text and an acceptable moment, decided once for every field and every backend."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from llmspell_memory.errors import InputError

_LINE: Final = 80


def checked_text(value: object, *, name: str) -> str:
    """Return `value` as a plain str when it is a text that every store can keep: not empty, no NUL, no lone surrogate.

    A subclass may compare and print as it likes, so of one its characters alone are taken.
    """
    if not isinstance(value, str):
        raise InputError(f"{name} must be a str, got {type(value).__name__}")
    if not value:
        raise InputError(f"{name} must not be empty")
    if "\0" in value:
        raise InputError(f"{name} must not contain NUL (found at character {value.index(chr(0))})")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} must not contain lone surrogates (found at character {error.start}); "
            "decode the source with errors='replace'"
        ) from error
    return value if type(value) is str else str.__str__(value)


def checked_moment(value: object, *, name: str) -> datetime:
    """Return an aware datetime in UTC.

    Raises:
        InputError: not a datetime, naive, or beyond the years 1 to 9999 in UTC.
    """
    if not isinstance(value, datetime):
        raise InputError(f"{name} must be a datetime, got {type(value).__name__}")
    if value.utcoffset() is None:
        raise InputError(f"{name} must be timezone-aware; use datetime.now(UTC) or .replace(tzinfo=UTC)")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise InputError(f"{name} lies outside the years 1 to 9999 in UTC") from error


def shortened(value: object) -> str:
    """Return the repr of `value` for a message, cut to a line's length."""
    text = repr(value)
    return text if len(text) <= _LINE else f"{text[: _LINE - 1]}…"


def checked_namespace(value: object, *, name: str = "namespace") -> tuple[str, ...]:
    """Return a tuple of text segments; a bare string is refused, as it would be taken apart into letters."""
    if isinstance(value, str) or not isinstance(value, tuple | list):
        raise InputError(f'{name} must be a tuple of texts such as ("acme", "alice"), got {type(value).__name__}')
    return tuple(checked_text(segment, name=f"a segment of {name}") for segment in value)


def bytes_told(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:  # noqa: PLR2004 (the unit's own)
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
