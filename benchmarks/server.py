"""A PostgreSQL server under load, and as it grows: throughput, latency by percentile, recall by size, nothing lost.

Without --dsn a server of the tests' own is started, with its durability as PostgreSQL has it by default.

load      processes that add single entries and batches, and search by meaning, words and both, all at once
growth    searches by size, with filters that let half, a tenth, a fiftieth and a thousandth of the entries pass
bulk      entries with their vectors, copied in
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from data import machine

from llmspell_memory import EmbeddingService, EmbeddingSpace, EpisodicEntry, Filter, HNSWConfig
from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.types import Query

K = 10
WORDS = [
    f"{one}{two}"
    for one in ["harbour", "lantern", "orchard", "kettle", "violin", "granite", "saffron"]
    for two in range(60)
]
SERVICE = EmbeddingService(HashingProvider(128))


def texts(count: int, seed: int) -> list[str]:
    """Return texts of a dozen words, some of which are as frequent as words are."""
    chance = np.random.default_rng(seed)
    weights = 1.0 / np.arange(3, len(WORDS) + 3)
    return [" ".join(chance.choice(WORDS, 12, p=weights / weights.sum())) for _ in range(count)]


def turns(count: int, seed: int) -> list[EpisodicEntry]:
    """Return entries with their vectors, in sessions of twenty, of a hundred tenants."""
    contents = texts(count, seed)
    return [
        EpisodicEntry(
            f"s{n // 20}",
            ("Ada", "Tom")[n % 2],
            text,
            id=f"{seed}-{n}",
            namespace=(f"tenant-{n // 20 % 100}",),
            metadata={f"one in {share}": n % share == 0 for share in (2, 10, 50, 1000)},
            embedding=vector,
        )
        for n, (text, vector) in enumerate(zip(contents, SERVICE.embed(contents), strict=True))
    ]


def opened(dsn: str, schema: str, space: EmbeddingSpace = SERVICE.space) -> PostgresBackend:
    """Return a store with an HNSW index."""
    return PostgresBackend(PostgresConfig(dsn=dsn, schema=schema), space, hnsw=HNSWConfig())


def worker(dsn: str, number: int, seconds: float, told: Any) -> None:
    """Work on a store for some seconds; tell what was acknowledged, and how long each call took."""
    backend = opened(dsn, "load")
    chance = np.random.default_rng(number)
    ready = turns(2000, 1000 + number)
    spent: defaultdict[str, list[float]] = defaultdict(list)
    acknowledged: list[str] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        verb = chance.choice(["add", "add 20", "semantic", "keyword", "hybrid"], p=[0.3, 0.05, 0.25, 0.15, 0.25])
        one = ready[int(chance.integers(len(ready)))]
        where = Filter(namespace=one.namespace)
        began = time.perf_counter()
        if verb.startswith("add"):
            some = [one] if verb == "add" else ready[:20]
            named = [entry.changed(id=f"{number}-{len(acknowledged)}-{at}") for at, entry in enumerate(some)]
            acknowledged += backend.add(named)
        else:
            backend.retrieve(Query(text=one.content, vector=one.embedding, mode=verb), K, where)
        spent[verb].append(time.perf_counter() - began)
    backend.close()
    told.put((acknowledged, dict(spent)))


def load(dsn: str, seconds: float, processes: int) -> dict[str, Any]:
    """Return throughput and percentiles of each verb, and how many acknowledged entries are missing."""
    backend = opened(dsn, "load")
    backend.add(turns(20_000, 1))
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    workers = [context.Process(target=worker, args=(dsn, n, seconds, told)) for n in range(processes)]
    for one in workers:
        one.start()
    answers = [told.get() for _ in workers]
    for one in workers:
        one.join()
    acknowledged = {name for names, _ in answers for name in names}
    there = {entry.id for entry in backend.scan(Filter())}
    spent: defaultdict[str, list[float]] = defaultdict(list)
    for _, times in answers:
        for verb, some in times.items():
            spent[verb] += some
    backend.close()
    return {
        "processes": processes,
        "seconds": seconds,
        "acknowledged": len(acknowledged),
        "missing": len(acknowledged - there),
        "calls": {
            verb: {
                "per_second": round(len(some) / seconds, 1),
                **{f"p{share}_ms": round(1e3 * float(np.percentile(some, share)), 2) for share in (50, 95, 99)},
            }
            for verb, some in sorted(spent.items())
        },
    }


def growth(dsn: str, sizes: list[int]) -> list[dict[str, Any]]:
    """Return medians of searches and their recall by size and filter, on random vectors near those stored."""
    space = EmbeddingSpace(provider="made", model=None, dimensions=128)
    chance = np.random.default_rng(5)
    centres = chance.standard_normal((2000, 128))
    ready = turns(5000, 2)
    config = PostgresConfig(dsn=dsn, schema="growth", statement_seconds=600.0)
    backend = PostgresBackend(config, space, hnsw=HNSWConfig())
    lines: list[dict[str, Any]] = []
    size = 0
    for target in sizes:
        administer(dsn, "DROP INDEX IF EXISTS growth.vectors_1_hnsw")  # as one would before much is brought in
        began = time.perf_counter()
        for start in range(size, target, 5000):
            near = centres[chance.integers(2000, size=5000)] + 0.5 * chance.standard_normal((5000, 128))
            entries = [
                one.changed(id=f"{start + n}", session_id=f"s{(start + n) // 20}", embedding=near[n].astype(np.float32))
                for n, one in enumerate(ready)
            ]
            backend.add(entries)
        added = time.perf_counter()
        backend.configure(HNSWConfig())
        took = {"add_seconds": round(added - began, 1), "index_seconds": round(time.perf_counter() - added, 1)}
        lines.append({"entries": target, "added": target - size, **took})
        size = target
        print(lines[-1], flush=True)
        administer(dsn, "ANALYZE")
        queries = (centres[chance.integers(2000, size=40)] + 0.5 * chance.standard_normal((40, 128))).astype(np.float32)
        for name in ("all", "one in 2", "one in 10", "one in 50", "one in 1000", "a tenant"):
            where = Filter() if name == "all" else Filter(metadata={name: True})
            where = Filter(namespace=("tenant-7",)) if name == "a tenant" else where
            spent, found = [], []
            for vector in queries:
                began = time.perf_counter()
                hits = backend.search(vector, K, where)
                spent.append(time.perf_counter() - began)
                truth = {hit.entry.id for hit in backend.search(vector, K, where, exact=True)}
                found.append(len(truth & {hit.entry.id for hit in hits}) / max(1, len(truth)))
            lines.append(
                {
                    "entries": size,
                    "filter": name,
                    "p50_ms": round(1e3 * float(np.median(spent)), 2),
                    "p95_ms": round(1e3 * float(np.percentile(spent, 95)), 2),
                    "recall": round(float(np.mean(found)), 3),
                }
            )
            print(lines[-1], flush=True)
    stats = backend.stats()
    lines.append({"entries": stats.entries, "disk_bytes_an_entry": round(stats.disk_bytes / stats.entries)})
    backend.close()
    return lines


def administer(dsn: str, statement: str) -> None:
    """Have the server do what its administrator may."""
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute(statement.encode())


def bulk(dsn: str, count: int) -> dict[str, Any]:
    """Return how long it takes to add many entries with vectors of 384 dimensions in one call, and to index them."""
    space = EmbeddingSpace(provider="made", model=None, dimensions=384)
    vectors = np.random.default_rng(7).standard_normal((count, 384)).astype(np.float32)
    entries = [one.changed(embedding=vectors[n]) for n, one in enumerate(turns(count, 3))]
    backend = PostgresBackend(PostgresConfig(dsn=dsn, schema="bulk"), space, hnsw=HNSWConfig())
    began = time.perf_counter()
    backend.add(entries)
    added = time.perf_counter()
    backend.configure(HNSWConfig())
    indexed = time.perf_counter()
    backend.add([one.changed(id=f"{one.id} again") for one in entries[:1000]])
    linked = time.perf_counter()
    backend.close()
    return {
        "entries": count,
        "seconds": round(added - began, 2),
        "index_seconds": round(indexed - added, 2),
        "seconds_of_1000_more": round(linked - indexed, 2),
    }


def main() -> None:
    """Measure, print and write the result as JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--dsn", help="of a server; a database of its own, for schemas are made and left there")
    options.add_argument("--parts", default="bulk,load,growth")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--processes", type=int, default=8)
    options.add_argument("--sizes", default="10000,100000,300000")
    options.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    given = options.parse_args()
    if given.dsn:
        server: Any = nullcontext(given.dsn)
    else:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        from tests.postgres import own  # noqa: PLC0415 (only where no server is given)

        server = own(shared_buffers="1GB")
    result: dict[str, Any] = {"machine": machine()}
    with server as one:
        dsn = one if isinstance(one, str) else one.dsn
        if "bulk" in given.parts:
            result["bulk"] = bulk(dsn, 10_000)
            print(result["bulk"], flush=True)
        if "load" in given.parts:
            result["load"] = load(dsn, given.seconds, given.processes)
            print(json.dumps(result["load"], indent=1), flush=True)
        if "growth" in given.parts:
            result["growth"] = growth(dsn, [int(size) for size in given.sizes.split(",")])
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "server.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
