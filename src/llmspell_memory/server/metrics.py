"""The server's own figures beside those of the memory, as Prometheus reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.operations.prometheus import Page, prometheus_text

if TYPE_CHECKING:
    from llmspell_memory.server.traffic import Traffic
    from llmspell_memory.types import MemoryStats

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(stats: MemoryStats, traffic: Traffic) -> str:
    """Return both in Prometheus' text format; requests are told by their routes, never by what they were about."""
    page = Page()
    page.metric("http_requests_under_way", "gauge", "Requests that are being answered.", traffic.under_way)
    page.samples(
        "http_requests_total",
        "counter",
        "Requests that were answered.",
        [
            ("", {"method": method, "route": route, "status": str(status)}, count)
            for (method, route, status), count in sorted(traffic.counts().items())
        ],
    )
    page.histograms("http_request_duration_seconds", "Duration of requests.", "route", traffic.durations())
    return prometheus_text(stats) + page.text()
