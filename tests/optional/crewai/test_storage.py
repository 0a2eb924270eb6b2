"""The storage by its verbs: what comes back, what a scope holds, what a filter lets pass, what is refused."""

from __future__ import annotations

import copy
import inspect
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from crewai.memory.storage.backend import StorageBackend
from crewai.memory.types import MemoryRecord

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, Filter, MemoryConfig
from llmspell_memory.adapters.crewai import EpisodicStorage
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.errors import ClosedError, ConfigError, DimensionError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from llmspell_memory.types.space import Metric

pytestmark = pytest.mark.filterwarnings("ignore")  # what CrewAI warns of is not ours

DAY = timedelta(days=1)
NOON = datetime(2025, 3, 1, 12)  # noqa: DTZ001 (CrewAI's own moments are naive)
TWINS = ["/app", "/apple", "/app-2", "/app/sub", "/a%", "/a_", "/axp", "/App", "/app%2F", "/äpp/é", "/a/b/c", "/'"]


def record(content: str, scope: str = "/", **fields: Any) -> MemoryRecord:
    return MemoryRecord(content=content, scope=scope, **fields)


def saved(storage: EpisodicStorage, *records: MemoryRecord) -> list[str]:
    storage.save(list(records))
    return [one.id for one in records]


def contents(records: list[MemoryRecord]) -> list[str]:
    return [one.content for one in records]


def found(storage: EpisodicStorage, text: str, **options: Any) -> list[str]:
    return [one.content for one, _ in storage.search(storage.embedder([text])[0], **options)]


def test_it_is_what_crewai_asks_for(storage: EpisodicStorage) -> None:
    """Every method of CrewAI's protocol is there, with its arguments, and their defaults."""
    backend: StorageBackend = storage  # to a checker of types, too
    assert isinstance(backend, StorageBackend)
    methods = [name for name, one in vars(StorageBackend).items() if inspect.isfunction(one) and name[0] != "_"]
    assert len(methods) >= 14
    for name in methods:
        theirs = inspect.signature(getattr(StorageBackend, name)).parameters.values()
        ours = inspect.signature(getattr(EpisodicStorage, name)).parameters.values()
        assert [(one.name, one.default, one.kind) for one in ours] == [(x.name, x.default, x.kind) for x in theirs]


def test_a_record_comes_back_whole(storage: EpisodicStorage) -> None:
    """Every field, naive and aware moments each as they were, and the vector."""
    full = record(
        "Ünïcode 🐕 and\nlines",
        "/crew/research/agent",
        categories=["facts", "öl", "a b.c"],
        metadata={"n": 1, "x": 1.5, "none": None, "deep": {"a": [1, {"b": None}]}, "": "empty", "value.k": "dotted"},
        importance=0.875,
        created_at=NOON,
        last_accessed=datetime(2025, 3, 2, tzinfo=timezone(timedelta(hours=5))),
        source="erik",
        private=True,
        embedding=storage.embedder(["something else"])[0],
    )
    plain = record("plain")
    saved(storage, full, plain)
    for one in (full, plain):
        kept = storage.get_record(one.id)
        assert kept is not None
        assert kept.model_dump() == one.model_dump()  # all but the vector
    back = storage.get_record(full.id)
    assert back is not None
    assert back.created_at.tzinfo is None
    assert back.last_accessed.utcoffset() == timedelta(hours=5)
    assert back.embedding == pytest.approx(full.embedding, abs=1e-6)
    assert storage.get_record("unknown") is None


def test_a_record_without_a_vector_is_embedded(storage: EpisodicStorage) -> None:
    """Where CrewAI had no vector, the memory makes one; an empty list counts as none."""
    saved(storage, record("My dog is called Ada."), record("The ferry to Kiel", embedding=[]))
    assert found(storage, "my dog", limit=1) == ["My dog is called Ada."]
    assert found(storage, "ferry Kiel", limit=1) == ["The ferry to Kiel"]


def test_what_says_nothing_is_not_kept(storage: EpisodicStorage) -> None:
    """A blank among the facts of a model costs none of the others, nor do characters that no store keeps."""
    saved(storage, record(""), record(" \n"), record("nul \0 and \ud83d"), record("said"))
    assert sorted(contents(storage.list_records())) == ["nul   and ?", "said"]
    storage.save([])
    storage.save([record("")])
    assert storage.count() == 2
    with pytest.raises(InputError, match="content must not be empty"):
        storage.update(record(""))


def test_a_scope_has_what_lies_in_it_and_nothing_else(storage: EpisodicStorage) -> None:
    """Look-alikes of a scope, and the wildcards of stores, are scopes of their own, for every verb."""
    saved(storage, *[record(f"in {scope}", scope, categories=[scope]) for scope in TWINS], record("at the root"))
    for scope in TWINS:
        inside = sorted(f"in {one}" for one in TWINS if one == scope or one.startswith(scope + "/"))
        for written in (scope, scope + "/", scope[1:], scope.replace("/", "//") + "//"):
            assert sorted(found(storage, "in", scope_prefix=written, limit=50)) == inside
            assert sorted(contents(storage.list_records(written))) == inside
            assert storage.count(written) == storage.get_scope_info(written).record_count == len(inside)
            assert storage.list_categories(written) == {one[3:]: 1 for one in inside}
    for everything in (None, "", "/", "//"):
        assert storage.count(everything) == len(storage.list_records(everything)) == len(TWINS) + 1
    assert storage.count("/none") == storage.get_scope_info("/none").record_count == 0


@pytest.mark.parametrize("verb", ["delete", "reset"])
@pytest.mark.parametrize("scope", ["/app", "/a%", "/a_", "/a", "/'"])
def test_what_a_scope_has_not_is_not_deleted(storage: EpisodicStorage, scope: str, verb: str) -> None:
    """Neither look-alikes nor the root go with a scope."""
    saved(storage, *[record(f"in {one}", one) for one in TWINS], record("at the root"))
    getattr(storage, verb)(scope + "/")
    left = {one.scope for one in storage.list_records()}
    assert left == {"/"} | {one for one in TWINS if one != scope and not one.startswith(scope + "/")}


def test_scopes_are_listed(storage: EpisodicStorage) -> None:
    """The next segments are children, whether records lie in them or below them."""
    saved(
        storage, record("x", "/a"), record("x", "/a/b/c"), record("x", "/a/d/"), record("x", "ab/e"), record("x", "/")
    )
    assert storage.list_scopes() == storage.get_scope_info("/").child_scopes == ["/a", "/ab"]
    assert storage.list_scopes("/a") == storage.get_scope_info("a/").child_scopes == ["/a/b", "/a/d"]
    assert storage.list_scopes("/a/b/c") == storage.list_scopes("/none") == []
    assert storage.get_scope_info("/a/").path == "/a"
    assert {one.scope for one in storage.list_records()} == {"/", "/a", "/a/b/c", "/a/d", "/ab/e"}


def test_a_scope_tells_of_itself(storage: EpisodicStorage) -> None:
    """Categories in order, and the moments of the oldest and the newest record as they were given."""
    info = storage.get_scope_info("/")
    assert (info.path, info.record_count, info.categories, info.oldest_record) == ("/", 0, [], None)
    days = [NOON + n * DAY for n in (1, 0, 2)]
    saved(storage, *[record(str(n), "/a", categories=["b", f"c{n}"], created_at=day) for n, day in enumerate(days)])
    info = storage.get_scope_info("/a")
    assert (info.record_count, info.categories) == (3, ["b", "c0", "c1", "c2"])
    assert (info.oldest_record, info.newest_record) == (NOON, NOON + 2 * DAY)
    assert storage.list_categories() == {"b": 3, "c0": 1, "c1": 1, "c2": 1}


def test_records_are_listed_newest_first(storage: EpisodicStorage) -> None:
    """By when they were made, through all pages, whatever order they were saved in."""
    order = [3, 0, 4, 1, 2]
    saved(storage, *[record(str(n), "/a", created_at=NOON + n * DAY) for n in order], record("apart", "/b"))
    assert contents(storage.list_records("/a")) == ["4", "3", "2", "1", "0"]
    assert contents(storage.list_records("/a", limit=2)) == ["4", "3"]
    assert contents(storage.list_records("/a", limit=2, offset=2)) == ["2", "1"]
    assert contents(storage.list_records("/a", limit=2, offset=4)) == ["0"]
    for limit, offset in ((0, 0), (-1, 0), (5, -1), (5, 9)):
        assert storage.list_records("/a", limit=limit, offset=offset) == []


def test_filters_come_before_the_best(storage: EpisodicStorage) -> None:
    """What passes is found however much lies nearer that does not."""
    near = [record("my dog is called Ada", "/near", categories=["no"], metadata={"n": n}) for n in range(200)]
    far = record("the ferry", "/far", categories=["yes", "also"], metadata={"deep": {"a": [1]}, "t": "x" * 500})
    saved(storage, *near, far)
    passing: list[dict[str, Any]] = [
        {"scope_prefix": "/far"},
        {"categories": ["yes"]},
        {"categories": ["none", "also", "also"]},
        {"metadata_filter": {"deep": {"a": [1.0]}}},
        {"metadata_filter": {"t": "x" * 500, "n": None}},
        {"scope_prefix": "/far", "categories": ["yes"], "metadata_filter": {"deep": {"a": [1]}, "none": None}},
    ]
    for options in passing:
        assert found(storage, "my dog is called Ada", limit=3, **options) == ["the ferry"], options
    nothing: list[dict[str, Any]] = [
        {"scope_prefix": "/near", "categories": ["yes"]},
        {"categories": ["no"], "metadata_filter": {"n": 200}},
        {"metadata_filter": {"deep": {"a": [2]}}},
        {"metadata_filter": {"n": True}},
        {"categories": ["n"]},
    ]
    for options in nothing:
        assert found(storage, "my dog is called Ada", limit=3, **options) == [], options
    everything: list[dict[str, Any]] = [{"categories": []}, {"metadata_filter": {}}, {"scope_prefix": ""}]
    for options in everything:
        assert found(storage, "my dog is called Ada", limit=1, **options) == ["my dog is called Ada"]


def test_the_best_of_several_categories(storage: EpisodicStorage) -> None:
    """A record of two categories comes once, and all in one order."""
    texts = ["dog", "dog and cat", "dog and cat and cow", "dog and cat and cow and hen"]
    wanted = [["a", "b"], ["b"], ["c"], ["a"]]
    saved(storage, *[record(one, categories=names) for one, names in zip(texts, wanted, strict=True)])
    assert found(storage, "dog", categories=["a", "b"], limit=9) == [texts[0], texts[1], texts[3]]
    assert found(storage, "dog", categories=["a", "b"], limit=2) == texts[:2]


def test_scores_are_those_of_crewais_own(storage: EpisodicStorage) -> None:
    """1 for equal, 1 / (1 + squared distance) for all else; the least score cuts, and no limit finds nothing."""
    rows = np.eye(256, dtype=np.float32)[:3]
    saved(storage, *[record(str(n), embedding=row.tolist()) for n, row in enumerate(rows)])
    asked = [0.6, 0.8] + [0.0] * 254
    scores = {one.content: score for one, score in storage.search(asked)}
    assert scores == pytest.approx({"1": 1 / 1.4, "0": 1 / 1.8, "2": 1 / 3}, abs=1e-6)
    assert storage.search(rows[0].tolist())[0][1] == pytest.approx(1.0)
    assert [one.content for one, _ in storage.search(asked, min_score=0.5)] == ["1", "0"]
    assert [one.content for one, _ in storage.search(asked, limit=1)] == ["1"]
    assert storage.search(asked, limit=0) == storage.search(asked, limit=-1) == []


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "inner_product"])
def test_scores_are_alike_however_vectors_are_compared(metric: Metric) -> None:
    """Between vectors of length 1 the three metrics give one score."""
    service = EmbeddingService(HashingProvider(4), metric=metric)
    with DefaultMemoryManager.new_in_memory_with_embeddings(service) as manager:
        storage = EpisodicStorage(manager)
        saved(storage, record("x", embedding=[1.0, 0, 0, 0]), record("y", embedding=[0, 1.0, 0, 0]))
        assert [score for _, score in storage.search([0.6, 0.8, 0, 0])] == pytest.approx([1 / 1.4, 1 / 1.8], abs=1e-6)


def test_another_width_is_refused(storage: EpisodicStorage) -> None:
    """A vector of another model's width is a typed error, and of its batch nothing is stored."""
    for verb in (lambda: storage.save([record("a"), record("b", embedding=[1.0, 2.0])]),
                 lambda: storage.update(record("b", embedding=[1.0] * 257)),
                 lambda: storage.search([1.0] * 3)):  # fmt: skip
        with pytest.raises(DimensionError, match="256 dimensions"):
            verb()
    assert issubclass(DimensionError, ValueError)  # as CrewAI's own is
    assert storage.count() == 0


def test_wrong_arguments(storage: EpisodicStorage, manager: DefaultMemoryManager) -> None:
    """What is not acceptable is refused, and nothing is stored."""
    with pytest.raises(InputError, match="metadata must hold JSON values only, got datetime"):
        storage.save([record("a"), record("b", metadata={"when": NOON})])
    bad: Any = 3
    for verb in (lambda: storage.count(bad), lambda: storage.search([1.0] * 256, scope_prefix=bad)):
        with pytest.raises(InputError, match="a scope must be a text"):
            verb()
    with pytest.raises(InputError, match="metadata_filter"):
        storage.delete(metadata_filter={"when": NOON})
    assert storage.count() == 0
    with pytest.raises(ConfigError, match="memory must be a DefaultMemoryManager"):
        EpisodicStorage(bad)
    with pytest.raises(InputError, match="namespace"):
        EpisodicStorage(manager, namespace="crewai")  # type: ignore[arg-type]  # what is tested


def test_conditions_of_a_deletion_hold_together(storage: EpisodicStorage) -> None:
    """Ids, scope, age, categories and values: only what meets all of them goes."""

    def filled() -> dict[str, str]:
        storage.reset()
        records = [
            record(f"{scope} {kind} {day}", f"/{scope}", categories=[kind, "all"], metadata={"k": kind, "d": [day]},
                   created_at=NOON + day * DAY)
            for scope in "ab" for kind in "xy" for day in range(2)
        ]  # fmt: skip
        return dict(zip(contents(records), saved(storage, *records), strict=True))

    cases: list[tuple[dict[str, Any], set[str] | None]] = [
        ({"scope_prefix": "/a", "older_than": NOON + DAY}, {"a x 0", "a y 0"}),
        ({"scope_prefix": "/a", "categories": ["x"], "older_than": NOON + DAY}, {"a x 0"}),
        ({"scope_prefix": "/a", "record_ids": ["a x 0", "b x 0"]}, {"a x 0"}),
        ({"categories": ["x"], "record_ids": ["a x 0", "a y 0"]}, {"a x 0"}),
        ({"categories": ["x", "all"], "scope_prefix": "/b"}, {"b x 0", "b x 1", "b y 0", "b y 1"}),
        ({"metadata_filter": {"k": "x", "d": [1]}}, {"a x 1", "b x 1"}),
        ({"metadata_filter": {"none": None, "d": [0]}, "categories": ["x", "y"], "scope_prefix": "/a"},
         {"a x 0", "a y 0"}),
        ({"older_than": (NOON + DAY).replace(tzinfo=UTC), "record_ids": ["a x 1", "a x 0"]}, {"a x 0"}),
        ({"record_ids": []}, set()),
        ({"scope_prefix": "/none"}, set()),
        ({}, None),
    ]  # fmt: skip
    for options, named in cases:
        ids = filled()
        gone = set(ids) if named is None else named
        arguments = dict(options)
        if "record_ids" in arguments:
            arguments["record_ids"] = [ids[name] for name in options["record_ids"]]
        assert storage.delete(**arguments) == len(gone), options
        assert set(contents(storage.list_records())) == set(ids) - gone, options


def test_ids_that_a_model_invents_are_unknown(storage: EpisodicStorage) -> None:
    """Such an id is no record's, whatever it is, and is in the way of no other."""
    (name,) = saved(storage, record("dog"))
    for odd in ("", "unknown", "\0", "\ud83d", "x" * 9999):
        assert storage.get_record(odd) is None
        assert storage.delete(record_ids=[odd]) == 0
    assert storage.delete(record_ids=["", "\0", name]) == 1


def test_an_update_replaces_under_its_id(storage: EpisodicStorage) -> None:
    """Text, scope, categories and values are the new ones alone, also for what is looked for by them."""
    (name,) = saved(storage, record("old dog", "/a", categories=["x"], metadata={"k": 1}, created_at=NOON))
    first = storage.get_record(name)
    assert first is not None
    storage.update(first.model_copy(update={"content": "new cat", "scope": "b/c", "categories": ["y"], "metadata": {}}))
    second = storage.get_record(name)
    assert second is not None
    assert (second.content, second.scope, second.created_at) == ("new cat", "/b/c", NOON)
    assert storage.count() == storage.count("/b") == 1
    assert storage.count("/a") == len(found(storage, "dog", categories=["x"])) == 0
    assert found(storage, "dog", metadata_filter={"k": 1}) == []
    assert found(storage, "dog", categories=["y"]) == ["new cat"]
    storage.save([second.model_copy(update={"content": "saved again", "scope": "/d"})])
    assert contents(storage.list_records()) == ["saved again"]
    storage.update(record("unknown before"))
    assert storage.count() == 2


def test_a_recall_writes_nothing(storage: EpisodicStorage) -> None:
    """A search leaves records as they are, so that it undoes nobody's write."""
    (name,) = saved(storage, record("dog", last_accessed=NOON))
    found(storage, "dog")
    after = storage.get_record(name)
    assert after is not None
    assert after.last_accessed == NOON
    assert not hasattr(storage, "touch_records")


def test_neighbours_are_left_alone(storage: EpisodicStorage, manager: DefaultMemoryManager) -> None:
    """Neither conversations of the memory nor storages of other namespaces are seen, or deleted."""
    manager.episodic.add(EpisodicEntry("s", "user", "said", namespace=("crewai",)))
    other = EpisodicStorage(manager, namespace=("crewai", "other"))
    inner = EpisodicStorage(manager.scoped("acme"))
    name = "one-id"
    for one in (storage, other, inner):
        one.save([record("mine", "/a", id=name)])
    storage.update(record("changed", "/a", id=name))
    for one in (other, inner):
        assert contents(one.list_records()) == ["mine"]
        assert one.count() == one.count("/a") == len(one.search(one.embedder(["mine"])[0])) == 1
    storage.reset()
    storage.delete()
    assert storage.count() == 0
    assert other.count() == inner.count() == 1
    assert manager.episodic.count() == 3


def test_records_are_entries_of_the_memory(storage: EpisodicStorage, manager: DefaultMemoryManager) -> None:
    """What a crew has learned is found with the memory's own words, by scope as session, and counts as processed."""
    saved(storage, record("Rye bread keeps for three days.", "/bakery", created_at=NOON))
    (entry,) = manager.episodic.get_session("/bakery", namespace=("crewai",))
    assert (entry.content, entry.timestamp, entry.processed) == (
        "Rye bread keeps for three days.", NOON.replace(tzinfo=UTC), True,
    )  # fmt: skip
    assert "three days" in manager.episodic.context("rye bread", budget_tokens=200, where=Filter(role="crewai")).text


async def test_awaited_verbs_do_the_same(storage: EpisodicStorage) -> None:
    """Save, search and delete, awaited."""
    await storage.asave([record("my dog", "/a", categories=["x"]), record("a ferry", "/b"), record(" ")])
    (vector,) = storage.embedder(["dog"])
    hits = await storage.asearch(vector, "/a", ["x"], {}, 3, 0.1)
    assert [one.content for one, _ in hits] == ["my dog"]
    assert await storage.adelete(scope_prefix="/a") == 1
    assert contents(storage.list_records()) == ["a ferry"]


def test_threads_share_a_storage(storage: EpisodicStorage) -> None:
    """Eight threads save, search and delete at once; what each saved is there."""

    def work(n: int) -> int:
        saved(storage, *[record(f"fact {n} {i}", f"/t{n}", categories=[f"c{i}"]) for i in range(20)])
        assert len(found(storage, "fact", scope_prefix=f"/t{n}", limit=50)) == 20
        return storage.delete(f"/t{n}", categories=["c0", "c1"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [2] * 8
    assert storage.count() == 8 * 18


def test_a_file_is_opened_again(tmp_path: Path) -> None:
    """What was saved is there afterwards, in its scopes; `close` closes what `open` opened, and nothing else."""
    path, service = tmp_path / "crew.db", EmbeddingService(HashingProvider())
    with EpisodicStorage.open(path, service) as first:
        saved(first, record("My dog is called Ada.", "/home"))
    with pytest.raises(ClosedError):
        first.count()
    with DefaultMemoryManager.with_config(MemoryConfig.for_production(service, path=path)) as manager:
        storage = EpisodicStorage(manager)
        assert found(storage, "dog", scope_prefix="/home") == ["My dog is called Ada."]
        storage.close()
        assert storage.count() == 1


def test_a_copy_is_the_same(storage: EpisodicStorage) -> None:
    """A copied crew remembers in one place with the first."""
    assert copy.deepcopy({"storage": storage})["storage"] is storage
    assert copy.deepcopy(storage.embedder) == storage.embedder
