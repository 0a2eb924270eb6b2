"""Calls of the server's words: what is sent for each, and how the answer is read; the same for both clients."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from urllib.parse import quote

from llmspell_memory.errors import InputError
from llmspell_memory.operations import ImportReport
from llmspell_memory.operations.files.jsonl import packed
from llmspell_memory.retrieval import Context, Ranking
from llmspell_memory.types import BackendStats, EpisodicEntry, Filter
from llmspell_memory.types.arrays import as_vector
from llmspell_memory.types.text import checked_moment, checked_text
from llmspell_memory.wire.figures import session_from, stats_from
from llmspell_memory.wire.searches import hit_from
from llmspell_memory.wire.values import entry_from, entry_to, filter_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from numpy.typing import ArrayLike

    from llmspell_memory.memory import OnDuplicate
    from llmspell_memory.types import Hit, SearchMode, SessionSummary

T = TypeVar("T")

_STATS: Final = frozenset(field.name for field in fields(BackendStats))


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request and how its answer is read.

    Attributes:
        method: of HTTP.
        path: below the server's address, quoted.
        read: makes the result of the answer's JSON object.
        body: a JSON object; None for none.
        query: parameters.
        writes: whether it changes anything, so that it gets an idempotency key.
        is_long: whether it may take as long as copying the store.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    body: dict[str, Any] | None = None
    query: Mapping[str, Any] | None = None
    writes: bool = False
    is_long: bool = False


def add_many(entries: Iterable[EpisodicEntry], *, on_duplicate: OnDuplicate = "keep") -> Call[list[str]]:
    """Store entries; those without a vector are embedded by the server."""
    told = [entry_to(entry) for entry in entries]
    body = {"entries": told, "on_duplicate": on_duplicate}
    return Call("POST", "/v1/entries", lambda got: list(got["ids"]), body, writes=True)


def get(entry_id: str, *, namespace: tuple[str, ...] = ()) -> Call[EpisodicEntry]:
    """Return an entry with its vector."""
    path = f"/v1/entries/{quote(checked_text(entry_id, name='entry_id'), safe='')}"
    return Call("GET", path, entry_from, query={"namespace": namespace, "vectors": "true"})


def search(
    query: str | ArrayLike,
    k: int = 10,
    *,
    where: Filter,
    mode: SearchMode | None = None,
    around: int = 0,
    parts: bool = False,
    ranking: Ranking | None = None,
) -> Call[list[Hit]]:
    """Return what answers a query best."""
    body = _sought(query) | {
        "k": k,
        "where": filter_to(where),
        "mode": mode,
        "around": around,
        "parts": parts,
        "ranking": _ranking(ranking),
    }
    return Call("POST", "/v1/search", lambda got: [hit_from(one) for one in got["hits"]], body)


def context(
    query: str | ArrayLike,
    *,
    budget_tokens: int,
    k: int = 20,
    where: Filter,
    mode: SearchMode | None = None,
    ranking: Ranking | None = None,
) -> Call[Context]:
    """Return what answers a query best as a text for a prompt."""
    body = _sought(query) | {
        "budget_tokens": budget_tokens,
        "k": k,
        "where": filter_to(where),
        "mode": mode,
        "ranking": _ranking(ranking),
    }
    return Call("POST", "/v1/context", _context, body)


def recent(n: int, *, where: Filter) -> Call[list[EpisodicEntry]]:
    """Return the newest entries that match, oldest first."""
    query = conditions(where) | {"limit": n, "newest": "true"}
    return Call("GET", "/v1/entries", lambda got: _entries(got)[::-1], query=query)


def get_session(session_id: str, *, namespace: tuple[str, ...] = ()) -> Call[list[EpisodicEntry]]:
    """Return a session's entries in the order they happened."""
    path = f"/v1/sessions/{quote(checked_text(session_id, name='session_id'), safe='')}"
    return Call("GET", path, _entries, query={"namespace": namespace})


def sessions(where: Filter) -> Call[list[SessionSummary]]:
    """Return one line per session with matching entries."""
    return Call(
        "GET", "/v1/sessions", lambda got: [session_from(one) for one in got["sessions"]], query=conditions(where)
    )


def mark_processed(ids: Iterable[str], *, namespace: tuple[str, ...] = ()) -> Call[int]:
    """Mark entries as processed."""
    if isinstance(ids, str):
        raise InputError("ids must be a collection of texts, got str")
    body = {"ids": list(ids), "namespace": list(namespace)}
    return Call("POST", "/v1/processed", lambda got: int(got["marked"]), body, writes=True)


def set_expiry(where: Filter, expires_at: datetime | None) -> Call[int]:
    """Have entries that match expire at a moment, or never when None."""
    moment = None if expires_at is None else checked_moment(expires_at, name="expires_at").isoformat()
    body = {"where": filter_to(where), "expires_at": moment}
    return Call("POST", "/v1/expiry", lambda got: int(got["changed"]), body, writes=True)


def delete(where: Filter, *, everything: bool = False) -> Call[int]:
    """Delete entries that match."""
    body = {"where": filter_to(where), "everything": everything}
    return Call("POST", "/v1/delete", lambda got: int(got["deleted"]), body, writes=True)


def forget(where: Filter, *, everything: bool = False) -> Call[int]:
    """Erase entries that match without a trace, and return how many they were."""
    body = {"where": filter_to(where), "everything": everything}
    return Call("POST", "/v1/forget", lambda got: int(got["entries"]), body, writes=True, is_long=True)


def stats() -> Call[BackendStats]:
    """Return the memory's figures."""
    return Call("GET", "/v1/stats", lambda got: stats_from({name: got[name] for name in _STATS & got.keys()}))


def read_report(got: dict[str, Any]) -> ImportReport:
    """Return what an import did."""
    return ImportReport(**got)


def _sought(query: str | ArrayLike) -> dict[str, Any]:
    return {"query": query} if isinstance(query, str) else {"vector": packed(as_vector(query))}


def _ranking(ranking: Ranking | None) -> dict[str, Any] | None:
    if ranking is None:
        return None
    if ranking.reranker is not None or ranking.dates is not None:
        raise InputError("a reranker and a reader of dates are this process's; a server cannot be given one")
    return {
        "half_life_seconds": None if ranking.half_life is None else ranking.half_life.total_seconds(),
        "recency": ranking.recency,
        "near_duplicates": ranking.near_duplicates,
        "mmr": ranking.mmr,
        "pool": ranking.pool,
        "now": None if ranking.now is None else ranking.now.isoformat(),
    }


def conditions(where: Filter) -> dict[str, Any]:
    """Return a filter as parameters of a query."""
    told = filter_to(where)
    if "metadata" in told:
        told["metadata"] = json.dumps(told["metadata"])
    if "ids" in told:
        told["id"] = told.pop("ids")
        if not told["id"]:
            raise InputError("an empty collection of ids lets nothing pass")
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in told.items()}


def _context(got: dict[str, Any]) -> Context:
    sources = tuple((tuple(one["namespace"]), one["id"]) for one in got["sources"])
    return Context(got["text"], sources, got["tokens"])


def _entries(got: dict[str, Any]) -> list[EpisodicEntry]:
    return [entry_from(one) for one in got["entries"]]
