"""The verbs of a backend, one route each: what a client needs to be a backend itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.errors import ConfigError, InputError
from llmspell_memory.operations.keys import NOTE
from llmspell_memory.server.call import Call, answer, encoded
from llmspell_memory.server.streaming import Lines
from llmspell_memory.types.arrays import as_vector, checked_k
from llmspell_memory.types.text import checked_text
from llmspell_memory.wire.figures import changes_to, erased_to, hnsw_from, plain, session_to, stats_to
from llmspell_memory.wire.problems import problem_of
from llmspell_memory.wire.searches import as_flag, hits_to, query_from
from llmspell_memory.wire.values import (
    as_list,
    as_whole,
    entries_from,
    entry_to,
    filter_from,
    space_from,
    space_to,
    vector_from,
)

if TYPE_CHECKING:
    from starlette.responses import Response

    from llmspell_memory.types import EmbeddingSpace, EpisodicEntry, Filter, Vector

_OURS: Final = NOTE.partition(".")[0] + "."
"""How the names of notes begin that are the server's alone."""


def _where(call: Call, given: dict[str, Any]) -> Filter:
    return filter_from(given.get("where"), call.root)


def _space(given: dict[str, Any]) -> EmbeddingSpace | None:
    return space_from(given["space"]) if "space" in given else None


def _check_direction(call: Call, vector: Vector) -> None:
    """Refuse what `EpisodicMemory` refuses: backends leave it to the words, which a request may have gone around."""
    if call.backend.space.metric == "cosine" and not vector.any():
        raise InputError("a vector of zeros has no direction; the cosine metric cannot compare it")


def _check_fits(call: Call, vector: Vector, space: EmbeddingSpace | None) -> None:
    """Refuse a query's vector that cannot be compared; one of another space, the backend refuses better."""
    if space in (None, call.backend.space):
        as_vector(vector, dimensions=call.backend.space.dimensions)
        _check_direction(call, vector)


async def about(call: Call) -> Response:
    """Return what the store is: its space and its index."""
    call.query()
    return answer({"space": space_to(call.backend.space), "hnsw": plain(call.backend.hnsw)})


async def add(call: Call) -> Response:
    """Store entries with their vectors, all or none."""
    given = call.given("entries", "space", "skip_equal")
    entries = entries_from(call.checked_batch(as_list(given.get("entries"), name="entries")), call.root)
    for entry in entries:
        if entry.embedding is not None:  # what has none, or one of another width, the backend refuses
            _check_direction(call, entry.embedding)
    skip = as_flag(given.get("skip_equal", False), name="skip_equal")
    return answer({"ids": await call.work.run(call.backend.add, entries, space=_space(given), skip_equal=skip)})


async def scan(call: Call) -> Response:
    """Return matching entries with their vectors, a line each, and a last line that says that these were all."""
    given = call.given("where", "limit", "newest")
    limit = checked_k(as_whole(given["limit"])) if "limit" in given else None
    newest = as_flag(given.get("newest", False), name="newest")

    def line(entry: EpisodicEntry) -> bytes:
        return encoded(entry_to(entry, call.root)) + b"\n"

    return Lines(
        call.backend.scan(_where(call, given), limit=limit, newest=newest),
        line,
        last=lambda count: encoded({"end": count}) + b"\n",
        fault=lambda error: encoded({"problem": problem_of(error)}) + b"\n",
    )


async def search(call: Call) -> Response:
    """Return the entries nearest to a vector."""
    given = call.given("vector", "k", "where", "exact", "space")
    space = _space(given)
    vector = as_vector(vector_from(given.get("vector")))
    _check_fits(call, vector, space)
    hits = await call.quick(
        call.backend.search,
        vector,
        call.checked_k(given.get("k")),
        _where(call, given),
        exact=as_flag(given.get("exact", False), name="exact"),
        space=space,
    )
    return answer(hits_to(hits, call.root))


async def retrieve(call: Call) -> Response:
    """Return the entries that answer a query best."""
    given = call.given("query", "k", "where", "space")
    query = query_from(given.get("query"))
    call.checked_k(query.around, name="around")
    space = _space(given)
    if query.vector is not None:
        _check_fits(call, query.vector, space)
    hits = await call.quick(
        call.backend.retrieve, query, call.checked_k(given.get("k")), _where(call, given), space=space
    )
    return answer(hits_to(hits, call.root))


async def named_roles(call: Call) -> Response:
    """Return which words are roles."""
    given = call.given("words", "where")
    words = [checked_text(one, name="a word") for one in as_list(given.get("words"), name="words")]
    return answer({"roles": await call.quick(call.backend.named_roles, words, _where(call, given))})


async def changes(call: Call) -> Response:
    """Return what happened to rows after a number."""
    given = call.given("since", "limit")
    limit = call.checked_k(given.get("limit", min(512, call.settings.batch)), name="limit", most=call.settings.batch)
    since = checked_k(as_whole(given.get("since")))
    if not limit or since > 2**63 - 1:
        raise InputError("limit must be at least 1, and since below 2**63")
    return answer(changes_to(await asyncio.to_thread(call.backend.changes, since, limit=limit), call.root))


async def read_note(call: Call) -> Response:
    """Return a note about the store."""
    name = _note_name(call.given("name"))
    return answer({"text": await asyncio.to_thread(call.backend.read_note, name)})


async def write_note(call: Call) -> Response:
    """Keep a note about the store."""
    given = call.given("name", "text")
    name, text = _note_name(given), given.get("text")
    if text is not None:
        text = text and checked_text(text, name="text")
    await call.work.run(call.backend.write_note, name, text)
    return answer({})


def _note_name(given: dict[str, Any]) -> str:
    name = checked_text(given.get("name"), name="name")
    if name.startswith(_OURS):
        raise ConfigError(f"notes that begin with {_OURS!r} are the server's own")
    return name


async def mark_processed(call: Call) -> Response:
    """Mark what matches."""
    return answer({"marked": await call.work.run(call.backend.mark_processed, _where(call, call.given("where")))})


async def set_expiry(call: Call) -> Response:
    """Have what matches expire at another moment."""
    where = _where(call, call.given("where", "expires_at"))
    return answer({"changed": await call.work.run(call.backend.set_expiry, where, call.expiry())})


async def delete(call: Call) -> Response:
    """Delete what matches."""
    return answer({"deleted": await call.work.run(call.backend.delete, _where(call, call.given("where")))})


async def forget(call: Call) -> Response:
    """Delete what matches and leave no trace of it."""
    erased = await call.work.run(call.backend.forget, _where(call, call.given("where")))
    return answer({"erased": [erased_to(one, call.root) for one in erased]})


async def count(call: Call) -> Response:
    """Return how many entries match."""
    return answer({"count": await asyncio.to_thread(call.backend.count, _where(call, call.given("where")))})


async def sessions(call: Call) -> Response:
    """Return one line per session with matching entries."""
    found = await asyncio.to_thread(call.backend.sessions, _where(call, call.given("where")))
    return answer({"sessions": [session_to(line, call.root) for line in found]})


async def configure(call: Call) -> Response:
    """Change the view."""
    given = call.given("hnsw", "rebuild")
    rebuild = as_flag(given.get("rebuild", False), name="rebuild")
    await call.work.run(call.backend.configure, hnsw_from(given.get("hnsw")), rebuild=rebuild)
    if call.manager.recall is not None:
        call.manager.recall.reset()
    return answer({})


async def stats(call: Call) -> Response:
    """Return the backend's figures."""
    call.given()
    return answer(stats_to(await asyncio.to_thread(call.backend.stats), call.root))
