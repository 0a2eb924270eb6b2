"""The guide's benchmark: searching through `EpisodicMemory` by a given vector, exact against HNSW, in RAM and on disk.

Embedding is left out; what is timed is everything from a vector to ten whole entries. `--write-docs` puts the table of
the last run into the page that shows it.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import SIZES, Data, load, machine, microseconds, parser, percentiles

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicBackendType, EpisodicEntry, MemoryConfig
from llmspell_memory.embeddings import HashingProvider

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmspell_memory import EpisodicMemory
    from llmspell_memory.types import Matrix

K = 10
QUESTIONS = 500
VIEWS = (EpisodicBackendType.IN_MEMORY, EpisodicBackendType.HNSW)
PAGE = Path(__file__).parent.parent / "docs" / "migration.md"
MARKED = re.compile(r"(<!-- measured:begin -->\n).*?(<!-- measured:end -->)", re.DOTALL)


def first_pass(memory: EpisodicMemory, queries: Matrix) -> tuple[list[set[str]], float]:
    """Return the ids of the top 10 of every query, and the median of the microseconds that each took."""
    found, spent = [], []
    for query in queries:
        start = time.perf_counter_ns()
        hits = memory.search(query, K)
        spent.append((time.perf_counter_ns() - start) / 1_000)
        found.append({hit.entry.id for hit in hits})
    return found, percentiles(spent)["p50"]


def filled(config: MemoryConfig, vectors: Matrix) -> DefaultMemoryManager:
    """Return an open memory that holds the vectors; one in a file has been closed since they were added."""
    manager = DefaultMemoryManager.with_config(config)
    if manager.episodic.count() == 0:
        manager.episodic.add_many(
            EpisodicEntry(f"s{n // 15}", "user", f"utterance {n}", id=str(n), embedding=vector)
            for n, vector in enumerate(vectors)
        )
        if config.path is not None:
            manager.close()
            manager = DefaultMemoryManager.with_config(config)
    return manager


def rows(data: Data, size: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a line per kind of rows and view: recall against exact, latency, memory and disk."""
    service = EmbeddingService(HashingProvider(data.vectors.shape[1]))
    queries = data.queries[:QUESTIONS]
    for path in (None, folder / f"{size}.db"):
        truth: list[set[str]] = []
        for backend in VIEWS:
            config = MemoryConfig(service=service, backend=backend, path=path)
            with filled(config, data.vectors[:size]) as manager:
                found, first = first_pass(manager.episodic, queries)
                truth = truth or found
                stats = manager.stats()
                row = {
                    "size": size,
                    "rows": stats.rows,
                    "backend": stats.backend,
                    "recall": round(sum(len(a & b) for a, b in zip(found, truth, strict=True)) / (K * len(queries)), 4),
                    **microseconds(partial(manager.episodic.search, k=K), queries),
                    "first": first,
                    "index_bytes": stats.index.memory_bytes,
                    "memory_bytes": stats.memory_bytes,
                }
            yield row | {"disk_bytes": on_disk(path)}


def on_disk(path: Path | None) -> int:
    """Return what a closed store takes, its saved index included."""
    return sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*")) if path else 0


def crossover(found: list[dict[str, Any]], kind: str) -> float | None:
    """Return from how many entries on HNSW is the quicker, between the sizes measured; None where it is from the first.

    Both times are taken to be powers of the number of entries between two sizes.
    """
    times = {
        size: [
            next(one["p50"] for one in found if (one["size"], one["rows"], one["backend"]) == (size, kind, view))
            for view in ("InMemory", "HNSW")
        ]
        for size in sorted({one["size"] for one in found})
    }
    for (low, (exact, graph)), (high, (next_exact, next_graph)) in itertools.pairwise(times.items()):
        if exact < graph and next_exact >= next_graph:
            behind, ahead = math.log(graph / exact), math.log(next_exact / next_graph)
            return float(low * (high / low) ** (behind / (behind + ahead)))
    return None


def table(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    lines = [
        f"Top {K} through `EpisodicMemory.search(vector)`, whole entries returned, embedding not included. Measured by",
        f"`make bench-backend-search` on {result['machine']}; vectors: {result['data']}. *First* are",
        "the same questions asked once before: in a file, their rows were read then for the first time.",
        "",
        "| entries | rows | view | recall@10 | p50 µs | p95 µs | first p50 | index bytes each | in memory | on disk |",
        "|---:|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        disk = f"{row['disk_bytes'] / 1e6:.1f} MB" if row["disk_bytes"] else "-"
        lines.append(
            f"| {row['size']:,} | {row['rows']} | {row['backend']} | {row['recall']:.3f} | {row['p50']:,.0f} |"
            f" {row['p95']:,.0f} | {row['first']:,.0f} | {row['index_bytes'] / row['size']:,.0f} |"
            f" {row['memory_bytes'] / 1e6:,.1f} MB | {disk} |"
        )
    words = {"ram": "with rows in RAM", "sqlite": "in a file"}
    where = {kind: crossover(result["rows"], kind) for kind in words}
    told = [
        f"from {size:,.0f} entries {words[kind]}" if size else f"at every size {words[kind]}"
        for kind, size in where.items()
    ]
    lines += ["", f"By the median HNSW is the quicker {' and '.join(told)}."]
    return "\n".join(lines) + "\n"


def write_docs(text: str) -> None:
    """Put the table between the marks of its page."""
    PAGE.write_text(MARKED.sub(lambda marks: marks[1] + "\n" + text + "\n" + marks[2], PAGE.read_text()))


def main() -> None:
    """Measure, print the table and write it as JSON, on request into the docs."""
    options = parser(str(__doc__))
    options.add_argument("--write-docs", action="store_true", help="put the table into docs/migration.md")
    arguments = options.parse_args()
    data = load(arguments)
    result: dict[str, Any] = {"machine": machine(), "data": data.source, "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        for size in (size for size in SIZES if size <= len(data.vectors)):
            result["rows"] += rows(data, size, Path(folder))
    print(table(result))
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "backend_search.json").write_text(json.dumps(result, indent=1) + "\n")
    if arguments.write_docs:
        write_docs(table(result))


if __name__ == "__main__":
    main()
