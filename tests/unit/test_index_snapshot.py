"""An index in a file: what comes back, what replacing leaves in place, and what damage does."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmspell_memory import HNSWConfig, _core
from llmspell_memory.errors import CorruptDataError, SchemaError, StorageError
from llmspell_memory.index import HNSWIndex
from llmspell_memory.testing.indexes import METRICS, gaussian

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmspell_memory._core import DType
    from llmspell_memory.types import Metric

    Checksum = Callable[[bytes | bytearray], int]

WIDTH = 19
FAR = 2**62
HEADER = 1024
VECTORS, CODES = 3, 4
"""Numbers of sections."""


def grown(metric: Metric = "cosine", dtype: DType = "float32") -> HNSWIndex:
    """Return an index with a history: shared vectors, replaced ones, gaps, and labels far apart."""
    config = HNSWConfig(m=4, ef_construction=30, ef_search=25, seed=11, dtype=dtype)
    index = HNSWIndex(dimensions=WIDTH, metric=metric, config=config)
    points = gaussian(500, WIDTH)
    index.add(np.arange(500), points)
    index.add(np.arange(FAR, FAR + 60), points[np.arange(60) % 7])
    index.add(np.arange(100, 150), gaussian(50, WIDTH, seed=9))
    index.remove(np.arange(0, 400, 3))
    return index


def answers(index: HNSWIndex) -> list[object]:
    """Return what the index says to some questions, through the graph, by scanning, and under a filter."""
    said: list[object] = [len(index), index.dimensions, index.metric, index.config]
    for query in gaussian(6, WIDTH, seed=8):
        for route in ("graph", "scan"):
            found = index.core.search(query, 12, 25, None, route)
            assert found is not None
            said.append((found[0].tolist(), found[1].tolist()))
        among = index.search(query, 20, among=np.arange(0, 500, 2))
        said.append((among[0].tolist(), among[1].tolist()))
    return said


def names(folder: Path) -> list[str]:
    """Return what a folder holds."""
    return sorted(one.name for one in folder.iterdir())


def entries(data: bytes | bytearray) -> dict[int, tuple[int, int]]:
    """Return offset and length of each section."""
    (count,) = struct.unpack_from("<I", data, 12)
    table = struct.iter_unpack("<IIQQ", data[16 : 16 + 24 * count])
    return {number: (offset, size) for number, _, offset, size in table}


# --- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_was_saved_is_opened(metric: Metric, dtype: DType, tmp_path: Path) -> None:
    """Answers, configuration, size and tag come back, and every invariant holds."""
    index = grown(metric, dtype)
    index.ef_search = 77
    index.save(tmp_path / "an.idx", tag=2**64 - 1)
    opened = HNSWIndex.open(tmp_path / "an.idx")
    assert answers(opened) == answers(index)
    assert opened.config == HNSWConfig(m=4, ef_construction=30, ef_search=77, seed=11, dtype=dtype)
    assert (opened.ef_search, opened.tag) == (77, 2**64 - 1)
    opened.verify()
    assert opened.check() == ""
    assert names(tmp_path) == ["an.idx"]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_opened_index_goes_on_as_the_original(metric: Metric, dtype: DType, tmp_path: Path) -> None:
    """After the same adds, replacements and deletes both answer alike; the file stays as it was written."""
    index = grown(metric, dtype)
    index.save(tmp_path / "an.idx")
    written = (tmp_path / "an.idx").read_bytes()
    opened = HNSWIndex.open(tmp_path / "an.idx")
    chance = np.random.default_rng(5)
    for seed in range(20, 26):
        labels = chance.integers(0, 900, 200)
        vectors = gaussian(200, WIDTH, seed=seed)[chance.integers(0, 150, 200)]
        gone = np.concatenate([chance.integers(0, 900, 60), np.arange(FAR, FAR + 10)])
        for one in (index, opened):
            one.add(labels, vectors)
            one.remove(gone)
        assert opened.check() == ""
        assert answers(opened) == answers(index)
    opened.verify()
    assert (tmp_path / "an.idx").read_bytes() == written


@pytest.mark.parametrize("metric", METRICS)
def test_opening_and_saving_gives_the_same_file(metric: Metric, tmp_path: Path) -> None:
    """Nothing is lost on the way: what was opened is written again byte for byte."""
    grown(metric).save(tmp_path / "one.idx", tag=3)
    HNSWIndex.open(tmp_path / "one.idx").save(tmp_path / "two.idx", tag=3)
    assert (tmp_path / "one.idx").read_bytes() == (tmp_path / "two.idx").read_bytes()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_smallest_come_back(count: int, tmp_path: Path) -> None:
    """An index that is empty, was emptied, or holds one or two vectors is saved, opened and goes on."""
    vectors = gaussian(40, WIDTH)
    fresh, emptied = HNSWIndex(dimensions=WIDTH), HNSWIndex(dimensions=WIDTH)
    emptied.add(np.arange(40), vectors)
    emptied.remove(np.arange(40))
    for index in (fresh, emptied):
        index.add(np.arange(count), vectors[:count])
        index.save(tmp_path / "an.idx")
        opened = HNSWIndex.open(tmp_path / "an.idx")
        opened.verify()
        assert (len(opened), opened.check(), opened.tag) == (count, "", 0)
        assert sorted(opened.search(vectors[0], 9)[0].tolist()) == list(range(count))
        opened.add(np.arange(40), vectors)
        assert (len(opened), opened.check()) == (40, "")
        assert opened.search(vectors[33], 1)[0].tolist() == [33]


def test_paths_are_what_python_takes_for_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, paths and names relative to the working folder do, also with letters beyond ASCII."""
    monkeypatch.chdir(tmp_path)
    index = grown()
    for path in ("plain.idx", str(tmp_path / "Füße 記憶.idx"), Path("relative.idx")):
        index.save(path)
        assert answers(HNSWIndex.open(path)) == answers(index)
    assert names(tmp_path) == sorted(["plain.idx", "Füße 記憶.idx", "relative.idx"])


# --- replacing --------------------------------------------------------------------------------------------------------


def test_the_file_an_index_lies_in_may_be_replaced(tmp_path: Path) -> None:
    """Saved over its own file, or over by another index, an opened index goes on being used."""
    path = tmp_path / "an.idx"
    index = grown()
    index.save(path)
    opened = HNSWIndex.open(path)
    done = threading.Event()
    faults: list[object] = []
    expected = answers(opened)

    def read() -> None:
        while not done.is_set():
            if answers(opened) != expected:
                faults.append("other answers")

    reader = threading.Thread(target=read)
    reader.start()
    for tag in range(20):
        opened.save(path, tag=tag)
    done.set()
    reader.join()
    assert faults == []
    opened.verify()

    other = HNSWIndex(dimensions=3)
    other.add([1], np.ones((1, 3)))
    other.save(path)
    assert answers(opened) == expected
    for one in (index, opened):
        one.add(np.arange(2000, 2200), gaussian(200, WIDTH, seed=31))
    assert answers(opened) == answers(index)
    opened.verify()
    assert HNSWIndex.open(path).dimensions == 3
    opened.save(path, tag=9)
    again = HNSWIndex.open(path)
    assert (answers(again), again.tag, again.check()) == (answers(index), 9, "")
    assert names(tmp_path) == ["an.idx"]


def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """Where no file can be written, a StorageError names the path, and no other file is left behind."""
    index = grown()
    (tmp_path / "a file").write_text("mine")
    (tmp_path / "read-only").mkdir(mode=0o500)
    places = [tmp_path / "missing" / "an.idx", tmp_path / "a file" / "an.idx"]
    if os.geteuid() != 0:  # whom no mode keeps out
        places.append(tmp_path / "read-only" / "an.idx")
    for place in places:
        with pytest.raises(StorageError, match=r"an\.idx cannot be read or written"):
            index.save(place)
    assert names(tmp_path) == ["a file", "read-only"]
    assert names(tmp_path / "read-only") == []
    assert (tmp_path / "a file").read_text() == "mine"
    index.save(tmp_path / "an.idx")
    assert answers(HNSWIndex.open(tmp_path / "an.idx")) == answers(index)


FULL_DISK = """
import resource, sys
import numpy as np
from llmspell_memory.errors import StorageError
from llmspell_memory.index import HNSWIndex

path, limit = sys.argv[1], int(sys.argv[2])
index = HNSWIndex.open(path)
index.add(np.arange(1000, 1300), np.random.default_rng(1).standard_normal((300, index.dimensions)))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    index.save(path)
except StorageError as error:
    print(type(error).__name__, type(error.__cause__).__name__, len(index), repr(index.check()))
"""


@pytest.mark.parametrize("limit", [0, 1000, 5000, 100_000])
def test_a_full_disk_leaves_what_was_there(limit: int, tmp_path: Path) -> None:
    """A save that runs out of room raises; the old file is untouched and nothing half-written stays."""
    path = tmp_path / "an.idx"
    index = grown()
    index.save(path)
    written = path.read_bytes()
    assert len(written) > limit
    command = [sys.executable, "-c", FULL_DISK, str(path), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["StorageError", "OSError", str(len(index) + 300), "''"]
    assert names(tmp_path) == ["an.idx"]
    assert path.read_bytes() == written


# --- what is no snapshot ----------------------------------------------------------------------------------------------


def test_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    """It says which, and is not taken for damage; so is a folder."""
    for path in (tmp_path / "no.idx", tmp_path):
        with pytest.raises(StorageError, match="cannot be read or written") as caught:
            HNSWIndex.open(path)
        assert type(caught.value) is StorageError
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"LLMSPELL", b"SQLite format 3\0" * 500, bytes(5000), gaussian(50, 50).tobytes(), b"LLMSPELL" + bytes(5000)],
    ids=["empty", "magic alone", "SQLite", "zeros", "numbers", "magic and zeros"],
)
def test_a_foreign_file_is_refused(data: bytes, tmp_path: Path) -> None:
    """What is no snapshot is a CorruptDataError that names the file and says what to do, and stays as it is."""
    path = tmp_path / "an.idx"
    path.write_bytes(data)
    with pytest.raises(CorruptDataError, match=r"an\.idx is damaged \(.+\); build the index anew"):
        HNSWIndex.open(path)
    assert path.read_bytes() == data


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    """However much is missing at its end, opening says so."""
    path = tmp_path / "an.idx"
    grown().save(path)
    data = path.read_bytes()
    places = [*np.random.default_rng(1).integers(0, len(data), 90).tolist(), 0, 1, 7, 8, 16, 1023, 1024, 1025]
    for place in [*places, len(data) - 1, len(data) - 64]:
        path.write_bytes(data[:place])
        with pytest.raises(CorruptDataError):
            HNSWIndex.open(path)


def outcome(path: Path) -> list[object] | None:
    """Return what the index at `path` says, or None where damage is reported."""
    try:
        index = HNSWIndex.open(path)
        with contextlib.suppress(_core.DamagedError):
            answers(index)  # before all is compared any answer may come; but one comes
        index.verify()
        return answers(index)
    except CorruptDataError:
        return None


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_changed_byte_is_found_or_changes_nothing(dtype: DType, tmp_path: Path) -> None:
    """Opening or verify() reports it, or it lies between sections and all answers are as before; nothing crashes."""
    path = tmp_path / "an.idx"
    grown("euclidean", dtype).save(path)
    data = path.read_bytes()
    expected = outcome(path)
    assert expected is not None
    inside = np.zeros(len(data), bool)
    inside[:HEADER] = True
    for offset, size in entries(data).values():
        inside[offset : offset + size] = True
    chance = np.random.default_rng(2)
    between = np.flatnonzero(~inside)[:10].tolist()
    places = [*range(20), *range(HEADER - 4, HEADER), *between, *chance.integers(0, len(data), 276).tolist()]
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(chance.integers(8))
        path.write_bytes(damaged)
        assert outcome(path) == (None if inside[place] else expected), place


@pytest.mark.parametrize("section", [VECTORS, CODES])
def test_damaged_vectors_are_reported(section: int, tmp_path: Path) -> None:
    """Vectors are not read on opening; verify() finds their damage, and from then on searches and saves report it."""
    path = tmp_path / "an.idx"
    grown().save(path)
    data = bytearray(path.read_bytes())
    offset, size = entries(data)[section]
    data[offset + size // 2] ^= 4
    path.write_bytes(data)
    index = HNSWIndex.open(path)
    query = gaussian(1, WIDTH)[0]
    for _ in range(2):
        with pytest.raises(CorruptDataError, match=r"an\.idx is damaged"):
            index.verify()
        with pytest.raises(CorruptDataError, match=r"an\.idx is damaged"):
            index.search(query, 3)
        with pytest.raises(CorruptDataError, match=r"an\.idx is damaged"):
            index.search(query.tolist(), 3)
        with pytest.raises(CorruptDataError, match=r"an\.idx is damaged"):
            index.search_many(query[None], 3, threads=2)
        with pytest.raises(CorruptDataError):
            index.save(tmp_path / "copy.idx")
    assert names(tmp_path) == ["an.idx"]


def test_a_newer_version_is_told_from_damage(tmp_path: Path, crc32c: Checksum) -> None:
    """A higher version with a true checksum is a SchemaError that says to upgrade; with a false one it is damage."""
    path = tmp_path / "an.idx"
    grown().save(path)
    data = bytearray(path.read_bytes())
    header, (checksum,) = data[: HEADER - 4], struct.unpack_from("<I", data, HEADER - 4)
    assert crc32c(header) == checksum
    (version,) = struct.unpack_from("<I", data, 8)
    struct.pack_into("<I", data, 8, version + 1)
    path.write_bytes(data)
    with pytest.raises(CorruptDataError):
        HNSWIndex.open(path)
    struct.pack_into("<I", data, HEADER - 4, crc32c(data[: HEADER - 4]))
    path.write_bytes(data)
    with pytest.raises(SchemaError, match=rf"an\.idx has version {version + 1}, .* upgrade"):
        HNSWIndex.open(path)
