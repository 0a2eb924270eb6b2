"""The table of turns: it filters as `Filter.matches` does, keeps sessions in order, and has nothing of what went."""

from __future__ import annotations

import re
import struct
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from llmspell_memory import EpisodicEntry, Filter, InputError
from llmspell_memory.backends.row_view import turn_of
from llmspell_memory.errors import CorruptDataError, StorageError
from llmspell_memory.index import ExactIndex, HNSWIndex, LabelSet, TurnTable
from llmspell_memory.testing.indexes import gaussian
from llmspell_memory.types import json

if TYPE_CHECKING:
    import unittest
    from collections.abc import Iterable, Mapping

NOW = datetime(2026, 3, 7, tzinfo=UTC)
FAR = 2**62
TERM_HASHES, SESSION_HASHES = 75, 77
"""Numbers of sections."""

numbers = st.sampled_from([0, 1, 2, 10**30, 0.0, -0.0, 1.0, 0.5, 1e30, 2**53, 2**53 + 1, float(2**53)])
texts = st.sampled_from(["", "1", "true", "null", '"', "[]", "a\nb", "ä", "x" * 40])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["", "k", '"']), inner, max_size=2),
    max_leaves=4,
)
documents = st.dictionaries(st.sampled_from(["", "k", "key", 'k"1']), values, max_size=3)
namespaces = st.lists(st.sampled_from(["a", "ab", "b"]), max_size=3).map(tuple)
sessions, roles = st.sampled_from(["s", "t", "a"]), st.sampled_from(["user", "assistant", "a"])
moments = st.integers(-3, 3).map(lambda apart: NOW + timedelta(microseconds=apart)) | st.sampled_from(
    [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
)
labels = st.integers(0, 40) | st.sampled_from([64, 127, 128, 10**6, FAR, FAR + 1, 2**63 - 1])
entries = st.builds(
    EpisodicEntry,
    sessions,
    roles,
    st.just("x"),
    namespace=namespaces,
    timestamp=moments,
    ingestion_time=moments,
    metadata=documents,
    processed=st.booleans(),
    expires_at=st.none() | moments,
)
filters = st.builds(
    Filter,
    session_id=st.none() | sessions,
    role=st.none() | roles,
    since=st.none() | moments,
    until=st.none() | moments,
    known_by=st.none() | moments,
    processed=st.none() | st.booleans(),
    metadata=st.just({}) | documents,
    namespace=st.just(()) | namespaces,
    below=st.booleans(),
    expired=st.sampled_from([None, False, True]),
)


def selected(table: TurnTable, where: Filter, held: Iterable[int], now: datetime = NOW) -> list[int]:
    """Return the labels that a filter lets pass, of those that the table holds."""
    found = table.select(where, now=now)
    return sorted(held) if found is None else found.labels().tolist()


def matching(held: Mapping[int, EpisodicEntry], where: Filter, now: datetime = NOW) -> list[int]:
    """Return what `selected` has to."""
    return sorted(label for label, entry in held.items() if where.matches(entry, now=now))


def around(
    held: Mapping[int, EpisodicEntry], label: int, before: int, after: int, hidden: Filter
) -> tuple[list[int], list[int]]:
    """Return the neighbours of a row, straight from what they are."""
    if label not in held:
        return [], []
    own = held[label]
    session = [
        (entry.timestamp, one)
        for one, entry in held.items()
        if (entry.namespace, entry.session_id) == (own.namespace, own.session_id)
        and (one == label or hidden.matches(entry, now=NOW))
    ]
    order = [one for _, one in sorted(session)]
    at = order.index(label)
    return order[max(0, at - before) : at], order[at + 1 : at + 1 + after]


class Table(RuleBasedStateMachine):
    """Whatever was put, replaced, removed, saved and opened before, filters and sessions are those of the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.held: dict[int, EpisodicEntry] = {}
        self.table = TurnTable()

    @initialize(rows=st.lists(st.tuples(labels, entries), max_size=30))
    def begin(self, rows: list[tuple[int, EpisodicEntry]]) -> None:
        self.put(rows)

    @rule(rows=st.lists(st.tuples(labels, entries), max_size=8))
    def put(self, rows: list[tuple[int, EpisodicEntry]]) -> None:
        self.table.put([turn_of(label, entry) for label, entry in rows])
        self.held.update(rows)

    @rule(some=st.lists(labels, max_size=12))
    def remove(self, some: list[int]) -> None:
        self.table.remove(np.array(some, np.int64))
        for label in some:
            self.held.pop(label, None)

    @rule()
    def save_and_open(self) -> None:
        path = Path(self.folder.name) / "a.turns"
        self.table.save(path, tag=len(self.held))
        self.table = TurnTable.open(path)
        assert self.table.tag == len(self.held)

    @rule(where=filters)
    def select(self, where: Filter) -> None:
        assert selected(self.table, where, self.held) == matching(self.held, where)

    @rule(
        label=labels,
        before=st.integers(0, 3),
        after=st.integers(0, 3),
        known_by=st.none() | moments,
        all_=st.booleans(),
    )
    def neighbours(self, label: int, before: int, after: int, known_by: datetime | None, all_: bool) -> None:
        now = None if all_ else NOW
        found = self.table.neighbours(label, before=before, after=after, now=now, known_by=known_by)
        hidden = Filter(known_by=known_by, expired=None if all_ else False)
        assert tuple(one.tolist() for one in found) == around(self.held, label, before, after, hidden)

    @invariant()
    def is_whole(self) -> None:
        assert len(self.table) == len(self.held)
        assert self.table.check() == ""

    def teardown(self) -> None:
        self.folder.cleanup()


TestTable: type[unittest.TestCase] = Table.TestCase
TestTable.settings = settings(max_examples=120, stateful_step_count=20, deadline=None)  # type: ignore[attr-defined]


@settings(max_examples=300, deadline=None)
@given(rows=st.dictionaries(labels, entries, max_size=25), asked=st.lists(filters, min_size=4, max_size=8))
def test_a_filter_by_the_table_is_the_filter(rows: dict[int, EpisodicEntry], asked: list[Filter]) -> None:
    """Any filter selects the rows that `Filter.matches` lets pass, and no other."""
    table = TurnTable()
    table.put([turn_of(label, entry) for label, entry in rows.items()])
    for where in asked:
        assert selected(table, where, rows) == matching(rows, where), where


def history(count: int) -> dict[int, EpisodicEntry]:
    """Return rows of all kinds whose labels are dense in places, and whose times are not in their order."""
    chance = np.random.default_rng(count)
    found: dict[int, EpisodicEntry] = {}
    for label in chance.permutation(count * 2)[:count].tolist():
        one = chance.integers(0, 1000, 8).tolist()
        found[label if one[0] % 50 else FAR + label] = EpisodicEntry(
            f"s{one[0] % 40}",
            ("user", "assistant", "tool")[one[1] % 3],
            "x",
            namespace=(("acme",), ("acme", f"u{one[2] % 5}"), ("other",), ())[one[2] % 4],
            timestamp=NOW + timedelta(seconds=one[3]),
            ingestion_time=NOW + timedelta(seconds=one[4]),
            metadata={"tenth": one[5] % 10 == 0, "hundredth": one[5] % 100, "id": label},
            processed=one[6] % 3 == 0,
            expires_at=NOW + timedelta(seconds=one[7]) if one[7] % 2 else None,
        )
    return found


def test_a_filter_over_many_rows_is_the_filter() -> None:
    """The same where pages are full, and postings long and short, alone and together."""
    held = history(1500)
    table = TurnTable()
    rows = [turn_of(label, entry) for label, entry in held.items()]
    for at in range(0, len(rows), 100):
        table.put(rows[at : at + 100])
    assert table.check() == ""
    chance = np.random.default_rng(2)

    def some(value: Any) -> Any:
        return value if chance.random() < 0.4 else None

    for _ in range(250):
        now = NOW + timedelta(seconds=int(chance.integers(-1, 1001)))
        since, until, known_by = [NOW + timedelta(seconds=int(one)) for one in chance.integers(-10, 1010, 3)]
        where = Filter(
            session_id=some(f"s{chance.integers(50)}") if chance.random() < 0.5 else None,
            role=some("tool"),
            since=some(since),
            until=some(until),
            known_by=some(known_by),
            processed=some(bool(chance.integers(2))),
            metadata=some({"tenth": True}) or some({"hundredth": float(chance.integers(100))}) or {},
            namespace=some(("acme",)) or some(("acme", "u1")) or (),
            below=bool(chance.integers(2)),
            expired=[None, False, True][chance.integers(3)],
        )
        assert selected(table, where, held, now) == matching(held, where, now), where


@given(documents, documents)
@settings(max_examples=500, deadline=None)
def test_facts_say_what_a_document_contains(document: dict[str, Any], wanted: dict[str, Any]) -> None:
    """A document contains another exactly if it has all its facts."""
    assert json.contains(document, wanted) == (set(json.facts(wanted)) <= set(json.facts(document)))


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (1, 1.0, True),
        (0, -0.0, True),
        (1, True, False),
        (0, False, False),
        ("1", 1, False),
        ("true", True, False),
        ("null", None, False),
        ('"1', "1", False),
        ([1, {"a": 2}], [1.0, {"a": 2.0}], True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ([1], [True], False),
        ([], {}, False),
        (2**53 + 1, float(2**53), False),
        (10**30, 1e30, False),
        (int(1e30), 1e30, True),
        ("a", ["a"], False),
    ],
)
def test_metadata_is_compared_by_value(one: Any, other: Any, alike: bool) -> None:
    """Numbers are equal by value at every depth, and values of different kinds never."""
    table = TurnTable()
    table.put([turn_of(5, EpisodicEntry("s", "user", "x", metadata={"k": one}))])
    found = table.select(Filter(metadata={"k": other}), now=NOW)
    assert found is not None
    assert found.labels().tolist() == ([5] if alike else [])


def test_nothing_is_selected_only_where_nothing_could_fail() -> None:
    """None comes for a filter without conditions while no row has expired; any condition makes a set, even of all."""
    table = TurnTable()
    table.put(
        [turn_of(1, EpisodicEntry("s", "user", "x")), turn_of(2, EpisodicEntry("s", "user", "x", expires_at=NOW))]
    )
    before = NOW - timedelta(microseconds=1)
    assert table.select(Filter(), now=before) is None
    assert table.select(Filter(expired=None), now=NOW) is None
    assert selected(table, Filter(), [], NOW) == [1]
    for where in (Filter(role="user"), Filter(below=False), Filter(since=NOW - timedelta(days=9999))):
        assert selected(table, where, [], before) == [1, 2]
    table.remove([2])
    assert table.select(Filter(), now=NOW) is None
    table.put([turn_of(3, EpisodicEntry("s", "user", "x", expires_at=NOW))])
    assert selected(table, Filter(), [], NOW) == [1]


def test_a_namespace_is_its_segments() -> None:
    """One whose text begins like another's, or which is cut elsewhere, is another."""
    table = TurnTable()
    names = [("a",), ("a", "b"), ("ab",), ("a", "bc"), ("ab", "c"), ("a", "b", "c"), ()]
    table.put([turn_of(label, EpisodicEntry("s", "user", "x", namespace=name)) for label, name in enumerate(names)])
    assert selected(table, Filter(namespace=("a",)), []) == [0, 1, 3, 5]
    assert selected(table, Filter(namespace=("a", "b")), []) == [1, 5]
    assert selected(table, Filter(namespace=("a", "b"), below=False), []) == [1]
    assert selected(table, Filter(below=False), []) == [6]
    assert selected(table, Filter(namespace=("b",)), []) == []


def test_a_session_is_of_its_namespace() -> None:
    """Neighbours are of the same session and namespace, by time and then by label, in whatever order they came."""
    table = TurnTable()
    times = [5, 3, 3, 9, 1]
    for label, seconds in reversed(list(enumerate(times))):
        for namespace, apart in ((("a",), 0), (("b",), 100)):
            moment = NOW + timedelta(seconds=seconds)
            entry = EpisodicEntry("s", "user", "x", namespace=namespace, timestamp=moment)
            table.put([turn_of(label + apart, entry)])
    before, after = table.neighbours(2, before=9, after=9)
    assert (before.tolist(), after.tolist()) == ([4, 1], [0, 3])
    before, after = table.neighbours(102, before=1, after=1)
    assert (before.tolist(), after.tolist()) == ([101], [100])
    assert [one.tolist() for one in table.neighbours(50, before=1, after=1)] == [[], []]
    assert [one.tolist() for one in table.neighbours(0)] == [[], []]


def test_refused_rows_leave_the_table_alone() -> None:
    """A negative label, and what is no row, are refused before anything is put."""
    table = TurnTable()
    good = turn_of(1, EpisodicEntry("s", "user", "x"))
    with pytest.raises(InputError, match="labels must lie in"):
        table.put([good, good._replace(label=-1)])
    with pytest.raises((TypeError, RuntimeError)):
        table.put([good, good._replace(timestamp="then")])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="labels"):
        table.remove([1.5])
    assert len(table) == 0
    assert table.check() == ""


# --- sets of labels ---------------------------------------------------------------------------------------------------


@given(st.sets(labels), st.sets(labels))
@settings(max_examples=200, deadline=None)
def test_sets_of_labels_are_sets(one: set[int], other: set[int]) -> None:
    """A set has the labels it was made of, in order, and two of them have in common what both have."""
    first, second = LabelSet(np.array(sorted(one), np.int64)), LabelSet(np.array(list(other), np.int64))
    assert first.labels().tolist() == sorted(one)
    both = first & second
    assert both.labels().tolist() == sorted(one & other)
    assert len(both) == len(one & other)


def test_a_search_takes_what_was_selected() -> None:
    """What a filter lets pass narrows a search of either index, however the vector is given."""
    table, vectors = TurnTable(), gaussian(300, 8)
    rows = [EpisodicEntry("s", "user" if label % 3 else "tool", "x") for label in range(300)]
    table.put([turn_of(label, entry) for label, entry in enumerate(rows)])
    among = table.select(Filter(role="tool"), now=NOW)
    assert among is not None
    for index in (ExactIndex(dimensions=8), HNSWIndex(dimensions=8)):
        index.add(np.arange(300), vectors)
        for query in (vectors[7], vectors[7].tolist()):
            found = index.search(query, 10, among=among)[0].tolist()
            assert found == index.search(query, 10, among=np.arange(0, 300, 3))[0].tolist()


# --- at the same time -------------------------------------------------------------------------------------------------


def test_readers_see_each_row_as_a_whole() -> None:
    """While one thread replaces and removes rows, no reader finds one by its old role and its new metadata."""
    kinds = [EpisodicEntry("s", name, "x", metadata={"kind": name}, processed=name == "old") for name in ("old", "new")]
    table = TurnTable()
    table.put([turn_of(label, kinds[0]) for label in range(300)])
    mixed = [Filter(role="old", metadata={"kind": "new"}), Filter(role="new", processed=True)]
    done, faults = threading.Event(), list[object]()

    def read() -> None:
        while not done.is_set():
            faults.extend(found for where in mixed if (found := selected(table, where, [])))
            before, after = table.neighbours(150, before=5, after=5)
            order = [*before.tolist(), 150, *after.tolist()]
            if len(order) != 1 and order != sorted(order):
                faults.append(order)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    chance = np.random.default_rng(1)
    for step in range(3000):
        some = chance.integers(0, 300, 20)
        table.put([turn_of(label, kinds[step % 2]) for label in some.tolist()])
        table.remove(chance.integers(0, 300, 5))
    done.set()
    for reader in readers:
        reader.join()
    assert faults == []
    assert table.check() == ""


# --- in a file --------------------------------------------------------------------------------------------------------


def table_of(held: Mapping[int, EpisodicEntry]) -> TurnTable:
    """Return a table with these rows."""
    table = TurnTable()
    table.put([turn_of(label, entry) for label, entry in held.items()])
    return table


def test_a_file_is_of_the_rows_alone(tmp_path: Path) -> None:
    """Whatever was put and removed meanwhile, the same rows make the same file: nothing is left of what went."""
    one, two = tmp_path / "one", tmp_path / "two"
    held = history(300)
    table_of(held).save(one, tag=2**64 - 1)
    table = TurnTable.open(one)
    assert table.tag == 2**64 - 1
    others = {label + 50: entry for label, entry in history(400).items()}
    secret = EpisodicEntry("Seldon", "oracle", "x", namespace=("acme", "Trantor"), metadata={"plan": "Terminus"})
    table.put([turn_of(label, entry) for label, entry in others.items()] + [turn_of(70, secret)])
    table.save(two, tag=2**64 - 1)
    assert two.stat().st_size > one.stat().st_size
    table.remove([*others, 70])
    table.put([turn_of(label, entry) for label, entry in reversed(held.items())])
    assert table.check() == ""
    table.save(two, tag=2**64 - 1)
    assert one.read_bytes() == two.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one", "two"]


def test_a_file_has_no_text(tmp_path: Path) -> None:
    """Not even of rows that are there; nor can two tables' files be compared by their hashes."""
    texts = ("Seldon", "oracle", "Trantor", "plan", "Terminus")
    secret = EpisodicEntry("Seldon", "oracle", "x", namespace=("acme", "Trantor"), metadata={"plan": "Terminus"})
    data = []
    for name in ("one", "two"):
        table_of({1: secret}).save(tmp_path / name)
        data.append((tmp_path / name).read_bytes())
        assert not any(text.encode() in data[-1] for text in texts)
    hashes = [set(hashes_in(one)) for one in data]
    assert len(hashes[0]) == 8  # (), two namespaces, the session and its name, a role and the word it is, a value
    assert hashes[0].isdisjoint(hashes[1])


def hashes_in(data: bytes) -> list[bytes]:
    """Return the hashes of terms and sessions in a file."""
    (count,) = struct.unpack_from("<I", data, 12)
    table = {number: (at, size) for number, _, at, size in struct.iter_unpack("<IIQQ", data[16 : 16 + 24 * count])}
    places = [at + step for at, size in (table[TERM_HASHES], table[SESSION_HASHES]) for step in range(0, size, 16)]
    return [data[at : at + 16] for at in places]


def test_memory_is_given_back() -> None:
    """Rows that come and go, each with names of its own, leave the table no larger than they found it."""
    table, sizes = TurnTable(), []
    for turn in range(6):
        names = [f"{turn}-{number}" for number in range(2000)]
        rows = [EpisodicEntry(name, "user", "x", metadata={"id": name}) for name in names]
        table.put([turn_of(label, entry) for label, entry in enumerate(rows, 2000 * turn)])
        table.remove(np.arange(2000) + 2000 * turn)
        sizes.append(table.memory_bytes)
    assert len(table) == 0
    assert max(sizes[1:]) <= sizes[0] * 1.1


@pytest.mark.parametrize("count", [0, 1])
def test_the_smallest_come_back(count: int, tmp_path: Path) -> None:
    """A table that is empty, was emptied, or holds one row is saved, opened and goes on."""
    held = dict(list(history(20).items())[:count])
    table = table_of(history(30))
    table.remove([*history(30)])
    table.put([turn_of(label, entry) for label, entry in held.items()])
    for made in (table, table_of(held)):
        made.save(tmp_path / "a.turns")
        opened = TurnTable.open(tmp_path / "a.turns")
        assert (len(opened), opened.check(), opened.tag) == (count, "", 0)
        opened.put([turn_of(label, entry) for label, entry in history(30).items()])
        assert opened.check() == ""
        assert selected(opened, Filter(role="user", expired=None), []) == matching(
            {**held, **history(30)}, Filter(role="user", expired=None)
        )


def test_damage_is_found(tmp_path: Path) -> None:
    """A file with any byte changed or its end missing is refused by name, or the byte meant nothing."""
    path, again = tmp_path / "a.turns", tmp_path / "again"
    table_of(history(200)).save(path)
    data = path.read_bytes()
    chance = np.random.default_rng(1)
    refused = 0
    for place in [*range(24), *chance.integers(0, len(data), 300).tolist()]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(chance.integers(8))
        path.write_bytes(damaged)
        fault = ""
        try:
            TurnTable.open(path).save(again)
        except CorruptDataError as error:
            fault = str(error)
        assert re.search(r"a\.turns is damaged .* anew from its rows", fault) or again.read_bytes() == data
        refused += bool(fault)
        again.unlink(missing_ok=True)
    assert refused > 250
    for place in [0, 1, 8, 1023, 1024, *chance.integers(0, len(data) - 1, 30).tolist()]:
        path.write_bytes(data[:place])
        with pytest.raises(CorruptDataError):
            TurnTable.open(path)


def test_another_index_is_refused(tmp_path: Path) -> None:
    """Files of other indexes are no tables, nor tables other indexes; a file that is not there is told from damage."""
    index = HNSWIndex(dimensions=3)
    index.save(tmp_path / "an.idx")
    table_of(history(5)).save(tmp_path / "a.turns")
    with pytest.raises(CorruptDataError, match="a section is missing"):
        TurnTable.open(tmp_path / "an.idx")
    with pytest.raises(CorruptDataError, match="a section is missing"):
        HNSWIndex.open(tmp_path / "a.turns")
    with pytest.raises(StorageError, match="cannot be read or written"):
        TurnTable.open(tmp_path / "no.turns")
    with pytest.raises(StorageError, match="cannot be read or written"):
        TurnTable().save(tmp_path / "no" / "a.turns")
    with pytest.raises(InputError, match="tag"):
        TurnTable().save(tmp_path / "a.turns", tag=-1)
