"""Configuration and opening: the names, the log lines and the errors that the guide promises."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory import (
    ConfigError,
    DefaultMemoryManager,
    EmbeddingService,
    EpisodicBackendType,
    EpisodicEntry,
    Filter,
    HNSWConfig,
    InputError,
    MemoryConfig,
    SchemaError,
)
from llmspell_memory.backends import LocalBackend
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.testing.backends import contents, fields_of
from llmspell_memory.testing.indexes import gaussian

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def service() -> EmbeddingService:
    return EmbeddingService(HashingProvider(64))


def test_three_lines_give_a_memory() -> None:
    """`new_in_memory` needs nothing, finds what was added, and is exact."""
    with DefaultMemoryManager.new_in_memory() as manager:
        manager.episodic.add(EpisodicEntry("s1", "user", "What is Rust?"))
        (hit,) = manager.episodic.search("Rust", 5)
        assert (hit.entry.content, hit.entry.processed) == ("What is Rust?", False)
        assert manager.backend_name == "InMemory"


def test_both_ways_to_production_are_the_same(service: EmbeddingService) -> None:
    """`for_production` and `new_in_memory_with_embeddings` both open HNSW and find the same."""
    texts = [f"note {n} about {'tea' if n % 2 else 'trains'}" for n in range(50)]
    found = []
    for manager in (
        DefaultMemoryManager.with_config(MemoryConfig.for_production(service)),
        DefaultMemoryManager.new_in_memory_with_embeddings(service),
    ):
        with manager:
            manager.episodic.add_many(EpisodicEntry("s", "user", text) for text in texts)
            assert manager.backend_name == manager.stats().backend == "HNSW"
            found.append([(hit.entry.content, hit.score) for hit in manager.episodic.search("tea", 7)])
    assert found[0] == found[1]


def test_testing_is_deterministic_and_sensible() -> None:
    """`for_testing` needs no service, ranks near texts first, and gives the same scores every time."""
    runs = []
    for _ in range(2):
        with DefaultMemoryManager.with_config(MemoryConfig.for_testing()) as manager:
            for text in ("the cat sat on the mat", "stock prices fell sharply", "a cat on a mat"):
                manager.episodic.add(EpisodicEntry("s", "user", text))
            runs.append([(hit.entry.content, hit.score) for hit in manager.episodic.search("cats on mats", 3)])
            assert manager.backend_name == "InMemory"
    assert runs[0] == runs[1]
    assert runs[0][-1][0] == "stock prices fell sharply"


def test_hnsw_without_a_service_is_refused_on_opening(service: EmbeddingService) -> None:
    """The configuration can be built, opening it says what is missing and how to mend it, and the mend works."""
    config = MemoryConfig().with_backend(EpisodicBackendType.HNSW)
    with pytest.raises(ConfigError, match=r"HNSW backend requires embedding service.*for_production"):
        DefaultMemoryManager.with_config(config)
    with DefaultMemoryManager.with_config(config.with_service(service)) as manager:
        assert manager.backend_name == "HNSW"


def test_the_guides_log_lines_appear(service: EmbeddingService, caplog: pytest.LogCaptureFixture) -> None:
    """Opening HNSW logs the backend, the service with its dimensions, and the parameters in force."""
    config = MemoryConfig.for_production(service).with_hnsw_config(HNSWConfig(m=32, ef_construction=400, ef_search=100))
    with caplog.at_level(logging.INFO, logger="llmspell_memory"), DefaultMemoryManager.with_config(config):
        assert [record.getMessage() for record in caplog.records] == [
            "Creating HNSW episodic backend (production mode)",
            "HNSW backend using embedding service: hashing, dimensions: 64",
            "HNSW parameters: m=32, ef_construction=400, ef_search=100",
        ]


def test_a_configuration_is_a_value(service: EmbeddingService, tmp_path: Path) -> None:
    """`with_*` leaves the original as it was, and nothing can be changed in place."""
    base = MemoryConfig.for_production(service)
    changed = base.with_hnsw_config(HNSWConfig.fast()).with_path(tmp_path / "x.db").with_warm(False)
    assert (base.hnsw, base.path, base.warm) == (HNSWConfig(), None, True)
    assert (changed.hnsw, changed.path, changed.warm) == (HNSWConfig.fast(), tmp_path / "x.db", False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        base.hnsw = HNSWConfig.fast()  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong",
    [{"backend": "HNSW"}, {"service": HashingProvider(8)}, {"hnsw": {"m": 16}}, {"path": 3}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_wrong_settings_are_refused_on_construction(wrong: dict[str, Any]) -> None:
    """A value of the wrong kind is a ConfigError that names the setting."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        MemoryConfig(**wrong)


def test_switching_the_view_of_a_file_loses_nothing(service: EmbeddingService, tmp_path: Path) -> None:
    """InMemory to HNSW and back on one file: every field and vector equal, every entry found."""
    path = tmp_path / "memory.db"
    exact = MemoryConfig(service=service, path=path)
    vectors = gaussian(40, 64)
    with DefaultMemoryManager.with_config(exact) as manager:
        manager.episodic.add_many(
            EpisodicEntry(f"s{n % 3}", "user", f"text {n}", metadata={"n": [n]}, embedding=vector, namespace=("a",))
            for n, vector in enumerate(vectors)
        )
        manager.episodic.mark_processed([manager.episodic.get_session("s1")[0].id])
        before = [fields_of(one) for one in manager.episodic.scan()]
    for config, name in ((exact.with_backend(EpisodicBackendType.HNSW), "HNSW"), (exact, "InMemory")):
        with DefaultMemoryManager.with_config(config) as manager:
            assert manager.backend_name == name
            assert [fields_of(one) for one in manager.episodic.scan()] == before
            for n, vector in enumerate(vectors):
                assert contents(manager.episodic.search(vector, 1)) == [f"text {n}"]


def test_a_file_refuses_another_embedding_space(service: EmbeddingService, tmp_path: Path) -> None:
    """Opening a file with another model is a SchemaError that names both spaces and the way out; the file is unhurt."""
    config = MemoryConfig.for_production(service, path=tmp_path / "memory.db")
    with DefaultMemoryManager.with_config(config) as manager:
        manager.episodic.add(EpisodicEntry("s", "user", "x"))
    with pytest.raises(SchemaError, match=r"hashing.*64 dimensions.*hashing.*32 dimensions.*reembed"):
        DefaultMemoryManager.with_config(config.with_service(EmbeddingService(HashingProvider(32))))
    with DefaultMemoryManager.with_config(config) as manager:
        assert manager.episodic.count() == 1


def test_a_cold_opening_builds_the_index_at_the_first_search(service: EmbeddingService, tmp_path: Path) -> None:
    """With warm=False opening and adding leave the index empty; the first search finds everything."""
    config = MemoryConfig.for_production(service, path=tmp_path / "memory.db").with_warm(False)
    with DefaultMemoryManager.with_config(config) as manager:
        manager.episodic.add_many(EpisodicEntry("s", "user", f"text {n}") for n in range(20))
        assert manager.stats().index.size == 0
        assert len(manager.episodic.search("text", 20)) == 20
        assert manager.stats().index.size == 20


def test_a_backend_of_ones_own_can_be_given(service: EmbeddingService) -> None:
    """Any object with the verbs of a backend serves; the manager closes it."""

    class Counting(LocalBackend):
        closed = 0

        def close(self) -> None:
            self.closed += 1
            super().close()

    backend = Counting(service.space)
    with DefaultMemoryManager(backend, service) as manager:
        manager.episodic.add(EpisodicEntry("s", "user", "x"))
        assert manager.backend is backend
    assert backend.closed == 1


@pytest.mark.parametrize("path", [None, "memory.db"])
def test_a_vector_no_index_takes_is_not_stored(path: str | None, tmp_path: Path) -> None:
    """A vector too long to compare under the metric is refused before its row is kept, so the store still opens."""
    service = EmbeddingService(HashingProvider(8), metric="inner_product")
    config = MemoryConfig.for_production(service, path=path and tmp_path / path)
    with DefaultMemoryManager.with_config(config) as manager:
        manager.episodic.add(EpisodicEntry("s", "user", "fine"))
        with pytest.raises(InputError, match="length"):
            manager.episodic.add(EpisodicEntry("s", "user", "huge", embedding=np.full(8, 1e20)))
        assert contents(manager.episodic.search("fine", 5)) == ["fine"]
    if path:
        with DefaultMemoryManager.with_config(config) as manager:
            assert manager.episodic.count() == 1


def test_a_service_must_fit_its_backend(service: EmbeddingService) -> None:
    """A backend of one embedding space and a service of another are refused together."""
    with pytest.raises(SchemaError, match=r"64 dimensions.*32 dimensions"):
        DefaultMemoryManager(LocalBackend(service.space), EmbeddingService(HashingProvider(32)))


def test_reads_go_on_while_the_index_is_rebuilt(service: EmbeddingService, tmp_path: Path) -> None:
    """While a rebuild runs, searches answer from the old index and writes are not lost to the new one."""
    import threading  # noqa: PLC0415

    vectors = gaussian(3000, 64)
    config = MemoryConfig.for_production(service, path=tmp_path / "memory.db")
    with DefaultMemoryManager.with_config(config) as manager:
        memory = manager.episodic
        memory.add_many(EpisodicEntry("s", "user", f"{n}", embedding=vector) for n, vector in enumerate(vectors[:2900]))
        rebuild = threading.Thread(target=manager.rebuild, kwargs={"m": 8, "ef_construction": 400})
        rebuild.start()
        during = 0
        for n in range(2900, 3000):
            memory.add(EpisodicEntry("s", "user", f"{n}", embedding=vectors[n]))
            assert contents(memory.search(vectors[n], 1)) == [f"{n}"]
            during += rebuild.is_alive()
        rebuild.join()
        assert during > 0, "the rebuild was over before anything happened beside it"
        assert manager.stats().index.config == HNSWConfig(m=8, ef_construction=400)
        assert manager.stats().index.size == 3000
        for n in range(2900, 3000):
            assert contents(memory.search(vectors[n], 1)) == [f"{n}"]


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "euclidean"])
@pytest.mark.parametrize("backend", [EpisodicBackendType.IN_MEMORY, EpisodicBackendType.HNSW])
def test_every_metric_works_end_to_end(metric: Any, backend: EpisodicBackendType, tmp_path: Path) -> None:
    """The metric of the service decides order and scores, and is recorded in the file."""
    service = EmbeddingService(HashingProvider(16), metric=metric)
    vectors = gaussian(30, 16) * np.linspace(0.2, 3, 30, dtype=np.float32)[:, None]
    config = MemoryConfig(service=service, backend=backend, path=tmp_path / "memory.db")
    with DefaultMemoryManager.with_config(config) as manager:
        manager.episodic.add_many(
            EpisodicEntry("s", "user", f"{n}", embedding=vector) for n, vector in enumerate(vectors)
        )
        best = {
            "cosine": np.argmax(vectors @ vectors[3] / np.linalg.norm(vectors, axis=1)),
            "inner_product": np.argmax(vectors @ vectors[3]),
            "euclidean": np.argmin(np.linalg.norm(vectors - vectors[3], axis=1)),
        }[metric]
        assert contents(manager.episodic.search(vectors[3], 1, where=Filter(session_id="s"))) == [f"{best}"]
        assert manager.stats().space.metric == metric
