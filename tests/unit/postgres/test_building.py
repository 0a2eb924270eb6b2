"""When a store in PostgreSQL gets its HNSW index, what goes on meanwhile, and what becomes of a part of one."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from llmspell_memory import ClosedError, EmbeddingSpace, EpisodicEntry, Filter, HNSWConfig
from llmspell_memory.backends import LocalBackend
from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig, building
from llmspell_memory.operations import migrate
from llmspell_memory.testing.indexes import gaussian
from tests.postgres import shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCHEMA = "of_building"
SPACE = EmbeddingSpace(provider="test", model=None, dimensions=16)
HNSW = HNSWConfig(m=8, ef_construction=32)
MANY = 400


@pytest.fixture(autouse=True)
def of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No pause is long."""
    monkeypatch.setattr(building, "_QUIET", 0.2)
    monkeypatch.setattr(building, "_LOOK", 0.02)
    shared().execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    yield
    shared().execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


@pytest.fixture
def opened() -> Iterator[Callable[..., PostgresBackend]]:
    stores: list[PostgresBackend] = []

    def open_one(role: str = "postgres", hnsw: HNSWConfig | None = HNSW, **more: object) -> PostgresBackend:
        config = PostgresConfig(dsn=shared().dsn_of(role), schema=SCHEMA, index_from=MANY)
        stores.append(PostgresBackend(config, SPACE, hnsw=hnsw, **more))  # type: ignore[arg-type]
        return stores[-1]

    yield open_one
    for one in stores:
        one.close()


def turns(count: int, start: int = 0) -> list[EpisodicEntry]:
    return [
        EpisodicEntry("s", "user", f"n{start + n}", id=f"n{start + n}", namespace=("acme",), embedding=one)
        for n, one in enumerate(gaussian(count, 16, seed=start))
    ]


def indexes() -> set[tuple[str, bool]]:
    """The HNSW indexes of the store, and whether each is whole."""
    with psycopg.connect(shared().dsn) as db:
        rows = db.execute(
            "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a"
            " ON a.oid = c.relam WHERE a.amname = 'hnsw' AND c.relnamespace = to_regnamespace(%s)",
            (SCHEMA,),
        ).fetchall()
    return {(name.partition("_hnsw")[2], whole) for name, whole in rows}


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.02)


@pytest.fixture
def held() -> Iterator[Callable[[], psycopg.Connection]]:
    """Begins a transaction that has written to the vectors: whoever makes an index waits until it is closed."""
    writers: list[psycopg.Connection] = []

    def begin() -> psycopg.Connection:
        writers.append(psycopg.connect(shared().dsn))
        writers[-1].execute(f"LOCK TABLE {SCHEMA}.vectors_1 IN ROW EXCLUSIVE MODE".encode())
        return writers[-1]

    yield begin
    for one in writers:
        one.close()


def is_waited_for() -> bool:
    """Whether an index is being made."""
    with psycopg.connect(shared().dsn) as db:
        return db.execute("SELECT 1 FROM pg_stat_progress_create_index").fetchone() is not None


def test_few_entries_have_none(opened: Callable[..., PostgresBackend]) -> None:
    """They are compared one by one, which finds the outlier, too; the store says so."""
    store = opened()
    store.add(turns(MANY - 1))
    time.sleep(0.5)
    assert indexes() == set()
    assert store.stats().index.built == 0
    assert [hit.entry.id for hit in store.search(gaussian(MANY - 1, 16, seed=0)[7], 1, Filter())] == ["n7"]


def test_it_is_made_when_no_more_is_brought_in(opened: Callable[..., PostgresBackend]) -> None:
    """Of all that is there, once; what comes later is in it, too."""
    store = opened()
    for start in range(0, 3 * MANY, MANY):
        store.add(turns(MANY, start))
        assert indexes() == set()
    until(lambda: store.stats().index.built == 1)
    assert indexes() == {("", True)}
    late = turns(1, 5000)
    store.add(late)
    for one in (turns(MANY)[3], *late):
        assert one.embedding is not None
        assert [hit.entry.id for hit in store.search(one.embedding, 1, Filter())] == [one.id]


def test_it_is_made_though_writes_go_on(
    opened: Callable[..., PostgresBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some time of patience."""
    monkeypatch.setattr(building, "_QUIET", 1000.0)
    monkeypatch.setattr(building, "_PATIENCE", 0.3)
    store = opened()
    store.add(turns(MANY))
    until(lambda: (store.add(turns(1, 9000)), indexes() == {("", True)})[1])


def test_searches_alone_see_to_it(opened: Callable[..., PostgresBackend]) -> None:
    """Where whoever wrote wanted none, or ended too soon; opening does not wait for it if it is told not to."""
    opened(hnsw=None).add(turns(MANY))
    store = opened(warm=False)
    assert indexes() == set()
    assert len(store.search(gaussian(1, 16)[0], 10, Filter())) == 10
    until(lambda: indexes() == {("", True)})


def test_opening_and_migrating_make_it_at_once(
    opened: Callable[..., PostgresBackend], held: Callable[[], psycopg.Connection]
) -> None:
    """And tell how far they are."""
    source = LocalBackend(SPACE)
    source.add(turns(2 * MANY))
    target = opened()
    report = migrate(source, target)
    assert report.verification is not None
    assert report.verification.passed
    assert indexes() == {("", True)}
    shared().execute(f"DROP INDEX {SCHEMA}.vectors_1_hnsw")
    told: list[tuple[int, int]] = []
    writer = held()
    threading.Timer(0.3, writer.close).start()
    opened(on_progress=lambda done, of: told.append((done, of)))
    assert indexes() == {("", True)}
    assert told
    assert {of for _, of in told} == {2 * MANY}
    assert all(0 <= done <= of for done, of in told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_reads_and_writes_go_on_meanwhile(
    opened: Callable[..., PostgresBackend], held: Callable[[], psycopg.Connection]
) -> None:
    """What is written while it is made is found, before and after."""
    store = opened()
    store.add(turns(MANY))
    writer = held()
    until(is_waited_for)
    assert store.stats().index.built < 1
    late = turns(1, 7000)[0]
    store.add([late])
    assert late.embedding is not None
    assert [hit.entry.id for hit in store.search(late.embedding, 1, Filter())] == [late.id]
    writer.close()
    until(lambda: store.stats().index.built == 1)
    assert [hit.entry.id for hit in store.search(late.embedding, 1, Filter())] == [late.id]


def test_closing_gives_it_up_and_the_next_makes_it(
    opened: Callable[..., PostgresBackend], held: Callable[[], psycopg.Connection]
) -> None:
    """What is left of the first attempt is cleared away."""
    store = opened()
    store.add(turns(MANY))
    writer = held()
    until(is_waited_for)
    began = time.monotonic()
    store.close()
    assert time.monotonic() - began < 30
    assert not is_waited_for()
    writer.close()
    assert ("", True) not in indexes()
    opened()
    assert indexes() == {("", True)}


def test_closing_breaks_off_one_that_was_asked_for(
    opened: Callable[..., PostgresBackend], held: Callable[[], psycopg.Connection]
) -> None:
    """Its caller is told."""
    store = opened(hnsw=None)
    store.add(turns(MANY))
    writer = held()
    told: list[BaseException] = []

    def ask() -> None:
        try:
            store.configure(HNSW)
        except ClosedError as error:
            told.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    until(is_waited_for)
    store.close()
    asking.join(60)
    writer.close()
    assert len(told) == 1


def test_one_whose_maker_died_is_taken_up(opened: Callable[..., PostgresBackend]) -> None:
    """Whole but for its name, or a ruin: the next one sees which."""
    opened(hnsw=None).add(turns(MANY))
    shared().execute(
        f"CREATE INDEX vectors_1_hnsw_new ON {SCHEMA}.vectors_1 USING hnsw (vector vector_cosine_ops)"
        " WITH (ef_construction = 32, m = 8)"
    )
    with psycopg.connect(shared().dsn) as db:
        before = db.execute(f"SELECT '{SCHEMA}.vectors_1_hnsw_new'::regclass::oid").fetchone()
    opened()
    with psycopg.connect(shared().dsn) as db:
        assert db.execute(f"SELECT '{SCHEMA}.vectors_1_hnsw'::regclass::oid").fetchone() == before
    shared().execute(f"ALTER INDEX {SCHEMA}.vectors_1_hnsw RENAME TO vectors_1_hnsw_new")
    shared().execute(
        "UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = 'of_building.vectors_1_hnsw_new'::regclass"
    )
    opened()
    assert indexes() == {("", True)}


def test_two_that_open_it_make_one(
    opened: Callable[..., PostgresBackend], held: Callable[[], psycopg.Connection]
) -> None:
    """The second waits for the first."""
    opened(hnsw=None).add(turns(MANY))
    writer = held()
    threads = [threading.Thread(target=opened) for _ in range(2)]
    for one in threads:
        one.start()
    until(is_waited_for)
    writer.close()
    for one in threads:
        one.join(60)
    assert indexes() == {("", True)}


def test_other_parameters_and_widths_of_numbers_replace_it(opened: Callable[..., PostgresBackend]) -> None:
    """Searches of a process with other parameters go through what is there, and make no other by themselves."""
    store = opened()
    store.add(turns(MANY))
    until(lambda: indexes() == {("", True)})
    opened(warm=False, hnsw=HNSWConfig(m=4, ef_construction=32)).search(gaussian(1, 16)[0], 1, Filter())
    time.sleep(0.5)
    with psycopg.connect(shared().dsn) as db:
        index = f"{SCHEMA}.vectors_1_hnsw"
        told = db.execute("SELECT reloptions FROM pg_class WHERE oid = %s::regclass", (index,)).fetchone()
    assert told is not None
    assert "m=8" in told[0]
    store.configure(HNSWConfig(m=8, ef_construction=32, dtype="float16"))
    assert indexes() == {("_half", True)}


def test_a_role_that_may_not_make_it_searches_without(opened: Callable[..., PostgresBackend]) -> None:
    """Opening does not fail for that."""
    owner = opened(hnsw=None)
    owner.add(turns(MANY))
    shared().execute("DROP ROLE IF EXISTS builder", "CREATE ROLE builder LOGIN")
    owner.grant("builder", "acme")
    try:
        store = opened("builder")
        assert len(store.search(gaussian(1, 16)[0], 10, Filter())) == 10
        assert indexes() == set()
        store.close()
    finally:
        shared().execute("DROP OWNED BY builder", "DROP ROLE builder")


def test_one_that_fails_is_told_and_tried_again(
    opened: Callable[..., PostgresBackend],
    held: Callable[[], psycopg.Connection],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The store works without it meanwhile."""
    monkeypatch.setattr(building, "_AGAIN", 0.1)
    store = opened()
    store.add(turns(MANY))
    writer = held()
    until(is_waited_for)
    shared().execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index",
    )
    until(lambda: "searches are exact until" in caplog.text)
    writer.close()
    until(lambda: (store.search(gaussian(1, 16)[0], 1, Filter()), indexes() == {("", True)})[1])
