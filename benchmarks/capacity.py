"""What entries take on disk and in memory in each backend, measured, and what ten million to a billion of them would.

The first table is measured: texts with their vectors, put into a SQLite file and a PostgreSQL server of the tests' own;
for Milvus the bytes of the fields are counted that are sent to it. The second is calculated from it, and from what the
engines say of themselves: nothing of it was run.

--data takes JSON Lines of utterances (.gz too) with a "session", a "speaker" and a "text"; without it they are made.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from itertools import islice
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg
from data import machine
from latency import made, read, talk_of

from llmspell_memory import EmbeddingService, Filter, HNSWConfig
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.milvus.rows import to_row
from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.index.analysis import Analyzer
from llmspell_memory.types import Query

if TYPE_CHECKING:
    from llmspell_memory import EmbeddingSpace, EpisodicEntry

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "scaling.md"
MARKED: Final = re.compile(r"(<!-- capacity:begin -->\n).*?(<!-- capacity:end -->)", re.DOTALL)

SIZES: Final = {"10 million": 10**7, "100 million": 10**8, "1 billion": 10**9}
WIDTHS: Final = (256, 768)
"""Dimensions that are measured: what grows with them is told from what does not."""

TOLD: Final = (384, 1_536)
"""Dimensions that are calculated."""

NODE: Final = 64e9
USABLE: Final = 0.75
"""Bytes of memory of the machine that is reckoned with, and the part of it that may be filled."""

HEADROOM: Final = 2.0
"""Times the disk that rows take: an index is made beside the former one, and what is deleted is cleared later."""

_OF_TERM: Final = 8
_OF_NUMBER: Final = 8
_OF_LINKS: Final = 8
"""Bytes of a term of a sparse vector, of an integer, and of what `m` counts: two links to a row at the lowest level."""


class Taken(NamedTuple):
    """Bytes that an entry takes on disk, and in memory if searches are not to wait for a disk."""

    disk: float
    memory: float

    def reckoned(self, other: Taken, dimensions: int) -> Taken:
        """Return the same at another width, from that at the first and, in `other`, the second of WIDTHS."""
        share = (dimensions - WIDTHS[0]) / (WIDTHS[1] - WIDTHS[0])
        return Taken(*(one + share * (another - one) for one, another in zip(self, other, strict=True)))


def of_file(entries: list[EpisodicEntry], space: EmbeddingSpace, folder: Path) -> Taken:
    """Return what an entry takes in a file with its indexes beside it, and in memory where these are read."""
    backend = SQLiteBackend(folder / "memory.db", space, hnsw=HNSWConfig())
    backend.add(entries)
    for mode in ("semantic", "hybrid"):
        backend.retrieve(Query(text="a word", vector=entries[0].embedding, mode=mode), 1, Filter())
    memory = backend.stats().memory_bytes
    backend.close()
    return Taken(sum(one.stat().st_size for one in folder.iterdir()) / len(entries), memory / len(entries))


def of_postgres(entries: list[EpisodicEntry], space: EmbeddingSpace, dsn: str) -> Taken:
    """Return what an entry takes in tables and indexes; the indexes that searches read are what memory is for."""
    schema = f"capacity_{space.dimensions}"
    backend = PostgresBackend(PostgresConfig(dsn=dsn, schema=schema), space, hnsw=HNSWConfig())
    backend.add(entries)
    backend.configure(HNSWConfig())
    backend.close()
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("VACUUM ANALYZE")
        sizes = db.execute(
            "SELECT c.relname, pg_table_size(c.oid) FROM pg_class c"
            " WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind IN ('r', 'i')",
            (schema,),
        ).fetchall()
    read_by_searches = re.compile(r"vectors_\d+_hnsw|entries_by_words|entries_by_label|\w+_pkey")
    memory = sum(size for name, size in sizes if read_by_searches.fullmatch(name))
    return Taken(sum(size for _, size in sizes) / len(entries), memory / len(entries))


def of_milvus(entries: list[EpisodicEntry], space: EmbeddingSpace) -> Taken:
    """Return what an entry's fields take, all of which Milvus loads, and the links of an HNSW index over its vector."""
    analyzer = Analyzer("english")
    fields = sum(
        sum(map(_size, to_row(one).values())) + _OF_TERM * len(set(analyzer.terms(one.content))) for one in entries
    )
    row, vector, links = fields / len(entries), 4 * space.dimensions, _OF_LINKS * HNSWConfig().m
    return Taken(disk=row + 2 * vector + links, memory=row + vector + links)  # on disk the index has it once more


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    return sum(map(_size, value)) if isinstance(value, list) else _OF_NUMBER


def measured(entries: list[EpisodicEntry], dsn: str) -> dict[str, list[Taken]]:
    """Return what an entry takes in each backend, at both widths."""
    found: dict[str, list[Taken]] = {"SQLite file": [], "PostgreSQL": [], "Milvus": []}
    for width in WIDTHS:
        service = EmbeddingService(HashingProvider(width))
        vectors = service.embed([one.content for one in entries])
        rows = [one.changed(embedding=vector) for one, vector in zip(entries, vectors, strict=True)]
        with tempfile.TemporaryDirectory() as folder:
            found["SQLite file"].append(of_file(rows, service.space, Path(folder)))
        found["PostgreSQL"].append(of_postgres(rows, service.space, dsn))
        found["Milvus"].append(of_milvus(rows, service.space))
    return found


def bytes_told(size: float) -> str:
    """Return a size in words."""
    for unit, of in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= of:
            return f"{size / of:,.1f} {unit}" if size < 100 * of else f"{size / of:,.0f} {unit}"
    return f"{size:,.0f} B"


def tables(found: dict[str, list[Taken]], entries: list[EpisodicEntry]) -> str:
    """Return what was measured and what is calculated, as Markdown."""
    text = sum(len(one.content.encode()) for one in entries) / len(entries)
    lines = [
        f"`make bench-capacity` on {machine()}: {len(entries):,} entries of {text:.0f} bytes of text. Bytes an entry:",
        "",
        "| Rows in | dimensions | on disk | in memory, if no search is to wait for a disk |",
        "|---|---:|---:|---:|",
        *(
            f"| {name} | {width} | {taken.disk:,.0f} | {taken.memory:,.0f} |"
            for name, both in found.items()
            for width, taken in zip(WIDTHS, both, strict=True)
        ),
        "",
        "What follows is **calculated** from that, by the width of vectors; nothing of it was run. Disk is",
        f"{HEADROOM:g} times what rows take; machines have {NODE / 1e9:.0f} GB of memory, {USABLE:.0%} of it filled.",
        "",
        "| Entries | dimensions | rows in | disk | memory | machines |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for size, count in SIZES.items():
        for width in TOLD:
            for name, (first, second) in found.items():
                disk, memory = first.reckoned(second, width)
                needed = ceil(count * memory / (NODE * USABLE))
                machines = "one" if needed == 1 else "one is too small" if name == "SQLite file" else f"{needed:,}"
                lines.append(
                    f"| {size} | {width:,} | {name} | {bytes_told(HEADROOM * count * disk)} |"
                    f" {bytes_told(count * memory)} | {machines} |"
                )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print the tables and write the result as JSON, on request the tables into the docs."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path)
    options.add_argument("--entries", type=int, default=10_000)
    options.add_argument("--write-docs", action="store_true", help="put the tables into docs/scaling.md")
    options.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    given = options.parse_args()
    utterances = read(given.data) if given.data else made(given.entries)
    entries = talk_of(list(islice(utterances, given.entries)), "").entries
    sys.path.insert(0, str(ROOT))
    from tests.postgres import own  # noqa: PLC0415 (its folder is not a package)

    with own() as server:
        found = measured(entries, server.dsn)
    print(tables(found, entries))
    given.output.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine(), "widths": WIDTHS, "bytes": found}
    (given.output / "capacity.json").write_text(json.dumps(result, indent=1) + "\n")
    if given.write_docs:
        PAGE.write_text(MARKED.sub(lambda marks: f"{marks[1]}\n{tables(found, entries)}\n{marks[2]}", PAGE.read_text()))


if __name__ == "__main__":
    main()
