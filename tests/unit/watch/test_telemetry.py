"""Spans and metrics, through the real SDK into its in-memory exporters."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llmspell_memory import (
    AsyncMemoryManager,
    ConfigError,
    DefaultMemoryManager,
    EmbeddingError,
    EmbeddingService,
    EpisodicEntry,
    Filter,
    MemoryConfig,
    NotFoundError,
)
from llmspell_memory.embeddings import CallableProvider, HashingProvider, RetryPolicy
from llmspell_memory.types import Telemetry, Watch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from llmspell_memory.protocols import EmbeddingKind
    from llmspell_memory.types import Matrix

WORD = "xyzzy"


class Told(NamedTuple):
    """Where spans and metrics go."""

    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    config: MemoryConfig
    tracer: trace.Tracer

    def spans(self) -> list[ReadableSpan]:
        spans = list(self.exporter.get_finished_spans())
        self.exporter.clear()
        return spans

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        assert all(metric.unit == "s" for metric in found)
        return [point for metric in found for point in metric.data.data_points]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider(metric_readers=[reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    config = MemoryConfig.for_production(EmbeddingService(HashingProvider(16)), path=tmp_path / "m.db")
    config = config.with_telemetry(tracer_provider=tracers, meter_provider=meters).with_watch(Watch(share=1, budget=1))
    return Told(exporter, reader, config, tracers.get_tracer("test"))


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_call_to_the_store_is_a_database_span(told: Told) -> None:
    """Name, kind and attributes are those of the conventions for database clients; the file's name is the namespace."""
    with DefaultMemoryManager.with_config(told.config) as manager:
        memory = manager.episodic
        memory.add(EpisodicEntry("s", "user", "one", embedding=np.ones(16, np.float32)))
        memory.add_many([EpisodicEntry("s", "user", "one", embedding=np.ones(16, np.float32)) for _ in range(3)])
        memory.search(np.ones(16, np.float32), 2, where=Filter(session_id="s"))
        memory.mark_processed(["x"])
        memory.set_expiry(Filter(role="x"), None)
        memory.count()
        memory.sessions()
        memory.delete(Filter(role="x"))
        memory.forget(Filter(role="x"))
    spans = told.spans()
    assert [one.name for one in spans] == [
        f"{name} m.db"
        for name in (
            "add",
            "BATCH add",
            "search",
            "mark_processed",
            "set_expiry",
            "count",
            "sessions",
            "delete",
            "forget",
        )
    ]
    assert {one.kind for one in spans} == {trace.SpanKind.INTERNAL}
    assert {one.instrumentation_scope.name for one in spans if one.instrumentation_scope} == {"llmspell_memory"}
    common = {"db.system.name": "llmspell_memory", "db.namespace": "m.db"}
    assert attributes(spans[0]) == common | {"db.operation.name": "add"}
    assert attributes(spans[1]) == common | {"db.operation.name": "BATCH add", "db.operation.batch.size": 3}
    assert attributes(spans[2]) == common | {
        "db.operation.name": "search",
        "db.response.returned_rows": 2,
        "llmspell_memory.k": 2,
        "llmspell_memory.filter": "session",
    }


def test_a_call_to_the_provider_is_a_generative_ai_span(told: Told) -> None:
    """An embedding is a span of its own; a text from the cache makes no call and no span."""
    with DefaultMemoryManager.with_config(told.config) as manager:
        manager.episodic.add_many([EpisodicEntry("s", "user", f"{n}") for n in range(3)])
        manager.episodic.search("a")
        manager.episodic.search("a")
    embedded, _, query, _, again = told.spans()
    assert [embedded.name, query.name, again.name] == ["embeddings", "embeddings", "retrieve m.db"]
    assert embedded.kind is trace.SpanKind.CLIENT
    assert attributes(embedded) == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "hashing",
        "gen_ai.embeddings.dimension.count": 16,
        "llmspell_memory.texts": 3,
    }


def test_the_model_is_named(told: Told) -> None:
    """A provider with a model has it in the span's name and attributes."""
    provider = CallableProvider(lambda texts: np.ones((len(texts), 4)), 4, name="acme", model="m-1")
    config = told.config.with_service(EmbeddingService(provider)).with_path(None)
    with DefaultMemoryManager.with_config(config) as manager:
        manager.episodic.search("a")
    embedded, search = told.spans()
    assert (embedded.name, search.name) == ("embeddings m-1", "retrieve")
    assert attributes(embedded)["gen_ai.request.model"] == "m-1"
    assert "db.namespace" not in attributes(search)


def test_spans_belong_to_the_callers(told: Told) -> None:
    """What is done inside a span of the application is below it."""
    with DefaultMemoryManager.with_config(told.config) as manager, told.tracer.start_as_current_span("turn") as turn:
        manager.episodic.search("a")
    embedded, search, _ = told.spans()
    parents = {one.parent.span_id for one in (embedded, search) if one.parent is not None}
    assert parents == {turn.get_span_context().span_id}


def test_durations_are_metrics(told: Told) -> None:
    """Each call is in the histogram of its kind, in seconds, with the boundaries that the conventions advise."""
    with DefaultMemoryManager.with_config(told.config) as manager:
        manager.episodic.add(EpisodicEntry("s", "user", "x"))
        manager.episodic.search("a")
        manager.episodic.search("a")
    database = {dict(one.attributes)["db.operation.name"]: one for one in told.points("db.client.operation.duration")}
    assert {name: one.count for name, one in database.items()} == {"add": 1, "retrieve": 2}
    assert 0 < database["retrieve"].sum < 10
    assert database["retrieve"].explicit_bounds == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
    assert set(database["retrieve"].attributes) == {"db.system.name", "db.operation.name", "db.namespace"}
    (model,) = told.points("gen_ai.client.operation.duration")
    assert model.count == 2
    assert dict(model.attributes) == {"gen_ai.operation.name": "embeddings", "gen_ai.provider.name": "hashing"}


def test_errors_are_told_by_their_type_alone(told: Told) -> None:
    """A failed call has the error's type, in span and metric, and nothing of its message, which may quote a text."""

    def refuse(texts: list[str]) -> np.ndarray:
        raise EmbeddingError(f"cannot embed {texts[0]}")

    def crash(texts: list[str]) -> np.ndarray:
        raise ValueError(texts[0])

    for work, kind in ((refuse, "llmspell_memory.errors.EmbeddingError"), (crash, "llmspell_memory.errors")):
        service = EmbeddingService(CallableProvider(work, 16), retry=RetryPolicy(attempts=1))
        config = told.config.with_service(service).with_path(None)
        with DefaultMemoryManager.with_config(config) as manager, pytest.raises(EmbeddingError):
            manager.episodic.search(WORD)
        (span,) = told.spans()
        assert str(attributes(span)["error.type"]).startswith(kind)
        assert span.status.status_code is trace.StatusCode.ERROR
        assert WORD not in span.to_json()
    with DefaultMemoryManager.with_config(told.config) as manager:
        manager.close()
        with pytest.raises(Exception, match="closed"):
            manager.episodic.count()
    (span,) = told.spans()
    assert attributes(span)["error.type"] == "llmspell_memory.errors.ClosedError"
    failed = [one for one in told.points("gen_ai.client.operation.duration") if "error.type" in one.attributes]
    assert sum(one.count for one in failed) == 2


def test_retries_are_one_call(told: Told) -> None:
    """A call that succeeds at the second try is one span, and no failed one."""
    tries: list[int] = []

    def flaky(texts: list[str]) -> np.ndarray:
        tries.append(len(texts))
        if len(tries) == 1:
            raise EmbeddingError("busy", retryable=True)
        return np.ones((len(texts), 16))

    service = EmbeddingService(CallableProvider(flaky, 16), retry=RetryPolicy(base_delay=0))
    with DefaultMemoryManager.with_config(told.config.with_service(service).with_path(None)) as manager:
        manager.episodic.search("a")
    embedded, _ = told.spans()
    assert len(tries) == 2
    assert embedded.status.status_code is trace.StatusCode.UNSET


def test_nothing_of_contents_is_told(told: Told) -> None:
    """Texts, ids, sessions, roles, metadata, namespaces and queries are in no span and no metric."""
    with DefaultMemoryManager.with_config(told.config) as manager:
        where = Filter(session_id=WORD, role=WORD, metadata={WORD: WORD}, namespace=(WORD,), ids=frozenset([WORD]))
        for memory in (manager.episodic, manager.scoped(WORD).episodic):
            memory.add(EpisodicEntry(WORD, WORD, WORD, id=WORD, metadata={WORD: WORD}, namespace=(WORD,)))
            memory.search(WORD, where=where)
            memory.get(WORD)
            memory.mark_processed([WORD], namespace=(WORD,))
            memory.delete(where)
            memory.forget(where)
            with pytest.raises(NotFoundError):
                memory.get(WORD)
        spans = told.spans()
    assert len(spans) > 8
    assert not [one.name for one in spans if WORD in one.to_json()]
    data = told.reader.get_metrics_data()
    assert data is not None
    assert WORD not in data.to_json()


def test_comparisons_are_not_told(told: Told) -> None:
    """Searches that are run again to estimate recall are nobody's calls."""
    with DefaultMemoryManager.with_config(told.config) as manager:
        manager.episodic.add(EpisodicEntry("s", "user", "x"))
        for _ in range(5):
            manager.episodic.search("x")
    assert [one.name for one in told.spans()].count("retrieve m.db") == 5


def test_the_asyncio_face_is_told_of_alike(told: Told) -> None:
    """Awaited calls make the same spans."""

    async def use() -> None:
        async with await AsyncMemoryManager.with_config(told.config) as manager:
            await manager.episodic.add(EpisodicEntry("s", "user", "x"))
            await manager.episodic.search("a")
            await manager.scoped("a").episodic.search("a")

    asyncio.run(use())
    assert [one.name for one in told.spans()] == [
        *("embeddings", "add m.db", "embeddings", "retrieve m.db", "retrieve m.db"),
    ]


def test_awaited_calls_belong_to_the_callers_too(told: Told) -> None:
    """A write is done in a thread of the manager's own, and its span is below the application's all the same."""

    async def use() -> int:
        async with await AsyncMemoryManager.with_config(told.config) as manager:
            with told.tracer.start_as_current_span("turn") as turn:
                await manager.episodic.add(EpisodicEntry("s", "user", "x"))
                await manager.episodic.search("a")
                await manager.episodic.delete(Filter(session_id="s"))
                await manager.episodic.sessions()
            return turn.get_span_context().span_id

    turn = asyncio.run(use())
    spans = [one for one in told.spans() if one.name != "turn"]
    assert len(spans) == 6
    assert {one.name: one.parent and one.parent.span_id for one in spans} == dict.fromkeys(
        ["embeddings", "add m.db", "retrieve m.db", "delete m.db", "sessions m.db"], turn
    )


def test_the_service_is_the_one_that_the_memory_was_moved_to(told: Told) -> None:
    """Moved away and back, texts go to the provider given last, and calls of both moves are told of."""
    first = EmbeddingService(HashingProvider(16), cache=None)
    asked: list[str] = []

    class Later(HashingProvider):
        def embed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
            asked.extend(texts)
            return super().embed(texts, kind=kind)

    with DefaultMemoryManager.with_config(told.config.with_service(first)) as manager:
        manager.episodic.add(EpisodicEntry("s", "user", "one"))
        for service in (EmbeddingService(HashingProvider(8)), EmbeddingService(Later(16), cache=None)):
            manager.reembed(service).wait(60)
            manager.episodic.add(EpisodicEntry("s", "user", f"to {service.dimensions}"))
    assert asked == ["to 8", "to 16"]
    widths = [attributes(one)["gen_ai.embeddings.dimension.count"] for one in told.spans() if one.name == "embeddings"]
    assert widths == [16, 8, 8, 16, 16]


def test_the_service_given_stays_as_it_was(told: Told) -> None:
    """A service shared with a memory that is not told of tells nothing there, and counts for both."""
    service = told.config.service
    assert service is not None
    with DefaultMemoryManager.with_config(told.config) as manager:
        manager.episodic.search("a")
        assert manager.service is service
        assert manager.stats().cache_misses == service.misses == 1
        told.spans()
        service.embed_one("b")
        assert told.spans() == []
        assert isinstance(manager.backend.stats().path, type(told.config.path))


def test_without_the_package_it_says_how_to_install_it() -> None:
    """Telemetry that is asked for and cannot be had is an error that names the extra, and leaves the file closed."""
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from llmspell_memory import DefaultMemoryManager, MemoryConfig\n"
        "config = MemoryConfig.for_testing()\n"
        "DefaultMemoryManager.with_config(config).close()\n"
        "try: DefaultMemoryManager.with_config(config.with_telemetry())\n"
        "except ImportError as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        'MissingDependencyError opentelemetry-api is not installed; run: pip install "llmspell-memory[otel]"\n'
    )


def test_it_is_never_loaded_unasked() -> None:
    """A memory that is not told of loads nothing of OpenTelemetry."""
    code = (
        "import sys\n"
        "from llmspell_memory import DefaultMemoryManager, EpisodicEntry\n"
        "with DefaultMemoryManager.new_in_memory() as manager:\n"
        "    manager.episodic.add(EpisodicEntry('s', 'user', 'x')); manager.episodic.search('x'); manager.stats()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_setting_is_a_value() -> None:
    """A configuration takes a Telemetry or nothing."""
    with pytest.raises(ConfigError, match="telemetry"):
        MemoryConfig(telemetry=True)  # type: ignore[arg-type]  # what is refused
    with pytest.raises(ConfigError, match="watch"):
        MemoryConfig(watch=0.01)  # type: ignore[arg-type]  # what is refused
    assert MemoryConfig().with_telemetry() == MemoryConfig(telemetry=Telemetry())
    assert MemoryConfig().with_watch(None).watch is None
