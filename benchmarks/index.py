"""Recall and speed of the indexes, one query a call from Python on one thread, beside hnswlib on the same data."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import hnswlib
import numpy as np
from data import QUERIES, SIZES, Data, load, machine, microseconds, parser

from llmspell_memory import HNSWConfig
from llmspell_memory.index import ExactIndex, HNSWIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmspell_memory.types import Matrix

K = 10
EFS = (16, 50, 100)


def recall(search: Callable[[np.ndarray], Any], queries: Matrix, truth: list[set[int]]) -> float:
    """Return the share of the true top 10 that `search` returns."""
    found = (set(np.asarray(search(query)).ravel().tolist()) for query in queries)
    return round(sum(len(one & true) for one, true in zip(found, truth, strict=True)) / (K * len(queries)), 4)


def rows(data: Data, size: int) -> Iterator[dict[str, Any]]:
    """Yield one measured line per index and ef_search, the two HNSWs in turn."""
    vectors, labels, dimensions = data.vectors[:size], np.arange(size), data.vectors.shape[1]
    exact = ExactIndex(dimensions=dimensions)
    exact.add(labels, vectors)
    queries = data.queries[: QUERIES if size < SIZES[-1] else QUERIES // 2]
    truth = [set(exact.search(query, K)[0].tolist()) for query in queries]
    yield {"index": "exact", "size": size, "recall": 1.0, **microseconds(lambda query: exact.search(query, K), queries)}

    start = time.perf_counter()
    ours = HNSWIndex(dimensions=dimensions, config=HNSWConfig())
    ours.add(labels, vectors)
    built = time.perf_counter() - start
    start = time.perf_counter()
    theirs = hnswlib.Index("cosine", dimensions)
    theirs.init_index(size, M=16, ef_construction=200)
    theirs.set_num_threads(1)
    theirs.add_items(vectors, labels)
    their_built = time.perf_counter() - start
    for ef in EFS:
        ours.ef_search = ef
        theirs.set_ef(max(ef, K))
        for name, search, seconds in (
            ("HNSW", lambda query: ours.search(query, K)[0], built),
            ("hnswlib", lambda query: theirs.knn_query(query, K)[0], their_built),
        ):
            yield {
                "index": name,
                "ef_search": ef,
                "size": size,
                "recall": recall(search, queries, truth),
                **microseconds(search, queries),
                "build_seconds": round(seconds, 2),
                "memory_bytes": ours.stats().memory_bytes if name == "HNSW" else None,
            }


def main() -> None:
    """Measure, print a table and write it as JSON."""
    options = parser(str(__doc__)).parse_args()
    data = load(options)
    print(f"{machine()}; {data.source}; recall@{K} and µs a query")
    print(f"{'entries':>8} {'index':8} {'ef':>4} {'recall':>7} {'p50':>9} {'p95':>9} {'p99':>9} {'build s':>8}")
    measured = []
    for size in (size for size in SIZES if size <= len(data.vectors)):
        for row in rows(data, size):
            measured.append(row)
            print(
                f"{row['size']:>8} {row['index']:8} {row.get('ef_search', ''):>4} {row['recall']:>7.4f}"
                f" {row['p50']:>9.1f}"
                f" {row['p95']:>9.1f} {row['p99']:>9.1f} {row.get('build_seconds', ''):>8}",
                flush=True,
            )
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "index.json"
    path.write_text(json.dumps({"machine": machine(), "data": data.source, "rows": measured}, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
