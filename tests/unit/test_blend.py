"""Search by everything at once, judged by the formula written out in Python over all rows."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, Filter, InputError, MemoryConfig
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.index import Analyzer, worth
from llmspell_memory.index.function_words import is_keywords, without_function_words
from llmspell_memory.retrieval.dates import named_dates
from llmspell_memory.retrieval.names import without_names
from llmspell_memory.types import HNSWConfig, NamedDate, Query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

WORDS = [
    "harbour",
    "lantern",
    "orchard",
    "kettle",
    "violin",
    "granite",
    "saffron",
    "meadow",
    "copper",
    "lighthouse",
    "bakery",
    "ferry",
    "thunder",
    "velvet",
    "compass",
    "garden",
    "letter",
    "winter",
    "market",
    "bridge",
    "candle",
    "river",
    "mountain",
    "ticket",
    "doctor",
    "painting",
    "recipe",
    "window",
]


def talk(count: int = 400, *, seed: int = 3) -> list[EpisodicEntry]:
    """Turns of two who talk, of a few words or of many, in sessions of a dozen."""
    chance = np.random.default_rng(seed)
    entries = []
    for number in range(count):
        length = int(chance.choice([3, 8, 20, 150]))
        text = " ".join(
            [*chance.choice(["I saw a", "you like the", "there is", "my"], 1), *chance.choice(WORDS, length)]
        )
        entries.append(
            EpisodicEntry(
                f"s{number // 12}",
                ("Ada", "Tom")[number % 2],
                text,
                id=f"e{number:04}",
                timestamp=NOON + timedelta(minutes=number),
            )
        )
    return entries


@pytest.fixture(params=["ram", "file"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DefaultMemoryManager]:
    path = tmp_path / "memory.db" if request.param == "file" else None
    service = EmbeddingService(HashingProvider(64))
    config = MemoryConfig.for_production(service, path=path).with_hnsw_config(HNSWConfig(ef_search=100))
    with DefaultMemoryManager.with_config(config) as opened:
        yield opened


def by_formula(
    entries: list[EpisodicEntry],
    query: np.ndarray,
    text: str,
    roles: tuple[str, ...],
    dates: tuple[NamedDate, ...] = (),
) -> dict[str, float]:
    """Return the score of each entry, by id."""
    analyzer = Analyzer("english")
    rows = [analyzer.terms(entry.content) for entry in entries]
    asked = list(dict.fromkeys(analyzer.terms(without_function_words(text, "english"))))
    df = {term: sum(term in row for row in rows) for term in asked}
    asked = [term for term in asked if df[term]]
    idf = {term: math.log1p((len(rows) - df[term] + 0.5) / (df[term] + 0.5)) for term in asked}
    early = [1 / math.sqrt(1 + min(place, 255) / 40) for place in range(2000)]
    cosines = np.array([entry.embedding for entry in entries]) @ query

    def coverage(row: list[str]) -> float:
        first = {term: row.index(term) for term in asked if term in row}
        total = sum(idf[term] * early[place] for term, place in first.items())
        for one, two in itertools.pairwise(asked):
            if one in first and two in first and abs(first[one] - first[two]) <= 8:
                total += 0.6 * min(idf[one], idf[two]) * early[min(first[one], first[two])]
        stretches = (row[place : place + 32] for place in range(len(row)))
        together = max(sum(idf[term] for term in set(asked) & set(stretch)) for stretch in stretches)
        return max(total, 1.3 * together**2 / mass) if mass else 0.0

    def named(moment: datetime) -> int:
        months = [one for one in dates if one.month == moment.month and one.year in {0, moment.year}]
        return max((2 if one.day == moment.day else 1 for one in months), default=0)

    mean = np.mean(cosines)
    deviation = math.sqrt((np.sum((cosines - mean) ** 2) + 32 * 0.095**2) / (len(rows) + 32))
    mass = sum(idf.values())
    own = [
        (cosine - mean) / deviation + (2.2 * coverage(row) / math.sqrt(mass) if mass else 0.0)
        for cosine, row in zip(cosines, rows, strict=True)
    ]
    scores = {}
    for place, entry in enumerate(entries):
        session = [at for at, other in enumerate(entries) if other.session_id == entry.session_id]
        here = session.index(place)
        beside = sum(
            weight * own[session[here + step]]
            for distance, weight in ((1, 0.3), (2, 0.2))
            for step in (-distance, distance)
            if 0 <= here + step < len(session)
        )
        lean = 1 / (1 + (len(entry.content) / 1200) ** 2)
        best = max(own[at] for at in session)
        near = max(own[at] - 0.05 * abs(step - here) for step, at in enumerate(session))
        spoke = 2.5 if entry.role.casefold() in roles else 0.0
        spoke += 2.0 if any(entries[at].role.casefold() in roles for at in session) else 0.0
        scores[entry.id] = own[place] + lean * beside + 0.35 * (best + near) + spoke
        scores[entry.id] += 1.5 * named(entry.timestamp)
        if not is_keywords(text, "english"):
            scores[entry.id] += worth(entry.content, "english")
    return scores


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("where is the lighthouse by the harbour?", ()),
        ("what did Ada say about the saffron market", ("ada",)),
        ("ADA and tom: violin", ("ada", "tom")),
        ("zebra", ()),
        ("where is it?", ()),
        ("the kettle, violin and saffron copper bridge by the river on 1 March", ()),
    ],
)
def test_scores_are_those_of_the_formula(memory: DefaultMemoryManager, text: str, roles: tuple[str, ...]) -> None:
    """Every entry gets its score, to rounding, when all are scored; the names are taken out of what is looked for."""
    memory.episodic.add_many(talk())
    entries = list(memory.episodic.scan())
    assert tuple(sorted(memory.backend.named_roles(set(text.casefold().replace(":", "").split()), Filter()))) == roles
    sought = without_names(text, roles)
    vector = memory.service.embed_one(sought, kind="query")
    dates = named_dates(text)
    query = Query(text=sought, roles=roles, dates=dates, vector=vector, exact=True)
    found = {hit.entry.id: hit.score for hit in memory.backend.retrieve(query, 400, Filter())}
    assert found == pytest.approx(by_formula(entries, vector, sought, roles, dates), abs=2e-3)
    hits = memory.episodic.search(text, 10, parts=True)
    best = sorted(found, key=lambda one: (-found[one], one))[:10]
    assert len({hit.entry.id for hit in hits} & set(best)) >= 8
    for hit in hits:
        assert hit.parts is not None
        assert sum(part.share for part in hit.parts.values()) == pytest.approx(hit.score, abs=1e-4)
        assert (hit.parts["role"].share > 2) == (hit.entry.role.casefold() in roles)
        assert (hit.parts["time"].share > 0) == any(one.month == hit.entry.timestamp.month for one in dates)


@pytest.mark.parametrize("dimensions", [64, 256])
@pytest.mark.parametrize(
    "where",
    [Filter(role="Ada"), Filter(session_id="s7"), Filter(since=NOON + timedelta(minutes=300)), Filter(role="nobody")],
)
def test_a_filter_leaves_the_scores_of_a_memory_of_these_alone(where: Filter, dimensions: int) -> None:
    """Of what is filtered out nothing is to be learned from scores, by words or by everything."""
    service = EmbeddingService(HashingProvider(dimensions))
    with (
        DefaultMemoryManager.new_in_memory_with_embeddings(service) as everything,
        DefaultMemoryManager.new_in_memory_with_embeddings(service) as alone,
    ):
        everything.episodic.add_many(talk())
        alone.episodic.add_many(everything.episodic.scan(where))
        for mode in ("keyword", "hybrid"):
            for text in ("the lantern at the river", "a recipe from the doctor, and a ticket"):
                theirs = everything.episodic.search(text, 12, where=where, mode=mode)
                ours = alone.episodic.search(text, 12, mode=mode)
                assert [(hit.entry.id, hit.score) for hit in theirs] == [(hit.entry.id, hit.score) for hit in ours]
                assert len(ours) == (12 if mode == "hybrid" else len(ours)) or where.role == "nobody"


@pytest.mark.parametrize("dimensions", [64, 256])
def test_equal_scores_are_ordered_and_cut_by_label(dimensions: int) -> None:
    """Wherever their sessions stand: the last of these takes the place of one that is gone, before all others."""
    service = EmbeddingService(HashingProvider(dimensions))
    with DefaultMemoryManager.new_in_memory_with_embeddings(service) as memory:
        memory.episodic.add(EpisodicEntry("gone", "Ada", "a kettle", id="gone"))
        names = [f"e{number:02}" for number in range(40)]
        memory.episodic.add_many(EpisodicEntry(name, "Ada", "a copper kettle", id=name) for name in names)
        memory.episodic.delete(Filter(ids=frozenset(["gone"])))
        memory.episodic.add(EpisodicEntry("late", "Ada", "a copper kettle", id="late"))
        for k in (1, 5, 40):
            hits = memory.episodic.search("the kettle of copper", k, mode="hybrid")
            assert [hit.entry.id for hit in hits] == names[:k]
            assert len({hit.score for hit in hits}) == 1


def test_what_words_alone_find_comes_up(memory: DefaultMemoryManager) -> None:
    """An identifier that no embedding knows is found by everything; and at once, and no more when it is deleted."""
    memory.episodic.add_many(talk())
    memory.episodic.add(EpisodicEntry("log", "Tom", "the build failed with ERR_4711_QX in the night", id="it"))
    assert memory.episodic.search("ERR_4711_QX", 1)[0].entry.id == "it"
    assert [hit.entry.id for hit in memory.episodic.search("err 4711 qx", 5, mode="keyword")][:1] == ["it"]
    memory.episodic.delete(Filter(ids=frozenset(["it"])))
    assert memory.episodic.search("ERR_4711_QX", 3, mode="keyword") == []


def test_hits_bring_what_stands_around_them(memory: DefaultMemoryManager) -> None:
    """Of the same session, in order, whatever the filter says; but nothing expired, and nothing learned too late."""
    entries = talk(36)
    memory.episodic.add_many(entries)
    hits = memory.episodic.search("kettle", 5, where=Filter(role="Ada"), around=2, mode="hybrid")
    assert len(hits) == 5
    for hit in hits:
        session = [one.id for one in memory.episodic.get_session(hit.entry.session_id)]
        at = session.index(hit.entry.id)
        assert [one.id for one in hit.before] == session[max(0, at - 2) : at]
        assert [one.id for one in hit.after] == session[at + 1 : at + 3]
    near = memory.episodic.search("kettle", 1, where=Filter(ids=frozenset(["e0005"])), around=1)[0]
    assert [one.id for one in (*near.before, *near.after)] == ["e0004", "e0006"]
    gone = EpisodicEntry("s0", "Ada", "soon gone", timestamp=NOON + timedelta(minutes=4, seconds=30), expires_at=NOON)
    memory.episodic.add(gone)
    near = memory.episodic.search("kettle", 1, where=Filter(ids=frozenset(["e0005"])), around=1)[0]
    assert [one.id for one in near.before] == ["e0004"]
    early = Filter(ids=frozenset(["e0005"]), known_by=memory.episodic.get("e0005").ingestion_time)
    late = EpisodicEntry("s0", "Ada", "told later", timestamp=NOON + timedelta(minutes=5, seconds=30))
    memory.episodic.add(late)
    assert [one.id for one in memory.episodic.search("kettle", 1, where=early, around=9)[0].after][:1] != [late.id]


def test_a_vector_has_no_words(memory: DefaultMemoryManager) -> None:
    """It is looked for by meaning; asked to be found by words, that is said."""
    memory.episodic.add_many(talk(30))
    vector = memory.service.embed_one("kettle")
    assert [hit.score for hit in memory.episodic.search(vector, 3)] == pytest.approx(
        [hit.score for hit in memory.episodic.search("kettle", 3, mode="semantic")]
    )
    with pytest.raises(InputError, match="words"):
        memory.episodic.search(vector, 3, mode="hybrid")


def test_an_opened_file_answers_as_before(tmp_path: Path) -> None:
    """What filters and words look at is saved when the store is closed, and read when it is opened."""
    service = EmbeddingService(HashingProvider(64))
    config = MemoryConfig.for_production(service, path=tmp_path / "memory.db")
    with DefaultMemoryManager.with_config(config) as memory:
        memory.episodic.add_many(talk())
        before = [(hit.entry.id, hit.score) for hit in memory.episodic.search("Ada's velvet compass", 10)]
    names = {one.name for one in tmp_path.iterdir()}
    assert {"memory.db-rows-turns", "memory.db-rows-words"} <= names
    with DefaultMemoryManager.with_config(config) as memory:
        assert [(hit.entry.id, hit.score) for hit in memory.episodic.search("Ada's velvet compass", 10)] == before
    for one in ("memory.db-rows-turns", "memory.db-rows-words"):
        (tmp_path / one).write_bytes(b"damaged")
        with DefaultMemoryManager.with_config(config) as memory:
            assert [(hit.entry.id, hit.score) for hit in memory.episodic.search("Ada's velvet compass", 10)] == before
