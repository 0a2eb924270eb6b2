"""Files of earlier schemas open with everything that was in them, and can then do what new ones can."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from llmspell_memory import EmbeddingSpace, Filter, HNSWConfig, SchemaError, StorageError
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.sqlite import connection
from llmspell_memory.backends.sqlite.schema import MIGRATIONS

GOLDEN = Path(__file__).parents[1] / "golden" / "store-v1.db"
"""Twelve entries of release 0.1.0: session 1 marked, n5 and n7 deleted."""

SECOND = GOLDEN.with_name("store-v2.db")
"""The same of schema 2, whose pages have checksums: session 1 marked, n5 deleted, n7 forgotten, "old" expired."""

SPACE = EmbeddingSpace(provider="test", model="m", dimensions=4)
START = datetime(2025, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Path(shutil.copy(GOLDEN, tmp_path / "memory.db"))


@pytest.mark.parametrize("golden", [GOLDEN, SECOND])
@pytest.mark.parametrize("hnsw", [None, HNSWConfig()])
def test_a_file_of_an_earlier_schema_opens_with_every_field(path: Path, hnsw: HNSWConfig | None, golden: Path) -> None:
    """Each entry and vector is as it was written, and nothing expires."""
    shutil.copy(golden, path)
    vectors = np.random.default_rng(1).standard_normal((12, 4)).astype(np.float32)
    backend = SQLiteBackend(path, SPACE, hnsw=hnsw)
    found = {one.id: one for one in backend.scan(Filter())}
    assert list(found) == [f"n{n}" for n in range(12) if n not in (5, 7)]
    for n in (0, 1, 2, 3, 4, 6, 8, 9, 10, 11):
        one = found[f"n{n}"]
        assert (one.session_id, one.role, one.content) == (
            f"s{n % 3}",
            "user" if n % 2 else "assistant",
            f"text {n} ü🦀",
        )
        assert one.namespace == (("acme", f"t{n % 2}") if n % 4 else ())
        assert (one.timestamp, one.ingestion_time) == (START + timedelta(minutes=n), START + timedelta(hours=n))
        assert one.metadata == {"n": n, "deep": {"k": [1, 2.5, None, True]}}
        assert one.processed == (n % 3 == 1)
        assert one.expires_at is None
        np.testing.assert_array_equal(one.embedding, vectors[n])
        assert backend.search(vectors[n], 1, Filter())[0].entry.id == f"n{n}"
    backend.close()


@pytest.mark.parametrize("golden", [GOLDEN, SECOND])
def test_an_upgraded_file_tells_its_changes(path: Path, golden: Path) -> None:
    """A follower is told of every row of the time before, and of what was deleted then as of nothing it can name."""
    shutil.copy(golden, path)
    backend = SQLiteBackend(path, SPACE)
    batch = backend.changes(0)
    assert {one.id for one in batch.put} == {one.id for one in backend.scan(Filter(expired=None))}
    assert batch.gone == ()
    assert backend.changes(1).forgotten
    backend.delete(Filter(ids=frozenset(["n0"])))
    assert backend.changes(batch.reached).gone == ((((), "n0")),)
    assert backend.changes(batch.reached).forgotten is False
    assert backend.stats().id
    backend.close()


def test_an_upgraded_file_can_do_what_new_ones_can(path: Path) -> None:
    """Entries expire, are forgotten, and the index is saved and loaded again; a second opening changes nothing more."""
    backend = SQLiteBackend(path, SPACE, hnsw=HNSWConfig())
    (first,) = backend.scan(Filter(ids=frozenset(["n0"])))
    backend.add([first.changed(id="gone", expires_at=START)])
    assert backend.count(Filter()) == 10
    assert len(backend.forget(Filter(session_id="s0", expired=None))) == 5
    backend.close()
    assert path.with_name("memory.db-index").exists()
    before = path.read_bytes()
    backend = SQLiteBackend(path, SPACE, hnsw=HNSWConfig())
    assert len(backend.search(np.ones(4, np.float32), 10, Filter())) == 6
    backend.close()
    assert path.read_bytes() == before


def test_a_refused_opening_upgrades_nothing(path: Path) -> None:
    """With the wrong space the file stays of its schema, to the byte."""
    with pytest.raises(SchemaError, match="holds vectors of"):
        SQLiteBackend(path, EmbeddingSpace(provider="other", model=None, dimensions=4))
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.close()


def test_an_upgrade_is_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade that fails in its last step leaves the file of its old schema, and the next opening finishes it."""

    def fails(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE entries (x)")

    schema = "llmspell_memory.backends.sqlite.schema.MIGRATIONS"
    with monkeypatch.context() as patched:
        patched.setattr(schema, (*MIGRATIONS, fails))
        with pytest.raises(StorageError, match="already exists"):
            SQLiteBackend(path, SPACE)
    db = connection.connect(path, mode="rw")
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'snapshots'").fetchone() == (0,)
    db.close()
    backend = SQLiteBackend(path, SPACE)
    assert backend.count(Filter()) == 10
    backend.close()
