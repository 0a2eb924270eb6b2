"""A memory's figures as Prometheus reads them: the text format, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/ says how it is written and
https://prometheus.io/docs/practices/naming/ how metrics are named: base units, `_total` for counters. Served by whom,
and whether at all, is for the application to say; nothing here opens a port.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmspell_memory.types import LatencyStats, MemoryStats, RecallEstimate, RecallStats

_PREFIX: Final = "llmspell_memory_"
_PART: Final = "search."


def prometheus_text(stats: MemoryStats) -> str:
    """Return what `DefaultMemoryManager.stats` tells in Prometheus' text format.

    Sessions are not named in it: there may be any number, and each would be a time series of its own.
    """
    page = Page()
    _store(page, stats)
    _index(page, stats)
    _operations(page, stats.timings, stats.failures)
    page.metric("cache_hits_total", "counter", "Texts whose vector was found in the embedding cache.", stats.cache_hits)
    page.metric("cache_misses_total", "counter", "Texts that went to the embedding provider.", stats.cache_misses)
    if stats.recall is not None:
        _recall(page, stats.recall)
    return page.text()


def _store(page: Page, stats: MemoryStats) -> None:
    space = stats.space
    about = {
        "backend": stats.backend,
        "rows": stats.rows,
        "provider": space.provider,
        "model": space.model or "",
        "dimensions": str(space.dimensions),
        "metric": space.metric,
    }
    page.samples("info", "gauge", "What the memory is made of; always 1.", [("", about, 1)])
    page.metric("entries", "gauge", "Entries stored.", stats.entries)
    page.metric("unprocessed_entries", "gauge", "Entries not yet marked processed.", stats.unprocessed)
    page.metric("sessions", "gauge", "Distinct sessions over all namespaces.", stats.sessions)
    page.metric("namespaces", "gauge", "Distinct namespaces that hold entries.", stats.namespaces)
    page.samples(
        "namespace_entries",
        "gauge",
        "Entries of the largest namespaces; a namespace is a JSON array of its segments.",
        [
            ("", {"namespace": json.dumps(one.namespace, ensure_ascii=False)}, one.entries)
            for one in stats.largest_namespaces
        ],
    )
    page.metric("sequence_number", "gauge", "Number of the last change.", stats.seq)
    page.metric("memory_bytes", "gauge", "Bytes held in memory by the index, and by rows in RAM.", stats.memory_bytes)
    page.metric("disk_bytes", "gauge", "Bytes of the store's files.", stats.disk_bytes)


def _index(page: Page, stats: MemoryStats) -> None:
    index = stats.index
    page.metric("index_vectors", "gauge", "Vectors in the index.", index.size)
    page.metric("index_memory_bytes", "gauge", "Bytes held in memory by the index.", index.memory_bytes)
    page.metric("index_lag_changes", "gauge", "Changes that the index has yet to read.", stats.lag)
    page.metric(
        "index_built_ratio", "gauge", "Share of the index that is made; below 1 searches are exact.", index.built
    )
    if index.config is not None:
        chosen = {name: getattr(index.config, name) for name in ("m", "ef_construction", "ef_search")}
        page.samples(
            "index_parameter",
            "gauge",
            "Parameters of the HNSW index.",
            [("", {"parameter": name}, value) for name, value in chosen.items()],
        )


def _operations(page: Page, timings: Mapping[str, LatencyStats], failures: Mapping[str, int]) -> None:
    whole = {name: one for name, one in timings.items() if not name.startswith(_PART)}
    parts = {name.removeprefix(_PART): one for name, one in timings.items() if name.startswith(_PART)}
    page.histograms("operation_duration_seconds", "Duration of operations that succeeded.", "operation", whole)
    page.histograms("search_part_duration_seconds", "Duration of the parts of searches.", "part", parts)
    page.samples(
        "operation_failures_total",
        "counter",
        "Operations that raised an error.",
        [("", {"operation": name}, count) for name, count in sorted(failures.items())],
    )


def _recall(page: Page, recall: RecallStats) -> None:
    kinds: dict[str, RecallEstimate] = {"all": recall, **recall.by_filter}
    for name, told in (
        ("recall", "Estimated recall of searches, by the conditions of their filter"),
        ("low", "Where the 95 % confidence interval of the recall begins"),
        ("high", "Where the 95 % confidence interval of the recall ends"),
    ):
        metric = "recall_ratio" if name == "recall" else f"recall_{name}_ratio"
        lines = [("", {"filter": kind}, getattr(one, name)) for kind, one in kinds.items()]
        page.samples(metric, "gauge", f"{told}.", lines)
    page.metric("recall_sampled_total", "counter", "Searches chosen to be run again exactly.", recall.sampled)
    page.metric("recall_dropped_total", "counter", "Of these, searches that were not compared.", recall.dropped)
    page.metric("recall_cpu_ratio", "gauge", "Processor time spent on comparing, as a share.", recall.cpu_share)


class Page:
    """Lines of the text format, metric by metric; every name begins with `llmspell_memory_`."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def text(self) -> str:
        """Return all lines."""
        return "".join(f"{line}\n" for line in self._lines)

    def metric(self, name: str, kind: str, told: str, value: float) -> None:
        """Add a metric of one value."""
        self.samples(name, kind, told, [("", {}, value)])

    def samples(self, name: str, kind: str, told: str, lines: Iterable[tuple[str, Mapping[str, str], float]]) -> None:
        """Add a metric of several values, each with an ending of its name and labels; nothing where there is none."""
        written = [f"{_PREFIX}{name}{ending}{_labels(labels)} {_number(value)}" for ending, labels, value in lines]
        if written:
            self._lines += [f"# HELP {_PREFIX}{name} {_escaped(told)}", f"# TYPE {_PREFIX}{name} {kind}", *written]

    def histograms(self, name: str, told: str, label: str, timings: Mapping[str, LatencyStats]) -> None:
        """Add a histogram for each value of a label; nothing where there is none."""
        lines: list[tuple[str, Mapping[str, str], float]] = []
        for value, one in timings.items():
            lines += [("_bucket", {label: value, "le": repr(bound)}, count) for bound, count in one.buckets]
            lines += [("_bucket", {label: value, "le": "+Inf"}, one.count)]
            lines += [("_sum", {label: value}, one.seconds), ("_count", {label: value}, one.count)]
        self.samples(name, "histogram", told, lines)


def _labels(labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{name}="{_escaped(value, quotes=True)}"' for name, value in labels.items())
    return f"{{{inside}}}" if inside else ""


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    return repr(value) if isinstance(value, float) else str(value)
