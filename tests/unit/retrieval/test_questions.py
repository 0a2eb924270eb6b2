"""What a question tells of what it is after: who said it, when, and what stands together in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.index.function_words import is_keywords, without_function_words
from llmspell_memory.retrieval.dates import named_dates

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def memory() -> Iterator[DefaultMemoryManager]:
    with DefaultMemoryManager.new_in_memory_with_embeddings(EmbeddingService(HashingProvider(64))) as opened:
        yield opened


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("what happened on 7 May 2023?", [(2023, 5, 7)]),
        ("on May 7th, 2023", [(2023, 5, 7)]),
        ("between the 3rd of June and July 21", [(0, 6, 3), (0, 7, 21)]),
        ("in early september, mid-October", [(0, 9, 0), (0, 10, 0)]),
        ("the plan of May 2022, and again in May 2022", [(2022, 5, 0)]),
        ("2024-03-01 and 2024-04", [(2024, 3, 1), (2024, 4, 0)]),
        ("am 7. März 2024", [(2024, 3, 7)]),
        ("el 7 de mayo de 2023, le 1er août", [(2023, 5, 7), (0, 8, 1)]),
        ("2023年5月7日和6月", [(2023, 5, 7), (0, 6, 0)]),
        ("what may April march for, on Mars, and which 3 may come in march?", []),
        ("2024-13-01, 45 May, version 1.2024-05, 12024-05-01", []),
        ("in March at 7:30", [(0, 3, 0)]),
    ],
)
def test_dates_are_read(text: str, dates: list[tuple[int, int, int]]) -> None:
    """Days and months in several languages and notations; what may be a name is none without a hint."""
    assert list(named_dates(text)) == dates


def test_what_was_said_then_comes_first(memory: DefaultMemoryManager) -> None:
    """Of equal turns the one of the day that is named; then those of its month, of any year where none is named."""
    days = [NOON + timedelta(days=37 * number) for number in range(20)]
    memory.episodic.add_many(
        [EpisodicEntry(f"s{day:%Y%m%d}", "Ada", "We went to the harbour", timestamp=day) for day in days]
    )
    day = days[7]
    hits = memory.episodic.search(f"the harbour on {day:%d %B %Y}", 20, parts=True)
    assert hits[0].entry.timestamp == day
    assert [hit.parts["time"].share for hit in hits if hit.parts and hit.entry.timestamp == day] == [3.0]
    of_month = [hit.entry.timestamp for hit in memory.episodic.search(f"the harbour in {day:%B}", 2)]
    assert all(one.month == day.month for one in of_month[: sum(one.month == day.month for one in days)])


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("what did you recommend for the kettle?", "assistant"),
        ("you told me of a kettle", "assistant"),
        ("your advice on the kettle", "assistant"),
        ("which kettle did I buy?", "user"),
        ("my kettle", "user"),
        ("can you remind me of the kettle?", None),
        ("the kettle of my plan that we talked about", None),
        ("the kettle", None),
        ("what would you recommend for a kettle?", None),
    ],
)
def test_i_and_you_mean_user_and_assistant(memory: DefaultMemoryManager, text: str, role: str | None) -> None:
    """Entries of who is meant gain as much as those of who is named."""
    memory.episodic.add_many(
        [EpisodicEntry("s", ("user", "assistant", "tool")[turn % 3], f"a kettle {turn}") for turn in range(12)]
    )
    hits = memory.episodic.search(text, 12, parts=True)
    assert {hit.entry.role for hit in hits if hit.parts and hit.parts["role"].share > 2} == ({role} if role else set())


def test_sessions_of_who_is_named_come_first(memory: DefaultMemoryManager) -> None:
    """Of equal turns of others, those that were said to the one who is named."""
    for number, names in enumerate([("Ada", "Tom"), ("Eve", "Tom"), ("Bo", "Tom")]):
        for turn in range(6):
            memory.episodic.add(EpisodicEntry(f"s{number}", names[turn % 2], "we repaired the violin"))
    hits = memory.episodic.search("what did Eve hear of the violin?", 6)
    assert {hit.entry.session_id for hit in hits} == {"s1"}
    assert [hit.entry.role for hit in hits] == ["Eve"] * 3 + ["Tom"] * 3


def test_words_that_stand_together_are_found_deep_in_a_long_text(memory: DefaultMemoryManager) -> None:
    """What is asked for stands in one sentence far behind, and here and there in other texts, early in each."""
    filler = " ".join(f"word{number}" for number in range(600))
    memory.episodic.add(
        EpisodicEntry("deep", "assistant", f"{filler} the copper lantern of the orchard mill {filler}", id="it")
    )
    for number, word in enumerate(["copper", "lantern", "orchard", "mill"] * 10):
        memory.episodic.add(EpisodicEntry(f"s{number}", "assistant", f"{word} {number} {filler}"))
    assert memory.episodic.search("copper lantern orchard mill", 1)[0].entry.id == "it"


def test_words_of_telling_are_not_looked_for() -> None:
    """A question about a conversation has words that it is not about."""
    assert without_function_words("What did Ada say of the kettle, do you remember?", "english") == "Ada kettle,"
    assert without_function_words("say", "english") == "say"
    assert without_function_words("Was sagte Ada?", "german") == "Was sagte Ada?"


@pytest.mark.parametrize(
    ("text", "keywords"),
    [
        ("ERR_4711_QX", True),
        ("cracked tank serial", True),
        ("the cracked tank", False),
        ("Cracked tank?", False),
        ("where is it", False),
    ],
)
def test_keywords_are_no_question(memory: DefaultMemoryManager, text: str, *, keywords: bool) -> None:
    """What an entry is worth whatever is asked does not count for them."""
    assert is_keywords(text, "english") == keywords
    assert not is_keywords(text, "german")
    memory.episodic.add(EpisodicEntry("s", "user", "I saw the cracked tank with the serial ERR_4711_QX"))
    parts = memory.episodic.search(text, 1, parts=True)[0].parts
    assert parts is not None
    assert (parts["worth"].share == 0) == keywords
