"""A store brought level with another, whatever happened to the source and wherever it was cut off."""

from __future__ import annotations

import random
from itertools import count
from shutil import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory import (
    ConfigError,
    EmbeddingSpace,
    EpisodicEntry,
    Filter,
    HNSWConfig,
    InputError,
    SpaceChangedError,
)
from llmspell_memory.backends import LocalBackend, ScopedBackend, SQLiteBackend
from llmspell_memory.backends.notes import read_note
from llmspell_memory.operations import Follower
from llmspell_memory.types.entry import same
from tests.stores import ALL, NAMESPACES, NOON, equal, made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from llmspell_memory import EpisodicBackend

SPACE = EmbeddingSpace(provider="test", model=None, dimensions=8)


def row(number: int, **fields: Any) -> EpisodicEntry:
    return made(number, 8, **fields)


def follow(follower: Follower) -> int:
    """Step until level; return how many rows were applied."""
    total = 0
    while (applied := follower.step()) is not None:
        total += applied
    assert follower.lag == 0
    return total


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], EpisodicBackend]]:
    """Make a backend from a word such as "sqlite hnsw"."""
    made: list[EpisodicBackend] = []
    numbers = count()

    def one(kind: str) -> EpisodicBackend:
        hnsw = HNSWConfig(m=8, ef_construction=32) if "hnsw" in kind else None
        if "local" in kind:
            backend: EpisodicBackend = LocalBackend(SPACE, hnsw=hnsw)
        else:
            backend = SQLiteBackend(tmp_path / f"{next(numbers)}.db", SPACE, hnsw=hnsw)
        made.append(backend)
        return backend

    yield one
    for backend in made:
        backend.close()


KINDS = ["local exact", "local hnsw", "sqlite exact", "sqlite hnsw"]


class Cut(Exception):  # noqa: N818 (it stands for the death of the process)
    """The process has died here."""


class Mortal:
    """A backend that dies before or after one of its writes."""

    def __init__(self, backend: EpisodicBackend, chance: random.Random, share: float) -> None:
        self._backend, self._chance, self._share = backend, chance, share

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._backend, name)
        if name not in {"add", "delete", "forget", "write_note"}:
            return verb

        def mortal(*args: Any, **named: Any) -> Any:
            if self._chance.random() < self._share:
                raise Cut
            result = verb(*args, **named)
            if self._chance.random() < self._share:
                raise Cut
            return result

        return mortal


class World:
    """Does random things to a store."""

    def __init__(self, backend: EpisodicBackend, seed: int) -> None:
        self.backend = backend
        self.chance = random.Random(seed)
        self.numbers = count()

    def change(self) -> None:
        names = [(one.namespace, one.id) for one in self.backend.scan(ALL)]
        kind = self.chance.choice(["new", "new", "replace", "again", "mark", "delete", "forget", "expired"])
        if kind in {"new", "expired"} or not names:
            past = NOON if kind == "expired" else None
            self.backend.add([self.entry(expires_at=past) for _ in range(self.chance.randint(1, 9))])
            return
        namespace, name = self.chance.choice(names)
        where = Filter(ids=frozenset([name]), namespace=namespace, below=False, expired=None)
        if kind == "replace":
            self.backend.add([self.entry(id=name, namespace=namespace)])
        elif kind == "mark":
            self.backend.mark_processed(where)
        elif kind == "forget":
            self.backend.forget(where)
        else:
            self.backend.delete(where)
        if kind == "again":  # what is learned anew was learned at another moment
            self.backend.add([self.entry(id=name, namespace=namespace)])

    def entry(self, **fields: Any) -> EpisodicEntry:
        number = next(self.numbers)
        given: dict[str, Any] = {
            "namespace": self.chance.choice(NAMESPACES),
            "id": f"id-{self.chance.randint(0, 60)}",
        } | fields
        return row(number, **given)


@pytest.mark.parametrize("target_kind", KINDS)
@pytest.mark.parametrize("source_kind", KINDS)
def test_a_target_becomes_level_whatever_happens_to_the_source(
    make: Callable[[str], EpisodicBackend], source_kind: str, target_kind: str
) -> None:
    """After any changes, between any steps, by any number of followers, the target is equal in every field."""
    source, target = make(source_kind), make(target_kind)
    world = World(source, seed=1)
    follower = Follower(source, target, note="test", batch=5)
    for _ in range(12):
        for _ in range(world.chance.randint(0, 8)):
            world.change()
            if world.chance.random() < 0.5:
                follower.step()
        if world.chance.random() < 0.4:
            follower = Follower(source, target, note="test", batch=world.chance.randint(1, 40))
        follow(follower)
        assert equal(source, target)
    assert source.count(ALL) > 10


@pytest.mark.parametrize("seed", range(12))
def test_a_follower_that_dies_anywhere_goes_on(make: Callable[[str], EpisodicBackend], seed: int) -> None:
    """Cut off before or after any write to the target, while the source changes, the next one ends level."""
    source, target = make("sqlite exact" if seed % 2 else "local exact"), make("sqlite exact" if seed % 3 else "local")
    world = World(source, seed)
    deaths = 0
    for _ in range(60):
        mortal: Any = Mortal(target, world.chance, 0.15)
        try:
            follower = Follower(source, mortal, note="test", batch=4)
            for _ in range(6):
                world.change()
                follower.step()
        except Cut:
            deaths += 1
    follow(Follower(source, target, note="test", batch=4))
    assert equal(source, target)
    assert deaths > 20


def test_a_second_follower_goes_on_where_the_first_stopped(make: Callable[[str], EpisodicBackend]) -> None:
    """The position is in the target: nothing is read or written twice."""
    source, target = make("sqlite exact"), make("sqlite exact")
    source.add([row(number) for number in range(20)])
    follower = Follower(source, target, note="test", batch=8)
    assert follower.step() == 8
    assert (follower.position, follower.lag) == (8, 12)
    assert follow(Follower(source, target, note="test", batch=8)) == 12
    source.add([row(20)])
    assert follow(Follower(source, target, note="test", batch=8)) == 1
    assert equal(source, target)


def test_rows_that_are_equal_are_not_written_again(make: Callable[[str], EpisodicBackend]) -> None:
    """To start over where all is there costs reading alone: the target's sequence number stands still."""
    source, target = make("sqlite exact"), make("sqlite exact")
    source.add([row(number) for number in range(20)])
    follower = Follower(source, target, note="test")
    follow(follower)
    target.mark_processed(Filter(ids=frozenset(["id-3"])))
    before = target.stats().seq
    follower.start_over()
    follow(Follower(source, target, note="test"))
    assert equal(source, target)
    assert target.stats().seq == before + 1, "id-3 alone is written"


def test_the_note_says_what_it_is_about(make: Callable[[str], EpisodicBackend]) -> None:
    """It names source, position and state, and keeps what it is given; a note about another source does not count."""
    source, other, target = make("local"), make("local"), make("sqlite exact")
    source.add([row(1)])
    follower = Follower(source, target, note="test", state="unfinished")
    follow(follower)
    follower.record(more=[1, 2])
    known = {"source": source.stats().id, "namespace": [], "position": 1, "clean": 1, "state": "unfinished"}
    assert read_note(target, "test") == known | {"more": [1, 2]}
    follower.record(state="finished", more=None)
    assert read_note(target, "test") == known | {"state": "finished"}
    assert Follower(source, target, note="test").state == "finished"
    assert Follower(other, target, note="test").state == "following"
    assert Follower(other, target, note="test").position == 0


def test_another_source_starts_over(make: Callable[[str], EpisodicBackend]) -> None:
    """A position counts for its own source: rows of another one go, and all of the new one come."""
    first, second, target = make("local"), make("local"), make("sqlite exact")
    first.add([row(number) for number in range(5)])
    second.add([row(number) for number in range(3, 9)])
    follow(Follower(first, target, note="test"))
    follow(Follower(second, target, note="test"))
    assert equal(second, target)


def test_a_backup_that_was_put_back_starts_over(make: Callable[[str], EpisodicBackend]) -> None:
    """A position beyond the source's last number is from a time that has not been: all rows are compared."""
    source, target = make("local"), make("local")
    source.add([row(number) for number in range(5)])
    follower = Follower(source, target, note="test")
    follow(follower)
    target.add([row(99)])
    follower.record(position=1000)
    follow(Follower(source, target, note="test"))
    assert equal(source, target)


def test_a_backup_that_was_put_back_and_outgrown_starts_over(tmp_path: Path) -> None:
    """A source that lost changes and then made as many others is not taken for the one that was followed."""
    path, kept = tmp_path / "source.db", tmp_path / "kept.db"

    def write(*numbers: int) -> None:
        source = SQLiteBackend(path, SPACE)
        source.add([row(number) for number in numbers])
        source.close()

    write(*range(10))
    copy(path, kept)
    write(*range(10, 20))
    source, target = SQLiteBackend(path), SQLiteBackend(tmp_path / "target.db", SPACE)
    follow(Follower(source, target, note="test"))
    source.close()
    copy(kept, path)
    write(*range(20, 26))
    write(*range(26, 40))
    source = SQLiteBackend(path)
    follow(Follower(source, target, note="test"))
    assert equal(source, target)
    applied = follow(Follower(source, target, note="test"))
    assert applied == 0
    source.close()
    target.close()


@pytest.mark.parametrize("kind", ["local exact", "sqlite hnsw"])
def test_what_is_forgotten_leaves_no_trace_in_the_target(
    make: Callable[[str], EpisodicBackend], tmp_path: Path, kind: str
) -> None:
    """Erased at the source is erased at the target: no byte of the text stands in its files."""
    source, target = make(kind), make("sqlite exact")
    source.add([row(number) for number in range(30)])
    follower = Follower(source, target, note="test", batch=8)
    follow(follower)
    source.forget(Filter(ids=frozenset(["id-7"])))
    source.add([row(40)])
    follow(follower)
    assert equal(source, target)
    path = target.stats().path
    assert path is not None
    for file in tmp_path.glob(f"{path.name}*"):
        assert b"what was said as 7" not in file.read_bytes()
        assert b"id-7" not in file.read_bytes()


def test_what_was_deleted_before_a_death_is_erased_after_it(
    make: Callable[[str], EpisodicBackend], tmp_path: Path
) -> None:
    """Where a follower dies between deleting and erasing, the next one erases though it finds nothing to delete."""
    source, target = make("local"), make("sqlite exact")
    source.add([row(7)])
    follow(Follower(source, target, note="test"))
    source.forget(ALL)
    target.delete(ALL)
    follow(Follower(source, target, note="test"))
    path = target.stats().path
    assert path is not None
    assert all(b"what was said as 7" not in file.read_bytes() for file in tmp_path.glob(f"{path.name}*"))


def test_what_was_forgotten_before_the_beginning_costs_no_erasing(make: Callable[[str], EpisodicBackend]) -> None:
    """A target never held what was erased before it began, so it is not rewritten for that."""
    source, target = make("sqlite exact"), make("sqlite exact")
    for number in range(30):
        source.add([row(number), row(100 + number)])
        source.forget(Filter(ids=frozenset([f"id-{number}"])))
    erasings: list[Filter] = []
    forget = target.forget
    target.forget = lambda where: erasings.append(where) or forget(where)  # type: ignore[method-assign,func-returns-value]
    follow(Follower(source, target, note="test", batch=4))
    assert equal(source, target)
    assert erasings == []
    source.forget(Filter(ids=frozenset(["id-100"])))
    follow(Follower(source, target, note="test", batch=4))
    assert equal(source, target)
    assert len(erasings) == 1


def test_a_row_forgotten_between_two_reads_is_not_brought_back(make: Callable[[str], EpisodicBackend]) -> None:
    """What a batch had read before the source forgot it is gone from the target when level."""
    source, target = make("local"), make("local")
    source.add([row(number) for number in range(6)])
    follower = Follower(source, target, note="test", batch=2)
    follow(follower)
    source.forget(Filter(ids=frozenset(["id-1"])))
    source.add([row(10)])
    changes = source.changes
    told: list[Any] = []

    def forgetful(since: int, *, limit: int = 512) -> Any:
        batch = changes(since, limit=limit)
        if not told:
            told.append(batch)
            source.forget(Filter(ids=frozenset(["id-10"])))
        return batch

    source.changes = forgetful  # type: ignore[method-assign]
    follow(follower)
    assert told[0].forgotten
    assert equal(source, target)
    assert target.count(Filter(ids=frozenset(["id-10"]))) == 0


def test_what_is_forgotten_during_a_comparison_is_found_by_another(make: Callable[[str], EpisodicBackend]) -> None:
    """A row that is erased after its identity was compared, and before the next read, does not stay in the target."""
    source, target = make("local"), make("local")
    source.add([row(number) for number in range(6)])
    follower = Follower(source, target, note="test")
    follow(follower)
    source.forget(Filter(ids=frozenset(["id-1"])))
    forget = target.forget

    def meanwhile(where: Filter) -> Any:
        if source.count(Filter(ids=frozenset(["id-2"]))):
            source.forget(Filter(ids=frozenset(["id-2"])))
        return forget(where)

    target.forget = meanwhile  # type: ignore[method-assign]
    follow(follower)
    assert sorted(one.id for one in target.scan(ALL)) == ["id-0", "id-3", "id-4", "id-5"]


def test_writers_who_never_rest_cause_no_comparing_without_end(make: Callable[[str], EpisodicBackend]) -> None:
    """What was forgotten once is looked for once, though the source is written during each look."""
    source, target = make("sqlite exact"), make("sqlite exact")
    source.add([row(n) for n in range(20)])

    class Watching:
        looks = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(target, name)

        def scan(self, where: Filter) -> Iterator[EpisodicEntry]:
            if where.ids is None:
                self.looks += 1
                source.add([row(100 + self.looks)])
            return target.scan(where)

    watched = Watching()
    follower = Follower(source, watched, note="following", batch=4)  # type: ignore[arg-type]
    follow(follower)
    source.forget(Filter(ids=frozenset(["id-3"])))
    steps = [follower.step() for _ in range(6)]
    assert watched.looks == 1
    assert steps[-1] is None
    assert equal(source, target)
    source.forget(Filter(ids=frozenset(["id-4"])))
    follow(follower)
    assert watched.looks == 2
    assert equal(source, target)


def test_identities_to_be_spared_are_left_alone(make: Callable[[str], EpisodicBackend]) -> None:
    """Rows of the target that did not come from the source are neither replaced nor deleted nor erased."""
    source, target = make("local"), make("sqlite exact")
    source.add([row(number) for number in range(6)])
    ours = [row(3, metadata={"ours": True}), row(50)]
    target.add(ours)
    spare = {((), "id-3"), ((), "id-50")}
    follower = Follower(source, target, note="test", spare=spare)
    follow(follower)
    source.forget(Filter(ids=frozenset(["id-3", "id-4"])))
    follow(follower)
    assert sorted(one.id for one in target.scan(ALL)) == ["id-0", "id-1", "id-2", "id-3", "id-5", "id-50"]
    assert all(any(same(one, left) for left in target.scan(ALL)) for one in ours)


def test_a_scope_can_be_followed(make: Callable[[str], EpisodicBackend]) -> None:
    """A tenant is moved out: its rows alone, and its own alone are erased; the rest of the target is not touched."""
    store, target = make("sqlite exact"), make("sqlite exact")
    world = World(store, seed=3)
    scope = ScopedBackend(store, ("acme",))
    target.add([row(99, namespace=("zeta",))])
    follower = Follower(scope, target, note="test", batch=3)
    for _ in range(20):
        world.change()
        follower.step()
    follow(follower)
    assert equal(store, target, Filter(namespace=("acme",), expired=None))
    assert [one.id for one in target.scan(Filter(namespace=("zeta",)))] == ["id-99"]
    assert Follower(store, target, note="test").position == 0, "the whole store is another source than a scope of it"


def test_a_target_of_another_space_gets_vectors_of_its_own(make: Callable[[str], EpisodicBackend]) -> None:
    """With `prepare`, rows get new vectors; one whose words stand keeps the vector that the target has."""
    source = make("local")
    other = EmbeddingSpace(provider="other", model=None, dimensions=4)
    target = LocalBackend(other)
    asked: list[str] = []

    def prepare(entries: Sequence[EpisodicEntry]) -> list[EpisodicEntry]:
        asked.extend(entry.id for entry in entries)
        return [entry.changed(embedding=np.ones(4, np.float32)) for entry in entries]

    source.add([row(number) for number in range(5)])
    with pytest.raises(InputError, match="reembed=True"):
        Follower(source, target, note="test")
    follower = Follower(source, target, note="test", prepare=prepare)
    follow(follower)
    assert sorted(asked) == [f"id-{number}" for number in range(5)]
    source.mark_processed(Filter(ids=frozenset(["id-2"])))
    source.add([row(3, metadata={})])
    source.add([row(8, id="id-4")])
    follow(follower)
    assert asked[5:] == ["id-4"]
    rows = {one.id: one for one in target.scan(ALL)}
    assert rows["id-2"].processed
    assert rows["id-3"].metadata == {}
    assert rows["id-4"].content == "what was said as 8"
    assert all(len(one.embedding) == 4 for one in rows.values())  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["local exact", "sqlite exact"])
def test_a_target_that_moves_to_another_space_gets_no_more(make: Callable[[str], EpisodicBackend], kind: str) -> None:
    """Vectors of the source are not stored among those of another space, though they are as wide."""
    source, target = make("local"), make(kind)
    source.add([row(number) for number in range(8)])
    follower = Follower(source, target, note="test", batch=4)
    follower.step()
    beside = target.beside(EmbeddingSpace(provider="test", model="other", dimensions=8))
    rows = beside.missing(8)
    beside.put(rows, np.ones((len(rows), 8), np.float32))
    assert beside.take_over()
    with pytest.raises(SpaceChangedError):
        follow(follower)
    assert target.count(ALL) == 4


def test_what_cannot_be_followed_is_refused(make: Callable[[str], EpisodicBackend]) -> None:
    """A store that follows itself, a scope as target, a batch of nothing: each says what to do instead."""
    source, target = make("local"), make("local")
    with pytest.raises(InputError, match="the same store"):
        Follower(source, source, note="test")
    with pytest.raises(InputError, match="give the whole store"):
        Follower(source, ScopedBackend(target, ("acme",)), note="test")
    with pytest.raises(ConfigError, match="positive integer"):
        Follower(source, target, note="test", batch=0)
