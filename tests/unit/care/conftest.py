"""A store with every kind of page: leaves, inner pages, overflow pages and free ones."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from llmspell_memory import EmbeddingService, EpisodicEntry, Filter
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.sqlite import raw, salvage
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.testing.indexes import gaussian

PAGE = 4096
DIMENSIONS = 64


@dataclass(frozen=True)
class Sample:
    """A store's bytes, what is in it by label, and the pages that each row stands on."""

    data: bytes
    entries: dict[int, EpisodicEntry]
    rows: dict[int, frozenset[int]]
    vectors: dict[int, frozenset[int]]

    @property
    def pages(self) -> int:
        return len(self.data) // PAGE


@pytest.fixture(scope="session")
def service() -> EmbeddingService:
    return EmbeddingService(HashingProvider(DIMENSIONS), cache=None)


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> int:
    """How many times a campaign damages a store: more in the long form, which the option of tests/faults asks for."""
    return 40 if request.config.getoption("--torture", default=False) else 8


def entries_to_keep(count: int) -> list[EpisodicEntry]:
    chance = random.Random(1)
    start = datetime(2025, 3, 1, 12, tzinfo=UTC)
    vectors = gaussian(count, DIMENSIONS)
    return [
        EpisodicEntry(
            f"s{n % 17}",
            "user" if n % 2 else "assistant",
            f"text {n} ü🦀 " + "long " * chance.choice([0, 10, 150, 2000]),
            id=f"n{n}",
            namespace=("acme", f"t{n % 3}")[: n % 3],
            timestamp=start + timedelta(minutes=n),
            ingestion_time=start + timedelta(hours=n, microseconds=n),
            metadata={"n": n, "deep": [None, {"ä": 1.5}]} if n % 4 else {},
            processed=n % 5 == 0,
            expires_at=start + timedelta(days=36500) if n % 7 == 0 else None,
            embedding=vector,
        )
        for n, vector in enumerate(vectors)
    ]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory, service: EmbeddingService) -> Sample:
    path = tmp_path_factory.mktemp("sample") / "memory.db"
    kept, vectors = entries_to_keep(1200), gaussian(1200, DIMENSIONS)
    backend = SQLiteBackend(path, service.space, warm=False)
    for begin in range(0, len(kept), 50):
        backend.add(kept[begin : begin + 50])
    gone = frozenset(f"n{n}" for n in [*range(100, 300), *range(600, 1200, 11)])
    backend.delete(Filter(ids=gone))
    for n in range(300, 600, 4):  # what these were before stands on free pages, too
        kept[n] = kept[n].changed(content="edited " * n, metadata={"edited": n}, embedding=-vectors[n])
    backend.add([one for one in kept[300:600] if one.metadata.get("edited")])
    backend.close()
    labelled = {label: one for label, one in enumerate(kept, start=1) if one.id not in gone}
    with salvage.Salvage(path) as store:
        made = Sample(path.read_bytes(), labelled, pages_of(store, "entries"), pages_of(store, "vectors_"))
        assert store.file.free(), "nothing is free"
        kinds = {store.file.page(number)[0] for number in range(2, made.pages + 1)}
    assert {0x0D, 0x05, 0x0A, 0x02, 0x00} <= kinds
    assert made.rows.keys() == made.vectors.keys() == labelled.keys()
    return made


def pages_of(store: salvage.Salvage, table: str) -> dict[int, frozenset[int]]:
    """The pages that each row of a table stands on, by its label."""
    root = store._root(table)
    assert root is not None
    touched: list[int] = []
    page = store.file.page

    def touching(number: int) -> bytes:
        touched.append(number)
        return page(number)

    store.file.page = touching  # type: ignore[method-assign]
    found = {}
    for node in raw.Tree(store.file, root).nodes():
        touched.clear()
        for label, _ in raw.rows(store.file, node) if node.has_rows else ():
            assert label is not None
            found[label] = frozenset([node.number, *touched])
            touched.clear()
    store.file.page = page  # type: ignore[method-assign]
    return found
