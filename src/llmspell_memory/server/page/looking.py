"""What the page asks for beyond the words of memory: who it is, a map, the tuning curve, another `ef_search`."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.errors import InputError
from llmspell_memory.server.call import Call, answer, whole
from llmspell_memory.server.page.projection import two_dimensions
from llmspell_memory.server.words import CONDITIONS, SEVERAL, conditions
from llmspell_memory.wire.figures import plain
from llmspell_memory.wire.values import as_whole

if TYPE_CHECKING:
    from starlette.responses import Response

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EpisodicEntry, Filter

_POINTS: Final = 500
_LATEST: Final = 20_000
"""Entries that a map's sample is taken from: with their vectors, they are read one by one."""

_SHOWN: Final = 160
"""Characters of an entry that a point is told with."""

_TARGET: Final = 0.95
_QUERIES: Final = 300
_MOST_QUERIES: Final = 1_000


async def caller(call: Call) -> Response:
    """Return what the key may do, and the limits that hold."""
    call.query()
    limits = {name: getattr(call.settings, name) for name in ("batch", "k", "body_bytes", "import_bytes")}
    return answer({"writes": call.caller.writes, "whole": not call.root, "key": call.caller.id, "limits": limits})


async def map_(call: Call) -> Response:
    """Return a sample of entries, with places on a map that keeps as much of their distances as two dimensions can."""
    query = call.query(*CONDITIONS, "limit", several=SEVERAL)
    where = conditions(query, call.root)
    limit = whole(query["limit"], name="limit") if "limit" in query else min(_POINTS, call.settings.batch)
    limit = call.checked_k(limit, name="limit", most=call.settings.batch)
    return answer(await asyncio.to_thread(_mapped, call.backend, where, limit, len(call.root)))


def _mapped(backend: EpisodicBackend, where: Filter, limit: int, depth: int) -> dict[str, Any]:
    """Take every so manieth of the latest entries, and place them."""
    entries = backend.count(where)
    latest = min(entries, _LATEST)
    step = max(1, -(-latest // max(1, limit)))
    sample = list(islice(backend.scan(where, limit=latest, newest=True), 0, None, step))[:limit]
    sample = [entry for entry in sample if entry.embedding is not None]
    places, kept = two_dimensions([entry.embedding for entry in sample if entry.embedding is not None])
    points = [_point(entry, x, y, depth) for entry, (x, y) in zip(sample, places.tolist(), strict=True)]
    return {"points": points, "entries": entries, "kept": kept}


def _point(entry: EpisodicEntry, x: float, y: float, depth: int) -> dict[str, Any]:
    return {
        "id": entry.id,
        "namespace": list(entry.namespace[depth:]),
        "session_id": entry.session_id,
        "role": entry.role,
        "text": entry.content[:_SHOWN],
        "timestamp": entry.timestamp.isoformat(),
        "x": round(x, 4),
        "y": round(y, 4),
    }


async def curve(call: Call) -> Response:
    """Measure recall against latency over values of `ef_search`; nothing is changed."""
    given = call.given("target_recall", "queries")
    count = call.checked_k(given.get("queries", _QUERIES), name="queries", most=_MOST_QUERIES)
    report = await call.manager.tune(target_recall=_recall(given.get("target_recall", _TARGET)), sample=max(1, count))
    chosen = report.chosen
    told = {name: getattr(report, name) for name in ("met", "few", "k", "entries", "queries", "seconds", "verdict")}
    now = call.backend.hnsw
    return answer(
        told
        | {
            "meaning": report.meaning,
            "points": [
                {"ef_search": one.hnsw.ef_search}
                | {name: getattr(one, name) for name in ("recall", "low", "high", "p50_us", "p95_us")}
                for one in report.points
            ],
            "chosen": None if chosen is None else chosen.hnsw.ef_search,
            "hnsw": plain(now),
        }
    )


def _recall(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise InputError(f"target_recall must be a number above 0, up to 1, got {type(given).__name__}")
    return float(given)


async def set_ef_search(call: Call) -> Response:
    """Have searches keep another number of candidates, from the next one on."""
    given = call.given("ef_search")
    ef_search = as_whole(given.get("ef_search"))
    if isinstance(ef_search, bool) or not isinstance(ef_search, int):
        raise InputError("give ef_search, an integer from 1 up")
    await call.manager.set_ef_search(ef_search)
    return answer({"hnsw": plain(call.backend.hnsw)})
