"""The times that a question names are read as it means them, and words that only look like times are none."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmspell_memory import ConfigError, DefaultMemoryManager, EpisodicEntry, MissingDependencyError
from llmspell_memory.retrieval import NamedTimes, Ranking

NOW = datetime(2023, 8, 15, 12, tzinfo=UTC)  # a Tuesday
READ = NamedTimes()


def named(text: str, read: NamedTimes = READ) -> list[str]:
    """Return the times named, each as its first day and the first day after it."""
    return [f"{since:%Y-%m-%d} {until:%Y-%m-%d}" for since, until in read(text, NOW)]


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("What did Caroline do last May?", ["2023-05-01 2023-06-01"]),
        ("What was said on 7 March?", ["2023-03-07 2023-03-08"]),
        ("Who ran a race in 2022?", ["2022-01-01 2023-01-01"]),
        ("What did Tom buy in December?", ["2022-12-01 2023-01-01"]),
        ("Where were we yesterday?", ["2023-08-14 2023-08-15"]),
        ("Who came last week?", ["2023-08-07 2023-08-14"]),
        ("What did I say two weeks ago?", ["2023-07-31 2023-08-07"]),
        ("What did you recommend on Monday?", ["2023-08-14 2023-08-15"]),
        ("May I ask what you said on 2023-05-08?", ["2023-05-08 2023-05-09"]),
        ("Was it in May 2022, or in July 2021?", ["2022-05-01 2022-06-01", "2021-07-01 2021-08-01"]),
        ("What will happen in 3 days?", ["2023-08-18 2023-08-19"]),
        ("The plan of 5/8/2023", ["2023-05-08 2023-05-09"]),
    ],
)
def test_times_are_read_as_they_are_meant(text: str, times: list[str]) -> None:
    """Days, weeks from Monday on, months and years; without a year, the latest that has begun."""
    assert [one for one in named(text) if one in times] == times


@pytest.mark.parametrize(
    "text",
    [
        "What did we do about the sun and the sat images?",
        "May I ask you something?",
        "you may march",
        "error 4711 in build 20230501",
        "version v1.2.3 at 192.168.1.1 costs $300",
        "Which cat did she adopt?",
        "",
        "一二三",
        "\ud7ff￼\u200b",
    ],
)
def test_words_that_look_like_times_are_none(text: str) -> None:
    """What has the letters or digits of a time, and is none, moves nothing."""
    assert named(text) == []


def test_days_and_languages_are_by_choice() -> None:
    """The order of day and month, and whose words are known."""
    assert named("on 5/8/2023", NamedTimes(day_first=True)) == ["2023-08-05 2023-08-06"]
    assert named("Was war im März 2022?", NamedTimes(["de"])) == ["2022-03-01 2022-04-01"]
    assert named("¿Qué pasó en mayo de 2022?", NamedTimes(["es"])) == ["2022-05-01 2022-06-01"]
    with pytest.raises(ConfigError, match="dateparser knows"):
        NamedTimes(["klingon"])
    with pytest.raises(ConfigError, match="codes such as"):
        NamedTimes("en")
    with pytest.raises(ConfigError, match="codes such as"):
        NamedTimes([])


def test_days_begin_in_the_time_zone_of_the_asking() -> None:
    """Yesterday is a day of whoever asks."""
    zone = timezone(timedelta(hours=-11))
    ((since, until),) = READ("yesterday", NOW.astimezone(zone))
    assert (since.isoformat(), until - since) == ("2023-08-14T00:00:00-11:00", timedelta(days=1))


SCRAPS = st.sampled_from(["on", "in", "12", "31", "2023", "May", "99", "week", "ago", "/", "-", ":", "th", "last"])


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.lists(SCRAPS).map(" ".join))
def test_no_text_breaks_it(text: str) -> None:
    """Whatever a question is, times come in order and within the years that a calendar of ours has."""
    for since, until in READ(text, NOW):
        assert timedelta(hours=20) < until - since <= timedelta(days=366)
        assert since.tzinfo is until.tzinfo is UTC


def test_a_pasted_text_takes_no_seconds() -> None:
    """Only the beginning of a long text is looked at."""
    began = time.process_time()
    READ("on 7 March we met in 2022, and again two weeks ago. " * 2000, NOW)
    assert time.process_time() - began < 20.0


def test_threads_do_not_disturb_each_other() -> None:
    """Readers of several languages, used at once, answer as alone."""
    asked = [(READ, "on 7 March"), (NamedTimes(["de"]), "im März 2022"), (READ, "yesterday")] * 20
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: named(one[1], one[0]), asked))
    assert found == [["2023-03-07 2023-03-08"], ["2022-03-01 2022-04-01"], ["2023-08-14 2023-08-15"]] * 20


def test_a_named_time_brings_up_what_is_of_it() -> None:
    """Of entries that answer alike, that of the time named comes first, in whatever order they were stored."""
    with DefaultMemoryManager.new_in_memory() as memory:
        for month in (3, 5, 7):
            when = datetime(2023, month, 9, tzinfo=UTC)
            memory.episodic.add(EpisodicEntry(f"s{month}", "user", "I ran a race by the sea", timestamp=when))
        for month, name in ((3, "March"), (5, "May"), (7, "July")):
            ranking = Ranking(dates=READ, now=NOW)
            hits = memory.episodic.search(f"which race did I run in {name}?", 3, ranking=ranking, parts=True)
            assert hits[0].entry.session_id == f"s{month}"
            assert [hit.parts["dates"].share > 0 for hit in hits if hit.parts] == [True, False, False]


def test_without_its_extra_it_says_what_to_install() -> None:
    """Nothing else of the package needs dateparser."""
    code = """
import sys
sys.modules["dateparser"] = None
from llmspell_memory import MissingDependencyError
from llmspell_memory.retrieval import NamedTimes
try:
    NamedTimes()
except MissingDependencyError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "llmspell-memory[dates]" in said
    assert issubclass(MissingDependencyError, ImportError)
