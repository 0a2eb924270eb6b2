"""Every operation of the server, once: what the routes are made of, and the OpenAPI document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.server import verbs, words
from llmspell_memory.server.page import looking

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.responses import Response

    from llmspell_memory.server.call import Call
    from llmspell_memory.server.gate import Need

_FILTER: Final = (
    *("session_id", "role", "since", "until", "known_by", "processed", "metadata", "namespace", "below", "expired"),
    "id",
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that the server does.

    Attributes:
        name: OpenAPI's operationId.
        method: of HTTP.
        path: where, with `{id}` for what stands there.
        need: what the caller needs.
        run: does it.
        summary: a line about it.
        parameters: of the query.
        example: of the body.
        lines: whether the answer is lines of JSON.
        status: of an answer to what was done.
    """

    name: str
    method: str
    path: str
    need: Need
    run: Callable[[Call], Awaitable[Response]]
    summary: str
    parameters: tuple[str, ...] = ()
    example: dict[str, Any] | None = None
    lines: bool = False
    status: int = 200

    @property
    def takes_body(self) -> bool:
        """Whether it takes a JSON object; an import takes a file instead."""
        return self.method == "POST" and self.name != "importEntries"

    @property
    def repeats(self) -> bool:
        """Whether an idempotency key has a meaning."""
        return self.takes_body and self.need != "read"


_WHERE: Final = {"where": {"session_id": "session-1"}}
_ENTRY: Final = {"session_id": "session-1", "role": "user", "content": "My dog is called Ada."}

WORDS: Final = (
    Operation(
        "addEntries", "POST", "/v1/entries", "write", words.add_entries,
        "Store entries, all or none; those without a vector are embedded",
        example={"entries": [_ENTRY]}, status=201,
    ),
    Operation(
        "listEntries", "GET", "/v1/entries", "read", words.list_entries,
        "List entries that match, in the order they happened",
        (*_FILTER, "limit", "newest", "vectors"),
    ),
    Operation(
        "getEntry", "GET", "/v1/entries/{id}", "read", words.get_entry,
        "Return the entry of an id: of the namespace itself, or the only one below it",
        ("namespace", "vectors"),
    ),
    Operation(
        "deleteEntry", "DELETE", "/v1/entries/{id}", "write", words.delete_entry,
        "Delete the entry of an id in the namespace itself",
        ("namespace",),
    ),
    Operation(
        "search", "POST", "/v1/search", "read", words.search,
        "Return what answers a query best, best first",
        example={"query": "what is my dog called?", "k": 3},
    ),
    Operation(
        "context", "POST", "/v1/context", "read", words.context,
        "Return what answers a query best as a text for a prompt",
        example={"query": "what is my dog called?", "budget_tokens": 500},
    ),
    Operation(
        "listSessions", "GET", "/v1/sessions", "read", words.list_sessions,
        "List sessions that have entries which match, latest activity first",
        _FILTER,
    ),
    Operation(
        "getSession", "GET", "/v1/sessions/{id}", "read", words.get_session,
        "Return a session's entries in the order they happened; none for an unknown one",
        ("namespace", "vectors"),
    ),
    Operation(
        "markProcessed", "POST", "/v1/processed", "write", words.mark_processed,
        "Mark entries as processed", example={"ids": ["an-id"]},
    ),
    Operation(
        "setExpiry", "POST", "/v1/expiry", "write", words.set_expiry,
        "Have entries that match expire at a moment, or never where that is null",
        example={"where": {"session_id": "session-1"}, "expires_at": "2030-01-01T00:00:00+00:00"},
    ),
    Operation(
        "deleteEntries", "POST", "/v1/delete", "write", words.delete_entries,
        "Delete entries that match; without a condition, `everything` must be true", example=_WHERE,
    ),
    Operation(
        "forgetEntries", "POST", "/v1/forget", "write", words.forget_entries,
        "Erase entries that match without a trace, and return a receipt", example=_WHERE,
    ),
    Operation("stats", "GET", "/v1/stats", "read", words.stats, "Return figures about the memory"),
    Operation(
        "exportEntries", "GET", "/v1/export", "read", words.export,
        "Return matching entries in the library's file format, JSON Lines", (*_FILTER, "vectors"), lines=True,
    ),
    Operation(
        "importEntries", "POST", "/v1/import", "write", words.import_,
        "Store the entries of a file in that format, and pass over what is there already",
        ("on_duplicate", "reembed"),
    ),
)  # fmt: skip
"""What people and programs use."""

_VECTOR: Final = {"dtype": "float32", "data": "…"}


def _verb(
    name: str, need: Need, run: Callable[[Call], Awaitable[Response]], summary: str, *, lines: bool = False
) -> Operation:
    camel = "".join(part.capitalize() for part in name.split("-"))
    return Operation(f"backend{camel}", "POST", f"/v1/backend/{name}", need, run, summary, lines=lines)


VERBS: Final = (
    Operation("backendAbout", "GET", "/v1/backend", "read", verbs.about, "Return the store's space and index"),
    _verb("add", "write", verbs.add, "Store entries with their vectors, all or none"),
    _verb("scan", "read", verbs.scan, "Return entries with their vectors, and a last line that ends them", lines=True),
    _verb("search", "read", verbs.search, "Return the entries nearest to a vector"),
    _verb("retrieve", "read", verbs.retrieve, "Return the entries that answer a query, prepared by the client"),
    _verb("named-roles", "read", verbs.named_roles, "Return which words name a role"),
    _verb("changes", "read", verbs.changes, "Return what happened to rows after a sequence number"),
    _verb("read-note", "read", verbs.read_note, "Return a note about the store"),
    _verb("write-note", "whole", verbs.write_note, "Keep a note about the store"),
    _verb("mark-processed", "write", verbs.mark_processed, "Mark what matches as processed"),
    _verb("set-expiry", "write", verbs.set_expiry, "Have what matches expire at another moment"),
    _verb("delete", "write", verbs.delete, "Delete what matches"),
    _verb("forget", "write", verbs.forget, "Erase what matches, and return what it was"),
    _verb("count", "read", verbs.count, "Return how many entries match"),
    _verb("sessions", "read", verbs.sessions, "Return one line per session"),
    _verb("configure", "whole", verbs.configure, "Change the index"),
    _verb("stats", "read", verbs.stats, "Return the backend's figures"),
)
"""The verbs of `EpisodicBackend`, which the client is made of."""

LOOKS: Final = (
    Operation("caller", "GET", "/v1/caller", "read", looking.caller, "Return what the key may do, and the limits"),
    Operation(
        "map", "GET", "/v1/map", "read", looking.map_,
        "Return a sample of the latest entries, each with its place on a map in two dimensions", (*_FILTER, "limit"),
    ),
    Operation(
        "measureCurve", "POST", "/v1/tuning/curve", "whole", looking.curve,
        "Measure recall against latency over values of ef_search, which takes seconds; nothing is changed",
    ),
    Operation(
        "setEfSearch", "POST", "/v1/tuning/ef-search", "whole", looking.set_ef_search,
        "Have searches keep another number of candidates, from the next one on",
    ),
)  # fmt: skip
"""What the page asks for beside those."""
