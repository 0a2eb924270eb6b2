"""How long a search of each mode takes beside 100,000 entries, with filters and without, and what hybrid search finds.

The data is a file of JSON Lines (.gz too), an utterance a line: {"session": "…", "speaker": "…", "text": "…"}, and
"turn" where lines of a session are not in order; without a file, utterances are made. Every so many-th utterance is
held out to ask for, the others are stored. What is timed is everything from a text to ten whole entries: once with the
text's vector in the cache ("embedding excluded"), once without ("text in"). Hybrid search scores candidates; `overlap`
is the share of its ten that are the ten best by the same formula over every entry.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from data import machine, percentiles

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, Filter, MemoryConfig
from llmspell_memory.embeddings import LocalProvider
from llmspell_memory.types import Query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from llmspell_memory.types import SearchMode

K: Final = 10
MODES: Final[tuple[SearchMode, ...]] = ("semantic", "keyword", "hybrid")
LARGEST: Final = 100_000
QUERIES: Final = 500
JUDGED: Final = 200
"""Queries whose hits are compared with those of the exact search, which takes some tens of milliseconds."""

_FIRST: Final = datetime(2024, 1, 1, tzinfo=UTC)
_A_WORD: Final = 6


class Talk(NamedTuple):
    """What is stored, and what is asked for."""

    entries: list[EpisodicEntry]
    queries: list[str]
    source: str


def made(count: int) -> Iterator[dict[str, Any]]:
    """Yield utterances of words that are as frequent as words are, in sessions of fifteen turns."""
    chance = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlu"))
    words = ["".join(chance.choice(letters, 3 + rank % _A_WORD)) for rank in range(20_000)]
    for number in range(count):
        ranks = np.minimum(chance.zipf(1.3, 2 + chance.poisson(10)), len(words)) - 1
        text = " ".join(words[rank] for rank in ranks)
        yield {"session": f"s{number // 15}", "speaker": ("USER", "SYSTEM")[number % 2], "text": text}


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the utterances of a file."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def talk_of(utterances: Sequence[dict[str, Any]], source: str) -> Talk:
    """Return the utterances as entries, a minute between two turns of a session, but for those that are asked for."""
    step = max(2, len(utterances) // QUERIES)
    turns: defaultdict[str, int] = defaultdict(int)
    entries = []
    for number, one in enumerate(utterances):
        turn = one.get("turn", turns[one["session"]])
        turns[one["session"]] += 1
        if number % step:
            moment = _FIRST + timedelta(minutes=turn)
            entries.append(EpisodicEntry(one["session"], one["speaker"], one["text"], id=str(number), timestamp=moment))
    return Talk(entries, [one["text"] for one in utterances[::step]][:QUERIES], source)


def timed(
    search: Callable[[str], object],
    queries: Sequence[str],
    *,
    rounds: int,
    before: Callable[[str], object] | None = None,
) -> dict[str, float]:
    """Return percentiles of a query's median time, in microseconds, after a round to warm up.

    Args:
        search: is timed.
        queries: what it is called with.
        rounds: how often.
        before: is called before, and not timed.
    """
    spent = np.empty((rounds + 1, len(queries)))
    for one in spent:
        for place, query in enumerate(queries):
            if before:
                before(query)
            began = time.perf_counter_ns()
            search(query)
            one[place] = time.perf_counter_ns() - began
    return percentiles(np.median(spent[1:], axis=0) / 1e3)


def overlap(memory: DefaultMemoryManager, queries: Sequence[str], where: Filter) -> float:
    """Return the share of hybrid search's hits that are the best of all."""
    hits = shared = 0
    for text in queries:
        query = Query(text=text, vector=memory.service.embed_one(text, kind="query"), mode="hybrid")
        found = [
            {hit.entry.id for hit in memory.backend.retrieve(one, K, where)}
            for one in (query, Query(text=text, vector=query.vector, mode="hybrid", exact=True))
        ]
        hits += len(found[1])
        shared += len(found[0] & found[1])
    return round(shared / hits, 4)


def filters(entries: Sequence[EpisodicEntry]) -> dict[str, Filter]:
    """Return the filters: none, the longest session, and one who speaks, which leaves about a half."""
    turns = Counter(entry.session_id for entry in entries)
    return {
        "none": Filter(),
        "one session": Filter(session_id=turns.most_common(1)[0][0]),
        "one role": Filter(role=entries[0].role),
    }


def measured(memory: DefaultMemoryManager, talk: Talk, *, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a line for each filter and mode."""
    service = memory.service
    for name, where in filters(talk.entries).items():
        for mode in MODES:
            search = partial(memory.episodic.search, k=K, where=where, mode=mode)
            row: dict[str, Any] = {"filter": name, "mode": mode}
            row |= {"embedding_excluded": timed(search, talk.queries, rounds=rounds)}
            if mode != "keyword":
                row["text_in"] = timed(search, talk.queries, rounds=rounds, before=lambda text: service.forget([text]))
            if mode == "hybrid":
                row["overlap"] = overlap(memory, talk.queries[:JUDGED], where)
            yield row


def table(result: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    lines = [
        "| filter | mode | p50 µs | p95 µs | text in, p50 µs | text in, p95 µs | overlap with exact |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        cells = [
            row[key][share] if key in row else "-"
            for key in ("embedding_excluded", "text_in")
            for share in ("p50", "p95")
        ]
        shown = " | ".join(f"{one:,.0f}" if isinstance(one, float) else one for one in cells)
        lines.append(f"| {row['filter']} | {row['mode']} | {shown} | {row.get('overlap', '-')} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table and write the result as JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path, nargs="?", help="utterances; made ones when left out")
    options.add_argument("--entries", type=int, default=LARGEST, help="how many lines are taken (default: 100,000)")
    options.add_argument("--store", type=Path, help="a file to keep the entries in; in RAM when left out")
    options.add_argument("--rounds", type=int, default=5, help="how often each query is timed")
    options.add_argument("--output", type=Path, default=Path(__file__).parent / "results", help="folder for the JSON")
    given = options.parse_args()
    utterances = list(islice(read(given.data) if given.data else made(given.entries), given.entries))
    talk = talk_of(utterances, given.data.name if given.data else "made: words as frequent as words are, seed 0")
    config = MemoryConfig.for_production(EmbeddingService(LocalProvider()), path=given.store)
    with DefaultMemoryManager.with_config(config) as memory:
        if not memory.episodic.count():
            memory.episodic.add_many(talk.entries)
        count = memory.episodic.count()
        result: dict[str, Any] = {
            "machine": machine(),
            "data": talk.source,
            "entries": count,
            "rows_in": "a file" if given.store else "RAM",
            "rows": list(measured(memory, talk, rounds=given.rounds)),
        }
    print(f"{count:,} entries in {result['rows_in']}; {talk.source}; {result['machine']}\n\n{table(result)}")
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "latency.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
