"""What PostgreSQL finds is what the other backends find: the exact index is the judge, under every filter."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmspell_memory import EmbeddingService, EpisodicEntry, Filter, HNSWConfig
from llmspell_memory.backends import LocalBackend
from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.retrieval.dates import named_dates
from llmspell_memory.testing.backends.material import START
from llmspell_memory.types import Query
from tests.postgres import shared

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT = 3000
WORDS = [
    *("lantern", "orchard", "kettle", "violin", "granite", "saffron", "meadow", "copper", "lighthouse", "bakery"),
    *("ferry", "thunder", "velvet", "compass", "garden", "letter", "winter", "market", "bridge", "candle", "river"),
    *("mountain", "ticket", "doctor", "painting", "recipe", "window", "harbour", "don't", "e-mail", "3.14", "C++"),
]
WORDS += [f"{one}{other}" for one in WORDS[:28] for other in WORDS[:28]]
CHANCES = 1.0 / np.arange(5, len(WORDS) + 5)
SERVICE = EmbeddingService(HashingProvider(64))


def talk() -> list[EpisodicEntry]:
    """Turns of two who talk, of a few words or of many, in sessions of a dozen, of three namespaces."""
    chance = np.random.default_rng(3)
    texts = [
        " ".join(
            [
                *chance.choice(["I saw a", "you like the", "there is", "my"], 1),
                *chance.choice(WORDS, size, p=CHANCES / CHANCES.sum()),
            ]
        )
        for size in chance.choice([3, 8, 20, 120], COUNT)
    ]
    vectors = SERVICE.embed(texts)
    return [
        EpisodicEntry(
            f"s{n // 12}",
            ("Ada", "Tom Lee")[n % 2],
            text,
            id=f"e{n:05}",
            namespace=[(), ("acme",), ("acme", "alice")][n // 12 % 3],
            timestamp=START + timedelta(minutes=n % 7 + n // 12 * 100),
            ingestion_time=START + timedelta(minutes=n),
            metadata={
                "share": [p for p in (50, 10, 2) if n % (100 // p) == 0],
                "tenth": n % 10 == 0,
                "rare": n % 1000 == 7,
            },
            processed=n % 2 == 0,
            embedding=vectors[n],
        )
        for n, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def judge() -> Iterator[LocalBackend]:
    backend = LocalBackend(SERVICE.space)
    backend.add(talk())
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def local(judge: LocalBackend) -> Iterator[LocalBackend]:
    backend = LocalBackend(SERVICE.space, hnsw=HNSWConfig())
    backend.add(list(judge.scan(Filter())))
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def store(judge: LocalBackend) -> Iterator[PostgresBackend]:
    del judge
    shared().execute("DROP SCHEMA IF EXISTS searches CASCADE")
    config = PostgresConfig(dsn=shared().dsn, schema="searches", index_from=0)
    backend = PostgresBackend(config, SERVICE.space, hnsw=HNSWConfig())
    backend.add(talk())
    yield backend
    backend.close()


FILTERS = {
    "all": Filter(),
    "50 %": Filter(processed=True),
    "33 %": Filter(namespace=("acme", "alice")),
    "10 %": Filter(metadata={"tenth": True}),
    "2 %": Filter(since=START + timedelta(minutes=24_500)),
    "0.1 %": Filter(metadata={"rare": True}),
    "a session": Filter(session_id="s30"),
    "who": Filter(role="Ada", namespace=("acme",), below=False),
}
QUERIES = [
    "the lantern in the orchard",
    "did Ada see the lighthouse?",
    "velvet kettle",
    "e-mail about C++",
    "don't 3.14",
]


def asked(text: str, mode: str, **more: object) -> Query:
    query = Query(text=text, vector=SERVICE.embed_one(text), mode=mode)  # type: ignore[arg-type]
    return replace(query, dates=named_dates(text), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("mode", ["semantic", "keyword", "hybrid"])
def test_searches_that_are_exact_are_the_judges(
    store: PostgresBackend, judge: LocalBackend, name: str, mode: str
) -> None:
    """The same entries with the same scores, parts and surroundings."""
    for text in QUERIES:
        query = asked(text, mode, exact=True, parts=True, around=1, roles=("Ada",) if "Ada" in text else ())
        ours, theirs = (one.retrieve(query, 10, FILTERS[name]) for one in (store, judge))
        assert [hit.entry.id for hit in ours] == [hit.entry.id for hit in theirs], text
        assert np.allclose([hit.score for hit in ours], [hit.score for hit in theirs], atol=2e-3)
        for one, other in zip(ours, theirs, strict=True):
            assert (one.before, one.after) == (other.before, other.after)
            assert one.parts is not None
            assert other.parts is not None
            assert one.parts.keys() == other.parts.keys()


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(("mode", "share"), [("semantic", 0.95), ("keyword", 0.9), ("hybrid", 0.85)])
def test_searches_through_indexes_find_nearly_all(
    store: PostgresBackend, judge: LocalBackend, local: LocalBackend, name: str, mode: str, share: float
) -> None:
    """Ten come back wherever ten match, and nearly all of them are the ten best.

    By everything at once they are nearly all those that the candidates of a local store hold.
    """
    found = []
    for text in QUERIES:
        ours = store.retrieve(asked(text, mode), 10, FILTERS[name])
        by = local.retrieve(asked(text, mode), 10, FILTERS[name])
        theirs = by if mode == "hybrid" else judge.retrieve(asked(text, mode, exact=True), 10, FILTERS[name])
        assert len(ours) == len(theirs), text
        best = {hit.entry.id for hit in theirs}
        found.append(len(best & {hit.entry.id for hit in ours}) / len(best) if best else 1.0)
    assert sum(found) / len(found) >= share
