"""How an item of a session of the Agents SDK is written as an entry, and read back.

The item stands in the metadata as JSON text, which gives back whatever JSON can hold, NUL characters and the order of
keys among it. The content is what was said. Items that say nothing (calls of tools, what these return, reasoning) are
named by their content, marked as processed, and not looked for: else a search would find the answers of searches.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.errors import CorruptDataError, InputError
from llmspell_memory.types import EpisodicEntry, new_id
from llmspell_memory.types.text import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from llmspell_memory.types.json import JSON

OF: Final[dict[str, JSON]] = {"of": "openai-agents"}
"""What the metadata of every item's entry holds."""

SAID: Final[dict[str, JSON]] = {**OF, "said": True}
"""What that of every message's entry holds."""

_ITEM: Final = "item"


def entries_of(
    items: Sequence[Any], session_id: str, *, namespace: tuple[str, ...], now: datetime
) -> list[EpisodicEntry]:
    """Return entries of items that were added together: of one moment, in the order of their ids.

    Raises:
        InputError: an item is not an object of JSON.
    """
    batch = new_id()
    return [
        _entry(item, session_id, entry_id=f"{batch}-{n:09d}", namespace=namespace, now=now)
        for n, item in enumerate(items)
    ]


def item_of(entry: EpisodicEntry) -> Any:
    """Return the item that an entry holds.

    Raises:
        CorruptDataError: it holds none.
    """
    try:
        return json.loads(entry.metadata[_ITEM])  # type: ignore[arg-type]  # a TypeError is handled
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptDataError(f"the entry {shortened(entry.id)} holds no item of a session") from error


def _entry(item: Any, session_id: str, *, entry_id: str, namespace: tuple[str, ...], now: datetime) -> EpisodicEntry:
    if not isinstance(item, dict):
        raise InputError(f"an item must be a dict, as the SDK's input items are, got {type(item).__name__}")
    try:
        written = json.dumps(item)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"an item must be JSON: {error}") from error
    said = _said(item)
    return EpisodicEntry(
        session_id,
        _role(item),
        said or _name(item),
        id=entry_id,
        namespace=namespace,
        timestamp=now,
        metadata={**OF, "said": bool(said), "kind": _kind(item), _ITEM: written},
        processed=not said,
    )


def _kind(item: Mapping[str, Any]) -> str:
    return _clean(item.get("type") or "message")


def _role(item: Mapping[str, Any]) -> str:
    kind = _kind(item)
    return _clean(item.get("role")) or ("tool" if kind.endswith("_output") else "assistant")


def _name(item: Mapping[str, Any]) -> str:
    """Return what an item is called that says nothing."""
    names = [_clean(item.get(key)) for key in ("name", "call_id", "id")]
    return " ".join(name for name in (_kind(item) or "item", *names) if name)


def _said(item: Mapping[str, Any]) -> str:
    """Return the text of a message, "" for one without, and for all else."""
    if _kind(item) != "message":
        return ""
    content = item.get("content")
    if not isinstance(content, list):
        return _clean(content)
    parts = [part.get("text") or part.get("refusal") for part in content if isinstance(part, dict)]
    return "\n".join(text for part in parts if (text := _clean(part)))


def _clean(text: object) -> str:
    """Return a text as every store can keep it, "" for what is none or blank."""
    if not isinstance(text, str):
        return ""
    kept = text.replace("\0", " ").encode(errors="replace").decode()
    return kept if kept.strip() else ""
