"""Search by words, judged by BM25 written down once more in plain Python."""

from __future__ import annotations

import math
import threading
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmspell_memory.errors import ConfigError, InputError
from llmspell_memory.index import Analyzer, KeywordIndex, LabelSet
from llmspell_memory.types import KeywordConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FAR = 2**62


class Judge:
    """BM25 (Robertson & Zaragoza 2009) over texts by label, in Python's floats."""

    def __init__(self, texts: Mapping[int, str], config: KeywordConfig | None = None) -> None:
        self.config = config or KeywordConfig()
        self.analyzer = Analyzer(self.config.language)
        self.rows = {label: Counter(self.analyzer.terms(text)) for label, text in texts.items()}

    def score(self, query: str, label: int) -> float:
        k1 = self.config.k1
        mean = sum(row.total() for row in self.rows.values()) / len(self.rows)
        total = 0.0
        for term in self.analyzer.terms(query):
            tf = self.rows[label][term]
            if tf == 0:
                continue
            df = sum(term in row for row in self.rows.values())
            idf = math.log(1 + (len(self.rows) - df + 0.5) / (df + 0.5))
            b = mean / (mean + 20) if self.config.b is None else self.config.b
            norm = k1 * (1 - b + b * self.rows[label].total() / mean)
            total += idf * tf * (k1 + 1) / (tf + norm)
        return total

    def scores(self, query: str) -> dict[int, float]:
        """Return the scores of all rows that have a term of the query."""
        found = {label: self.score(query, label) for label in self.rows}
        return {label: score for label, score in found.items() if score > 0}


def index_of(texts: Mapping[int, str], config: KeywordConfig | None = None) -> KeywordIndex:
    index = KeywordIndex(config)
    index.add(np.array(list(texts), np.int64), list(texts.values()))
    return index


def found(index: KeywordIndex, query: str, k: int, among: Sequence[int] | None = None) -> list[tuple[int, float]]:
    allowed = None if among is None else LabelSet(np.array(among, np.int64))
    labels, scores = index.search(query, k, among=allowed)
    return list(zip(labels.tolist(), scores.tolist(), strict=True))


def assert_best(hits: Sequence[tuple[int, float]], truth: Mapping[int, float], k: int) -> None:
    """The hits are the k best, their scores true, in order; equal ones by label."""
    assert len(hits) == min(k, len(truth))
    assert hits == sorted(hits, key=lambda hit: (-hit[1], hit[0]))
    for label, score in hits:
        assert score == pytest.approx(truth[label], rel=1e-5)
    rest = truth.keys() - {label for label, _ in hits}
    if hits:
        assert all(truth[label] <= hits[-1][1] * (1 + 1e-5) for label in rest)


# --- what is found ----------------------------------------------------------------------------------------------------

words = st.sampled_from(["fig", "oak", "elm", "ash", "yew", "bay", "ivy", "may", "fir", "box"])
texts = st.lists(words, max_size=12).map(" ".join)
labels = st.integers(0, 200) | st.sampled_from([FAR, FAR + 1, 2**63 - 1])
configs = st.builds(
    KeywordConfig,
    language=st.just(None),
    k1=st.sampled_from([0, 0.3, 1.2, 100]),
    b=st.sampled_from([None, 0, 0.6, 1.0]),
)


@settings(deadline=None)
@given(st.dictionaries(labels, texts, max_size=30), texts, st.integers(0, 40), configs)
def test_the_best_are_those_of_the_judge(rows: dict[int, str], query: str, k: int, config: KeywordConfig) -> None:
    """Hits, their order and their scores are BM25's, for any rows, parameters and k."""
    index = index_of(rows, config)
    truth = Judge(rows, config).scores(query) if rows else {}
    assert_best(found(index, query, k), truth, k)
    wanted = [*rows, 777]
    np.testing.assert_allclose(index.scores(query, wanted), [truth.get(label, 0) for label in wanted], rtol=1e-5)
    assert index.check() == ""


@settings(deadline=None)
@given(st.dictionaries(labels, texts, min_size=1, max_size=30), texts, st.sets(labels, max_size=60))
def test_filtered_is_as_an_index_of_those_rows_alone(rows: dict[int, str], query: str, among: set[int]) -> None:
    """Labels and scores under a filter are, to the bit, those of an index that holds nothing else."""
    index = index_of(rows)
    alone = index_of({label: rows[label] for label in rows if label in among})
    allowed = sorted(among)
    assert found(index, query, 10, allowed) == found(alone, query, 10)
    inside = sorted(among & rows.keys())
    assert index.scores(query, inside, among=allowed).tolist() == alone.scores(query, inside).tolist()
    as_array = index.search(query, 10, among=np.array(allowed, np.int64))
    assert as_array[0].tolist() == [label for label, _ in found(index, query, 10, allowed)]


@pytest.fixture(scope="module")
def many() -> dict[int, str]:
    """Some thousand rows of words as frequent as words are, some long, with gaps between their labels."""
    chance = np.random.default_rng(3)
    vocabulary = [f"w{number}x" for number in range(2000)]
    rows = {}
    for place in range(6000):
        length = 400 if place % 500 == 0 else int(chance.integers(0, 25))
        ranks = np.minimum(chance.zipf(1.25, length), 2000) - 1
        rows[place + place // 100 * 70] = " ".join(vocabulary[rank] for rank in ranks)
    return rows


def queries_of(rows: Mapping[int, str], count: int) -> list[str]:
    chance = np.random.default_rng(5)
    chosen = [rows[label] for label in chance.choice(list(rows), count)]
    return [
        *chosen,
        "w0x",
        "w0x w1x",
        "w0x w0x w1999x",
        "w0x w1x w2x w3x w4x w5x w6x w7x w8x",
        "nowhere",
        "",
        "w300x nowhere",
    ]


@pytest.mark.parametrize("share", [None, 0.9, 0.5, 0.1, 0.01])
@pytest.mark.parametrize("k", [1, 10, 300, 10_000])
def test_leaving_out_rows_leaves_out_no_hit(many: dict[int, str], k: int, share: float | None) -> None:
    """However the search goes about it, its hits are the first k of all scores, to the bit."""
    index = index_of(many)
    chance = np.random.default_rng(7)
    held = np.array(sorted(many), np.int64)
    among = held if share is None else np.sort(chance.choice(held, int(len(held) * share), replace=False))
    allowed = None if share is None else LabelSet(among)
    for query in queries_of(many, 25):
        every = index.scores(query, among, among=allowed)
        order = np.lexsort((among, -every))
        order = order[every[order] > 0][:k]
        got, scores = index.search(query, k, among=allowed)
        assert got.tolist() == among[order].tolist()
        assert scores.tolist() == every[order].tolist()


def test_many_rows_are_scored_as_by_the_judge(many: dict[int, str]) -> None:
    """Scores among thousands of rows are BM25's, too."""
    some = dict(list(many.items())[:600])
    index, judge = index_of(some), Judge(some)
    for query in queries_of(some, 3):
        assert_best(found(index, query, 20), judge.scores(query), 20)


@pytest.mark.parametrize("share", [0.6, 0.2, 0.02])
def test_many_filtered_are_as_an_index_of_those_rows_alone(many: dict[int, str], share: float) -> None:
    """By whichever way a filter of any width is counted, hits and scores are those of its rows alone, to the bit."""
    index = index_of(many)
    inside = sorted(np.random.default_rng(9).choice(list(many), int(len(many) * share), replace=False).tolist())
    alone = index_of({label: many[label] for label in inside})
    for query in queries_of(many, 25):
        assert found(index, query, 15, inside) == found(alone, query, 15)


def test_equal_scores_come_by_label() -> None:
    """Equal texts score equally and come by label, in whatever order they were added."""
    order = np.random.default_rng(1).permutation(3000)
    index = KeywordIndex()
    index.add(order, ["a plain word"] * 3000)
    for k in (1, 7, 500, 5000):
        assert index.search("word", k)[0].tolist() == list(range(min(k, 3000)))
    assert index.search("word", 3, among=[2000, 40, 1000, 7000])[0].tolist() == [40, 1000, 2000]


def test_what_occurs_too_often_counts_as_often_as_is_told() -> None:
    """A word counts up to 255 times in a text."""
    index = KeywordIndex(KeywordConfig(language=None, k1=100.0, b=0.0))
    index.add([1, 2, 3], ["elm " * 255, "elm " * 300, "oak"])
    first, second, third = index.scores("elm", [1, 2, 3]).tolist()
    assert first == second > third == 0
    assert found(index, "elm", 2) == [(1, first), (2, first)]


# --- what comes and goes ----------------------------------------------------------------------------------------------


def test_an_add_is_seen_at_once_and_a_remove_leaves_nothing() -> None:
    """Each change shows in the next search, also among the figures."""
    index = KeywordIndex()
    index.add([5], ["The cats are sleeping"])
    assert found(index, "cat", 3)[0][0] == 5
    index.add([5], ["A dog barks"])
    assert found(index, "cat", 3) == []
    assert found(index, "dogs", 3)[0][0] == 5
    index.remove([5, 6])
    assert found(index, "dog", 3) == []
    assert (len(index), index.stats().terms, index.check()) == (0, 0, "")


def test_a_label_given_twice_in_one_call_keeps_the_last_text() -> None:
    index = KeywordIndex()
    index.add([3, 3, 3], ["one", "two", "three"])
    assert (len(index), index.stats().terms) == (1, 1)
    assert [label for label, _ in found(index, "one two three", 5)] == [3]


def test_a_long_life_costs_no_more_than_a_short_one(many: dict[int, str]) -> None:
    """Where old rows go as new ones come, memory stays, and answers are those of a new index."""
    index = KeywordIndex()
    rows = list(many.values())
    sizes = []
    for turn in range(6):
        first = turn * 6000
        index.add(np.arange(first, first + 6000), rows)
        index.remove(np.arange(max(0, first - 3000), first + 3000))
        sizes.append(index.stats().memory_bytes)
        assert index.check() == ""
    assert sizes[-1] <= 1.3 * sizes[1]
    fresh = index_of(dict(enumerate(rows[3000:], start=5 * 6000 + 3000)))
    assert len(index) == len(fresh) == 3000
    for query in queries_of(many, 10):
        assert found(index, query, 20) == found(fresh, query, 20)


def test_one_writes_while_many_read() -> None:
    """Searches beside a writer answer from whole rows: what never changes is always found, scores are in order."""
    index = KeywordIndex()
    index.add(np.arange(500), [f"steady number{place} common" for place in range(500)])
    done = threading.Event()
    faults: list[object] = []

    def read(seed: int) -> None:
        chance = np.random.default_rng(seed)
        allowed = LabelSet(np.arange(0, 1000, 2))
        try:
            while not done.is_set():
                place = int(chance.integers(500))
                labels, scores = index.search(f"number{place} common", 5)
                if labels[0] != place or len(labels) != 5 or (np.diff(scores) > 0).any():
                    faults.append((place, labels, scores))
                if (
                    len(index.search("steady", 600)[0]) < 500
                    or len(index.search("steady", 600, among=allowed)[0]) < 250
                ):
                    faults.append("a row is missing")
        except Exception as error:  # noqa: BLE001 (shown below)
            faults.append(error)

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    for reader in readers:
        reader.start()
    chance = np.random.default_rng(9)
    for _ in range(300):
        moving = chance.integers(500, 3000, 20)
        index.add(moving, [f"moving common word{place}" for place in moving])
        index.remove(chance.integers(500, 3000, 10))
    done.set()
    for reader in readers:
        reader.join()
    assert faults == []
    assert index.check() == ""


# --- what is refused --------------------------------------------------------------------------------------------------


def test_unacceptable_arguments_are_told() -> None:
    """Each raises an InputError, and nothing is added."""
    index = KeywordIndex()
    with pytest.raises(InputError, match="as many texts as labels"):
        index.add([1, 2], ["one"])
    with pytest.raises(InputError, match="as many texts as labels"):
        index.add([1], "a")
    with pytest.raises(InputError, match="must be a str"):
        index.add([1, 2], ["one", 2])  # type: ignore[list-item]
    with pytest.raises(InputError, match="labels must"):
        index.add([-1], ["one"])
    with pytest.raises(InputError, match="k must be"):
        index.search("one", -1)
    with pytest.raises(InputError, match="k must be"):
        index.search("one", True)
    with pytest.raises(InputError, match="must be a str"):
        index.search(1, 1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="labels must"):
        index.search("one", 1, among=[-4])
    with pytest.raises(InputError, match="must be a str"):
        index.scores(b"one", [1])  # type: ignore[arg-type]
    assert len(index) == 0


def test_lone_surrogates_do_no_harm() -> None:
    """A text that is not quite Unicode is searched for and added without them."""
    index = KeywordIndex()
    index.add([1], ["left\ud800right"])
    assert [label for label, _ in found(index, "right \udfff", 2)] == [1]


@pytest.mark.parametrize(
    "values", [{"k1": -1}, {"k1": True}, {"b": 1.01}, {"b": math.nan}, {"k1": "1"}, {"language": 3}, {"k1": math.inf}]
)
def test_parameters_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="KeywordConfig"):
        KeywordConfig(**values)  # type: ignore[arg-type]


def test_a_language_without_a_stemmer_is_refused() -> None:
    with pytest.raises(ConfigError, match="language must be one of arabic"):
        KeywordIndex(KeywordConfig(language="klingon"))
