"""What the readers of chat exports share: checked access to a foreign document."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.errors import EpisodicError, InputError
from llmspell_memory.types import EpisodicEntry

if TYPE_CHECKING:
    from collections.abc import Iterator

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def conversations(document: list[Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every conversation with the words that name it in a message.

    Raises:
        InputError: an element is not an object.
    """
    for number, conversation in enumerate(document, start=1):
        where = f"{name}, conversation {number}"
        if not isinstance(conversation, dict):
            raise InputError(f"{where} is not an object")
        yield where, conversation


def part(fields: dict[str, Any], key: str, kind: type[Any], where: str) -> Any:
    """Return `fields[key]` of that kind, an empty one where the key is missing or null.

    Raises:
        InputError: it is of another kind.
    """
    value = fields.get(key)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise InputError(f"{where}: {key} must be a {kind.__name__}, got {type(value).__name__}")
    return value


def objects(fields: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    """Return `fields[key]`, a list of objects; [] where the key is missing or null.

    Raises:
        InputError: it is something else.
    """
    values: list[Any] = part(fields, key, list, where)
    if not all(isinstance(value, dict) for value in values):
        raise InputError(f"{where}: {key} must hold objects only")
    return values


def clean(text: str) -> str:
    """Return `text` without what no store can keep: NUL and lone surrogates become U+FFFD.

    Nobody can be asked to mend an export by hand, and tools print such characters now and then.
    """
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def epoch(seconds: object, *, where: str) -> datetime | None:
    """Return the moment so many seconds after 1970; None for a missing one.

    Raises:
        InputError: not a number, or beyond the years 1 to 9999.
    """
    if seconds is None:
        return None
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        try:
            return _EPOCH + timedelta(seconds=seconds)  # Windows's own calendar begins in 1970
        except (ValueError, OverflowError):
            pass
    raise InputError(f"{where}: a time must be seconds since 1970, got {str(seconds)[:40]}")


def entry_of(where: str, **fields: Any) -> EpisodicEntry:
    """Return an entry; what is wrong with a field is told with the place it stands at."""
    try:
        return EpisodicEntry(**fields)
    except EpisodicError as error:
        raise InputError(f"{where}: {error}") from error
