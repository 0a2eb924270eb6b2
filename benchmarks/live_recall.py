"""Live recall against the true one: what the estimate says after some seconds of searches, and what that costs.

The same queries are asked, in a random order, for some seconds: without a filter, by session, and by a role that every
tenth session has. Then the estimate and its interval stand beside the recall over all the queries, found by asking each
of them exactly. Overhead is the median latency of searches that are watched against those that are not, in turns of
half a second; the share of processor time is what the comparing thread has used. It goes on with what waits in turns
without.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from data import Data, load, machine, parser

from llmspell_memory import (
    DefaultMemoryManager,
    EmbeddingService,
    EpisodicEntry,
    Filter,
    HNSWConfig,
    MemoryConfig,
    Watch,
)
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.watch.comparing import recall_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

K: Final = 10
SESSION: Final = 15
KINDS: Final = {"none": Filter(), "session": Filter(session_id="s7"), "role": Filter(role="r3")}


def opened(data: Data, hnsw: HNSWConfig, path: Path) -> DefaultMemoryManager:
    """Return a durable memory of all the rows, unwatched."""
    service = EmbeddingService(HashingProvider(data.vectors.shape[1]))
    config = MemoryConfig.for_production(service, path=path).with_hnsw_config(hnsw).with_watch(None)
    manager = DefaultMemoryManager.with_config(config)
    manager.episodic.add_many(
        EpisodicEntry(f"s{n // SESSION}", f"r{n // SESSION % 10}", "x", id=str(n), embedding=row)
        for n, row in enumerate(data.vectors)
    )
    return manager


def true_recall(manager: DefaultMemoryManager, queries: Sequence[NDArray[np.float32]], where: Filter) -> float:
    """Return the recall over all queries."""
    backend = manager.backend
    found = [
        recall_of(backend.search(query, K, where), backend.search(query, K, where, exact=True)) for query in queries
    ]
    return float(np.mean(found))


def asked(
    manager: DefaultMemoryManager, queries: Sequence[NDArray[np.float32]], where: Filter, seconds: float
) -> Iterator[float]:
    """Search for queries in a random order, and yield the microseconds of each."""
    chance = np.random.default_rng(time.monotonic_ns())
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        query = queries[int(chance.integers(len(queries)))]
        began = time.perf_counter_ns()
        manager.episodic.search(query, K, where=where)
        yield (time.perf_counter_ns() - began) / 1e3


def row(data: Data, manager: DefaultMemoryManager, kind: str, watch: Watch, seconds: float) -> dict[str, Any]:
    """Return a line of the table: the estimate and the truth for one kind of filter."""
    where, queries = KINDS[kind], list(data.queries)
    few = queries[:100] if kind == "role" else queries  # whose rows take some milliseconds to be found
    watched = DefaultMemoryManager(manager.backend, manager.service, watch=watch)
    times: tuple[list[float], list[float]] = ([], [])
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        for place, one in enumerate((manager, watched)):
            times[place].extend(asked(one, few, where, 0.5))
    told = watched.stats().recall
    if told is None:
        raise SystemExit(f"no search with the filter {kind} was compared; give it more --seconds")
    if watched.recall is not None:
        watched.recall.close()
    p50 = [float(np.median(one)) for one in times]
    return {
        "filter": kind,
        "true": round(true_recall(manager, few, where), 4),
        "estimate": round(told.recall, 4),
        "low": round(told.low, 4),
        "high": round(told.high, 4),
        "comparisons": told.comparisons,
        "sampled": told.sampled,
        "searches": len(times[1]),
        "cpu_share": round(told.cpu_share, 5),
        "p50_off": round(p50[0], 2),
        "p50_on": round(p50[1], 2),
        "overhead": round(p50[1] / p50[0] - 1, 4),
    }


def main() -> None:
    """Measure, print the table and write it as JSON."""
    options = parser(str(__doc__))
    options.add_argument("--seconds", type=float, default=60.0, help="of searching, per line (default: 60)")
    options.add_argument("--share", type=float, default=Watch().share, help="of searches that are compared")
    options.add_argument("--budget", type=float, default=Watch().budget, help="of a processor's time")
    options.add_argument("--ef-search", type=int, nargs="+", default=[10, 50], help="settings to measure at")
    arguments = options.parse_args()
    data = load(arguments)
    watch = Watch(share=arguments.share, budget=arguments.budget)
    result: dict[str, Any] = {"machine": machine(), "data": data.source, "rows": []}
    print(f"{result['machine']}; {len(data.vectors):,} vectors of {data.source}, {watch}")
    print("| ef_search | filter | true recall | estimate | 95 % interval | compared | CPU | p50 µs, off / on | more |")
    print("|---:|---|---:|---:|---|---:|---:|---:|---:|")
    hnsw = HNSWConfig(ef_search=arguments.ef_search[0])
    with tempfile.TemporaryDirectory() as folder, opened(data, hnsw, Path(folder) / "memory.db") as manager:
        for ef_search in arguments.ef_search:
            manager.set_ef_search(ef_search)
            for kind in KINDS:
                line = {"ef_search": ef_search, **row(data, manager, kind, watch, arguments.seconds)}
                result["rows"].append(line)
                print(
                    f"| {ef_search} | {kind} | {line['true']:.3f} | {line['estimate']:.3f} | {line['low']:.3f} to"
                    f" {line['high']:.3f} | {line['comparisons']:,} of {line['searches']:,} | {line['cpu_share']:.2%} |"
                    f" {line['p50_off']:,.1f} / {line['p50_on']:,.1f} | {line['overhead']:+.1%} |",
                    flush=True,
                )
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "live_recall.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
