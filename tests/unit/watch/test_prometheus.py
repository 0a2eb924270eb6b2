"""The text for Prometheus, read by its own client's parser."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, MemoryConfig, NotFoundError
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.operations import prometheus_text
from tests.unit.watch.conftest import rows, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import Metric

    from llmspell_memory.types import MemoryStats

ODD = ('a "quoted" \\ back\\slash', "two\nlines", "ünï")


def families(stats: MemoryStats) -> dict[str, Metric]:
    text = prometheus_text(stats)
    assert text.endswith("\n")
    found = list(text_string_to_metric_families(text))
    assert len({one.name for one in found}) == len(found), "a metric is written in two places"
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len({line.rpartition(" ")[0] for line in lines}) == len(lines), "a series is written twice"
    return {one.name.removeprefix("llmspell_memory_"): one for one in found}


def value(metric: Metric, **labels: str) -> float:
    (found,) = [one.value for one in metric.samples if labels.items() <= one.labels.items()]
    return float(found)


@pytest.fixture
def manager() -> DefaultMemoryManager:
    service = EmbeddingService(HashingProvider(16))
    made = DefaultMemoryManager.with_config(MemoryConfig.for_production(service))
    made.episodic.add_many([EpisodicEntry("s", "user", f"{n}", namespace=ODD) for n in range(3)])
    made.episodic.add(EpisodicEntry("s", "user", "x", namespace=("a", "b")))
    made.episodic.add(EpisodicEntry("s", "user", "x", namespace=("a/b",)))
    for _ in range(4):
        made.episodic.search("1")
    with pytest.raises(NotFoundError):
        made.episodic.get("none")
    return made


def test_it_is_what_stats_tell(manager: DefaultMemoryManager) -> None:
    """Counts, sizes and parameters are there with their types and helps."""
    stats = manager.stats()
    found = families(stats)
    assert all(one.documentation.endswith(".") or one.name.endswith("info") for one in found.values())
    assert {one.type for one in found.values()} == {"gauge", "counter", "histogram"}
    assert value(found["entries"]) == 5
    assert value(found["namespaces"]) == 3
    assert value(found["sequence_number"]) == stats.seq == 5
    assert value(found["index_lag_changes"]) == 0
    assert value(found["index_built_ratio"]) == 1
    assert value(found["index_parameter"], parameter="ef_search") == 50
    assert value(found["cache_hits"]) == stats.cache_hits
    assert found["cache_hits"].type == "counter"
    assert value(found["operation_failures"], operation="get") == 1
    assert found["info"].samples[0].labels["provider"] == "hashing"


def test_labels_are_escaped(manager: DefaultMemoryManager) -> None:
    """A namespace of quotes, backslashes and line feeds comes back as it was, and no two become one."""
    found = families(manager.stats())["namespace_entries"]
    named = {tuple(json.loads(one.labels["namespace"])): one.value for one in found.samples}
    assert named == {ODD: 3, ("a", "b"): 1, ("a/b",): 1}


def test_histograms_are_cumulative_and_in_seconds(manager: DefaultMemoryManager) -> None:
    """Buckets rise with their bounds to the count, the sum is of seconds, and whole operations and parts are apart."""
    stats = manager.stats()
    found = families(stats)
    for name, label, kinds in (
        ("operation_duration_seconds", "operation", {"add", "search", "embed"}),
        ("search_part_duration_seconds", "part", {"embed", "index", "rows"}),
    ):
        metric = found[name]
        assert metric.type == "histogram"
        assert {one.labels[label] for one in metric.samples} == kinds
        for kind in kinds:
            own = [one for one in metric.samples if one.labels[label] == kind]
            buckets = [(float(one.labels["le"]), one.value) for one in own if one.name.endswith("_bucket")]
            assert buckets == sorted(buckets)
            assert [count for _, count in buckets] == sorted(count for _, count in buckets)
            count = next(one.value for one in own if one.name.endswith("_count"))
            assert buckets[-1] == (float("inf"), count)
            timing = stats.timings[kind if label == "operation" else f"search.{kind}"]
            assert count == timing.count
            assert next(one.value for one in own if one.name.endswith("_sum")) == timing.seconds < 60


def test_recall_is_told_with_its_interval(opened: Callable[..., DefaultMemoryManager]) -> None:
    """Estimate and interval stand side by side, for all searches and for each kind of filter."""
    manager = opened()
    for query in rows(20, 1):
        manager.episodic.search(query, 10)
    wait_for(lambda: (told := manager.stats().recall) is not None and told.comparisons == 20)
    stats = manager.stats()
    assert stats.recall is not None
    found = families(stats)
    for kind in ("all", "none"):
        assert value(found["recall_ratio"], filter=kind) == stats.recall.recall
        assert value(found["recall_low_ratio"], filter=kind) == stats.recall.low
        assert value(found["recall_high_ratio"], filter=kind) == stats.recall.high
    assert value(found["recall_sampled"]) == 20


def test_an_empty_memory_has_its_page() -> None:
    """Nothing done and nothing stored is a page that can be read."""
    with DefaultMemoryManager.new_in_memory() as manager:
        found = families(manager.stats())
        assert value(found["entries"]) == 0
        assert "recall_ratio" not in found
        assert "operation_duration_seconds" not in found
