"""Entries, vectors and conditions as JSON objects, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.errors import EpisodicError, InputError
from llmspell_memory.operations.files.jsonl import as_moment, distinct, entry_fields, entry_object, packed, unpacked
from llmspell_memory.types import EmbeddingSpace, EpisodicEntry, Filter
from llmspell_memory.types.text import shortened

if TYPE_CHECKING:
    from collections.abc import Collection

    from llmspell_memory.types import Vector
    from llmspell_memory.types.changes import Identity

_CONDITIONS: Final = (
    *("session_id", "role", "since", "until", "known_by", "processed", "metadata", "namespace", "below", "expired"),
    "ids",
)
_MOMENTS: Final = ("since", "until", "known_by")
_ANY: Final = "any"
"""What `expired` is where it is None in a Filter: JSON's null means "not given" everywhere else."""


def read_object(data: bytes | str, *, name: str) -> dict[str, Any]:
    """Return the JSON object that is written in `data`.

    Raises:
        InputError: it is not JSON in UTF-8, not an object, or one with a key twice.
    """
    try:
        value = json.loads(data if isinstance(data, str) else data.decode(), object_pairs_hook=distinct)
    except RecursionError as error:
        raise InputError(f"{name} nests too deep") from error
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, and numbers too long to read
        raise InputError(f"{name} is not JSON in UTF-8: {error}") from error
    return as_object(value, name=name)


def as_object(value: object, *, name: str) -> dict[str, Any]:
    """Return `value` if it is a JSON object, else raise an InputError."""
    if not isinstance(value, dict):
        raise InputError(f"{name} must be a JSON object, got {type(value).__name__}")
    return value


def as_list(value: object, *, name: str) -> list[Any]:
    """Return `value` if it is a JSON array, else raise an InputError."""
    if not isinstance(value, list):
        raise InputError(f"{name} must be a JSON array, got {type(value).__name__}")
    return value


def checked_keys(given: dict[str, Any], known: Collection[str], *, name: str) -> dict[str, Any]:
    """Return what is given under known keys, without what is null.

    Raises:
        InputError: there is another key.
    """
    for key in given:
        if key not in known:
            raise InputError(f"{name} has no {shortened(key)}; it knows {', '.join(sorted(known))}")
    return {key: value for key, value in given.items() if value is not None}


def as_whole(value: Any) -> Any:
    """Return the integer that a JSON number is; JSON does not tell 20 from 20.0. Anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def entry_to(entry: EpisodicEntry, root: tuple[str, ...] = (), *, vector: bool = True) -> dict[str, Any]:
    """Return an entry as a JSON object, as seen from `root`."""
    told = entry_object(entry)
    if root:
        told["namespace"] = told["namespace"][len(root) :]
    if vector and entry.embedding is not None:
        told["embedding"] = packed(entry.embedding)
    return told


def entry_from(given: object, root: tuple[str, ...] = (), **defaults: Any) -> EpisodicEntry:
    """Return the entry that a JSON object describes, below `root`; what it leaves out is as in `EpisodicEntry`.

    Raises:
        InputError: a field is not acceptable.
    """
    entry = EpisodicEntry(**defaults | entry_fields(as_object(given, name="an entry")))
    return entry.changed(namespace=root + entry.namespace) if root else entry


def entries_from(given: object, root: tuple[str, ...] = ()) -> list[EpisodicEntry]:
    """Return the entries in a JSON array; an InputError says which is not acceptable."""
    entries = []
    for number, one in enumerate(as_list(given, name="entries")):
        try:
            entries.append(entry_from(one, root))
        except InputError as error:
            raise InputError(f"entries[{number}]: {error}") from error
    return entries


def filter_to(where: Filter) -> dict[str, Any]:
    """Return the conditions that are given as a JSON object."""
    told: dict[str, Any] = {
        name: value for name in ("session_id", "role", "processed") if (value := getattr(where, name)) is not None
    }
    told |= {name: moment.isoformat() for name in _MOMENTS if (moment := getattr(where, name)) is not None}
    if where.metadata:
        told["metadata"] = dict(where.metadata)
    if where.namespace:
        told["namespace"] = list(where.namespace)
    if not where.below:
        told["below"] = False
    if where.expired is not False:
        told["expired"] = where.expired or _ANY
    if where.ids is not None:
        told["ids"] = sorted(where.ids)
    return told


def filter_from(given: object, root: tuple[str, ...] = ()) -> Filter:
    """Return the filter that a JSON object describes, within `root`; None for no conditions.

    Raises:
        InputError: there is no such condition, or it is of the wrong kind.
    """
    if given is None:
        return Filter(namespace=root)
    fields = checked_keys(as_object(given, name="where"), _CONDITIONS, name="where")
    for name in _MOMENTS:
        if name in fields:
            fields[name] = as_moment(fields[name], name=name)
    if fields.get("expired") == _ANY:
        fields["expired"] = None
    if "ids" in fields:
        fields["ids"] = as_list(fields["ids"], name="ids")
    where = Filter(**fields)
    if root:
        object.__setattr__(where, "namespace", root + where.namespace)  # nobody else has it yet; its parts are checked
    return where


def vector_from(given: object) -> Vector | list[Any]:
    """Return the vector in a JSON value, to be checked by whoever takes it."""
    return unpacked(given)


def space_to(space: EmbeddingSpace) -> dict[str, Any]:
    """Return an embedding space as a JSON object."""
    return {name: getattr(space, name) for name in ("provider", "model", "dimensions", "metric")}


def space_from(given: object) -> EmbeddingSpace:
    """Return the embedding space that a JSON object describes.

    Raises:
        InputError: it describes none.
    """
    fields = as_object(given, name="space")
    try:
        checked_keys(fields, ("provider", "model", "dimensions", "metric"), name="space")
        if not isinstance(fields.get("provider"), str) or not isinstance(fields.get("model"), str | None):
            raise InputError("a space has a provider, which is a text, and a model, which is one or null")
        return EmbeddingSpace(**fields | {"dimensions": as_whole(fields.get("dimensions"))})
    except (EpisodicError, TypeError) as error:
        raise InputError(f"space: {error}") from error


def identity_to(identity: Identity, root: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what an entry is known by, as seen from `root`."""
    namespace, name = identity
    return {"namespace": list(namespace[len(root) :]), "id": name}
