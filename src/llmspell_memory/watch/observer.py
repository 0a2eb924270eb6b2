"""What the words of memory report to while they work; written so that a search pays some hundred nanoseconds for it."""

from __future__ import annotations

from contextlib import contextmanager
from time import perf_counter_ns
from typing import TYPE_CHECKING

from llmspell_memory.watch.operations import Operations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.types import EmbeddingSpace, Filter, Vector
    from llmspell_memory.watch.recall import LiveRecall
    from llmspell_memory.watch.telemetry import Instruments


class Observer:
    """Times the operations of one memory, and lets its recall be estimated.

    Args:
        recall: takes searches to be compared; None where none are.
        instruments: tell OpenTelemetry; None where nothing is to be told.
        outer: of the memory that this one is a scope of; it learns of everything here, and this one of nothing there.
    """

    def __init__(
        self,
        recall: LiveRecall | None = None,
        *,
        instruments: Instruments | None = None,
        outer: Observer | None = None,
    ) -> None:
        self.operations: Operations = Operations(None if outer is None else outer.operations)
        self.recall = recall
        self.instruments = instruments
        self._told: dict[EmbeddingSpace, tuple[EmbeddingService, EmbeddingService]] = {}
        self._record_search = self.operations["search"].record

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Time what is done inside as one operation, and count it as failed where that raises an error."""
        began = perf_counter_ns()
        try:
            yield
        except BaseException:
            self.operations.failed(name)
            raise
        self.operations[name].record(perf_counter_ns() - began)

    def took(self, name: str, began: int) -> None:
        """Record that something begun at `began` (perf_counter_ns) is done."""
        self.operations[name].record(perf_counter_ns() - began)

    def searched(self, began: int, vector: Vector | None, k: int, where: Filter) -> None:
        """Record a search that was begun at `began` and answered; now and then, have its vector's compared."""
        self._record_search(perf_counter_ns() - began)
        if (recall := self.recall) is not None and vector is not None:
            recall.left -= 1
            if recall.left <= 0:
                recall.sample(vector, k, where)

    def scoped(self, namespace: tuple[str, ...]) -> Observer:
        """Return one for a scope."""
        recall = None if self.recall is None else self.recall.scoped(namespace)
        return Observer(recall, instruments=self.instruments, outer=self)

    def told(self, service: EmbeddingService) -> EmbeddingService:
        """Return `service`, or the same telling OpenTelemetry of its calls."""
        if self.instruments is None:
            return service
        known = self._told.get(service.space)
        if known is None or known[0] is not service:  # another service may have come for a space
            known = self._told[service.space] = service, self.instruments.observed(service)
        return known[1]
