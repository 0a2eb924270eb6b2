"""Hits are weighed again as a `Ranking` says, whatever their scores are, and nothing comes in that was not found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspell_memory import (
    ConfigError,
    DefaultMemoryManager,
    EmbeddingService,
    EpisodicEntry,
    Filter,
    Hit,
    InputError,
    MemoryConfig,
)
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.retrieval import Ranking
from llmspell_memory.retrieval.refine import ranks, refined
from llmspell_memory.types import Part, SearchMode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmspell_memory import EpisodicMemory

NOW = datetime(2025, 6, 18, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def hit(name: str, score: float, *, days: float = 0.0, vector: Sequence[float] = (1.0, 0.0)) -> Hit:
    """Return a hit of an entry that is some days old."""
    when = NOW - days * DAY
    return Hit(EpisodicEntry("s", "user", name, id=name, timestamp=when, embedding=np.array(vector)), score)


def order(hits: list[Hit], ranking: Ranking, k: int = 10, text: str = "query") -> str:
    return "".join(one.entry.id for one in refined(hits, k, ranking, text=text, known_by=NOW, parts=False))


class ByLength:
    """Judges a text by its length, which a test can foretell."""

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        del query
        return [float(len(text)) for text in texts]


@given(
    scores=st.lists(st.integers(-1000, 1000), min_size=2, max_size=12, unique=True),
    ages=st.lists(st.floats(0, 1000), min_size=12, max_size=12),
    scale=st.sampled_from([2.0**-10, 1.0, 2.0**9]),
    offset=st.integers(-4096, 4096),
)
def test_the_scale_of_scores_does_not_matter(scores: list[int], ages: list[float], scale: float, offset: int) -> None:
    """Cosines, BM25 scores, negative distances: scores moved and stretched are ranked alike by age."""
    ranking = Ranking(half_life=30 * DAY, recency=0.5)
    falling = sorted(scores, reverse=True)
    plain = [hit(chr(97 + n), float(score), days=ages[n]) for n, score in enumerate(falling)]
    moved = [hit(chr(97 + n), score * scale + offset * scale, days=ages[n]) for n, score in enumerate(falling)]
    gains = [refined(hits, 12, ranking, text="", known_by=NOW, parts=True) for hits in (plain, moved)]
    shares = [[one.parts["recency"].share for one in hits if one.parts] for hits in gains]
    assert [one.entry.id for one in gains[0]] == [one.entry.id for one in gains[1]]
    assert np.allclose(np.array(shares[0]) * scale, shares[1])


def test_a_half_life_halves_the_gain() -> None:
    """Of a spread of 4 and a weight of 1/2, what is new gains 2, what is a half-life old 1, and two 1/2; none loses."""
    hits = [hit("a", 4.0, days=20), hit("b", 3.0, days=10), hit("c", 2.0, days=0), hit("d", 0.0, days=-5)]
    found = refined(hits, 4, Ranking(half_life=10 * DAY, recency=0.5), text="", known_by=NOW, parts=True)
    assert {one.entry.id: one.score for one in found} == {"a": 4.5, "b": 4.0, "c": 4.0, "d": 2.0}
    assert "".join(one.entry.id for one in found) == "abcd"
    assert found[0].parts == {"recency": Part(0.25, 0.5, 4)}
    assert found[3].parts == {"recency": Part(1.0, 2.0, 1)}


def test_a_lead_larger_than_the_weight_stays() -> None:
    """Being recent lets a hit pass another only where that is ahead by less than the weight of the spread."""
    hits = [hit("a", 1.0, days=9999), hit("b", 0.8, days=0), hit("c", 0.0, days=9999)]
    assert order(hits, Ranking(half_life=DAY, recency=0.19)) == "abc"
    assert order(hits, Ranking(half_life=DAY, recency=0.21)) == "bac"
    assert order([hit("a", 0.5, days=3), hit("b", 0.5, days=1)], Ranking(half_life=DAY, recency=0.01)) == "ba"


def test_named_times_lift_what_happened_then() -> None:
    """Any function from a text and a moment to spans of time will do; a span's end is not part of it."""
    asked: list[tuple[str, datetime]] = []

    def reader(text: str, now: datetime) -> list[tuple[datetime, datetime]]:
        asked.append((text, now))
        return [(NOW - 3 * DAY, NOW - 2 * DAY)]

    hits = [hit("a", 1.0, days=1), hit("b", 0.9, days=2), hit("c", 0.6, days=3), hit("d", 0.0, days=9)]
    assert order(hits, Ranking(dates=reader)) == "cabd"
    assert order(hits, Ranking(dates=reader, naming=0.3)) == "abcd"
    assert order(hits, Ranking(dates=reader), text="") == "abcd", "a vector names no time"
    assert asked == [("query", NOW)] * 2
    with pytest.raises(InputError, match="pairs of timezone-aware datetimes"):
        order(hits, Ranking(dates=lambda text, now: [(now.replace(tzinfo=None), now)]))  # noqa: ARG005 (a reader's)


def test_near_duplicates_are_one_hit() -> None:
    """Of hits as near as the threshold, or of equal words in whatever case, the best stays."""
    hits = [
        hit("a", 0.9, vector=(1, 0)),
        hit("b", 0.8, vector=(1, 0.1)),
        hit("c", 0.7, vector=(0, 1)),
        hit("d", 0.6, vector=(0.5, 1)),
        hit("e", 0.5, vector=(0, 0)),
        hit("f", 0.4, vector=(0, 0)),
    ]
    assert order(hits, Ranking(near_duplicates=0.99)) == "acdef"
    assert order(hits, Ranking(near_duplicates=0.8)) == "acef"
    assert order(hits, Ranking(near_duplicates=1.0)) == "abcdef"
    same = [
        Hit(EpisodicEntry("s", "user", text, id=str(n)), 1.0 - n)
        for n, text in enumerate(["Good  night!", "good night", "Good knight", "🙂", "🙂", "🙃"])
    ]
    assert order(same, Ranking(near_duplicates=1.0)) == "0235"


def test_the_better_of_two_alike_is_so_by_all_that_counts() -> None:
    """Age is weighed before near duplicates are left out: the newer copy stays where it is the better by then."""
    hits = [hit("a", 0.51, days=99), hit("b", 0.5, days=0), hit("c", 0.0, vector=(0, 1))]
    assert order(hits, Ranking(near_duplicates=0.9)) == "ac"
    assert order(hits, Ranking(near_duplicates=0.9, half_life=DAY)) == "bc"


def test_variety_trades_against_relevance() -> None:
    """With weight 1 the order is that of the scores; with less, what resembles hits before it comes later."""
    hits = [hit("a", 1.0, vector=(1, 0)), hit("b", 0.9, vector=(1, 0.01)), hit("c", 0.1, vector=(0, 1)), hit("d", 0.0)]
    assert order(hits, Ranking(mmr=1.0)) == "abcd"
    assert order(hits, Ranking(mmr=0.5), k=3) == "acb"
    assert order(hits, Ranking(mmr=0.0), k=2) == "ac"
    assert [one.score for one in refined(hits, 2, Ranking(mmr=0.5), text="", known_by=None, parts=False)] == [1.0, 0.1]


def test_a_reranker_decides() -> None:
    """Its scores take the place of the others, which remain in the parts with no share; gains come on top."""
    hits = [
        Hit(EpisodicEntry("s", "user", "x" * (n + 1), id=str(n)), 9.0 - n, {"meaning": Part(9.0 - n, 9.0 - n, n + 1)})
        for n in range(4)
    ]
    found = refined(hits, 2, Ranking(reranker=ByLength()), text="query", known_by=None, parts=True)
    assert [one.score for one in found] == [4.0, 3.0]
    assert found[0].parts == {"meaning": Part(6.0, 0.0, 4), "reranker": Part(4.0, 4.0, 1)}
    for wrong in ([1.0], ["a"] * 4, [float("nan")] * 4):
        bad: Any = ByLength()
        bad.rerank = lambda query, texts, wrong=wrong: wrong  # noqa: ARG005 (a reranker's)
        with pytest.raises(InputError, match="a reranker must return"):
            refined(hits, 2, Ranking(reranker=bad), text="query", known_by=None, parts=False)


def test_shares_add_up_to_the_score() -> None:
    """Whatever is done, the parts of a hit say where its score comes from."""
    hits = [
        Hit(hit(f"{n}", 0, days=n).entry, score, {"meaning": Part(score, score, n + 1)})
        for n, score in enumerate([3.5, 2.25, -1.0])
    ]
    ranking = Ranking(half_life=DAY, dates=lambda text, now: [(now - 1.5 * DAY, now)], mmr=0.7)  # noqa: ARG005
    for one in refined(hits, 3, ranking, text="q", known_by=NOW, parts=True):
        assert one.parts is not None
        assert set(one.parts) == {"meaning", "recency", "dates"}
        assert sum(part.share for part in one.parts.values()) == pytest.approx(one.score)


def test_equal_values_share_a_rank() -> None:
    """The highest is first; equal ones have the better place."""
    assert ranks(np.array([0.5, 2.0, 0.5, -1.0])) == [2, 1, 2, 4]


@pytest.mark.parametrize(
    "wrong",
    [
        {"half_life": timedelta()},
        {"half_life": 3.0},
        {"recency": 1.5},
        {"naming": "much"},
        {"near_duplicates": 0},
        {"near_duplicates": 1.01},
        {"mmr": -0.1},
        {"mmr": True},
        {"reranker": len},
        {"dates": "last May"},
        {"pool": 0},
        {"pool": 10_001},
        {"now": datetime(2025, 1, 1)},  # noqa: DTZ001 (what is refused)
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, Any]) -> None:
    """Each on construction, by its name."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Ranking(**wrong)


# --- through a memory ------------------------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[EpisodicMemory]:
    config = MemoryConfig(service=EmbeddingService(HashingProvider(64)))
    with DefaultMemoryManager.with_config(config) as manager:
        manager.episodic.add_many(
            EpisodicEntry(
                f"s{n % 3}", "user", f"The dog ran {'far ' * (n % 7)}today", id=f"n{n:02}", timestamp=NOW - n * DAY
            )
            for n in range(60)
        )
        yield manager.episodic


def test_a_search_without_a_ranking_is_as_before(memory: EpisodicMemory) -> None:
    """A ranking in which nothing is asked for changes nothing either."""
    plain = memory.search("dog far", 20)
    assert memory.search("dog far", 20, ranking=Ranking()) == plain
    assert memory.search("dog far", 20, mode="hybrid") == plain


def test_no_ranking_lets_in_what_the_filter_excludes(memory: EpisodicMemory) -> None:
    """Whatever is weighed, hits match the filter; and there are k where k match."""
    where = Filter(session_id="s1", since=NOW - 30 * DAY)
    ranking = Ranking(half_life=DAY, mmr=0.5, reranker=ByLength(), now=NOW)
    hits = memory.search("dog", 8, where=where, ranking=ranking)
    assert len(hits) == 8
    assert all(where.matches(one.entry) for one in hits)


def test_a_pool_grows_until_there_are_enough_different_ones(memory: EpisodicMemory) -> None:
    """Of 60 entries there are 7 different ones; a pool of 3 finds them all the same."""
    hits = memory.search("dog", 7, ranking=Ranking(near_duplicates=1.0, pool=3))
    assert len({one.entry.content for one in hits}) == len(hits) == 7
    assert len(memory.search("dog", 10, ranking=Ranking(near_duplicates=1.0))) == 7


def test_recent_entries_come_first_among_equals(memory: EpisodicMemory) -> None:
    """Entries of equal words are found by age; what was known at a moment is measured from that moment."""
    ranking = Ranking(half_life=10 * DAY, now=NOW)
    hits = memory.search("The dog ran today", 3, mode="semantic", ranking=ranking)
    assert [one.entry.id for one in hits] == ["n00", "n07", "n14"]


def test_what_needs_words_is_refused_for_a_vector(memory: EpisodicMemory) -> None:
    """A vector has no words to look for, and none to compare."""
    vector = memory.service.embed_one("dog")
    assert memory.search(vector, 2) == memory.search(vector, 2, mode="semantic")
    for mode in get_args(SearchMode)[1:]:
        with pytest.raises(InputError, match="looks for words"):
            memory.search(vector, 2, mode=mode)
    with pytest.raises(InputError, match="reranker"):
        memory.search(vector, 2, ranking=Ranking(reranker=ByLength()))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "fuzzy"}, "mode must be"),
        ({"around": -1}, "around must be"),
        ({"around": True}, "around must be"),
        ({"ranking": 3}, "ranking must be a Ranking"),
        ({"k": -1}, "k must be"),
        ({"where": None}, "where must be"),
        ({"query": ""}, "query must not be empty"),
    ],
)
def test_wrong_arguments_of_a_search_are_refused(memory: EpisodicMemory, given: dict[str, Any], message: str) -> None:
    """Each says what it should be."""
    with pytest.raises(InputError, match=message):
        memory.search(**{"query": "dog", **given})


def test_the_mode_of_a_memory_is_a_setting() -> None:
    """A manager, its scopes and a configuration name it; an unknown one is refused."""
    config = MemoryConfig.for_testing().with_search_mode("keyword")
    with DefaultMemoryManager.with_config(config) as manager:
        assert manager.episodic.search_mode == manager.scoped("a").episodic.search_mode == "keyword"
    with pytest.raises(ConfigError, match="search_mode"):
        config.with_search_mode("fuzzy")  # type: ignore[arg-type]  # what is refused
