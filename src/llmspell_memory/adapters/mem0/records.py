"""How a memory of mem0's kind is written as an entry, and what is told of it."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta
from hashlib import md5
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.adapters.mem0.scopes import IDS
from llmspell_memory.errors import InputError
from llmspell_memory.types import EpisodicEntry, json, new_id
from llmspell_memory.types.text import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from llmspell_memory.types.json import JSON

_log = logging.getLogger("llmspell_memory.adapters.mem0")

_GIVEN: Final = "metadata"
_CHANGES: Final = "changes"
_UPDATED: Final = "updated_at"
_EXPIRES: Final = "expiration_date"
_ACTOR: Final = "actor_id"


def said(messages: object) -> Iterator[tuple[str, str, str | None]]:
    """Yield role, text and name of what is to be remembered of messages.

    Left out are a system's messages and those without text, such as calls of tools.

    Raises:
        InputError: they are no text, mapping or list of mappings, or one has no role.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    for one in [messages] if isinstance(messages, dict) else _listed(messages):
        if not isinstance(one, dict) or not isinstance(one.get("role"), str):
            raise InputError(f'a message must be a dict with "role" and "content", got {shortened(one)}')
        text = _text(one.get("content"))
        if text.strip() and one["role"] != "system":
            yield one["role"], text, one.get("name") or None


def entry_of(
    text: str,
    role: str,
    *,
    scope: Mapping[str, JSON],
    namespace: tuple[str, ...],
    now: datetime,
    actor: str | None,
    given: Mapping[str, Any] | None,
    expires: date | None,
) -> EpisodicEntry:
    """Return a new memory's entry.

    Raises:
        InputError: the text, the role or the metadata is not acceptable.
    """
    metadata: dict[str, Any] = {**scope, _GIVEN: without_ids(given or {}), _UPDATED: now.isoformat(), _CHANGES: []}
    if actor is not None:
        metadata[_ACTOR] = actor
    if expires is not None:
        metadata[_EXPIRES] = expires.isoformat()
    return EpisodicEntry(
        " ".join(f"{name}={scope[name]}" for name in IDS if name in scope),
        role,
        text,
        id=new_id(),
        namespace=namespace,
        timestamp=now,
        metadata=metadata,
        expires_at=_moment(expires),
    )


def changed(
    entry: EpisodicEntry,
    *,
    text: str | None,
    given: Mapping[str, Any] | None,
    expires: date | None,
    keep_expiry: bool,
) -> EpisodicEntry:
    """Return an entry as it is after an update: same id, same owner, same day of birth."""
    now, new = datetime.now(UTC).isoformat(), entry.content if text is None else text
    metadata: dict[str, Any] = dict(entry.metadata)
    metadata[_GIVEN] = {**metadata[_GIVEN], **without_ids(given or {}, owned=fields_of(entry))}
    metadata[_UPDATED] = now
    metadata[_CHANGES] = [*metadata[_CHANGES], {"old": entry.content, "new": new, "at": now}]
    if not keep_expiry:
        metadata.pop(_EXPIRES, None)
        metadata |= {} if expires is None else {_EXPIRES: expires.isoformat()}
    return EpisodicEntry(
        entry.session_id,
        entry.role,
        new,
        id=entry.id,
        namespace=entry.namespace,
        timestamp=entry.timestamp,
        metadata=metadata,
        expires_at=entry.expires_at if keep_expiry else _moment(expires),
        processed=entry.processed and new == entry.content,
    )


def fields_of(entry: EpisodicEntry) -> dict[str, JSON]:
    """Return what filters look at: the metadata given, whose it is, and who said it."""
    given = entry.metadata[_GIVEN]
    kept = {name: entry.metadata[name] for name in (*IDS, _ACTOR, _EXPIRES) if name in entry.metadata}
    return {**(given if isinstance(given, dict) else {}), **kept, "role": entry.role}


def told(entry: EpisodicEntry) -> dict[str, Any]:
    """Return what is told of a memory."""
    fields: dict[str, Any] = {
        "id": entry.id,
        "memory": entry.content,
        "hash": md5(entry.content.encode(), usedforsecurity=False).hexdigest(),
        "metadata": json.copied(entry.metadata[_GIVEN]) or None,
        "created_at": entry.timestamp.isoformat(),
        "updated_at": entry.metadata[_UPDATED],
    }
    fields |= {name: entry.metadata[name] for name in IDS if name in entry.metadata}
    fields |= {name: entry.metadata[name] for name in (_ACTOR, _EXPIRES) if name in entry.metadata}
    return fields | {"role": entry.role}


def history_of(entry: EpisodicEntry) -> list[dict[str, Any]]:
    """Return how a memory came to be what it is, oldest first."""
    changes: Any = entry.metadata[_CHANGES]
    created = entry.timestamp.isoformat()
    first = {"old": None, "new": changes[0]["old"] if changes else entry.content, "at": created}
    return [
        {
            "id": f"{entry.id}-{n}",
            "memory_id": entry.id,
            "old_memory": one["old"],
            "new_memory": one["new"],
            "event": "UPDATE" if n else "ADD",
            "created_at": created,
            "updated_at": one["at"],
            "is_deleted": False,
            "actor_id": entry.metadata.get(_ACTOR),
            "role": entry.role,
        }
        for n, one in enumerate([first, *changes])
    ]


def day(value: object) -> date | None:
    """Return the last day on which a memory is seen, None for ever.

    Raises:
        InputError: it is no date.
    """
    if isinstance(value, datetime):
        return value.date()
    if value is None or isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)  # type: ignore[arg-type]  # a TypeError is handled
    except (TypeError, ValueError) as error:
        raise InputError(f"expiration_date must be a date as YYYY-MM-DD, got {shortened(value)}") from error


def without_ids(given: Mapping[str, Any], owned: Mapping[str, JSON] | None = None) -> dict[str, JSON]:
    """Return metadata without what says whose a memory is: that is said by the arguments alone, and never changes."""
    checked = json.checked_object(given, name="metadata")
    for name in (*IDS, _ACTOR):
        if name in checked and checked.pop(name) != (owned or {}).get(name):
            _log.warning("metadata[%r] is left out: whose a memory is, the arguments of add() say", name)
    return checked


def _moment(last: date | None) -> datetime | None:
    try:
        return None if last is None else datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    except OverflowError:
        return None  # the last day there is


def _listed(messages: object) -> list[object]:
    if not isinstance(messages, list):
        raise InputError(f"messages must be a str, a dict or a list of dicts, got {type(messages).__name__}")
    return messages


def _text(content: object) -> str:
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
