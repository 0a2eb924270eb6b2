"""A memory moved to another backend and back: complete, equal in every field, and never half of it by oversight."""

from __future__ import annotations

import random
import threading
import time
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING, Any, Self

import pytest

from llmspell_memory import (
    DefaultMemoryManager,
    EmbeddingService,
    EmbeddingSpace,
    EpisodicEntry,
    Filter,
    HNSWConfig,
    InputError,
)
from llmspell_memory.backends import LocalBackend, ScopedBackend, SQLiteBackend
from llmspell_memory.backends.notes import KEPT, read_note
from llmspell_memory.backends.sqlite.connection import connect
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.operations import MigrationPlan, check, migrate, rollback
from llmspell_memory.types.entry import same
from tests.stores import ALL, NAMESPACES, NOON, equal, made, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from llmspell_memory import EpisodicBackend

SPACE = EmbeddingSpace(provider="hashing", model=None, dimensions=16)
KINDS = ["local exact", "local hnsw", "sqlite exact", "sqlite hnsw"]


def row(number: int, **fields: Any) -> EpisodicEntry:
    given: dict[str, Any] = {
        "namespace": NAMESPACES[number % 4],
        "processed": number % 5 == 0,
        "expires_at": NOON if number % 11 == 0 else None,
    } | fields
    return made(number, 16, **given)


def state(target: EpisodicBackend, note: str = "migration") -> Any:
    return (read_note(target, note) or {}).get("state")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], EpisodicBackend]]:
    """Make a backend from a word such as "sqlite hnsw"."""
    made: list[EpisodicBackend] = []
    numbers = count()

    def one(kind: str) -> EpisodicBackend:
        hnsw = HNSWConfig(m=8, ef_construction=64) if "hnsw" in kind else None
        if "local" in kind:
            backend: EpisodicBackend = LocalBackend(SPACE, hnsw=hnsw)
        else:
            backend = SQLiteBackend(tmp_path / f"{next(numbers)}.db", SPACE, hnsw=hnsw)
        made.append(backend)
        return backend

    yield one
    for backend in made:
        backend.close()


@pytest.fixture
def source(make: Callable[[str], EpisodicBackend]) -> EpisodicBackend:
    """Make a store with 300 rows, some of them expired, some with the same id in several namespaces."""
    backend = make("sqlite exact")
    backend.add([row(number) for number in range(300)])
    backend.add([row(1000 + number, id="shared", namespace=NAMESPACES[number]) for number in range(4)])
    return backend


class Writing:
    """Writes to a store from a thread of its own, inside `with`."""

    def __init__(self, backend: EpisodicBackend, *, seed: int = 0, pause: float = 0.001) -> None:
        self._backend = backend
        self._chance = random.Random(seed)
        self._numbers = count(10_000 * (seed + 1))
        self._stop = threading.Event()
        self._pause = pause
        self._thread = threading.Thread(target=self._run)
        self.error: BaseException | None = None
        self.done = 0

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._pause):
                self.write()
                self.done += 1
        except BaseException as error:  # noqa: BLE001 (told by the main thread)
            self.error = error

    def write(self) -> None:
        kind = self._chance.choice(["new", "new", "replace", "mark", "delete", "forget"])
        name = f"id-{self._chance.randint(0, 299)}"
        if kind in {"new", "replace"}:
            given = {"id": name} if kind == "replace" else {}
            self._backend.add([row(next(self._numbers), **given)])
        elif kind == "mark":
            self._backend.mark_processed(Filter(ids=frozenset([name])))
        elif kind == "delete" or self.done % 5:
            self._backend.delete(Filter(ids=frozenset([name])))
        else:
            self._backend.forget(Filter(ids=frozenset([name])))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.error:
            raise self.error


class Cut(Exception):  # noqa: N818 (it stands for the death of the process)
    """The process has died here."""


class Mortal:
    """A backend whose n-th write raises: before it is done, or after."""

    def __init__(self, backend: EpisodicBackend, at: int, *, done: bool) -> None:
        self.left = at
        self._backend, self._done = backend, done

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._backend, name)
        if name not in {"add", "delete", "forget", "write_note"}:
            return verb

        def mortal(*args: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self._done:
                raise Cut
            result = verb(*args, **named)
            if self.left == 0:
                raise Cut
            return result

        return mortal


# --- there ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target_kind", KINDS)
@pytest.mark.parametrize("source_kind", KINDS)
def test_everything_arrives_as_it_was(
    make: Callable[[str], EpisodicBackend], source_kind: str, target_kind: str
) -> None:
    """From any backend to any: every field of every row, expired ones and equal ids of several namespaces, too."""
    source, target = make(source_kind), make(target_kind)
    source.add([row(number) for number in range(150)])
    source.add([row(1000 + number, id="shared", namespace=NAMESPACES[number]) for number in range(4)])
    source.delete(Filter(ids=frozenset(["id-7"])))
    before = stored(source)
    told: list[tuple[str, int, int]] = []
    report = migrate(source, target, batch=40, on_progress=lambda *one: told.append(one))
    assert report.verified
    assert report.finished
    assert (report.entries, report.lag, report.resumed) == (153, 0, False)
    assert report.written in (153, 154), "a delete may be told of, too"
    assert equal(source, target)
    assert stored(source).keys() == before.keys()
    assert state(target) == "finished"
    assert {phase for phase, _, _ in told} >= {"copy", "search"}
    assert all(0 <= done <= total for _, done, total in told)
    found = report.verification
    assert found is not None
    assert found.checksums[0] == found.checksums[1]
    assert {one.namespace: one.target for one in found.namespaces} == {
        one: sum(name[0] == one for name in before) for one in NAMESPACES
    }
    assert found.sessions == len({(one.namespace, one.session_id) for one in before.values()})
    assert {one.what for one in found.searches} == {"all", "session", "namespace", "role"}
    assert "verified" in report.table()


def test_managers_are_taken_as_well_as_backends(tmp_path: Path) -> None:
    """What is migrated to is a memory that finds what the old one found."""
    service = EmbeddingService(HashingProvider(64))
    old = DefaultMemoryManager.with_config(config(service))
    new = DefaultMemoryManager.with_config(config(service, path=tmp_path / "new.db"))
    with old, new:
        old.episodic.add_many([EpisodicEntry("s", "user", f"the number {number}") for number in range(50)])
        assert migrate(old, new).verified
        assert new.episodic.search("the number 7", 3) == old.episodic.search("the number 7", 3)


def config(service: EmbeddingService, **more: Any) -> Any:
    from llmspell_memory import MemoryConfig  # noqa: PLC0415 (beside its only use)

    return MemoryConfig(service=service, **more)


def test_nothing_is_embedded_unless_asked(make: Callable[[str], EpisodicBackend], tmp_path: Path) -> None:
    """Between spaces it is refused, with the way named; with reembed, each text gets a vector of the target's once."""
    source = make("local exact")
    source.add([row(number) for number in range(30)])
    asked: list[str] = []

    class Counting(HashingProvider):
        def embed(self, texts: Any, *, kind: Any = "document") -> Any:
            asked.extend(texts)
            return super().embed(texts, kind=kind)

    service = EmbeddingService(Counting(32), cache=None)
    with DefaultMemoryManager(SQLiteBackend(tmp_path / "new.db", service.space), service) as target:
        with pytest.raises(InputError, match="reembed=True"):
            migrate(source, target)
        with pytest.raises(InputError, match="manager"):
            migrate(source, target.backend, reembed=True)
        assert target.backend.read_note("migration") is None
        report = migrate(source, target, reembed=True)
        assert report.verified
        assert len(asked) == 30
        there = stored(target.backend)
        for name, one in stored(source).items():
            assert there[name] == one
            vector = there[name].embedding
            assert vector is not None
            assert len(vector) == 32
        assert report.verification is not None
        assert not report.verification.vectors
        assert [one.source for one in report.verification.searches] == [None] * len(report.verification.searches)


def test_what_is_written_meanwhile_arrives(source: EpisodicBackend, make: Callable[[str], EpisodicBackend]) -> None:
    """Rows added, replaced, marked, deleted and forgotten while it runs: the report holds, and a next run finds all."""
    target = make("sqlite hnsw")
    with Writing(source) as writing:
        report = migrate(source, target, batch=16)
        assert report.verified, report.table()
    assert writing.done > 10
    again = migrate(source, target)
    assert again.verified
    assert again.resumed
    assert equal(source, target)


def test_it_goes_on_wherever_it_was_cut_off(source: EpisodicBackend, make: Callable[[str], EpisodicBackend]) -> None:
    """Stopped before and after every single write: the target says it is unfinished, the next run completes it."""
    cuts = 0
    for done in (False, True):
        for at in range(1, 100):
            target = make("local exact")
            mortal: Any = Mortal(target, at, done=done)
            try:
                migrate(source, mortal, batch=32)
            except Cut:
                cuts += 1
            if mortal.left > 0:
                break
            assert state(target) != "finished" or done
            assert state(target) is not None or not target.count(ALL)
            report = migrate(source, target, batch=32)
            assert report.verified
            assert equal(source, target)
            assert report.entries == source.count(ALL)
    assert cuts > 30


def test_a_second_run_changes_nothing(source: EpisodicBackend, make: Callable[[str], EpisodicBackend]) -> None:
    """Finished and unchanged, the same call compares again and writes no row; then it brings over what came since."""
    target = make("sqlite exact")
    migrate(source, target)
    before = target.stats().seq
    again = migrate(source, target)
    assert again.verified
    assert (again.written, again.resumed) == (0, True)
    assert target.stats().seq == before
    source.add([row(500)])
    assert migrate(source, target).written == 1
    assert equal(source, target)


def test_a_target_with_entries_of_its_own_is_refused(
    source: EpisodicBackend, make: Callable[[str], EpisodicBackend]
) -> None:
    """Nothing is mixed: the message says what the target is and what to do; nothing is changed in it."""
    taken, other = make("sqlite exact"), make("local exact")
    taken.add([row(1)])
    with pytest.raises(InputError, match=r"holds 1 entries of its own.*import"):
        migrate(source, taken)
    other.add([row(2)])
    target = make("local exact")
    migrate(other, target)
    with pytest.raises(InputError, match="was migrated from"):
        migrate(source, target)
    with pytest.raises(InputError, match="the same store"):
        migrate(source, source)
    with pytest.raises(InputError, match="give the whole store"):
        migrate(source, ScopedBackend(target, ("acme",)))
    target.add([row(3)])
    with pytest.raises(InputError, match=r"written since its migration was finished.*rollback"):
        migrate(other, target)
    assert list(stored(taken)) == [(("acme",), "id-1")]
    assert len(stored(target)) == 2


@pytest.mark.parametrize(
    ("sql", "field"),
    [
        ("UPDATE entries SET content = 'what was sold as 13' WHERE id = 'id-13'", "content"),
        ("UPDATE entries SET session_id = 'session-2' WHERE id = 'id-13'", "session_id"),
        ("UPDATE entries SET ingestion_time = ingestion_time + 1 WHERE id = 'id-13'", "ingestion_time"),
        ("UPDATE entries SET timestamp = timestamp + 1 WHERE id = 'id-13'", "timestamp"),
        ("UPDATE entries SET metadata = '{\"number\":13.0}' WHERE id = 'id-13'", "metadata"),
        ("UPDATE entries SET processed = 1 - processed WHERE id = 'id-13'", "processed"),
        ("UPDATE entries SET expires_at = 1 WHERE id = 'id-13'", "expires_at"),
        ("UPDATE entries SET role = 'assistant' WHERE id = 'id-13'", "role"),
        (
            "UPDATE vectors_1 SET vector = zeroblob(64) WHERE label = (SELECT label FROM entries WHERE id = 'id-13')",
            "embedding",
        ),
    ],
)
def test_a_row_that_was_tampered_with_is_found(
    source: EpisodicBackend, make: Callable[[str], EpisodicBackend], sql: str, field: str
) -> None:
    """Any field of one row changed behind the target's back is named; the target is unfinished until a next run."""
    target = make("sqlite exact")
    assert migrate(source, target, verify=False).finished
    path = target.stats().path
    assert path is not None
    with closing(connect(path, mode="rw")) as db:
        assert db.execute(sql).rowcount == 1
        db.commit()
    report = migrate(source, target)
    assert not report.verified
    assert not report.finished
    assert report.verification is not None
    (found,) = report.verification.mismatches
    assert (found.id, found.namespace, found.what) == ("id-13", ("acme",), field)
    assert found.session_id == "session-1"
    assert "id-13" in report.table()
    assert state(target) == "unfinished"
    assert migrate(source, target).verified
    assert equal(source, target)


def test_rows_missing_and_surplus_are_found(source: EpisodicBackend, make: Callable[[str], EpisodicBackend]) -> None:
    """A row that one side alone has is named as missing or surplus; the next run puts both right."""
    target = make("sqlite exact")
    with pytest.raises(Cut):
        migrate(source, Mortal(target, 6, done=True))
    migrate(source, target, verify=False)
    target.write_note("migration", (target.read_note("migration") or "").replace("finished", "unfinished"))
    target.delete(Filter(ids=frozenset(["id-5"])))
    target.add([row(999)])
    report = migrate(source, target)
    assert report.verification is not None
    named = {(one.id, one.what) for one in report.verification.mismatches}
    assert named == {("id-5", "missing"), ("id-999", "surplus")}
    assert report.verification.mismatched == 2
    assert not report.verified
    assert migrate(source, target).verified
    assert equal(source, target)


def test_many_differences_are_counted_and_some_named(
    source: EpisodicBackend, make: Callable[[str], EpisodicBackend]
) -> None:
    """Where everything differs, the report stays short and tells how much there is."""
    target = make("sqlite exact")
    migrate(source, target, verify=False)
    path = target.stats().path
    assert path is not None
    with closing(connect(path, mode="rw")) as db:
        db.execute("UPDATE entries SET content = content || '!'")
        db.commit()
    found = migrate(source, target).verification
    assert found is not None
    assert len(found.mismatches) == 10
    assert found.mismatched == 304


def test_what_is_forgotten_at_the_source_is_erased_in_the_target(
    source: EpisodicBackend, make: Callable[[str], EpisodicBackend], tmp_path: Path
) -> None:
    """Forgotten between two runs: no byte of it is left in the target's files."""
    target = make("sqlite exact")
    with pytest.raises(Cut):
        migrate(source, Mortal(target, 12, done=True), batch=64)
    assert (("acme",), "id-5") in stored(target)
    source.forget(Filter(ids=frozenset(["id-5"])))
    assert migrate(source, target).verified
    path = target.stats().path
    assert path is not None
    assert all(b"what was said as 5<" not in file.read_bytes() + b"<" for file in tmp_path.glob(f"{path.name}*"))
    assert equal(source, target)


def test_a_tenant_can_be_moved_out(source: EpisodicBackend, make: Callable[[str], EpisodicBackend]) -> None:
    """One namespace as source: its entries alone arrive, and are compared."""
    target = make("sqlite hnsw")
    scope = ScopedBackend(source, ("acme",))
    report = migrate(scope, target, batch=20)
    assert report.verified, report.table()
    assert equal(scope, target)
    assert {one.namespace[0] for one in target.scan(ALL)} == {"acme"}
    with pytest.raises(InputError, match="was migrated from"):
        migrate(source, target)
    with pytest.raises(InputError, match="one namespace"):
        rollback(target, source)


def test_a_finished_target_without_comparison_says_so(
    source: EpisodicBackend, make: Callable[[str], EpisodicBackend]
) -> None:
    """Without `verify` the target is finished, and the report does not call it verified."""
    target = make("local exact")
    report = migrate(source, target, verify=False)
    assert report.finished
    assert not report.verified
    assert report.outcome == "finished, not compared"
    assert (read_note(target, "migration") or {})["verified"] is False


def test_an_empty_store_can_be_migrated(make: Callable[[str], EpisodicBackend]) -> None:
    """Nothing is brought over, and that is verified."""
    target = make("sqlite hnsw")
    assert migrate(make("local exact"), target).verified
    assert state(target) == "finished"


# --- a plan ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_changes_nothing_and_reckons_from_measured_rates(
    source: EpisodicBackend, make: Callable[[str], EpisodicBackend], tmp_path: Path, kind: str
) -> None:
    """It says how many entries, bytes and seconds, and what the index and the disk would take; no file is left."""
    target = make(kind)
    before = sorted(tmp_path.iterdir())
    plan = migrate(source, target, dry_run=True)
    assert isinstance(plan, MigrationPlan)
    assert plan.entries == plan.sample == 304
    assert plan.bytes > 304 * 64
    assert plan.read_rate
    assert plan.write_rate
    assert plan.read_rate > 0 < plan.write_rate
    assert (plan.index_rate is not None) == ("hnsw" in kind) == ("index" in plan.seconds)
    assert (plan.disk_bytes > 304 * 64) == ("sqlite" in kind) == (plan.disk_free is not None)
    assert plan.fits
    assert plan.total_seconds == pytest.approx(sum(plan.seconds.values()))
    assert plan.table().count("\n") > 5
    assert sorted(tmp_path.iterdir()) == before
    assert target.stats().seq == 0
    assert target.read_note("migration") is None


def test_a_plan_for_a_target_that_would_be_refused_is_refused(
    source: EpisodicBackend, make: Callable[[str], EpisodicBackend]
) -> None:
    """The plan says beforehand what the migration would say."""
    target = make("local exact")
    target.add([row(1)])
    with pytest.raises(InputError, match="of its own"):
        migrate(source, target, dry_run=True)


# --- and back -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new_kind", KINDS)
@pytest.mark.parametrize("old_kind", KINDS)
def test_going_back_brings_what_was_written_since(
    make: Callable[[str], EpisodicBackend], old_kind: str, new_kind: str
) -> None:
    """After any changes of the new store the old one is its equal; back and forth as often as one likes."""
    old, new = make(old_kind), make(new_kind)
    old.add([row(number) for number in range(120)])
    assert migrate(old, new).verified
    for seed in range(3):
        writing = Writing(new, seed=seed)
        for writing.done in range(25):
            writing.write()
        report = rollback(new, old, batch=16)
        assert report.verified, report.table()
        assert (report.direction, report.kept, report.restored) == ("rollback", (), 0)
        assert equal(new, old)
        assert state(old, "rollback") == "finished"
        writing = Writing(old, seed=10 + seed)
        for writing.done in range(5):
            writing.write()
        there = rollback(old, new)
        assert there.verified, there.table()
        assert there.kept == ()
        assert equal(new, old)


def test_only_what_changed_is_read(source: EpisodicBackend, make: Callable[[str], EpisodicBackend]) -> None:
    """The way back starts where the two were level: it writes what came since, and no more."""
    new = make("sqlite exact")
    migrate(source, new)
    new.add([row(700), row(3, processed=True)])
    new.delete(Filter(ids=frozenset(["id-8"])))
    assert rollback(new, source).written == 3
    assert equal(new, source)


def test_what_the_old_store_got_meanwhile_is_kept(
    source: EpisodicBackend, make: Callable[[str], EpisodicBackend]
) -> None:
    """Rows written to the old store are neither deleted nor replaced; they are named, and all else is verified."""
    new = make("sqlite hnsw")
    migrate(source, new)
    source.add([row(800), row(4, metadata={"ours": True})])
    source.mark_processed(Filter(ids=frozenset(["id-9"])))
    new.add([row(4, metadata={"theirs": True}), row(900)])
    new.forget(Filter(ids=frozenset(["id-6", "id-9"])))
    report = rollback(new, source, batch=7)
    assert report.verified, report.table()
    kept = {((), "id-4"), ((), "id-800"), (("acme",), "id-9")}
    assert set(report.kept) == kept
    old, fresh = stored(source), stored(new)
    assert old[(), "id-4"].metadata == {"ours": True}
    assert (("acme", "alice"), "id-6") not in old
    assert {name: one for name, one in old.items() if name not in kept} == {
        name: one for name, one in fresh.items() if name not in kept
    }
    new.forget(Filter(ids=frozenset(["id-13"])))
    again = rollback(new, source)
    assert again.verified
    assert set(again.kept) == kept, "kept once is kept always, as long as it differs"


def test_what_is_forgotten_is_named_in_no_note(tmp_path: Path) -> None:
    """What a rollback kept and is then forgotten leaves no id in the old store's file; the others stay kept."""
    old, new = (SQLiteBackend(tmp_path / name, SPACE) for name in ("old.db", "new.db"))
    old.add([row(number) for number in range(20)])
    migrate(old, new)
    secret, other = row(800).changed(id="the-name-of-a-secret"), row(801)
    old.add([secret, other])
    assert len(rollback(new, old).kept) == 2
    assert "the-name-of-a-secret" in (old.read_note(KEPT) or "")
    old.forget(Filter(ids=frozenset(["the-name-of-a-secret"])))
    assert set(rollback(new, old).kept) == {(other.namespace, other.id)}
    new.close()
    old.close()
    for path in tmp_path.glob("old.db*"):
        assert b"the-name-of-a-secret" not in path.read_bytes()


def test_what_the_old_store_lost_meanwhile_comes_back(
    source: EpisodicBackend, make: Callable[[str], EpisodicBackend]
) -> None:
    """Deleted or forgotten in the old store, but not in the new one: it is put back."""
    new = make("sqlite exact")
    migrate(source, new)
    source.delete(Filter(ids=frozenset(["id-4", "id-5"])))
    report = rollback(new, source)
    assert report.verified
    assert report.restored == 2
    assert equal(new, source)
    source.forget(Filter(ids=frozenset(["id-6"])))
    assert rollback(new, source).verified
    assert equal(new, source)


@pytest.mark.parametrize("done", [False, True])
def test_going_back_goes_on_wherever_it_was_cut_off(make: Callable[[str], EpisodicBackend], done: bool) -> None:
    """Stopped before or after every single write, with changes in both stores in between: nothing is lost or mixed."""
    cuts = 0
    for at in range(1, 200):
        old, new = make("local exact"), make("local exact")
        old.add([row(number) for number in range(60)])
        migrate(old, new)
        new.add([row(200 + number) for number in range(20)])
        new.add([row(number, metadata={}) for number in range(10)])
        new.delete(Filter(ids=frozenset(["id-30", "id-31"])))
        new.forget(Filter(ids=frozenset(["id-40"])))
        old.add([row(300)])
        old.delete(Filter(ids=frozenset(["id-50"])))
        mortal: Any = Mortal(old, at, done=done)
        try:
            rollback(new, mortal, batch=6)
        except Cut:
            cuts += 1
        if mortal.left > 0:
            break
        old.add([row(301)])
        new.add([row(203, metadata={"again": True}), row(205, metadata={"again": True})])
        new.forget(Filter(ids=frozenset(["id-207"])))
        report = rollback(new, old, batch=6)
        assert report.verified, report.table()
        kept = {((), "id-300"), (("acme",), "id-301")}
        assert set(report.kept) == kept
        there = stored(old)
        assert {name for name in there if name in kept} == kept
        assert {name: one for name, one in there.items() if name not in kept} == stored(new)
    assert cuts > 20


def test_both_may_be_written_on_the_way_back(source: EpisodicBackend, make: Callable[[str], EpisodicBackend]) -> None:
    """A forgotten writer still writes to the old store, and the new one is in use: its rows come, theirs stay."""
    new = make("sqlite exact")
    migrate(source, new)
    ours = [row(5000 + number) for number in range(200)]

    def write() -> None:
        for one in ours:
            source.add([one])
            time.sleep(0.01)

    old_writer = threading.Thread(target=write)
    with Writing(new, seed=4, pause=0.01):
        old_writer.start()
        while old_writer.is_alive():
            rollback(new, source, batch=16)
    old_writer.join()
    report = rollback(new, source, batch=16)
    assert report.verified, report.table()
    assert set(report.kept) == {(one.namespace, one.id) for one in ours}
    kept = set(report.kept)
    assert {name: one for name, one in stored(source).items() if name not in kept} == stored(new)


def test_stores_that_have_nothing_in_common_are_refused(
    source: EpisodicBackend, make: Callable[[str], EpisodicBackend]
) -> None:
    """No way back where there was none there, or where it was never finished; each message says what to do."""
    new = make("local exact")
    with pytest.raises(InputError, match="was not migrated from"):
        rollback(new, source)
    with pytest.raises(Cut):
        migrate(source, Mortal(new, 8, done=True), batch=20)
    with pytest.raises(InputError, match="never finished"):
        rollback(new, source)
    migrate(source, new)
    note = (new.read_note("migration") or "").replace('"target_position": ', '"target_position": 99')
    new.write_note("migration", note)
    with pytest.raises(InputError, match="a backup that was put back"):
        rollback(new, source)


def test_the_old_store_says_that_it_is_unfinished_until_it_is_level(
    source: EpisodicBackend, make: Callable[[str], EpisodicBackend]
) -> None:
    """Between the first write to it and the comparison, the old store's note says that it is not yet whole."""
    new = make("sqlite exact")
    migrate(source, new)
    new.add([row(number) for number in range(400, 450)])
    with pytest.raises(Cut):
        rollback(new, Mortal(source, 5, done=True), batch=10)
    assert state(source, "rollback") == "unfinished"
    assert rollback(new, source).resumed
    assert state(source, "rollback") == "finished"


def test_who_interrupts_is_told_that_the_same_call_goes_on(
    source: EpisodicBackend, make: Callable[[str], EpisodicBackend]
) -> None:
    """Whatever cuts a run off carries a note that says how far it came."""
    target: Any = Mortal(make("local exact"), 8, done=True)
    with pytest.raises(Cut) as caught:
        migrate(source, target, batch=20)
    (note,) = caught.value.__notes__
    assert "level with the source up to change 20; the same call goes on" in note


def test_an_unfinished_store_says_so_wherever_it_is_looked_at(
    source: EpisodicBackend, make: Callable[[str], EpisodicBackend], caplog: pytest.LogCaptureFixture
) -> None:
    """Opened as a memory it warns; `stats` and `check` name it; all of that ends when it is finished."""
    target = make("sqlite exact")
    path = target.stats().path
    assert path is not None
    service = EmbeddingService(HashingProvider(16))

    def findings(path: Path) -> list[str]:
        return [one.what for one in check(path, sample=0).findings if "unfinished" in one.what]

    def opened() -> tuple[str | None, list[str], list[str]]:
        caplog.clear()
        with DefaultMemoryManager(SQLiteBackend(path), service) as memory:
            told = memory.stats().unfinished
        warned = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
        return told, warned, findings(path)

    with pytest.raises(Cut):
        migrate(source, Mortal(target, 8, done=True), batch=20)
    told, warned, found = opened()
    assert told == "migration"
    assert any("may lack entries: its migration is unfinished" in one for one in warned)
    assert any("its migration is unfinished" in one for one in found)
    migrate(source, target)
    assert opened() == (None, [], [])
    target.add([row(700)])
    with pytest.raises(Cut):
        rollback(target, Mortal(source, 4, done=True))
    old = source.stats().path
    assert old is not None
    assert findings(old) == ["its rollback is unfinished: it may lack entries"]


@pytest.mark.parametrize("verb", ["add", "write_note", "count", "stats"])
def test_a_row_written_to_the_old_store_at_any_moment_is_kept(
    source: EpisodicBackend, make: Callable[[str], EpisodicBackend], verb: str
) -> None:
    """Whenever it comes while a rollback runs, a later one does not take it for one of the new store's."""
    new = make("local exact")
    migrate(source, new)
    new.add([row(number) for number in range(400, 420)])

    class Busy:
        """A backend that somebody else writes to just before each call of one verb."""

        def __init__(self) -> None:
            self.written: list[EpisodicEntry] = []

        def __getattr__(self, name: str) -> Any:
            if name == verb:
                self.written.append(row(6000 + len(self.written)))
                source.add(self.written[-1:])
            return getattr(source, name)

    busy: Any = Busy()
    rollback(new, busy, batch=8)
    new.forget(Filter(ids=frozenset(["id-401"])))  # so that identities are compared, and what is surplus deleted
    report = rollback(new, source, batch=8)
    assert report.verified, report.table()
    assert busy.written
    assert set(report.kept) == {(one.namespace, one.id) for one in busy.written}
    assert all(same(stored(source)[one.namespace, one.id], one) for one in busy.written)
