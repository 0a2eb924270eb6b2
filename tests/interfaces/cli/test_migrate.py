"""`migrate` and `rollback`: a store moved to another, to a file and from one, interrupted, compared, brought back."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from llmspell_memory import Filter, HNSWConfig
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.notes import read_note
from llmspell_memory.backends.sqlite.connection import connect
from llmspell_memory.types.entry import same
from tests.interfaces.cli.conftest import PROGRAM, Invoke
from tests.interfaces.cli.test_commands import document

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmspell_memory import EpisodicEntry

ALL = Filter(expired=None)


def rows(path: Path) -> dict[tuple[tuple[str, ...], str], EpisodicEntry]:
    backend = SQLiteBackend(path, warm=False)
    found = {(one.namespace, one.id): one for one in backend.scan(ALL)}
    backend.close()
    return found


def equal(left: Path, right: Path) -> bool:
    ours, theirs = rows(left), rows(right)
    return ours.keys() == theirs.keys() and all(same(one, theirs[name]) for name, one in ours.items())


def lines(count: int, start: int = 0) -> str:
    """Return JSONL without ids, times and vectors, half of it in a namespace."""
    entries = [
        {
            "session_id": f"s{number % 7}",
            "role": "user",
            "content": f"note {number}",
            "namespace": ["acme"] * (number % 2),
        }
        for number in range(start, start + count)
    ]
    return "".join(json.dumps(entry) + "\n" for entry in entries)


@pytest.fixture
def old(db: Path, invoke: Invoke, tmp_path: Path) -> Path:
    """Make a store of 120 entries."""
    file = tmp_path / "given.jsonl"
    file.write_text(lines(120), encoding="utf-8")
    assert invoke("import", file, new=True).exit_code == 0
    return db


@pytest.fixture
def exported(old: Path, invoke: Invoke, tmp_path: Path) -> Path:
    file = tmp_path / "exported.jsonl"
    assert invoke("migrate", old, file).exit_code == 0
    return file


def test_a_store_is_moved_and_its_index_saved(old: Path, invoke: Invoke, tmp_path: Path) -> None:
    """The table says verified; the new store has all, finds it, and its index need not be built again."""
    new = tmp_path / "new.db"
    result = invoke("migrate", old, new, "--view", "hnsw", "--batch", "50")
    assert result.exit_code == 0, result.output
    assert "verified" in result.stdout
    assert "120 in the target" in result.stdout
    assert equal(old, new)
    assert new.with_name("new.db-index").exists()
    backend = SQLiteBackend(new, hnsw=HNSWConfig())
    assert backend.stats().index.size == 120
    backend.close()


def test_the_json_is_the_report(old: Path, invoke: Invoke, tmp_path: Path) -> None:
    """--json prints figures, counts by namespace, checksums and recall."""
    told = document(invoke("migrate", old, tmp_path / "new.db", "--json", "--view", "hnsw"))
    assert (told["verified"], told["finished"], told["entries"], told["lag"]) == (True, True, 120, 0)
    found = told["verification"]
    assert found["namespaces"] == [
        {"namespace": [], "source": 60, "target": 60},
        {"namespace": ["acme"], "source": 60, "target": 60},
    ]
    assert found["checksums"][0] == found["checksums"][1]
    assert all(one["target"] > 0.9 for one in found["searches"])
    assert document(invoke("migrate", old, tmp_path / "other.db", "--json", "--no-verify"))["verification"] is None


def test_a_plan_makes_no_file(old: Path, invoke: Invoke, tmp_path: Path) -> None:
    """--dry-run tells what it would take, for a target that is there or not, from a store and from a file."""
    before = sorted(tmp_path.iterdir())
    told = document(invoke("migrate", old, tmp_path / "new.db", "--dry-run", "--view", "hnsw", "--json"))
    assert (told["entries"], told["sample"], told["fits"], told["embedded"]) == (120, 120, True, 0)
    assert told["disk_bytes"] > 120 * 256
    assert len(told["steps"]) == 4
    assert sorted(tmp_path.iterdir()) == before
    assert "rows a second" in invoke("migrate", old, tmp_path / "new.db", "--dry-run").stdout
    file = tmp_path / "given.jsonl"
    told = document(invoke("migrate", file, tmp_path / "new.db", "--dry-run", "--json", new=True))
    assert (told["entries"], told["embedded"]) == (120, 120)
    assert sorted(tmp_path.iterdir()) == before
    assert invoke("migrate", old, tmp_path / "new.jsonl", "--dry-run").exit_code == 1
    assert invoke("migrate", old, tmp_path / "nowhere" / "new.db", "--dry-run").exit_code == 1


def test_what_was_tampered_with_is_named_and_mended(old: Path, invoke: Invoke, tmp_path: Path) -> None:
    """Exit code 1 and the entry's id where a row differs; stats and check tell of it; the same command mends it."""
    new = tmp_path / "new.db"
    invoke("migrate", old, new, "--no-verify")
    with closing(connect(new, mode="rw")) as db:
        (name,) = db.execute("SELECT id FROM entries LIMIT 1 OFFSET 20").fetchone()
        db.execute("UPDATE entries SET content = 'another word' WHERE id = ?", (name,))
        db.commit()
    result = invoke("migrate", old, new)
    assert result.exit_code == 1
    assert "not verified: the target is marked unfinished" in result.stdout
    assert f"{name}: content" in result.stdout
    assert document(invoke("--db", new, "stats", "--json"))["unfinished"] == "migration"
    assert "its migration, so it may lack entries" in invoke("--db", new, "stats").stdout
    assert "its migration is unfinished" in invoke("--db", new, "check").stdout
    assert invoke("migrate", old, new).exit_code == 0
    assert equal(old, new)
    assert document(invoke("--db", new, "stats", "--json"))["unfinished"] is None


@pytest.mark.parametrize("name", ["memory.jsonl", "memory.jsonl.gz"])
def test_a_file_and_back(old: Path, invoke: Invoke, tmp_path: Path, name: str) -> None:
    """Into a file of entries, plain or compressed, and from it into a new store: equal in every field."""
    file, new = tmp_path / name, tmp_path / "new.db"
    assert "verified" in invoke("migrate", old, file).stdout
    assert file.read_bytes().startswith(b"\x1f\x8b") == name.endswith(".gz")
    result = invoke("migrate", file, new, "--view", "hnsw")
    assert result.exit_code == 0, result.output
    assert "verified" in result.stdout
    assert equal(old, new)
    again = document(invoke("migrate", file, new, "--json"))
    assert (again["verified"], again["written"], again["resumed"]) == (True, 0, True)
    assert invoke("migrate", old, file).exit_code == 1, "a file that is there is not replaced"
    assert invoke("migrate", file, tmp_path / "copy.jsonl").exit_code == 1


def test_texts_without_vectors_are_embedded(invoke: Invoke, tmp_path: Path) -> None:
    """A file without vectors needs a provider, as an import does; its times stay the same however often it is read."""
    file, new = tmp_path / "given.jsonl", tmp_path / "new.db"
    file.write_text(lines(30), encoding="utf-8")
    told = document(invoke("migrate", file, new, "--json", "--batch", "7", new=True))
    assert told["verified"], told
    assert told["verification"]["vectors"] is False
    before = rows(new)
    assert document(invoke("migrate", file, new, "--json"))["written"] == 0
    assert rows(new) == before


def test_of_an_identity_the_last_line_counts(exported: Path, invoke: Invoke, tmp_path: Path) -> None:
    """A file with an entry twice is moved with its last version, and verified as such."""
    text = exported.read_text(encoding="utf-8").splitlines()
    entry: dict[str, Any] = json.loads(text[3])
    entry |= {"content": "said again", "ingestion_time": "2031-01-01T00:00:00+00:00"}
    text.append(json.dumps(entry))
    exported.write_text("\n".join(text), encoding="utf-8")
    new = tmp_path / "new.db"
    told = document(invoke("migrate", exported, new, "--json", "--batch", "10"))
    assert (told["verified"], told["entries"], told["position"]) == (True, 120, 121)
    moved = rows(new)[tuple(entry["namespace"]), entry["id"]]
    assert moved.content == "said again"
    assert moved.ingestion_time.year == 2031


def test_a_broken_file_says_where_and_goes_on_when_mended(exported: Path, invoke: Invoke, tmp_path: Path) -> None:
    """The line is named, the target is unfinished; a longer file is another one, so a new target is asked for."""
    good = exported.read_text(encoding="utf-8")
    exported.write_text(good + "{broken\n", encoding="utf-8")
    new = tmp_path / "new.db"
    result = invoke("migrate", exported, new, "--batch", "20")
    assert result.exit_code == 1
    assert "line 122 is not JSON" in result.stderr
    assert "has the first 120 lines" in result.stderr or "has the first 100 lines" in result.stderr
    exported.write_text(good, encoding="utf-8")
    result = invoke("migrate", exported, new)
    assert result.exit_code == 1
    assert "migrate into an empty store" in result.stderr
    assert invoke("migrate", exported, tmp_path / "other.db").exit_code == 0


def test_another_space_needs_to_be_asked_for(old: Path, exported: Path, invoke: Invoke, tmp_path: Path) -> None:
    """A target of another width is refused, with --reembed named; with it, texts get vectors of the target's space."""
    other = tmp_path / "other.db"
    options = ["--provider", "hashing", "--dimensions", "32"]
    for source in (old, exported):
        new = tmp_path / f"new-{source.suffix}.db"
        assert invoke(*options, "migrate", source, new, "--reembed").exit_code == 0
        assert {len(one.embedding) for one in rows(new).values() if one.embedding is not None} == {32}
        assert rows(new) == rows(old)
    assert invoke(*options, "--db", other, "import", tmp_path / "given.jsonl").exit_code == 0
    with closing(connect(other, mode="rw")) as db:
        db.execute("DELETE FROM entries")
        db.execute("DELETE FROM vectors_1")
        db.commit()
    for source in (old, exported):
        result = invoke("migrate", source, other)
        assert result.exit_code == 1
        assert "reembed" in result.stderr
    backend = SQLiteBackend(other, warm=False)
    assert read_note(backend, "migration") is None
    backend.close()


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("nowhere.db", "new.db", "neither a store nor a file"),
        ("memory.db", "given.jsonl.txt", "is no store"),
        ("memory.db", "memory.db", "the same store"),
        ("chatgpt.json", "new.db", "import"),
    ],
)
def test_wrong_ends_are_refused(
    old: Path, invoke: Invoke, tmp_path: Path, source: str, target: str, words: str
) -> None:
    """What is neither store nor export, and a store onto itself: each refused with what to do."""
    shutil.copy(tmp_path / "given.jsonl", tmp_path / "given.jsonl.txt")
    (tmp_path / "chatgpt.json").write_text('[{"mapping": {}}]', encoding="utf-8")
    before = rows(old)
    result = invoke("migrate", tmp_path / source, tmp_path / target, new=True)
    assert result.exit_code == 1
    assert words in result.stderr
    assert rows(old) == before


def test_the_way_back(old: Path, invoke: Invoke, tmp_path: Path) -> None:
    """What the new store got since comes to the old one; what the old one got meanwhile is kept and named."""
    new, more = tmp_path / "new.db", tmp_path / "more.jsonl"
    invoke("migrate", old, new)
    more.write_text(lines(10, start=500), encoding="utf-8")
    invoke("--db", new, "import", more)
    told = document(invoke("rollback", new, old, "--json"))
    assert (told["verified"], told["written"], told["kept"], told["restored"]) == (True, 10, [], 0)
    assert equal(old, new)
    invoke("--db", old, "add", "said to the old one", "--session", "s", "--role", "user", "--id", "ours")
    result = invoke("rollback", new, old, "--batch", "3")
    assert result.exit_code == 0, result.output
    assert "1 rows written to the target meanwhile" in result.stdout
    assert ((), "ours") in rows(old)
    assert document(invoke("rollback", new, old, "--json", "--no-verify"))["kept"] == [[[], "ours"]]
    assert invoke("rollback", new, tmp_path / "nowhere.db").exit_code == 1
    assert "nothing to go back to" in invoke("rollback", old, make_other(invoke, tmp_path)).stderr


def make_other(invoke: Invoke, tmp_path: Path) -> Path:
    other = tmp_path / "yet-another.db"
    invoke("--db", other, "--provider", "hashing", "--dimensions", "64", "import", tmp_path / "given.jsonl")
    return other


def test_interrupted_it_says_that_the_same_command_goes_on(tmp_path: Path, db: Path, invoke: Invoke) -> None:
    """Ctrl-C ends with 130, one line and no traceback; the same command then completes what was begun."""
    file = tmp_path / "given.jsonl.gz"
    with gzip.open(file, "wt", encoding="utf-8") as stream:
        stream.write(lines(20_000))
    options = ["--provider", "hashing", "--dimensions", "64"]
    command = [str(PROGRAM), *options, "migrate", str(file), str(db), "--batch", "20"]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=kept)
    finally:
        signal.signal(signal.SIGINT, ours)
    with process:
        wait_for(lambda: db.exists() and begun(db))
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert told.count("\n") == 1
    assert "interrupted; the target is marked unfinished" in told
    assert "the same call goes on" in told
    result = invoke(*options, "migrate", file, db, "--json")
    assert document(result)["resumed"]
    assert document(result)["entries"] == 20_000


def begun(path: Path) -> bool:
    try:
        with closing(connect(path, mode="ro")) as db:
            return bool(db.execute("SELECT count(*) FROM entries").fetchone()[0])
    except Exception:  # noqa: BLE001 (it is just being made)
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("options", [["--view", "hnsw"], ["--reembed"]])
def test_what_a_file_cannot_take_is_refused(filled: Invoke, db: Path, options: list[str]) -> None:
    """A file has no index and no embedding model: options for those are a mistake, and nothing is written."""
    target = db.with_name("entries.jsonl")
    result = filled("migrate", db, target, *options)
    assert result.exit_code == 2
    assert not target.exists()
