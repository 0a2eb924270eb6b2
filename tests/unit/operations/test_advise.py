"""Advice on when HNSW pays: measured figures, sensible words at every size, and nothing changed by asking."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
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
    HNSWConfig,
    InputError,
    MemoryConfig,
)
from llmspell_memory.backends import LocalBackend
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.operations import AdvicePoint
from llmspell_memory.operations.tuning.advising import _Findings

if TYPE_CHECKING:
    from pathlib import Path

    from llmspell_memory.types import Matrix

LOCAL = [EpisodicBackendType.IN_MEMORY, EpisodicBackendType.HNSW]

WIDTH = 96
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def service() -> EmbeddingService:
    return EmbeddingService(HashingProvider(WIDTH))


def clustered(count: int) -> Matrix:
    random = np.random.default_rng(count)
    bends = random.standard_normal((24, WIDTH))
    coarse = random.standard_normal((40, 24)) * 2
    return ((coarse[random.integers(0, 40, count)] + random.standard_normal((count, 24))) @ bends).astype(np.float32)


def fill(manager: DefaultMemoryManager, count: int, *, learned: Any = lambda _: NOW) -> None:
    manager.episodic.add_many(
        EpisodicEntry("s", "user", f"text {n}", id=f"{n}", embedding=vector, ingestion_time=learned(n))
        for n, vector in enumerate(clustered(count))
    )


def point(entries: int, exact: float, hnsw: float | None) -> AdvicePoint:
    return AdvicePoint(
        entries=entries, exact_p50_us=exact, exact_p95_us=exact, hnsw_p50_us=hnsw, hnsw_p95_us=hnsw, recall=0.99
    )


@pytest.mark.parametrize("view", LOCAL)
def test_measured_on_the_memory_itself(service: EmbeddingService, view: EpisodicBackendType, tmp_path: Path) -> None:
    """Both views are timed at growing sizes up to the present one; recall, memory and the verdict are of these."""
    config = MemoryConfig(service=service, backend=view, path=tmp_path / "memory.db")
    with DefaultMemoryManager.with_config(config) as manager:
        fill(manager, 16_000)
        before = manager.stats()
        found = manager.advise()
        after = manager.stats()
    assert (found.entries, found.view, found.hnsw) == (16_000, before.index.kind, HNSWConfig())
    assert [one.entries for one in found.points] == [250, 1_000, 4_000, 16_000]
    first, last = found.points[0], found.points[-1]
    assert last.exact_p50_us > 2 * first.exact_p50_us
    assert last.hnsw_p50_us is not None
    assert last.exact_p50_us > last.hnsw_p50_us
    assert last.recall is not None
    assert 0.9 < last.recall <= 1
    assert (found.exact_p50_us, found.hnsw_p50_us, found.recall) == (last.exact_p50_us, last.hnsw_p50_us, last.recall)
    assert not found.estimated
    assert found.pays == (last.exact_p50_us >= 2 * last.hnsw_p50_us)
    assert found.exact_bytes is not None
    assert found.hnsw_bytes is not None
    assert found.hnsw_bytes > found.exact_bytes > 4 * WIDTH
    assert after.index == before.index
    assert after.seq == before.seq


def test_the_crossover_lies_where_the_lines_say() -> None:
    """With exact times of 10 + n/100 and HNSW times of 4 ln n, it is where the one is twice the other."""
    points = [point(n, 10 + n / 100, 4 * np.log(n)) for n in (1_000, 4_000, 16_000)]
    findings = _Findings(16_000, (), points)
    crossover = findings.crossover()
    assert crossover is not None
    assert 10 + crossover / 100 == pytest.approx(8 * np.log(crossover), rel=0.02)
    assert findings.pays
    assert not _Findings(4_000, (), points[:2]).estimated


def test_what_was_not_measured_is_estimated_from_the_lines() -> None:
    """Beyond the largest part, HNSW's time follows its curve, and the advice says that it was not measured."""
    points = [*(point(n, n / 100, 5 * np.log(n)) for n in (1_000, 4_000, 16_000)), point(1_000_000, 10_000, None)]
    findings = _Findings(1_000_000, (), points)
    assert findings.estimated
    assert findings.exact_now == 10_000
    assert findings.hnsw_now == pytest.approx(5 * np.log(1_000_000), rel=0.01)


def test_an_exact_search_that_stays_quick_never_crosses() -> None:
    """Where exact times do not grow, there is no number of entries from which HNSW pays."""
    findings = _Findings(16_000, (), [point(n, 10, 8) for n in (1_000, 4_000, 16_000)])
    assert findings.crossover() is None
    assert findings.pays is False


@pytest.mark.parametrize("view", LOCAL)
@pytest.mark.parametrize("count", [0, 1, 2, 50, 999])
def test_small_memories(service: EmbeddingService, count: int, view: EpisodicBackendType) -> None:
    """So few entries are searched exactly in either view: that is the advice, in one line, without a number made up."""
    hnsw = HNSWConfig() if view is EpisodicBackendType.HNSW else None
    with DefaultMemoryManager(LocalBackend(service.space, hnsw=hnsw), service) as manager:
        fill(manager, count)
        found = manager.advise()
    assert (found.entries, found.pays, found.crossover) == (count, None, None)
    assert "either view will do" in found.verdict
    assert "\n" not in found.verdict
    assert (found.exact_p50_us is None) == (count == 0)
    assert found.table().splitlines()[-1] == found.verdict


def test_growth_is_told_from_when_entries_were_learned(service: EmbeddingService) -> None:
    """The pace is that of the last 30 days; what came on the first day, as an import does, is no growth."""
    with DefaultMemoryManager(LocalBackend(service.space), service) as manager:
        fill(manager, 1_000, learned=lambda _: NOW - timedelta(days=20))
        assert manager.advise().entries_per_day == 0
        manager.episodic.add_many(
            EpisodicEntry("t", "user", f"{n}", ingestion_time=NOW - timedelta(days=19) + timedelta(days=19) * n / 380)
            for n in range(1, 380)
        )
        assert manager.advise().entries_per_day == pytest.approx(20, rel=0.05)


def test_entries_of_one_day_tell_no_pace(service: EmbeddingService) -> None:
    """Where all came within a day there is no pace, and no day foretold."""
    with DefaultMemoryManager(LocalBackend(service.space), service) as manager:
        fill(manager, 300)
        found = manager.advise()
    assert (found.entries_per_day, found.days) == (None, None)


def test_verdicts(service: EmbeddingService) -> None:
    """Whether it pays, is in use, costs memory, or would pay later, is said in words that fit the numbers."""
    with DefaultMemoryManager(LocalBackend(service.space), service) as manager:
        found = manager.advise()
    base = dataclasses.replace(
        found,
        entries=100_000,
        exact_p50_us=1_000.0,
        hnsw_p50_us=30.0,
        recall=0.99,
        pays=True,
        crossover=1_823,
        exact_bytes=1_700,
        hnsw_bytes=1_900,
        build_seconds=12.0,
    )
    assert base.verdict == (
        "HNSW pays: at 100,000 entries an exact search takes 1,000 µs and one by HNSW 30 µs, at recall@10 0.990; "
        "it takes 19.1 MiB more memory, and some 12.0 s to build"
    )
    assert "HNSW pays and is in use" in dataclasses.replace(base, view="hnsw").verdict
    later = dataclasses.replace(base, entries=1_200, pays=False, entries_per_day=50.0, days=12.46)
    assert later.verdict.endswith(
        "; HNSW is twice as quick from about 1,800 entries on, in 13 days at 50 entries a day"
    )
    assert later.verdict.startswith("exact search is enough: ")
    assert "about 30 µs, at recall@10 about 0.990" in dataclasses.replace(base, estimated=True).verdict


def test_wrong_arguments_and_scopes(service: EmbeddingService) -> None:
    """A scope shares its index and is refused; k must be a number of hits."""
    with DefaultMemoryManager(LocalBackend(service.space), service) as manager:
        with pytest.raises(ConfigError, match="scope"):
            manager.scoped("acme").advise()
        for wrong in (0, -1, 2.5, "10", True):
            with pytest.raises(InputError, match="k must be"):
                manager.advise(k=wrong)  # type: ignore[arg-type]


def test_the_same_from_asyncio(service: EmbeddingService) -> None:
    """Awaited, it gives the same kind of answer."""

    async def use() -> None:
        async with await AsyncMemoryManager.new_in_memory_with_embeddings(service) as manager:
            await manager.episodic.add(EpisodicEntry("s", "user", "x"))
            assert (await manager.advise(k=3)).entries == 1

    asyncio.run(use())
