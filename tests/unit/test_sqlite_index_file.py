"""The index in a file beside the store: used where it is whole and of these rows, passed over in every other case."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory import CorruptDataError, EmbeddingSpace, EpisodicEntry, Filter, HNSWConfig
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.sqlite import connection
from llmspell_memory.index import HNSWIndex
from llmspell_memory.testing.backends import entry
from llmspell_memory.testing.indexes import gaussian

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPACE = EmbeddingSpace(provider="test", model=None, dimensions=16)
EVERYTHING = Filter()
VECTORS = gaussian(2000, 16)


def some(start: int, stop: int) -> list[EpisodicEntry]:
    return [entry(f"n{n}", f"s{n % 5}", id=f"n{n}", embedding=VECTORS[n]) for n in range(start, stop)]


def opened(path: Path, **options: Any) -> SQLiteBackend:
    return SQLiteBackend(path, SPACE, **{"hnsw": HNSWConfig(), **options})


def index_file(path: Path) -> Path:
    return path.with_name(f"{path.name}-index")


def is_right(backend: SQLiteBackend, live: range) -> None:
    """Each entry is found by its own vector, and no other is."""
    assert backend.stats().index.size == backend.count(EVERYTHING) == len(live)
    for n in live[:: len(live) // 20 + 1]:
        (hit,) = backend.search(VECTORS[n], 1, EVERYTHING)
        assert hit.entry.id == f"n{n}"
        assert hit.score > 0.999


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "memory.db"
    backend = opened(path)
    backend.add(some(0, 1000))
    backend.close()
    assert index_file(path).exists()
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many vectors each index was given, from when this is asked for."""
    counts: list[int] = []
    add = HNSWIndex.add

    def counted(self: HNSWIndex, labels: Any, *arguments: Any, **options: Any) -> None:
        counts.append(len(labels))
        add(self, labels, *arguments, **options)

    monkeypatch.setattr(HNSWIndex, "add", counted)
    return counts


def test_opening_reads_no_vector_that_the_file_has(path: Path, read: list[int]) -> None:
    """A store that was closed opens with its saved index; what came later is read from the rows."""
    backend = opened(path)
    assert sum(read) == 0
    is_right(backend, range(1000))
    backend.add(some(1000, 1010))
    backend.close()
    read.clear()
    backend = opened(path)
    assert sum(read) == 10, "so little is not saved again"
    is_right(backend, range(1010))
    backend.add(some(1010, 1500))
    backend.close()
    read.clear()
    backend = opened(path)
    assert sum(read) == 0
    is_right(backend, range(1500))
    backend.close()


def test_deletes_and_replacements_since_are_caught_up(path: Path) -> None:
    """What was deleted and changed after the index was saved is as it should be when a killed process's store opens."""
    killed = opened(path)
    killed.delete(Filter(ids=frozenset(f"n{n}" for n in range(100))))
    killed.add([one.changed(embedding=VECTORS[1500]) for one in some(500, 501)])
    killed._connections.close()  # as a killed process would, without saving the index
    backend = opened(path)
    assert backend.stats().index.size == 900
    assert [hit.entry.id for hit in backend.search(VECTORS[1500], 1, EVERYTHING)] == ["n500"]
    assert {hit.entry.id for hit in backend.search(VECTORS[3], 900, EVERYTHING)} == {f"n{n}" for n in range(100, 1000)}
    backend.close()


def test_a_large_store_saves_its_index_while_it_grows(tmp_path: Path, read: list[int]) -> None:
    """A process that is killed after having added much leaves an index that spares most of the work."""
    path = tmp_path / "memory.db"
    vectors = gaussian(6000, 16)
    killed = opened(path)
    for start in range(0, 6000, 1000):
        killed.add([entry(f"n{n}", id=f"n{n}", embedding=vectors[n]) for n in range(start, start + 1000)])
    killed._connections.close()
    read.clear()
    opened(path).close()
    assert 0 < sum(read) <= 2000


@pytest.mark.parametrize("hnsw", [HNSWConfig(m=8), HNSWConfig()])
def test_an_index_that_was_built_anew_takes_the_place_of_the_saved(
    path: Path, read: list[int], hnsw: HNSWConfig
) -> None:
    """A store that was rebuilt, with other parameters or the same, opens with what that has made."""
    saved = index_file(path).read_bytes()
    backend = opened(path)
    backend.configure(hnsw, rebuild=True)
    backend.close()
    assert index_file(path).read_bytes() != saved
    read.clear()
    backend = opened(path, hnsw=hnsw)
    assert sum(read) == 0
    is_right(backend, range(1000))
    backend.close()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.unlink(), "No such file"),
        (lambda file: file.write_bytes(b""), "it is empty"),
        (lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]), "cut short"),
        (lambda file: file.write_bytes(b"a text" * 1000), "does not begin as a snapshot does"),
        (lambda file: (file.unlink(), file.mkdir()), "cannot be read"),
    ],
)
def test_a_file_of_no_use_is_passed_over(
    path: Path, spoil: Callable[[Path], object], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Missing, empty, cut short, of something else or of a newer version: the log says so, and the rows are read."""
    spoil(index_file(path))
    progress: list[tuple[int, int]] = []
    with caplog.at_level(logging.DEBUG, "llmspell_memory"):
        backend = opened(path, on_progress=lambda done, total: progress.append((done, total)))
    assert "The index is built from the rows" in caplog.text
    assert said in caplog.text
    assert progress == [(512, 1000), (1000, 1000)]
    is_right(backend, range(1000))
    backend.close()


def test_an_index_of_a_newer_version_is_passed_over(
    path: Path, crc32c: Callable[[bytes | bytearray], int], caplog: pytest.LogCaptureFixture
) -> None:
    """Whole, but of a version that this release does not know, it is no error: the rows are read."""
    data = bytearray(index_file(path).read_bytes())
    data[8] = 99
    data[1020:1024] = crc32c(data[:1020]).to_bytes(4, "little")
    index_file(path).write_bytes(data)
    backend = opened(path)
    assert "The index is built from the rows" in caplog.text
    assert "version 99" in caplog.text
    is_right(backend, range(1000))
    backend.close()


@pytest.mark.parametrize("place", [*np.linspace(0, 1, 20), 0.0001, 0.001, 0.003])
def test_a_changed_bit_is_never_believed(path: Path, place: float, read: list[int]) -> None:
    """Wherever a bit of the file is changed, answers are right; it is used only where the bit means nothing."""
    data = bytearray(index_file(path).read_bytes())
    data[int(place * (len(data) - 1))] ^= 0x10
    index_file(path).write_bytes(data)
    backend = opened(path)
    is_right(backend, range(1000))
    assert sum(read) in (0, 1000)
    backend.close()


def test_an_index_of_other_rows_is_passed_over(path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A backup put back under the old name, with the later index beside it, is answered from the backup's rows."""
    backup = tmp_path / "backup.db"
    shutil.copy(path, backup)
    backend = opened(path)
    backend.delete(Filter(session_id="s0"))
    backend.add(some(1000, 1400))
    backend.close()
    for leftover in (path.with_name("memory.db-wal"), path.with_name("memory.db-shm")):
        leftover.unlink(missing_ok=True)
    shutil.copy(backup, path)
    again = opened(path)
    assert "was written from other ones" in caplog.text
    is_right(again, range(1000))
    again.add(some(1400, 2000))  # as many changes as the other history had
    assert len(again.search(VECTORS[0], 3000, EVERYTHING)) == 1600
    again.close()


def test_an_older_index_of_these_rows_is_caught_up(path: Path, tmp_path: Path, read: list[int]) -> None:
    """An index that was put back from an earlier moment of the same store is of use from there on."""
    shutil.copy(index_file(path), tmp_path / "old-index")
    backend = opened(path)
    backend.add(some(1000, 1500))
    backend.delete(Filter(ids=frozenset(f"n{n}" for n in range(100))))
    backend.close()
    shutil.copy(tmp_path / "old-index", index_file(path))
    read.clear()
    backend = opened(path)
    assert sum(read) == 500
    is_right(backend, range(100, 1500))
    backend.close()


def test_other_parameters_build_another_index(path: Path, read: list[int]) -> None:
    """Another m or dtype reads the rows; another ef_search does not, and is in force."""
    backend = opened(path, hnsw=HNSWConfig(ef_search=99))
    assert sum(read) == 0
    assert backend.stats().index.config == HNSWConfig(ef_search=99)
    backend.close()
    for other in (HNSWConfig(m=8), HNSWConfig(dtype="float16"), HNSWConfig(seed=7)):
        read.clear()
        backend = opened(path, hnsw=other)
        assert sum(read) == 1000
        assert backend.stats().index.config == other
        is_right(backend, range(1000))
        backend.close()


def test_a_change_of_view_takes_the_saved_index(path: Path, read: list[int]) -> None:
    """From exact to HNSW the saved index is taken; a rebuild that is asked for reads the rows."""
    backend = opened(path, hnsw=None)
    backend.configure(HNSWConfig())
    assert sum(read) == 0
    is_right(backend, range(1000))
    backend.configure(HNSWConfig(), rebuild=True)
    assert sum(read) == 1000
    backend.close()


def test_an_index_without_a_vector_of_the_rows_is_not_believed(
    path: Path, read: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Where the saved index has fewer vectors than the rows, whatever the reason, it is built anew."""
    db = connection.connect(path, mode="rw")
    db.execute("DELETE FROM vectors_1 WHERE label = 500")  # by hand: no view is told
    db.execute("DELETE FROM entries WHERE label = 500")
    db.close()
    backend = opened(path)
    assert "does not fit its rows" in caplog.text
    assert sum(read) == 999
    assert backend.stats().index.size == 999
    backend.close()


def test_an_index_that_shows_a_row_which_is_gone_is_told(path: Path) -> None:
    """When rows vanish behind an open store's back, a search says so rather than return fewer hits."""
    backend = opened(path)
    db = connection.connect(path, mode="rw")
    db.execute("DELETE FROM entries WHERE label = 8")
    db.close()
    for where in (EVERYTHING, Filter(expired=None)):
        with pytest.raises(CorruptDataError, match="do not have the same entries"):
            backend.search(VECTORS[7], 5, where)
    backend.close()


def test_what_cannot_be_saved_is_a_line_in_the_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder in the index's place hinders neither writing, searching nor closing."""
    index_file(path).unlink()
    index_file(path).mkdir()
    (index_file(path) / "inhabitant").touch()
    backend = opened(path)
    backend.add(some(1000, 1100))
    is_right(backend, range(1100))
    backend.close()
    assert "was not saved" in caplog.text
    assert [one.name for one in path.parent.iterdir() if ".new-" in one.name] == []


def test_two_processes_save_in_turn(path: Path) -> None:
    """Of several that have the store open, each saves a newer moment when it closes; the last one is what opens."""
    one, other = opened(path), opened(path)
    one.add(some(1000, 1200))
    other.add(some(1200, 1500))
    other.close()
    one.close()
    backend = opened(path)
    is_right(backend, range(1500))
    backend.close()


def test_an_exact_store_has_no_index_file(tmp_path: Path) -> None:
    """Exact search keeps nothing of vectors but the rows."""
    path = tmp_path / "memory.db"
    backend = opened(path, hnsw=None)
    backend.add(some(0, 100))
    assert len(backend.search(np.ones(16, np.float32), 5, EVERYTHING)) == 5
    backend.close()
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == ["memory.db", "memory.db-rows-turns", "memory.db-rows-words"]
