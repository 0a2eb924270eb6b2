"""Figures as JSON objects, and back: sessions, changes, receipts, what a store tells of itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmspell_memory.types import (
    BackendStats,
    EntryCount,
    Erased,
    HNSWConfig,
    IndexStats,
    LatencyStats,
    RowChanges,
    SessionSummary,
    SpaceCount,
)
from llmspell_memory.wire.values import as_object, as_whole, checked_keys, entry_from, entry_to, identity_to, space_from

if TYPE_CHECKING:
    from llmspell_memory.types import MemoryStats


def plain(value: Any) -> Any:
    """Return a frozen value as JSON: dataclasses and mappings as objects, tuples as arrays, moments as texts."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def session_to(line: SessionSummary, root: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a session's line as seen from `root`."""
    return plain(dataclasses.replace(line, namespace=line.namespace[len(root) :]))  # type: ignore[no-any-return]


def session_from(given: dict[str, Any]) -> SessionSummary:
    """Return the line that a JSON object describes."""
    moments = {name: datetime.fromisoformat(given[name]) for name in ("first", "last")}
    return SessionSummary(**given | moments | {"namespace": tuple(given["namespace"])})


def changes_to(changes: RowChanges, root: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what happened to rows, as seen from `root`."""
    return {
        "reached": changes.reached,
        "put": [entry_to(entry, root) for entry in changes.put],
        "gone": [identity_to(one, root) for one in changes.gone],
        "forgotten": changes.forgotten,
    }


def changes_from(given: dict[str, Any]) -> RowChanges:
    """Return the changes that a JSON object describes."""
    return RowChanges(
        reached=given["reached"],
        put=tuple(entry_from(one) for one in given["put"]),
        gone=tuple((tuple(one["namespace"]), one["id"]) for one in given["gone"]),
        forgotten=given["forgotten"],
    )


def erased_to(one: Erased, root: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return an entry that was erased, as seen from `root`."""
    return one._asdict() | {"namespace": list(one.namespace[len(root) :])}


def erased_from(given: dict[str, Any]) -> Erased:
    """Return the erased entry that a JSON object describes."""
    return Erased(**given | {"namespace": tuple(given["namespace"])})


def stats_to(stats: BackendStats | MemoryStats, root: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a store's figures as seen from `root`; where its file is, is the server's own matter."""
    told: dict[str, Any] = plain(stats)
    del told["path"]
    for name in ("largest_namespaces", "largest_sessions"):
        for one in told[name]:
            one["namespace"] = one["namespace"][len(root) :]
    return told


def stats_from(given: dict[str, Any]) -> BackendStats:
    """Return the figures of a backend that a JSON object describes."""
    counts = {
        name: tuple(EntryCount(**one | {"namespace": tuple(one["namespace"])}) for one in given[name])
        for name in ("largest_namespaces", "largest_sessions")
    }
    index = given["index"]
    return BackendStats(
        **given
        | counts
        | {
            "path": None,
            "space": space_from(given["space"]),
            "index": IndexStats(**index | {"config": hnsw_from(index["config"])}),
            "beside": tuple(
                SpaceCount(space=space_from(one["space"]), vectors=one["vectors"]) for one in given["beside"]
            ),
            "timings": {name: _latency(one) for name, one in given["timings"].items()},
        }
    )


def _latency(given: dict[str, Any]) -> LatencyStats:
    return LatencyStats(**given | {"buckets": tuple((bound, count) for bound, count in given["buckets"])})


def hnsw_from(given: object) -> HNSWConfig | None:
    """Return the index parameters that a JSON object describes; None for none.

    Raises:
        InputError: there is no such parameter; a ConfigError where one is out of its range.
    """
    if given is None:
        return None
    names = [field.name for field in dataclasses.fields(HNSWConfig)]
    fields = checked_keys(as_object(given, name="hnsw"), names, name="hnsw")
    return HNSWConfig(**{name: as_whole(value) for name, value in fields.items()})
