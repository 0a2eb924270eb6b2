"""A check finds every kind of damage, names it, says what to do, and changes nothing."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory import (
    CorruptDataError,
    EmbeddingService,
    EmbeddingSpace,
    Filter,
    HNSWConfig,
    InputError,
    SchemaError,
    StorageError,
)
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.sqlite import connection
from llmspell_memory.backends.sqlite.index_file import IndexFile
from llmspell_memory.index import HNSWIndex
from llmspell_memory.operations import CheckReport, check, repair
from llmspell_memory.testing.backends import entry
from llmspell_memory.testing.indexes import METRICS, gaussian

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmspell_memory.types import Metric

PAGE = 4096
HEADER = 1024
"""Of an index file; its last four bytes are its checksum."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


def made(path: Path, service: EmbeddingService, *, hnsw: HNSWConfig | None = None, count: int = 300) -> Path:
    """Make a store of `count` entries; the label of n0 is 1."""
    backend = SQLiteBackend(path, service.space, hnsw=hnsw, warm=hnsw is not None)
    backend.add([entry(f"text {n}", id=f"n{n}", embedding=v) for n, v in enumerate(gaussian(count, 64))])
    backend.close()
    return path


def checked(path: Path, **options: Any) -> CheckReport:
    """Check a store, and see that nothing in its folder has changed."""
    before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    report = check(path, **options)
    after = {one.name: one.read_bytes() for one in path.parent.iterdir() if not one.name.endswith("-shm")}
    assert after == before
    return report


def faults(report: CheckReport) -> list[str]:
    assert report.sound == all(one.severity == "note" for one in report.findings)
    assert all(one.remedy for one in report.findings)
    return [f"{one.where}: {one.what}" for one in report.findings if one.severity == "fault"]


def notes(report: CheckReport) -> list[str]:
    return [f"{one.where}: {one.what}" for one in report.findings if one.severity == "note"]


def test_a_sound_store_has_no_fault(path: Path, sample: Any) -> None:
    """Free pages, deleted entries, texts and vectors over several pages are nothing to complain of."""
    path.write_bytes(sample.data)
    report = checked(path)
    assert faults(report) == []
    assert (report.entries, report.vectors) == (len(sample.entries), len(sample.entries))
    assert (report.pages, report.checksums, report.schema, report.snapshot) == (sample.pages, True, 3, "absent")
    assert report.recall is None
    assert notes(report) == ["the saved index: there is none"]


def test_every_damaged_page_is_found(path: Path, sample: Any) -> None:
    """A flipped bit in any page is a fault that names the page, or a note where the page is free."""
    for page in range(1, sample.pages + 1, 23):
        data = bytearray(sample.data)
        data[page * PAGE - 100] ^= 1
        path.write_bytes(data)
        report = checked(path)
        at = f"page {page} (at byte {(page - 1) * PAGE:,})"
        told = faults(report) if not report.sound else notes(report)
        assert any(line.startswith(f"{at}: is not what was written") for line in told), page
        on_page = {label for label, pages in sample.rows.items() if page in pages}
        assert report.entries == len(sample.entries) - len(on_page)
        for label in on_page:
            assert any(sample.entries[label].id in line and f"(label {label})" in line for line in faults(report))


@pytest.mark.parametrize("kept", [0.3, 0.99])
def test_a_store_cut_short_is_looked_through_to_its_end(path: Path, sample: Any, kept: float) -> None:
    """What is missing is told by pages; what is there is still counted."""
    path.write_bytes(sample.data[: int(len(sample.data) * kept)])
    report = checked(path)
    assert any("it ends after" in line for line in faults(report))
    assert 0 < report.entries + report.vectors < 2 * len(sample.entries)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            "UPDATE entries SET metadata = '{' WHERE label = 2",
            r"entry 'n1' \(label 2\): the row of entry 'n1' cannot be",
        ),
        ("UPDATE entries SET timestamp = 9e18 WHERE label = 2", r"label 2\): .*(no row of its table|cannot be read)"),
        ("UPDATE entries SET namespace = x'ff00' WHERE label = 2", r"label 2\)?: the row of entry 'n1'"),
        ("UPDATE entries SET content = '' WHERE label = 2", r"entry 'n1' \(label 2\): content"),
        (
            "UPDATE vectors_1 SET vector = x'0102' WHERE label = 2",
            r"entry 'n1' \(label 2\): the vector of label 2 is",
        ),
        ("UPDATE vectors_1 SET vector = nans() WHERE label = 2", r"entry 'n1' \(label 2\): .* holds NaN"),
        ("DELETE FROM vectors_1 WHERE label = 2", r"entry 'n1' \(label 2\): an entry without a vector"),
        ("DELETE FROM entries WHERE label = 2", "label 2: a vector without an entry"),
        ("UPDATE vectors_1 SET seq = 99999 WHERE label = 2", r"label 2\): its change has the number 99999"),
        ("INSERT INTO tombstones (seq, label) VALUES (99999, 500)", "label 500: its change has the number 99999"),
        (
            "INSERT INTO tombstones (seq, label) VALUES (7, 2)",
            r"entry 'n1' \(label 2\): it is there, and recorded as deleted, too",
        ),
        ("UPDATE spaces SET dimensions = -1", "table spaces: the embedding space cannot be read"),
        ("DELETE FROM state", "table state: the number of the last change cannot be read"),
    ],
)
def test_rows_that_are_whole_and_wrong_are_found(path: Path, service: EmbeddingService, damage: str, told: str) -> None:
    """What somebody wrote into the tables by hand is named by entry or table."""
    made(path, service)
    db = connection.connect(path, mode="rw")
    db.create_function("nans", 0, lambda: np.full(64, np.nan, "<f4").tobytes())
    db.execute(damage)
    db.close()
    report = checked(path)
    assert any(re.search(told, line) for line in faults(report)), report.findings


def test_a_vector_too_long_for_the_metric_is_found(path: Path) -> None:
    """What would overflow a Euclidean distance is a fault."""
    backend = SQLiteBackend(
        path, EmbeddingSpace(provider="test", model=None, dimensions=4, metric="euclidean"), warm=False
    )
    backend.add([entry("text", embedding=np.ones(4, np.float32))])
    backend.close()
    db = connection.connect(path, mode="rw")
    db.execute("UPDATE vectors_1 SET vector = ?", (np.full(4, 1e30, "<f4").tobytes(),))
    db.close()
    assert any("length must be at most" in line for line in faults(checked(path)))


def test_an_index_of_sqlite_that_disagrees_is_found(path: Path, service: EmbeddingService) -> None:
    """SQLite's own integrity check is part of it."""
    made(path, service)
    db = connection.connect(path, mode="rw")
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_schema SET sql = replace(sql, '(session_id, timestamp)', '(role, timestamp)')")
    db.close()
    assert any("integrity check" in line for line in faults(checked(path)))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_saved_index_that_shows_the_rows_is_whole(path: Path, metric: Metric, dtype: Any) -> None:
    """Its invariants, labels and vectors are compared, and recall is measured."""
    space = EmbeddingSpace(provider="test", model=None, dimensions=64, metric=metric)
    backend = SQLiteBackend(path, space, hnsw=HNSWConfig(dtype=dtype))
    vectors = gaussian(700, 64)
    vectors[5] = 0
    backend.add([entry(f"text {n}", id=f"n{n}", embedding=v) for n, v in enumerate(vectors)])
    backend.delete(Filter(ids=frozenset(f"n{n}" for n in range(9, 50))))
    backend.close()
    report = checked(path)
    assert (faults(report), report.snapshot) == ([], "whole")
    assert report.recall is not None
    assert report.recall > 0.9
    assert checked(path, sample=0).recall is None


def test_a_saved_index_that_is_behind_catches_up(path: Path, service: EmbeddingService) -> None:
    """Later adds, replacements and deletes are read into it, in memory alone; then it is compared."""
    made(path, service, hnsw=HNSWConfig())
    later = SQLiteBackend(path, warm=False)
    later.add([entry(f"new {n}", id=f"n{n}", embedding=v) for n, v in enumerate(gaussian(9, 64, seed=3), start=295)])
    later.delete(Filter(ids=frozenset(["n7"])))
    later.close()
    report = checked(path)
    assert (faults(report), report.snapshot, report.entries) == ([], "stale", 303)


def test_a_saved_index_that_is_of_no_use_is_a_note(
    path: Path, service: EmbeddingService, crc32c: Callable[[bytes | bytearray], int]
) -> None:
    """Damaged, of a newer version, or of other rows: it is derived, so the store is sound."""
    made(path, service, hnsw=HNSWConfig())
    index = Path(f"{path}-index")
    whole = index.read_bytes()
    for data, state in (
        (whole[:3000], "damaged"),
        (b"", "damaged"),
        (whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:], "damaged"),
        (newer(whole, crc32c), "newer"),
    ):
        index.write_bytes(data)
        report = checked(path)
        assert (faults(report), report.snapshot) == ([], state)
        assert [line for line in notes(report) if line.startswith("the saved index")]
    other = HNSWIndex(dimensions=64)
    other.add([1, 2, 3], gaussian(3, 64))
    other.save(index, tag=12345)
    report = checked(path)
    assert (faults(report), report.snapshot) == ([], "foreign")


def newer(data: bytes, crc32c: Callable[[bytes | bytearray], int]) -> bytes:
    """The same index as a later version would write it, its checksum right."""
    header = bytearray(data[: HEADER - 4])
    struct.pack_into("<I", header, 8, struct.unpack_from("<I", header, 8)[0] + 1)
    return bytes(header) + struct.pack("<I", crc32c(header)) + data[HEADER:]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda index: index.remove([7]), "it does not have label 7"),
        (lambda index: index.add([7777], gaussian(1, 64)), "it has 301 vectors, the rows have 300"),
        (lambda index: index.add([7], gaussian(1, 64, seed=9)), "it has another vector for label 7"),
    ],
)
def test_a_saved_index_that_disagrees_is_a_fault(path: Path, service: EmbeddingService, change: Any, told: str) -> None:
    """An index that is whole, of these rows by its tag, and shows something else would give wrong answers."""
    made(path, service, hnsw=HNSWConfig())
    file = IndexFile(path, service.space, number=1)
    index = HNSWIndex.open(file.path)
    tag = index.tag
    change(index)
    index.save(file.path, tag=tag)
    report = checked(path)
    assert report.snapshot == "wrong"
    assert any(told in line for line in faults(report))
    assert any("delete" in one.remedy for one in report.findings if one.severity == "fault")


def test_a_store_in_use_is_checked_as_it_is_at_one_moment(path: Path, service: EmbeddingService) -> None:
    """While another process writes and replaces, no check finds a fault."""
    made(path, service)
    script = (
        "import sys, numpy as np\n"
        "from llmspell_memory import EpisodicEntry, Filter\n"
        "from llmspell_memory.backends import SQLiteBackend\n"
        "backend = SQLiteBackend(sys.argv[1], warm=False)\n"
        "print('ready', flush=True)\n"
        "for n in range(10**9):\n"
        "    if n % 30 == 0:\n"  # for a check reads the log, and must not fall behind for ever
        "        sys.stdin.readline()\n"
        "    ids = [f'w{n * 7 % 500 + k}' for k in range(20)]\n"
        "    backend.add([EpisodicEntry('s', 'user', 'x' * (n % 9000 + 1), id=one, embedding=np.ones(64) * (n + 1))\n"
        "                 for one in ids])\n"
        "    backend.delete(Filter(ids=frozenset(ids[:3])))\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as writer:
        try:
            assert writer.stdin is not None
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            counts = []
            for _ in range(6):
                writer.stdin.write(b"\n")
                report = check(path)
                assert faults(report) == []
                counts.append(report.entries)
        finally:
            writer.kill()
    assert max(counts) > 300


def test_a_log_left_by_a_killed_process_stays(path: Path, service: EmbeddingService) -> None:
    """A check reads the commits in a log that is left over, and neither folds it in nor removes it."""
    backend = SQLiteBackend(path, service.space)
    backend.add([entry("text", embedding=np.ones(64, np.float32))])
    killed = path.parent / "killed" / "memory.db"
    killed.parent.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{killed}{suffix}")
    backend.close()
    report = checked(killed)
    assert (faults(report), report.entries) == ([], 1)


def test_a_store_of_schema_1_gets_notes(path: Path) -> None:
    """It has no checksums and older tables; neither is a fault."""
    shutil.copy(Path(__file__).parents[2] / "golden" / "store-v1.db", path)
    report = checked(path)
    assert (faults(report), report.schema, report.checksums, report.entries) == ([], 1, False, 10)
    assert len(notes(report)) == 3


def test_what_is_no_store_is_refused(path: Path) -> None:
    """Nothing there, another application's file and a wrong sample are typed errors."""
    with pytest.raises(StorageError, match="no store"):
        check(path)
    path.touch()
    with pytest.raises(StorageError, match="no store"):
        check(path)
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE precious (x)")
    db.close()
    with pytest.raises(SchemaError, match="another application"):
        check(path)
    with pytest.raises(InputError, match="sample"):
        check(path, sample=-1)


def test_a_file_of_something_else_is_all_faults(path: Path) -> None:
    """A text is no store: that is said, and nothing is raised."""
    path.write_text("some notes " * 2000, encoding="utf-8")
    assert any("no table of a store" in line for line in faults(checked(path)))


def test_findings_of_one_kind_have_an_end(path: Path, service: EmbeddingService) -> None:
    """A thousand broken rows are a hundred findings and their number."""
    made(path, service, count=1000)
    db = connection.connect(path, mode="rw")
    db.execute("UPDATE entries SET metadata = '{'")
    db.close()
    report = checked(path)
    assert len(report.findings) < 120
    assert any("900 more" in line for line in faults(report))


def test_a_complaint_of_sqlite_that_is_no_text_is_an_error_of_ours(path: Path) -> None:
    """A damaged schema stands in SQLite's message, which then need not be UTF-8: still a CorruptDataError."""
    shutil.copy(Path(__file__).parents[2] / "golden" / "store-v1.db", path)
    data = bytearray(path.read_bytes())
    at = data.index(b"CREATE INDEX entries_by_time")
    data[at : at + 12] = b"\xf8" * 12
    path.write_bytes(data)
    with pytest.raises(CorruptDataError, match="damaged"):
        SQLiteBackend(path)
    assert any("SQLite cannot read it" in line for line in faults(checked(path)))


@pytest.mark.parametrize("checksums", [False, True])
def test_random_damage_is_never_more_than_findings(path: Path, sample: Any, checksums: bool, rounds: int) -> None:
    """Whatever bytes are changed, a check and a repair end with a report or a typed error, and soon."""
    golden = (Path(__file__).parents[2] / "golden" / "store-v1.db").read_bytes()
    for seed in range(3 * rounds):
        chance = random.Random(seed)
        data = bytearray(sample.data if checksums else golden)
        for _ in range(chance.choice([1, 10, 300])):
            page = chance.randrange(len(data) // PAGE) * PAGE
            at = page + chance.randrange(chance.choice([40, PAGE]))  # where the headers of pages are, more often
            data[at] ^= 1 << chance.randrange(8)
        del data[len(data) - chance.choice([0, 0, 1, 5000]) :]
        path.write_bytes(data)
        target = path.with_name(f"new-{seed}.db")
        with contextlib.suppress(StorageError):
            check(path)
        try:
            repair(path, target)
        except StorageError:
            assert not target.exists()
        else:
            assert faults(check(target, sample=0)) == []


@pytest.mark.parametrize("verb", ["check", "repair"])
def test_a_look_takes_no_lock_from_the_memory_of_this_process(path: Path, service: EmbeddingService, verb: str) -> None:
    """POSIX drops a process's locks with the first file it closes: another process must not take the log away then."""
    backend = SQLiteBackend(made(path, service), warm=False)
    backend.add([entry("before", id="before", embedding=np.ones(64, np.float32))])
    if verb == "check":
        assert check(path).sound
    else:
        assert repair(path, path.with_name("new.db")).entries == 301
    other = "import sys; from llmspell_memory.backends import SQLiteBackend as B; B(sys.argv[1], warm=False).close()"
    subprocess.run([sys.executable, "-c", other, str(path)], check=True, timeout=60)
    assert Path(f"{path}-wal").exists()
    backend.add([entry("after", id="after", embedding=np.ones(64, np.float32))])
    backend.close()
    assert check(path).entries == 302
