"""What can be read of a damaged store is brought into a new one, as it was, and every loss is named."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory import (
    CorruptDataError,
    EmbeddingService,
    EmbeddingSpace,
    EpisodicEntry,
    Filter,
    HNSWConfig,
    InputError,
    SchemaError,
    StorageError,
)
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.notes import KEYWORDS, noted_keywords
from llmspell_memory.backends.sqlite import connection, salvage
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.operations import RepairReport, check, repair
from llmspell_memory.operations.keys import Keys, add_key, read_keys
from llmspell_memory.testing.backends import entry
from llmspell_memory.testing.indexes import gaussian
from llmspell_memory.types import KeywordConfig

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = 4096
GOLDEN = Path(__file__).parents[2] / "golden" / "store-v1.db"
INNER = (1, 2, 3, 4, 5, 16)
"""The first pages: the schema, and where tables and an index begin."""

ALL = Filter(expired=None)


def flip(data: bytearray, page: int, chance: random.Random) -> None:
    data[(page - 1) * PAGE + chance.randrange(PAGE)] ^= 1 << chance.randrange(8)


def zero(data: bytearray, page: int, _: random.Random) -> None:
    data[(page - 1) * PAGE : page * PAGE] = bytes(PAGE)


def noise(data: bytearray, page: int, chance: random.Random) -> None:
    at = (page - 1) * PAGE + chance.randrange(PAGE - 64)
    data[at : at + 64] = chance.randbytes(64)


def swap(data: bytearray, page: int, chance: random.Random) -> None:
    other = chance.randrange(1, len(data) // PAGE + 1)
    here, there = slice((page - 1) * PAGE, page * PAGE), slice((other - 1) * PAGE, other * PAGE)
    data[here], data[there] = data[there], data[here]


def truncate(data: bytearray, _: int, chance: random.Random) -> None:
    del data[chance.randrange(len(data) * 2 // 3, len(data)) :]


def page_of(data: bytes | bytearray, page: int) -> bytes | bytearray:
    return data[(page - 1) * PAGE : page * PAGE]


def read_all(path: Path) -> dict[str, EpisodicEntry]:
    backend = SQLiteBackend(path)
    try:
        found = {one.id: one for one in backend.scan(ALL)}
        assert backend.count(ALL) == len(found) == backend.stats().index.size
        return found
    finally:
        backend.close()


def repaired(path: Path, service: EmbeddingService | None = None) -> tuple[RepairReport, dict[str, EpisodicEntry]]:
    """Repair, see that the source and its folder are as before, and read the new store."""
    before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    target = path.parent.parent / f"{path.parent.name}-new" / "repaired.db"
    shutil.rmtree(target.parent, ignore_errors=True)
    target.parent.mkdir()
    report = repair(path, target, service=service)
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == before
    assert [one.name for one in target.parent.iterdir()] == ["repaired.db"]
    found = read_all(target)
    assert report.entries == len(found)
    return report, found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "old").mkdir()
    return tmp_path / "old" / "memory.db"


@pytest.mark.parametrize("damage", [flip, zero, noise, swap, truncate])
@pytest.mark.parametrize("with_service", [False, True])
def test_every_undamaged_row_is_salvaged_and_every_loss_named(
    path: Path, sample: Any, service: EmbeddingService, damage: Callable[..., None], with_service: bool, rounds: int
) -> None:
    """Whatever pages are damaged, a row whose own pages are whole comes over bit by bit, and no other does."""
    labels = {one.id: label for label, one in sample.entries.items()}
    for seed in range(rounds):
        chance = random.Random(seed)
        data = bytearray(sample.data)
        hit = [chance.choice(INNER) if chance.random() < 0.2 else chance.randrange(1, sample.pages + 1)]
        hit += [chance.randrange(15, sample.pages + 1) for _ in range(chance.choice([0, 0, 2, 15]))]
        for page in hit:
            if damage is not truncate or page is hit[0]:
                damage(data, page, chance)
        broken = {page for page in range(1, sample.pages + 1) if page_of(data, page) != page_of(sample.data, page)}
        path.write_bytes(data)
        if 3 in broken and not with_service:
            with pytest.raises(CorruptDataError, match="embedding space"):
                repaired(path)
            continue
        report, found = repaired(path, service if with_service else None)
        embedded = 0
        for label, one in sample.entries.items():
            vector_lost = bool(sample.vectors[label] & broken)
            kept = not sample.rows[label] & broken and (with_service or not vector_lost)
            assert (one.id in found) == kept, (seed, hit, one.id)
            if not kept:
                continue
            new = found[one.id]
            assert (new, dict(new.metadata)) == (one, dict(one.metadata))
            expected = service.embed([one.content])[0] if vector_lost else one.embedding
            assert new.embedding is not None
            assert expected is not None
            assert np.array_equal(new.embedding, expected)
            embedded += vector_lost
        assert found.keys() <= labels.keys(), "something deleted has come back"
        assert report.embedded == embedded
        named = {loss.label for loss in report.losses}
        lost = {label for one, label in labels.items() if one not in found}
        assert named - {None} <= lost
        assert lost <= named or None in named
        if len(broken) == 1:
            assert lost == named - {None}  # some numbers were never an entry's, and nothing tells them from lost ones
            for loss in report.losses:
                one = sample.entries.get(loss.label)
                assert (loss.id, loss.namespace) == ((one.id, one.namespace) if one else (None, None))


@pytest.mark.parametrize("also", [4, 16])
@pytest.mark.parametrize("ruin", [zero, flip])
def test_a_lost_first_page_and_a_lost_table_never_bring_back_what_was_deleted(
    path: Path, sample: Any, service: EmbeddingService, also: int, ruin: Callable[..., None]
) -> None:
    """With the list of free pages gone, too, rows that may be old are left alone: what comes over is true."""
    data = bytearray(sample.data)
    ruin(data, 1, random.Random(3))
    zero(data, also, random.Random(0))
    path.write_bytes(data)
    by_id = {one.id: one for one in sample.entries.values()}
    try:
        _, found = repaired(path, service)
    except CorruptDataError:
        return
    assert all(one == by_id[name] for name, one in found.items())


@pytest.mark.parametrize("page", [4, 16])
def test_a_lost_inner_page_alone_costs_nothing(path: Path, sample: Any, page: int) -> None:
    """All rows below it are met elsewhere, and since no other page is damaged, nothing is in doubt."""
    data = bytearray(sample.data)
    assert data[(page - 1) * PAGE] == 5, "it is no inner page"
    zero(data, page, random.Random(0))
    path.write_bytes(data)
    report, found = repaired(path)
    assert (report.losses, len(found)) == ((), len(sample.entries))


@pytest.mark.parametrize("ruin", [zero, flip])
def test_without_a_first_page_what_was_deleted_stays_so(
    path: Path, sample: Any, service: EmbeddingService, ruin: Callable[..., None]
) -> None:
    """In a store whose every entry was deleted, none is found, though all of them stand on free pages."""
    path.write_bytes(sample.data)
    backend = SQLiteBackend(path, warm=False)
    assert backend.delete(ALL) == len(sample.entries)
    backend.close()
    data = bytearray(path.read_bytes())
    ruin(data, 1, random.Random(0))
    path.write_bytes(data)
    report, found = repaired(path, service)
    assert found == {}
    assert {loss.label for loss in report.losses} <= {None}, "labels that no entry ever had are not told from lost ones"


@pytest.mark.parametrize("also", [2, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 17])
def test_without_a_first_page_tables_are_found_by_their_rows(path: Path, sample: Any, also: int) -> None:
    """The schema is lost, and one more page that holds no entry: every entry comes over."""
    assert not any(also in pages for pages in (*sample.rows.values(), *sample.vectors.values()))
    data = bytearray(sample.data)
    zero(data, 1, random.Random(0))
    zero(data, also, random.Random(0))
    path.write_bytes(data)
    report, found = repaired(path)
    assert (report.losses, report.entries, len(found)) == ((), len(sample.entries), len(sample.entries))


def test_every_file_begins_with_nothing_but_roots(path: Path, service: EmbeddingService) -> None:
    """Salvage counts on it: new files, those of version 0.1.0, and those rewritten by forgetting."""
    SQLiteBackend(path, service.space).close()
    forgotten = path.with_name("forgotten.db")
    backend = SQLiteBackend(forgotten, service.space, warm=False)
    backend.add([entry(f"text {n} " * 100, id=f"n{n}", embedding=v) for n, v in enumerate(gaussian(200, 64))])
    backend.forget(Filter(ids=frozenset(["n3"])))
    backend.close()
    for one in (path, forgotten, GOLDEN):
        with salvage.Salvage(one) as store:
            roots = sorted(store._roots.values())
            last = salvage.LAST_ROOT[store.file.checksums]
            assert roots[: last - 1] == list(range(2, last + 1)), one


def test_what_is_in_the_log_is_salvaged_and_the_log_left(path: Path, service: EmbeddingService) -> None:
    """A store whose process was killed is salvaged with the commits in its log, even damaged ones below it."""
    backend = SQLiteBackend(path, service.space)
    backend.add([entry(f"old {n}", id=f"n{n}", embedding=v) for n, v in enumerate(gaussian(50, 64))])
    with connection.connect(path, mode="rw") as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    backend.add([entry(f"new {n}", id=f"n{n}", embedding=v) for n, v in enumerate(gaussian(70, 64, seed=2))])
    killed = path.with_name("killed.db")
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{killed}{suffix}")
    backend.close()
    assert Path(f"{killed}-wal").stat().st_size
    log = Path(f"{killed}-wal").read_bytes()
    target = path.with_name("repaired.db")
    report = repair(killed, target)
    assert report.losses == ()
    assert sorted(one.content for one in read_all(target).values()) == sorted(f"new {n}" for n in range(70))
    assert Path(f"{killed}-wal").read_bytes() == log

    for at in range(5000, len(log), 9000):  # a damaged log counts up to the last transaction before the damage
        damaged = bytearray(log)
        damaged[at] ^= 4
        Path(f"{killed}-wal").write_bytes(damaged)
        Path(f"{killed}-shm").unlink(missing_ok=True)
        target.unlink()
        assert repair(killed, target).losses == ()
        assert {one.content.split()[0] for one in read_all(target).values()} == {"old"}


def test_a_vector_that_makes_no_sense_is_a_loss_or_embedded_anew(path: Path, service: EmbeddingService) -> None:
    """A row that is whole and wrong, such as a vector of NaN or metadata that is no JSON, is named and not copied."""
    backend = SQLiteBackend(path, service.space, warm=False)
    backend.add([entry(f"text {n}", id=f"n{n}", embedding=v) for n, v in enumerate(gaussian(6, 64))])
    backend.close()
    db = connection.connect(path, mode="rw")
    db.execute("UPDATE vectors_1 SET vector = zeroblob(7) WHERE label = 2")
    db.execute("UPDATE vectors_1 SET vector = ? WHERE label = 3", (np.full(64, np.nan, "<f4").tobytes(),))
    db.execute("UPDATE entries SET metadata = '{' WHERE label = 4")
    db.execute("DELETE FROM vectors_1 WHERE label = 5")
    db.close()
    report, found = repaired(path)
    assert {loss.id: loss.label for loss in report.losses} == {"n1": 2, "n2": 3, "n3": 4, "n4": 5}
    assert ["embedding service" in loss.why for loss in report.losses] == [True, True, False, True]
    assert sorted(found) == ["n0", "n5"]
    report, found = repaired(path, service)
    assert [loss.id for loss in report.losses] == ["n3"]
    assert report.embedded == 3
    assert np.array_equal(found["n1"].embedding, service.embed(["text 1"])[0])  # type: ignore[arg-type]


def test_a_repaired_store_goes_on(path: Path, service: EmbeddingService) -> None:
    """New labels and numbers follow the old ones; adding, replacing, deleting and searching work on."""
    backend = SQLiteBackend(path, service.space, warm=False)
    backend.add([entry(f"text {n}", id=f"n{n}", embedding=v) for n, v in enumerate(gaussian(6, 64))])
    backend.delete(Filter(ids=frozenset(["n5"])))
    backend.close()
    repaired(path)
    again = SQLiteBackend(path.parent.parent / "old-new" / "repaired.db", hnsw=HNSWConfig())
    again.add([entry(f"more {n}", id=f"n{n}", embedding=v) for n, v in enumerate(gaussian(8, 64, seed=5), start=4)])
    again.delete(Filter(ids=frozenset(["n0"])))
    hits = again.search(gaussian(8, 64, seed=5)[3], 1, Filter())
    assert [hit.entry.id for hit in hits] == ["n7"]
    assert again.count(Filter()) == again.stats().index.size == 11
    again.close()


@pytest.mark.parametrize("lost", [(), (1,)])
def test_notes_are_kept_but_those_of_moves(path: Path, service: EmbeddingService, lost: tuple[int, ...]) -> None:
    """API keys, the language and long texts are there again, without the first page as well; a rollout is not."""
    long = "a note of your own " * 2_000
    backend = SQLiteBackend(path, service.space, warm=False, keywords=KeywordConfig(language="german"))
    backend.add([entry("text", id="a", embedding=gaussian(1, 64)[0])])
    key, secret = add_key(backend, "reader", namespace=("acme",))
    for name, text in (("own", long), ("gone", "x"), ("rollout", "{}"), ("migration", "{}"), ("rollback-kept", "[]")):
        backend.write_note(name, text)
    backend.write_note("gone", None)
    backend.close()
    data = bytearray(path.read_bytes())
    for page in lost:
        zero(data, page, random.Random(0))
    path.write_bytes(data)
    repaired(path, service)
    again = SQLiteBackend(path.parent.parent / "old-new" / "repaired.db")
    assert Keys(read_keys(again)).find(secret) == key
    assert noted_keywords(again.read_note(KEYWORDS)).language == "german"
    assert again.read_note("own") == long
    assert [again.read_note(name) for name in ("gone", "rollout", "migration", "rollback-kept")] == [None] * 4
    again.close()


def test_lost_notes_are_told(path: Path, service: EmbeddingService) -> None:
    """The page that held them is named among the losses; the entries are there."""
    backend = SQLiteBackend(path, service.space, warm=False)
    backend.add([entry("text", id="a", embedding=gaussian(1, 64)[0])])
    backend.write_note("own", "to be lost")
    backend.close()
    data = bytearray(path.read_bytes())
    page = data.index(b"to be lost") // PAGE + 1
    noise(data, page, random.Random(1))
    path.write_bytes(data)
    report, found = repaired(path, service)
    assert list(found) == ["a"]
    assert [loss.why for loss in report.losses] == [f"notes that the store keeps: page {page} is not what was written"]


def test_a_store_of_schema_1_is_salvaged_into_one_with_checksums(path: Path) -> None:
    """Without checksums, rows that make sense are believed; the new store has them."""
    shutil.copy(GOLDEN, path)
    report, found = repaired(path)
    assert report.losses == ()
    assert sorted(found) == sorted(f"n{n}" for n in range(12) if n not in (5, 7))
    new = check(path.parent.parent / "old-new" / "repaired.db")
    assert (new.checksums, new.schema) == (True, 3)
    assert (check(path).checksums, check(path).schema) == (False, 1)


def test_the_saved_index_of_a_damaged_store_is_not_used(path: Path, service: EmbeddingService) -> None:
    """The new store has no index file until it is opened; then one of its own."""
    backend = SQLiteBackend(path, service.space, hnsw=HNSWConfig())
    backend.add([entry(f"text {n}", id=f"n{n}", embedding=v) for n, v in enumerate(gaussian(60, 64))])
    backend.close()
    assert Path(f"{path}-index").exists()
    Path(f"{path}-index").write_bytes(b"damaged")
    report, found = repaired(path)
    assert (report.losses, len(found)) == ((), 60)


def test_what_cannot_be_repaired_is_refused_and_leaves_nothing(path: Path, service: EmbeddingService) -> None:
    """No store, another application's, another space, a target that is there: typed errors, and no new file."""
    target = path.with_name("new.db")
    with pytest.raises(StorageError, match="no store"):
        repair(path, target)
    path.write_bytes(b"")
    with pytest.raises(CorruptDataError, match="nothing of a store"):
        repair(path, target)
    path.write_text("some notes " * 2000, encoding="utf-8")
    with pytest.raises(CorruptDataError, match="nothing of a store"):
        repair(path, target)
    path.unlink()
    theirs = sqlite3.connect(path)
    theirs.execute("CREATE TABLE precious (x)")
    theirs.close()
    with pytest.raises(SchemaError, match="another application"):
        repair(path, target)
    path.unlink()
    SQLiteBackend(path, service.space).close()
    with pytest.raises(SchemaError, match="the service makes those of"):
        repair(path, target, service=EmbeddingService(HashingProvider(32)))
    with pytest.raises(InputError, match="the store itself"):
        repair(path, path)
    with pytest.raises(StorageError, match="does its folder exist"):
        repair(path, path.parent / "no" / "new.db")
    target.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        repair(path, target)
    assert target.read_text() == "mine"
    assert sorted(one.name for one in path.parent.iterdir()) == ["memory.db", "new.db"]


def test_a_provider_that_fails_leaves_nothing(path: Path) -> None:
    """When embedding anew fails, so does the repair, and no half of a store stands at the target."""

    class Failing(HashingProvider):
        def embed(self, *_: Any, **__: Any) -> Any:
            raise ConnectionError

    service = EmbeddingService(Failing(64))
    backend = SQLiteBackend(path, service.space, warm=False)
    backend.add([entry("text", embedding=np.ones(64, np.float32))])
    backend.close()
    db = connection.connect(path, mode="rw")
    db.execute("DELETE FROM vectors_1")
    db.close()
    with pytest.raises(Exception, match="hashing"):
        repair(path, path.with_name("new.db"), service=service)
    assert [one.name for one in path.parent.iterdir()] == ["memory.db"]


def test_progress_is_told(path: Path, sample: Any) -> None:
    """The callback hears of growing numbers up to about the total."""
    path.write_bytes(sample.data)
    told: list[tuple[int, int]] = []
    repair(path, path.with_name("new.db"), on_progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (2 * len(sample.entries),) * 2


def test_a_space_that_is_given_takes_the_place_of_a_lost_one(path: Path) -> None:
    """Vectors of another width than the service's are no vectors of its space."""
    backend = SQLiteBackend(path, EmbeddingSpace(provider="hashing", model=None, dimensions=32), warm=False)
    backend.add([entry("text", embedding=np.ones(32, np.float32))])
    backend.close()
    data = bytearray(path.read_bytes())
    zero(data, 3, random.Random(0))
    path.write_bytes(data)
    report, found = repaired(path, EmbeddingService(HashingProvider(64)))
    assert (len(found), report.embedded) == (1, 1)
