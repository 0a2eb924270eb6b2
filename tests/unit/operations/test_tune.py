"""Tuning: what is measured is true, what is chosen meets its target, and what is applied holds."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import logging
import pickle
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory import (
    AsyncMemoryManager,
    ConfigError,
    DefaultMemoryManager,
    EmbeddingService,
    EpisodicBackendType,
    EpisodicEntry,
    Filter,
    HNSWConfig,
    InputError,
    MemoryConfig,
)
from llmspell_memory.backends import LocalBackend
from llmspell_memory.backends.tuned import NOTE
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.operations import tune
from llmspell_memory.operations.tuning.queries import Chooser
from llmspell_memory.operations.tuning.stored import exact_index, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from llmspell_memory.types import Matrix

COUNT, WIDTH, K = 6_000, 96, 10
POOR = HNSWConfig(m=6, ef_construction=40, ef_search=12)
"""A graph that misses much, so that there is something to choose."""

POOREST = HNSWConfig(m=2, ef_construction=4, ef_search=12)
"""One that takes four times as long as a good one for the same recall, whatever the clock is off by."""


def clustered(count: int, *, seed: int) -> Matrix:
    """Vectors as texts have them: in clusters of clusters, along few directions."""
    shape = np.random.default_rng(0)
    bends = shape.standard_normal((24, WIDTH))
    coarse = shape.standard_normal((40, 24)) * 2
    random = np.random.default_rng(seed)
    fine = coarse[random.integers(0, 40, count)] + random.standard_normal((count, 24))
    return (fine @ bends + 0.5 * random.standard_normal((count, WIDTH))).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> Matrix:
    return clustered(COUNT, seed=1)


@pytest.fixture(scope="module")
def questions() -> Matrix:
    return clustered(400, seed=2)


@pytest.fixture(scope="module")
def service() -> EmbeddingService:
    return EmbeddingService(HashingProvider(WIDTH))


def fill(manager: DefaultMemoryManager, vectors: Matrix) -> None:
    manager.episodic.add_many(
        EpisodicEntry(f"s{n % 2}", "user", f"text {n}", id=f"{n}", embedding=vector) for n, vector in enumerate(vectors)
    )


@pytest.fixture(scope="module")
def shared(service: EmbeddingService, vectors: Matrix) -> Iterator[DefaultMemoryManager]:
    """A memory in RAM over a poor graph; tests that change it make their own."""
    with DefaultMemoryManager(LocalBackend(service.space, hnsw=POOR), service) as manager:
        fill(manager, vectors)
        yield manager


@pytest.fixture
def config(service: EmbeddingService, tmp_path: Path) -> MemoryConfig:
    return MemoryConfig.for_production(service, path=tmp_path / "memory.db")


@pytest.fixture
def durable(config: MemoryConfig, vectors: Matrix) -> Iterator[DefaultMemoryManager]:
    with DefaultMemoryManager.with_config(config.with_hnsw_config(POOR)) as manager:
        fill(manager, vectors)
        yield manager


def true_recall(manager: DefaultMemoryManager, vectors: Matrix, questions: Matrix) -> float:
    """Recall through the memory itself, by numpy alone."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    hits = 0
    for question in questions:
        nearest = set(np.argsort(-(unit @ question), kind="stable")[:K].tolist())
        hits += len(nearest & {int(hit.entry.id) for hit in manager.episodic.search(question, K)})
    return hits / (K * len(questions))


class TestMeasuring:
    def test_the_curve_is_true(self, shared: DefaultMemoryManager, vectors: Matrix, questions: Matrix) -> None:
        """Recall grows with ef_search, and at each point is what searches through the memory find."""
        report = shared.tune(target_recall=0.9, queries=questions)
        recalls = [point.recall for point in report.points]
        assert recalls == sorted(recalls)
        assert recalls[0] < 0.85
        assert recalls[-1] > 0.99
        assert all(point.low <= point.recall <= point.high for point in report.points)
        assert (report.kind, report.queries, report.k, report.entries) == ("given", 400, K, COUNT)
        with DefaultMemoryManager(LocalBackend(shared.service.space, hnsw=POOR), shared.service) as other:
            fill(other, vectors)
            for point in report.points[:: len(report.points) // 3]:
                other.set_ef_search(point.hnsw.ef_search)
                assert true_recall(other, vectors, questions) == pytest.approx(point.recall, abs=1e-3)

    def test_times_grow_with_the_work(self, shared: DefaultMemoryManager, questions: Matrix) -> None:
        """A search that keeps some times the candidates takes longer, and p95 is at least p50."""
        report = shared.tune(target_recall=1.0, queries=questions)
        first, last = report.points[0], report.points[-1]
        assert report.met
        assert last.hnsw.ef_search >= 6 * first.hnsw.ef_search
        assert last.p50_us > first.p50_us > 0
        assert all(point.p95_us >= point.p50_us for point in report.points)
        assert report.search_us is not None
        assert report.search_us[0] > first.p50_us

    @pytest.mark.parametrize("kind", [dict, np.asarray, list])
    def test_queries_of_every_kind(self, shared: DefaultMemoryManager, questions: Matrix, kind: Any) -> None:
        """Texts and vectors may be given, together and as a matrix; whatever gives them one by one will do."""
        asked: Any = questions[:20] if kind is np.asarray else ["a text", *questions[:3]]
        if kind is dict:
            asked = dict.fromkeys(["one", "two", "three"])
        report = shared.tune(target_recall=0.5, queries=asked)
        assert report.queries == len(asked)

    def test_equal_entries_count_as_one_another(self, service: EmbeddingService) -> None:
        """Among entries that tie for the last place any will do: with every vector twenty times, recall is 1."""
        unlike = clustered(150, seed=3)
        with DefaultMemoryManager(LocalBackend(service.space, hnsw=HNSWConfig()), service) as manager:
            fill(manager, np.repeat(unlike, 20, axis=0))
            report = manager.tune(target_recall=1.0, queries=unlike[:100], k=7)
            assert {point.recall for point in report.points} == {1.0}

    def test_made_queries_are_no_entries(self, shared: DefaultMemoryManager) -> None:
        """Queries made from entries lie among them, as near to the nearest as new entries would, and on none."""
        index = shared.backend.index()  # type: ignore[attr-defined]
        rows = stored(shared.backend)
        chosen = Chooser(rows, index, shared.service, Filter()).choose(None, (), k=None, sample=300)
        assert (chosen.kind, chosen.k, len(chosen.each)) == ("sampled", 10, 300)
        nearest = [index.search(query.vector, 1, exact=True)[1][0] for query in chosen.each]
        fresh = [index.search(vector, 1, exact=True)[1][0] for vector in clustered(300, seed=5)]
        assert max(nearest) < 0.9999
        assert abs(np.median(nearest) - np.median(fresh)) < 0.1

    def test_recall_of_made_queries_is_near_that_of_new_ones(self, shared: DefaultMemoryManager) -> None:
        """At every ef_search what made queries say is within five points of what new texts would."""
        made = shared.tune(target_recall=0.9, sample=400)
        fresh = shared.tune(target_recall=0.9, queries=clustered(400, seed=6))
        of = {point.hnsw.ef_search: point.recall for point in fresh.points}
        compared = [(of[point.hnsw.ef_search], point.recall) for point in made.points if point.hnsw.ef_search in of]
        assert len(compared) > 5
        assert all(abs(one - other) < 0.05 for one, other in compared), compared

    def test_recorded_searches_are_preferred(self, shared: DefaultMemoryManager, questions: Matrix) -> None:
        """Enough recorded searches are measured with, each under its own filter, with the k that most had."""
        where = Filter(session_id="s1")
        recorded = [(vector, 7, where if n % 2 else Filter()) for n, vector in enumerate(questions[:100])]
        recorded += [(questions[0], 3, Filter(session_id="absent"))] * 10  # so few that a graph has no part in it
        report = tune(shared.backend, shared.service, target_recall=0.8, recorded=recorded)
        assert (report.kind, report.queries, report.k) == ("recorded", 100, 7)
        few = tune(shared.backend, shared.service, target_recall=0.8, recorded=recorded[:10])
        assert (few.kind, few.k) == ("sampled", 10)

    def test_a_filter_is_measured_under(self, shared: DefaultMemoryManager, questions: Matrix) -> None:
        """With `where` the k nearest among what matches are what is to be found."""
        where = Filter(session_id="s1")
        report = shared.tune(target_recall=0.9, queries=questions[:100], where=where)
        assert report.met
        assert report.chosen is not None
        exact = [shared.backend.search(one, K, where, exact=True) for one in questions[:100]]
        index, labels = shared.backend.index(), stored(shared.backend).labels(where)  # type: ignore[attr-defined]
        hits = sum(
            len({hit.entry.id for hit in truth} & {f"{label}" for label in found.tolist()})
            for truth, one in zip(exact, questions[:100], strict=True)
            for found in [index.search(one, K, among=labels, ef_search=report.chosen.hnsw.ef_search)[0]]
        )
        assert hits / (K * 100) == pytest.approx(report.chosen.recall, abs=1e-3)

    @pytest.mark.parametrize("metric", ["inner_product", "euclidean"])
    def test_other_metrics(self, metric: Any, vectors: Matrix, questions: Matrix) -> None:
        """Recall is counted by the metric of the space, whatever its scores look like."""
        service = EmbeddingService(HashingProvider(WIDTH), metric=metric)
        with DefaultMemoryManager(LocalBackend(service.space, hnsw=POOR), service) as manager:
            fill(manager, vectors[:3_000])
            report = manager.tune(target_recall=0.95, queries=questions[:100])
            assert report.met
            assert report.points[0].recall < 0.95
            assert report.points[-1].recall > 0.99

    def test_rounded_vectors_are_judged_by_the_stored_ones(
        self, service: EmbeddingService, vectors: Matrix, questions: Matrix
    ) -> None:
        """With float16 in the index, what rounding loses counts as lost: recall is that against the rows."""
        half = dataclasses.replace(POOR, dtype="float16")
        with DefaultMemoryManager(LocalBackend(service.space, hnsw=half), service) as manager:
            fill(manager, vectors[:3_000])
            index = manager.backend.index()  # type: ignore[attr-defined]
            judge = exact_index(manager.backend, stored(manager.backend), index)
            assert judge.stats().kind == "exact"
            report = manager.tune(target_recall=0.9, queries=questions)
            assert report.chosen is not None
            assert report.chosen.hnsw.dtype == "float16"
            manager.set_ef_search(report.chosen.hnsw.ef_search)
            assert true_recall(manager, vectors[:3_000], questions) == pytest.approx(report.chosen.recall, abs=1e-3)


class TestChoosing:
    @pytest.mark.parametrize("recall", [0.9, 0.97])
    def test_the_cheapest_that_meets_a_recall(
        self, shared: DefaultMemoryManager, questions: Matrix, recall: float
    ) -> None:
        """No smaller ef_search that was measured meets it, and new queries find as much, up to chance."""
        report = shared.tune(target_recall=recall, queries=questions)
        assert report.met
        assert report.chosen is not None
        smaller = [p for p in report.points if p.hnsw.ef_search < report.chosen.hnsw.ef_search]
        assert all(point.recall < recall for point in smaller)
        again = shared.tune(target_recall=recall, queries=clustered(400, seed=7), builds=False)
        independent = {point.hnsw.ef_search: point for point in again.points}
        near = min(independent, key=lambda ef: abs(ef - report.chosen.hnsw.ef_search))  # type: ignore[union-attr]
        assert independent[near].high > recall - 0.02

    def test_doubt_is_told(self, shared: DefaultMemoryManager, questions: Matrix) -> None:
        """Where the estimate meets the target and its interval does not, the report says so."""
        report = shared.tune(target_recall=0.9, queries=questions[:60])
        assert report.chosen is not None
        assert report.met
        assert report.sure == (report.chosen.low >= 0.9)
        assert report.sure or "interval begins at" in report.verdict

    def test_the_most_that_a_time_allows(self, shared: DefaultMemoryManager, questions: Matrix) -> None:
        """Of all that keep within the time, the one that finds most."""
        generous = shared.tune(target_p95_us=1e6, queries=questions[:100])
        assert generous.met
        assert generous.chosen is not None
        assert generous.chosen.recall == max(point.recall for point in generous.points)

    def test_a_target_out_of_reach(self, shared: DefaultMemoryManager, questions: Matrix) -> None:
        """Nothing meets it: that is said, the best is named, and nothing is applied or recorded."""
        before = shared.backend.hnsw
        report = shared.tune(target_p95_us=0.01, queries=questions[:50], apply=True)
        assert not report.met
        assert not report.applied
        assert report.chosen is not None
        assert report.chosen.p95_us == min(point.p95_us for point in report.points)
        assert report.verdict.startswith("nothing measured meets the target, p95 of 0.01 µs; the best is m=6")
        assert shared.backend.hnsw == before
        assert shared.backend.read_note(NOTE) is None

    def test_trial_builds_leave_the_live_index(self, durable: DefaultMemoryManager, questions: Matrix) -> None:
        """Other graphs are measured beside the live index, which answers as before; the better one is chosen."""
        durable.rebuild(m=POOREST.m, ef_construction=POOREST.ef_construction)
        before = [[hit.entry.id for hit in durable.episodic.search(one, K)] for one in questions[:50]]
        index = durable.backend.index()  # type: ignore[attr-defined]
        good = HNSWConfig(m=24, ef_construction=200)
        stages: list[str] = []
        report = durable.tune(
            target_recall=0.98,
            queries=questions,
            builds=[good, POOREST],
            on_progress=lambda what, *_: stages.append(what),
        )
        assert durable.backend.index() is index  # type: ignore[attr-defined]
        assert [[hit.entry.id for hit in durable.episodic.search(one, K)] for one in questions[:50]] == before
        assert {(point.hnsw.m, point.trial) for point in report.points} == {(2, False), (24, True)}
        assert report.chosen is not None
        assert (report.chosen.hnsw.m, report.chosen.trial) == (24, True)
        assert "building m=24, ef_construction=200 (1 of 1)" in stages
        trial = next(point for point in report.points if point.trial)
        assert trial.build_seconds is not None
        assert trial.memory_bytes > index.stats().memory_bytes

    def test_the_graphs_tried_unless_named(self, service: EmbeddingService) -> None:
        """builds=True tries other m and ef_construction, each once, but not the live graph again."""
        with DefaultMemoryManager(LocalBackend(service.space, hnsw=HNSWConfig(seed=7)), service) as manager:
            fill(manager, clustered(1_200, seed=8))
            report = manager.tune(target_recall=0.9, builds=True, sample=60)
            tried = {(p.hnsw.m, p.hnsw.ef_construction) for p in report.points if p.trial}
            assert tried == {(m, ef) for m in (8, 16, 32) for ef in (100, 200, 400)} - {(16, 200)}
            assert {point.hnsw.seed for point in report.points} == {7}


class TestApplying:
    def test_ef_search_holds_at_once_and_later(
        self, durable: DefaultMemoryManager, config: MemoryConfig, vectors: Matrix, questions: Matrix
    ) -> None:
        """Applied, the chosen ef_search answers at once with the recall promised, and so it does after an opening."""
        report = durable.tune(target_recall=0.95, queries=questions, apply=True)
        assert report.applied
        assert report.chosen is not None
        assert report.confirmed is None
        assert report.verdict.endswith("; applied")
        assert durable.backend.hnsw == report.chosen.hnsw != POOR
        assert true_recall(durable, vectors, questions) == pytest.approx(report.chosen.recall, abs=1e-3)
        durable.close()
        with DefaultMemoryManager.with_config(config) as later:
            assert later.backend.hnsw == report.chosen.hnsw
            assert true_recall(later, vectors, questions) == pytest.approx(report.chosen.recall, abs=1e-3)

    def test_another_graph_by_a_rebuild_beside_readers(
        self, durable: DefaultMemoryManager, config: MemoryConfig, questions: Matrix
    ) -> None:
        """While a rebuild puts another m in force, no search in another thread fails; then it answers, and lasts."""
        durable.rebuild(m=POOREST.m, ef_construction=POOREST.ef_construction)
        failures: list[BaseException] = []
        counts = {"searches": 0}
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                for one in questions[:20]:
                    try:
                        assert len(durable.episodic.search(one, K)) == K
                    except BaseException as error:  # noqa: BLE001 (whatever it is, it is a failure)
                        failures.append(error)
                    counts["searches"] += 1

        reader = threading.Thread(target=read)
        reader.start()
        try:
            report = durable.tune(
                target_recall=0.98, queries=questions, builds=[HNSWConfig(m=24, ef_construction=200)], apply=True
            )
        finally:
            done.set()
            reader.join()
        assert failures == []
        assert counts["searches"] > 100
        assert report.applied
        assert durable.backend.hnsw is not None
        assert durable.backend.hnsw.m == 24
        assert report.confirmed is not None
        assert not report.confirmed.trial
        assert report.confirmed.recall == pytest.approx(report.chosen.recall, abs=0.02)  # type: ignore[union-attr]
        durable.close()
        with DefaultMemoryManager.with_config(config) as later:
            assert later.backend.hnsw == report.chosen.hnsw  # type: ignore[union-attr]

    def test_a_configuration_that_was_chosen_wins(
        self,
        durable: DefaultMemoryManager,
        config: MemoryConfig,
        questions: Matrix,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Parameters that are given, be they the defaults, are those in force; the log names those recorded."""
        report = durable.tune(target_recall=0.95, queries=questions, apply=True)
        durable.close()
        assert report.chosen is not None
        caplog.set_level(logging.INFO)
        for chosen in (HNSWConfig(), HNSWConfig(m=6, ef_construction=40, ef_search=33)):
            caplog.clear()
            with DefaultMemoryManager.with_config(config.with_hnsw_config(chosen)) as manager:
                assert manager.backend.hnsw == chosen
            assert any("wait:" in one.getMessage() for one in caplog.records)
        caplog.clear()
        with DefaultMemoryManager.with_config(config) as manager:
            assert manager.backend.hnsw == report.chosen.hnsw
        (line,) = [one.getMessage() for one in caplog.records if "taken from the tuning" in one.getMessage()]
        assert "at 6000 entries" in line

    def test_what_was_not_chosen_is_told_by_identity(self, service: EmbeddingService) -> None:
        """A configuration knows whether its parameters were given, equal to the default or not, through all copies."""
        plain = MemoryConfig.for_production(service, path="x.db").with_warm(False)
        assert plain.hnsw == HNSWConfig() == MemoryConfig().hnsw
        assert not plain.hnsw_chosen
        assert not dataclasses.replace(plain, warm=True).hnsw_chosen
        assert plain.with_hnsw_config(HNSWConfig()).with_warm(True).hnsw_chosen
        assert MemoryConfig(hnsw=HNSWConfig()).hnsw_chosen
        assert plain.with_hnsw_config(MemoryConfig().hnsw).hnsw_chosen
        for given in (MemoryConfig(warm=False), MemoryConfig(warm=False, hnsw=HNSWConfig())):
            for made in (pickle.loads(pickle.dumps(given)), copy.deepcopy(given), copy.copy(given)):  # noqa: S301
                assert (made, made.with_warm(True).hnsw_chosen) == (given, given.hnsw_chosen)
        assert plain == plain.with_hnsw_config(HNSWConfig())

    @pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"hnsw": {"m": 0}}', '{"hnsw": 3, "space": 1}'])
    def test_a_note_that_cannot_be_read(
        self, config: MemoryConfig, text: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is passed over with a warning, and the defaults hold."""
        with DefaultMemoryManager.with_config(config) as manager:
            manager.backend.write_note(NOTE, text)
        with caplog.at_level(logging.WARNING), DefaultMemoryManager.with_config(config) as manager:
            assert manager.backend.hnsw == HNSWConfig()
        assert "recorded by tuning cannot be read" in caplog.text

    def test_parameters_of_another_space_are_left_alone(
        self, durable: DefaultMemoryManager, config: MemoryConfig, questions: Matrix
    ) -> None:
        """What was tuned for vectors of one model says nothing of another's."""
        durable.tune(target_recall=0.95, queries=questions, apply=True)
        note = durable.backend.read_note(NOTE)
        durable.close()
        assert note is not None
        with DefaultMemoryManager.with_config(config) as manager:
            manager.backend.write_note(NOTE, note.replace("hashing", "another"))
        with DefaultMemoryManager.with_config(config) as manager:
            assert manager.backend.hnsw == HNSWConfig()

    def test_exact_search_changes_to_what_was_tuned(self, config: MemoryConfig, questions: Matrix) -> None:
        """An exact memory has nothing to tune, and says so; by trial builds it comes to the right HNSW index."""
        with DefaultMemoryManager.with_config(config.with_backend(EpisodicBackendType.IN_MEMORY)) as manager:
            fill(manager, clustered(3_000, seed=9))
            with pytest.raises(ConfigError, match=r"searches exactly.*builds=True.*advise"):
                manager.tune(target_recall=0.9)
            graphs = [POOR, HNSWConfig(m=24)]
            report = manager.tune(target_recall=0.95, queries=questions, builds=graphs, apply=True)
            assert report.before is None
            assert report.applied
            assert manager.backend.hnsw == report.chosen.hnsw  # type: ignore[union-attr]
            assert report.confirmed is not None
            manager.switch_backend(EpisodicBackendType.IN_MEMORY)
            manager.switch_backend(EpisodicBackendType.HNSW)
            assert manager.backend.hnsw == report.chosen.hnsw  # type: ignore[union-attr]

    def test_the_same_from_asyncio(self, config: MemoryConfig, questions: Matrix) -> None:
        """Awaited, tuning gives the same report and applies the same; other tasks run meanwhile."""

        async def use() -> None:
            async with await AsyncMemoryManager.with_config(config.with_hnsw_config(POOR)) as manager:
                await manager.episodic.add_many(
                    EpisodicEntry("s", "user", f"{n}", embedding=vector)
                    for n, vector in enumerate(clustered(2_000, seed=10))
                )
                work = asyncio.create_task(manager.tune(target_recall=0.9, queries=questions[:50], apply=True))
                turns = 0
                while not work.done():
                    await asyncio.sleep(0)
                    turns += 1
                assert turns > 10
                report = await work
                assert report.applied
                assert manager.backend.hnsw == report.chosen.hnsw  # type: ignore[union-attr]

        asyncio.run(use())


class TestEnds:
    def test_an_empty_memory(self, config: MemoryConfig) -> None:
        """There is nothing to measure; nothing is chosen or applied, and the report says what to do."""
        with DefaultMemoryManager.with_config(config) as manager:
            report = manager.tune(target_recall=0.95, apply=True)
            assert (report.points, report.chosen, report.applied) == ((), None, False)
            assert "empty" in report.verdict
            with pytest.raises(InputError, match="nothing was measured"):
                report.plot("x.png")

    @pytest.mark.parametrize("count", [1, 2, 50, 999])
    def test_few_entries(self, service: EmbeddingService, count: int) -> None:
        """Where all entries are looked at, whatever the graph, the parameters stay as they are."""
        with DefaultMemoryManager(LocalBackend(service.space, hnsw=HNSWConfig()), service) as manager:
            fill(manager, clustered(count, seed=11))
            report = manager.tune(target_recall=0.9, apply=True)
            assert not report.applied
            assert report.chosen is not None
            assert report.chosen.hnsw == HNSWConfig()
            assert report.chosen.recall == 1.0
            assert f"{count:,} entr" in report.verdict
            assert manager.backend.read_note(NOTE) is None

    @pytest.mark.parametrize(
        ("wrong", "error"),
        [
            ({}, ConfigError),
            ({"target_recall": 0.9, "target_p95_us": 100}, ConfigError),
            ({"target_recall": 0}, ConfigError),
            ({"target_recall": 1.1}, ConfigError),
            ({"target_recall": float("nan")}, ConfigError),
            ({"target_recall": "0.9"}, ConfigError),
            ({"target_recall": True}, ConfigError),
            ({"target_p95_us": -1}, ConfigError),
            ({"target_p95_us": float("inf")}, ConfigError),
            ({"target_recall": 0.9, "builds": [{"m": 3}]}, ConfigError),
            ({"target_recall": 0.9, "builds": 3}, ConfigError),
            ({"target_recall": 0.9, "where": Filter(session_id="s1"), "apply": True}, ConfigError),
            ({"target_recall": 0.9, "where": "s1"}, InputError),
            ({"target_recall": 0.9, "k": 0}, InputError),
            ({"target_recall": 0.9, "k": 2.5}, InputError),
            ({"target_recall": 0.9, "sample": 0}, InputError),
            ({"target_recall": 0.9, "queries": []}, InputError),
            ({"target_recall": 0.9, "queries": "one text"}, InputError),
            ({"target_recall": 0.9, "queries": 3}, InputError),
            ({"target_recall": 0.9, "queries": [np.ones(3)]}, InputError),
            ({"target_recall": 0.9, "queries": [""]}, InputError),
        ],
        ids=str,
    )
    def test_wrong_arguments(self, shared: DefaultMemoryManager, wrong: dict[str, Any], error: type[Exception]) -> None:
        """Whatever is not acceptable is a typed error that names it."""
        with pytest.raises(error):
            shared.tune(**wrong)

    def test_a_scope_is_refused(self, shared: DefaultMemoryManager) -> None:
        """The index of a scope is that of all who share it."""
        with pytest.raises(ConfigError, match="scope"):
            shared.scoped("acme").tune(target_recall=0.9)

    def test_a_backend_of_ones_own(self, service: EmbeddingService, vectors: Matrix, questions: Matrix) -> None:
        """A backend with the verbs alone is tuned by trial builds from its scan; without them it says so."""

        class Verbs:
            """Nothing but the protocol's members."""

            def __init__(self, backend: LocalBackend) -> None:
                self._backend = backend

            def __getattr__(self, name: str) -> Any:
                if name in {"index", "labels", "vectors"}:
                    raise AttributeError(name)
                return getattr(self._backend, name)

        inner = LocalBackend(service.space, hnsw=POOR)
        with DefaultMemoryManager(Verbs(inner), service) as manager:
            fill(manager, vectors[:2_000])
            with pytest.raises(ConfigError, match="shows no index"):
                manager.tune(target_recall=0.9)
            where = Filter(session_id="s1")
            report = manager.tune(target_recall=0.9, builds=[POOR], queries=questions[:50], where=where)
            assert report.met
            report = manager.tune(target_recall=0.95, builds=[POOR, HNSWConfig(m=24)], queries=questions, apply=True)
            assert report.applied
            assert inner.hnsw == report.chosen.hnsw  # type: ignore[union-attr]
            assert true_recall(manager, vectors[:2_000], questions) >= 0.93

    def test_writes_go_on(self, durable: DefaultMemoryManager, questions: Matrix) -> None:
        """Entries added and deleted while it is measured are there and gone afterwards, and recall stays one."""
        done = threading.Event()
        added: list[str] = []

        def write() -> None:
            while not done.is_set():
                added.append(durable.episodic.add(EpisodicEntry("new", "user", f"new {len(added)}")))
                durable.episodic.delete(Filter(ids=frozenset([f"{len(added)}"])))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            report = durable.tune(target_recall=0.9, queries=questions)
        finally:
            done.set()
            writer.join()
        assert added
        assert durable.episodic.count(Filter(session_id="new")) == len(added)
        assert all(0 < point.recall <= 1 for point in report.points)


class TestShowing:
    def test_the_table(self, shared: DefaultMemoryManager, questions: Matrix) -> None:
        """A line per point, the chosen one marked, and what the queries were."""
        report = shared.tune(target_recall=0.9, queries=questions[:100])
        lines = report.table().splitlines()
        assert len(lines) == len(report.points) + 4
        (chosen,) = [line for line in lines if line.startswith("*")]
        assert report.chosen is not None
        assert f" {report.chosen.hnsw.ef_search} " in chosen
        assert lines[-2] == "measured with 100 queries that were given"
        assert lines[-1] == report.verdict

    @pytest.mark.parametrize("suffix", [".png", ".SVG"])
    def test_the_plot(self, shared: DefaultMemoryManager, questions: Matrix, tmp_path: Path, suffix: str) -> None:
        """A picture of the kind that the name says, which replaces what is there."""
        report = shared.tune(target_recall=0.9, queries=questions[:100], builds=[HNSWConfig(m=8)])
        target = tmp_path / f"plot{suffix}"
        target.write_bytes(b"old")
        report.plot(target)
        begin = target.read_bytes()[:200]
        assert begin.startswith(b"\x89PNG") if suffix == ".png" else b"<?xml" in begin

    def test_a_plot_that_cannot_be_made(
        self, shared: DefaultMemoryManager, questions: Matrix, tmp_path: Path, hidden: Callable[[str], None]
    ) -> None:
        """An unknown suffix, a folder that is not there and a missing package are typed errors."""
        from llmspell_memory import MissingDependencyError, StorageError  # noqa: PLC0415

        report = shared.tune(target_recall=0.9, queries=questions[:50])
        with pytest.raises(InputError, match=r"\.png or \.svg"):
            report.plot(tmp_path / "plot.gif")
        with pytest.raises(StorageError, match="cannot be written"):
            report.plot(tmp_path / "absent" / "plot.png")
        hidden("matplotlib")
        with pytest.raises(MissingDependencyError, match=r"llmspell-memory\[plot\]"):
            report.plot(tmp_path / "plot.png")
