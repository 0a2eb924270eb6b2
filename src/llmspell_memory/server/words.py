"""The words of memory as resources: entries, search, context, sessions, export and import."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool

from llmspell_memory.errors import InputError
from llmspell_memory.memory import checked_on_duplicate
from llmspell_memory.operations import fitting, import_entries
from llmspell_memory.operations.files.formats import Source
from llmspell_memory.operations.files.jsonl import Lines as FileLines
from llmspell_memory.operations.files.jsonl import as_moment, dumped, header_line
from llmspell_memory.retrieval import Ranking
from llmspell_memory.server.call import Call, answer, chunks_of, flag, whole
from llmspell_memory.server.refusal import Refusal
from llmspell_memory.server.repeats import made_id
from llmspell_memory.server.streaming import MEDIA_TYPE, Lines
from llmspell_memory.types import Filter
from llmspell_memory.wire.figures import plain, session_to, stats_to
from llmspell_memory.wire.searches import as_flag, hits_to
from llmspell_memory.wire.values import (
    as_list,
    as_object,
    as_whole,
    checked_keys,
    entries_from,
    entry_to,
    filter_from,
    identity_to,
    read_object,
    vector_from,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from llmspell_memory.types import EpisodicEntry

CONDITIONS: Final = ("session_id", "role", "since", "until", "known_by", "processed", "metadata", "below", "expired")
SEVERAL: Final = ("namespace", "id")
_SEARCH: Final = ("query", "vector", "k", "where", "mode", "around", "parts", "ranking", "vectors")
_CONTEXT: Final = ("query", "vector", "budget_tokens", "k", "where", "mode", "ranking")
_RANKING: Final = ("half_life_seconds", "recency", "near_duplicates", "mmr", "pool", "now")
_LISTED: Final = 100
_HITS: Final = 10
_TRIED: Final = 20


def conditions(query: dict[str, Any], root: tuple[str, ...]) -> Filter:
    """Return the filter that parameters of a query make."""
    told: dict[str, Any] = {name: query[name] for name in (*CONDITIONS, "namespace") if name in query}
    for name in ("processed", "below"):
        if name in told:
            told[name] = flag(told[name], name=name)
    if told.get("expired", "any") != "any":
        told["expired"] = flag(told["expired"], name="expired")
    if "metadata" in told:
        told["metadata"] = read_object(told["metadata"], name="metadata")
    if "id" in query:
        told["ids"] = query["id"]
    return filter_from(told, root)


async def add_entries(call: Call) -> Response:
    """Store entries, all or none."""
    given = call.given("entries", "on_duplicate")
    entries = as_list(given.get("entries"), name="entries")
    call.checked_batch(entries)
    if call.idempotency_key is not None:
        for number, one in enumerate(entries):
            if isinstance(one, dict):
                one.setdefault("id", made_id(call.caller.id, call.idempotency_key, number))
    on_duplicate = checked_on_duplicate(given.get("on_duplicate", "keep"))
    ids = await call.memory.add_many(entries_from(entries, call.root), on_duplicate=on_duplicate)
    return answer({"ids": ids}, 201)


async def list_entries(call: Call) -> Response:
    """Return entries that match, in the order they happened."""
    query = call.query(*CONDITIONS, "limit", "newest", "vectors", several=SEVERAL)
    where = conditions(query, call.root)
    limit = whole(query["limit"], name="limit") if "limit" in query else min(_LISTED, call.settings.batch)
    limit = call.checked_k(limit, name="limit", most=call.settings.batch)
    newest = flag(query.get("newest", "false"), name="newest")
    found = await asyncio.to_thread(lambda: list(call.backend.scan(where, limit=limit, newest=newest)))
    return answer(_listed(call, found, query))


def _listed(call: Call, entries: list[EpisodicEntry], query: dict[str, Any]) -> dict[str, Any]:
    vectors = flag(query.get("vectors", "false"), name="vectors")
    return {"entries": [entry_to(one, call.root, vector=vectors) for one in entries]}


async def get_entry(call: Call) -> Response:
    """Return the entry of an id."""
    query = call.query("vectors", several=("namespace",))
    vectors = flag(query.get("vectors", "false"), name="vectors")
    entry = await call.memory.get(call.request.path_params["id"], namespace=_namespace(call, query))
    return answer(entry_to(entry, call.root, vector=vectors))


def _namespace(call: Call, given: dict[str, Any]) -> tuple[str, ...]:
    return (*call.root, *Filter(namespace=given.get("namespace", ())).namespace)


async def delete_entry(call: Call) -> Response:
    """Delete the entry of an id in the namespace itself, and tell how many that were."""
    query = call.query(several=("namespace",))
    where = Filter(
        ids=frozenset([call.request.path_params["id"]]), namespace=_namespace(call, query), below=False, expired=None
    )
    return answer({"deleted": await call.memory.delete(where)})


async def delete_entries(call: Call) -> Response:
    """Delete entries that match."""
    given = call.given("where", "everything")
    everything = as_flag(given.get("everything", False), name="everything")
    return answer(
        {"deleted": await call.memory.delete(filter_from(given.get("where"), call.root), everything=everything)}
    )


async def forget_entries(call: Call) -> Response:
    """Erase entries that match for good, and return a receipt."""
    given = call.given("where", "everything")
    everything = as_flag(given.get("everything", False), name="everything")
    receipt = await call.memory.forget(filter_from(given.get("where"), call.root), everything=everything)
    told = {name: plain(getattr(receipt, name)) for name in ("entries", "sessions", "texts", "began", "finished")}
    return answer(told | {"ids": [identity_to(one, call.root) for one in receipt.ids]})


async def mark_processed(call: Call) -> Response:
    """Mark entries as processed."""
    given = call.given("ids", "namespace")
    ids = as_list(given.get("ids"), name="ids")
    return answer({"marked": await call.memory.mark_processed(ids, namespace=_namespace(call, given))})


async def set_expiry(call: Call) -> Response:
    """Have entries that match expire at another moment."""
    given = call.given("where", "expires_at")
    where = filter_from(given.get("where"), call.root)
    return answer({"changed": await call.memory.set_expiry(where, call.expiry())})


def _sought(given: dict[str, Any]) -> Any:
    """Return what is looked for: a text or a vector."""
    if ("query" in given) == ("vector" in given):
        raise InputError("give either query, a text, or vector")
    if "vector" in given:
        return vector_from(given["vector"])
    if not isinstance(given["query"], str):
        raise InputError(f"query must be a text, got {type(given['query']).__name__}")
    return given["query"]


def _ranking(given: object) -> Ranking | None:
    if given is None:
        return None
    fields = checked_keys(as_object(given, name="ranking"), _RANKING, name="ranking")
    if "now" in fields:
        fields["now"] = as_moment(fields["now"], name="now")
    if "half_life_seconds" in fields:
        seconds = fields.pop("half_life_seconds")
        try:
            fields["half_life"] = timedelta(seconds=seconds)
        except (TypeError, OverflowError) as error:
            raise InputError(f"half_life_seconds must be a positive number, got {seconds!r}") from error
    return Ranking(**{name: as_whole(value) if name == "pool" else value for name, value in fields.items()})


async def search(call: Call) -> Response:
    """Return what answers a query best."""
    given = call.given(*_SEARCH)
    hits = await call.memory.search(
        _sought(given),
        call.checked_k(given.get("k", _HITS)),
        where=filter_from(given.get("where"), call.root),
        mode=given.get("mode"),
        around=call.checked_k(given.get("around", 0), name="around"),
        parts=as_flag(given.get("parts", False), name="parts"),
        ranking=_ranking(given.get("ranking")),
    )
    return answer(hits_to(hits, call.root, vector=as_flag(given.get("vectors", False), name="vectors")))


async def context(call: Call) -> Response:
    """Return what answers a query best as a text for a prompt."""
    given = call.given(*_CONTEXT)
    found = await call.memory.context(
        _sought(given),
        budget_tokens=as_whole(given.get("budget_tokens")),
        k=call.checked_k(given.get("k", _TRIED)),
        where=filter_from(given.get("where"), call.root),
        mode=given.get("mode"),
        ranking=_ranking(given.get("ranking")),
    )
    sources = [identity_to(one, call.root) for one in found.sources]
    return answer({"text": found.text, "tokens": found.tokens, "sources": sources})


async def list_sessions(call: Call) -> Response:
    """Return one line per session with matching entries."""
    where = conditions(call.query(*CONDITIONS, several=SEVERAL), call.root)
    return answer({"sessions": [session_to(line, call.root) for line in await call.memory.sessions(where)]})


async def get_session(call: Call) -> Response:
    """Return a session's entries in the order they happened."""
    query = call.query("vectors", several=("namespace",))
    found = await call.memory.get_session(call.request.path_params["id"], namespace=_namespace(call, query))
    return answer(_listed(call, found, query))


async def stats(call: Call) -> Response:
    """Return figures."""
    call.query()
    return answer(stats_to(await call.manager.stats(), call.root))


async def export(call: Call) -> Response:
    """Return matching entries in the library's file format."""
    query = call.query(*CONDITIONS, "vectors", several=SEVERAL)
    vectors = flag(query.get("vectors", "false"), name="vectors")
    where = conditions(query, call.root)
    return Lines(
        call.backend.scan(where),
        lambda entry: f"{dumped(entry_to(entry, call.root, vector=vectors))}\n".encode(),
        first=f"{header_line(call.backend.space if vectors else None)}\n".encode(),
    )


async def import_(call: Call) -> Response:
    """Store the entries of a file in the library's format, passing over what is there already."""
    query = call.query("on_duplicate", "reembed")
    reembed = flag(query.get("reembed", "false"), name="reembed")
    on_duplicate = checked_on_duplicate(query.get("on_duplicate", "keep"))
    with tempfile.TemporaryFile() as file:
        await _spooled(call.request, call, file)
        sync = call.manager.sync.episodic

        def store() -> Any:
            file.seek(0)
            lines = FileLines(file, name="the body", written=datetime.now(UTC))
            entries = fitting(
                Source("jsonl", lines.space, _below(lines, call.root)), sync.service.space, reembed=reembed
            )
            return import_entries(sync, entries, on_duplicate=on_duplicate)

        report = await call.work.run(store)
    return answer(plain(report))


def _below(lines: FileLines, root: tuple[str, ...]) -> Any:
    return (entry.changed(namespace=root + entry.namespace) for entry in lines) if root else lines


async def _spooled(request: Request, call: Call, file: Any) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {MEDIA_TYPE, "application/jsonl"}:
        raise Refusal(415, f"send the file as {MEDIA_TYPE}", name="InputError", headers={"Connection": "close"})
    async for chunk in chunks_of(request, call.settings, call.settings.import_bytes):
        await run_in_threadpool(file.write, chunk)
