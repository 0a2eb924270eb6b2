"""A keyword index in a file: what comes back, what damage does, and that nothing forgotten is in it."""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llmspell_memory.errors import CorruptDataError, InputError, SchemaError, StorageError
from llmspell_memory.index import HNSWIndex, KeywordIndex, analysis
from llmspell_memory.types import KeywordConfig

if TYPE_CHECKING:
    import unittest

HEADER = 1024
FAR = 2**62


def grown() -> KeywordIndex:
    """Return an index with a history: replaced texts, gaps, labels far apart, texts without a word."""
    index = KeywordIndex(KeywordConfig(language="german", k1=0.9, b=0.4))
    index.add(np.arange(700), [f"Häuser und Wege {place % 90} in {place}" for place in range(700)])
    index.add([FAR, FAR + 1, 900], ["weit weg", "", "..."])
    index.add(np.arange(100, 150), [f"ein anderer Weg {place}" for place in range(50)])
    index.remove(np.arange(0, 700, 3))
    return index


def answers(index: KeywordIndex) -> list[object]:
    """Return what the index says to some questions."""
    said: list[object] = [len(index), index.stats().terms, index.config]
    for query in ("Haus", "Weg 17", "anderer weit", "und in", "nirgends"):
        for among in (None, np.arange(0, 700, 2)):
            labels, scores = index.search(query, 20, among=among)
            said.append((labels.tolist(), scores.tolist()))
    return said


def inside_sections(data: bytes) -> np.ndarray:
    """Return which bytes are checked: the header, and what lies in a section."""
    inside = np.zeros(len(data), bool)
    inside[:HEADER] = True
    (count,) = struct.unpack_from("<I", data, 12)
    for _, _, offset, size in struct.iter_unpack("<IIQQ", data[16 : 16 + 24 * count]):
        inside[offset : offset + size] = True
    return inside


def test_what_was_saved_is_opened(tmp_path: Path) -> None:
    """Answers, configuration and tag come back, every invariant holds, and both go on alike."""
    index = grown()
    index.save(tmp_path / "an.idx", tag=2**64 - 1)
    opened = KeywordIndex.open(tmp_path / "an.idx")
    assert opened.tag == 2**64 - 1
    assert answers(opened) == answers(index)
    for one in (index, opened):
        one.add(np.arange(600, 800), [f"Neue Häuser {place}" for place in range(200)])
        one.remove(np.arange(50, 300))
        assert one.check() == ""
    assert answers(opened) == answers(index)
    assert [one.name for one in tmp_path.iterdir()] == ["an.idx"]


def test_an_empty_one_comes_back(tmp_path: Path) -> None:
    index = KeywordIndex()
    index.save(tmp_path / "an.idx")
    opened = KeywordIndex.open(tmp_path / "an.idx")
    assert (len(opened), opened.check(), opened.tag, opened.config) == (0, "", 0, KeywordConfig())
    opened.add([1], ["word"])
    assert opened.search("word", 1)[0].tolist() == [1]


def test_frequent_words_come_back(tmp_path: Path) -> None:
    """What is kept for frequent words alone is there again after opening."""
    index = KeywordIndex()
    index.add(np.arange(5000), [f"the house number {place}" for place in range(5000)])
    index.save(tmp_path / "an.idx")
    opened = KeywordIndex.open(tmp_path / "an.idx")
    assert opened.check() == ""
    among = np.arange(0, 5000, 2)
    for query in ("the house", "the 77", "number 4000"):
        for one, other in zip(index.search(query, 9, among=among), opened.search(query, 9, among=among), strict=True):
            assert np.array_equal(np.asarray(one), np.asarray(other))


def test_a_changed_byte_is_found_or_changes_nothing(tmp_path: Path) -> None:
    """Opening reports it, or it lies between sections and all answers are as before."""
    path = tmp_path / "an.idx"
    index = grown()
    index.save(path)
    data = path.read_bytes()
    inside = inside_sections(data)
    chance = np.random.default_rng(2)
    between = np.flatnonzero(~inside)[:5].tolist()
    for place in [*range(20), *between, *chance.integers(0, len(data), 200).tolist()]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(chance.integers(8))
        path.write_bytes(damaged)
        if inside[place]:
            with pytest.raises(CorruptDataError, match="from its texts"):
                KeywordIndex.open(path)
        else:
            assert answers(KeywordIndex.open(path)) == answers(index)


def test_what_is_no_such_snapshot_is_refused(tmp_path: Path) -> None:
    """A file cut short, a foreign file, and an index of vectors are damage; a missing file is a StorageError."""
    path = tmp_path / "an.idx"
    grown().save(path)
    data = path.read_bytes()
    for some in (b"", b"LLMSPELL", bytes(5000), data[:-1], data[:HEADER], data[: len(data) // 2]):
        path.write_bytes(some)
        with pytest.raises(CorruptDataError):
            KeywordIndex.open(path)
    HNSWIndex(dimensions=3).save(path)
    with pytest.raises(CorruptDataError, match="a section is missing"):
        KeywordIndex.open(path)
    with pytest.raises(StorageError, match="cannot be read or written"):
        KeywordIndex.open(tmp_path / "no.idx")
    with pytest.raises(StorageError, match="cannot be read or written"):
        grown().save(tmp_path / "no" / "an.idx")
    with pytest.raises(InputError, match="tag"):
        grown().save(path, tag=-1)


def test_words_made_by_other_rules_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where texts would now give other words, the index is to be built anew."""
    grown().save(tmp_path / "an.idx")
    monkeypatch.setattr(analysis, "VERSION", analysis.VERSION + 1)
    with pytest.raises(SchemaError, match="other rules"):
        KeywordIndex.open(tmp_path / "an.idx")


def test_nothing_forgotten_is_in_the_file(tmp_path: Path) -> None:
    """A word that no text has left is not in the next snapshot, whether its row was removed or replaced."""
    index = KeywordIndex(KeywordConfig(language=None))
    index.add(np.arange(3000), [f"plain text secretword{place}" for place in range(3000)])
    index.save(tmp_path / "before.idx")
    assert b"secretword1234" in (tmp_path / "before.idx").read_bytes()
    index.remove(np.arange(0, 3000, 2))
    index.add(np.arange(1, 3000, 2), ["plain text"] * 1500)
    opened = KeywordIndex.open(tmp_path / "before.idx")
    opened.remove(np.arange(3000))
    for one in (index, opened):
        one.save(tmp_path / "after.idx")
        assert b"secret" not in (tmp_path / "after.idx").read_bytes()


MEMORY = """
import re, sys
import numpy as np
from llmspell_memory.index import KeywordIndex

def occurrences():
    count = 0
    with open("/proc/self/mem", "rb", buffering=0) as memory, open("/proc/self/maps") as maps:
        for line in maps.read().splitlines():
            span, mode = line.split()[:2]
            if mode.startswith("rw") and "[v" not in line:
                first, last = (int(place, 16) for place in span.split("-"))
                memory.seek(first)
                count += len(re.findall(b"hidden" + b"word[0-9]{4}", memory.read(last - first)))
    return count

index = KeywordIndex.open(sys.argv[1])
if sys.argv[2] == "forget":
    index.remove(np.arange(2000))
    index.add(np.arange(2000, 3000), ["plain"] * 1000)
print(occurrences(), repr(index.check()))
"""


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="this system shows no process its memory")
def test_nothing_forgotten_is_in_memory(tmp_path: Path) -> None:
    """A word that no text has left is wiped from the memory of the process."""
    index = KeywordIndex()
    index.add(np.arange(3000), [f"plain hiddenword{1000 + place}" for place in range(3000)])
    index.save(tmp_path / "an.idx")
    said = {}
    for what in ("keep", "forget"):  # each in a process of its own, where no text has ever been
        command = [sys.executable, "-c", MEMORY, str(tmp_path / "an.idx"), what]
        said[what] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(said["keep"][0]) >= 3000
    assert said["forget"] == ["0", "''"]


# --- any history ------------------------------------------------------------------------------------------------------

labels = st.integers(0, 300) | st.sampled_from([FAR, FAR + 1])
texts = st.lists(st.sampled_from(["fig", "oak", "elm", "ash", "yew", "bay"]), max_size=6).map(" ".join)


class SavedWords(RuleBasedStateMachine):
    """An index that is saved and opened between any two of its changes answers as one made of its texts at once."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.index = KeywordIndex()
        self.model: dict[int, str] = {}

    @rule(several=st.lists(st.tuples(labels, texts), max_size=40))
    def add(self, several: list[tuple[int, str]]) -> None:
        self.index.add(np.array([label for label, _ in several], np.int64), [text for _, text in several])
        self.model.update(several)

    @rule(first=st.integers(0, 300), count=st.integers(1, 200), text=texts)
    def add_a_run(self, first: int, count: int, text: str) -> None:
        self.index.add(np.arange(first, first + count), [text] * count)
        self.model.update(dict.fromkeys(range(first, first + count), text))

    @rule(some=st.lists(labels, max_size=40))
    def remove(self, some: list[int]) -> None:
        self.index.remove(np.array(some, np.int64))
        for label in some:
            self.model.pop(label, None)

    @rule(first=st.integers(0, 300), count=st.integers(1, 200))
    def remove_a_run(self, first: int, count: int) -> None:
        self.remove(list(range(first, first + count)))

    @rule()
    def save_and_open(self) -> None:
        path = Path(self.folder.name) / "an.idx"
        self.index.save(path, tag=len(self.model))
        self.index = KeywordIndex.open(path)
        assert self.index.tag == len(self.model)

    @rule(query=texts, k=st.sampled_from([1, 5, 1000]), among=st.none() | st.sets(labels, max_size=80))
    def search(self, query: str, k: int, among: set[int] | None) -> None:
        inside = {label: text for label, text in self.model.items() if among is None or label in among}
        fresh = KeywordIndex()
        fresh.add(np.array(sorted(inside), np.int64), [inside[label] for label in sorted(inside)])
        allowed = None if among is None else sorted(among)
        for one, other in zip(self.index.search(query, k, among=allowed), fresh.search(query, k), strict=True):
            assert np.array_equal(np.asarray(one), np.asarray(other))

    @invariant()
    def is_whole(self) -> None:
        assert self.index.check() == ""
        assert len(self.index) == len(self.model)

    def teardown(self) -> None:
        self.folder.cleanup()


TestSavedWords: type[unittest.TestCase] = SavedWords.TestCase
TestSavedWords.settings = settings(  # type: ignore[attr-defined]
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
