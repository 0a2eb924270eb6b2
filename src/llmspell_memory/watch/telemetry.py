"""Spans and durations for OpenTelemetry: of every call to a backend, and of every call to an embedding provider.

Names are those of the semantic conventions: for database clients (stable), and for generative AI (in development; the
metric's name is that of the published version, `gen_ai.client.operation.duration`). Only `opentelemetry-api` is used:
where spans go, and whether anywhere, is for the application to say. Nothing of entries, queries or filters' values is
told, nor the messages of errors, which may quote them; nor whose namespace it was.
"""

from __future__ import annotations

from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, cast

from llmspell_memory.errors import MissingDependencyError
from llmspell_memory.watch.recall import conditions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import (
        EmbeddingSpace,
        EpisodicEntry,
        Erased,
        Filter,
        Hit,
        Query,
        SessionSummary,
        Telemetry,
        Vector,
    )

_SYSTEM: Final = "llmspell_memory"
_DATABASE_BOUNDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
_MODEL_BOUNDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Boundaries in seconds that the conventions advise."""


class Instruments:
    """A tracer, and a histogram for each kind of call.

    Args:
        telemetry: the providers; the application's global ones where it names none.
        version: of this library.
        target: name of the store's file, "" where there is none.

    Raises:
        MissingDependencyError: opentelemetry-api is not installed.
    """

    def __init__(self, telemetry: Telemetry, version: str, target: str) -> None:
        self._target = target
        try:
            from opentelemetry import metrics, trace  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise MissingDependencyError("opentelemetry-api", extra="otel") from error
        self.tracer = trace.get_tracer(_SYSTEM, version, tracer_provider=telemetry.tracer_provider)
        self._kinds, self._status = trace.SpanKind, trace.Status(trace.StatusCode.ERROR)
        meter = metrics.get_meter(_SYSTEM, version, meter_provider=telemetry.meter_provider)
        self._database = meter.create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Duration of database client operations.",
            explicit_bucket_boundaries_advisory=_DATABASE_BOUNDS,
        )
        self._model = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_MODEL_BOUNDS,
        )

    def traced(self, backend: EpisodicBackend) -> EpisodicBackend:
        """Return a backend that does what `backend` does, and tells of it."""
        return cast("EpisodicBackend", _Traced(backend, self))

    def observed(self, service: EmbeddingService) -> EmbeddingService:
        """Return a service that does what `service` does, and tells of calls to its provider."""
        return service.observed(self._model_calls(service.space))

    @contextmanager
    def database(self, operation: str, more: dict[str, Any]) -> Iterator[Any]:
        """Wrap a call to a backend; yields the span."""
        target = self._target
        attributes: dict[str, Any] = {"db.system.name": _SYSTEM, "db.operation.name": operation}
        if target:
            attributes["db.namespace"] = target
        name = f"{operation} {target}" if target else operation
        began = perf_counter()
        with self.tracer.start_as_current_span(
            name,
            kind=self._kinds.INTERNAL,  # nothing leaves the process
            attributes=attributes | more,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                attributes["error.type"] = self._failed(span, error)
                raise
            finally:
                self._database.record(perf_counter() - began, attributes)

    def _model_calls(self, space: EmbeddingSpace) -> Callable[[int], Callable[[BaseException | None], None]]:
        """Return what a service is to tell of its calls; retries are in a call's span."""
        attributes = {"gen_ai.operation.name": "embeddings", "gen_ai.provider.name": space.provider}
        if space.model is not None:
            attributes["gen_ai.request.model"] = space.model
        name = f"embeddings {space.model}" if space.model is not None else "embeddings"

        def begin(texts: int) -> Callable[[BaseException | None], None]:
            began = perf_counter()
            more: dict[str, Any] = {"gen_ai.embeddings.dimension.count": space.dimensions, f"{_SYSTEM}.texts": texts}
            span = self.tracer.start_span(name, kind=self._kinds.CLIENT, attributes=attributes | more)

            def end(error: BaseException | None) -> None:
                failed = {} if error is None else {"error.type": self._failed(span, error)}
                span.end()
                self._model.record(perf_counter() - began, attributes | failed)

            return end

        return begin

    def _failed(self, span: Any, error: BaseException) -> str:
        """Mark a span as failed and return the error's type."""
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        span.set_status(self._status)
        span.set_attribute("error.type", name)
        return name


class _Traced:
    """A backend whose verbs are told of; not a scan, which lasts as long as its reader likes. All else is passed on."""

    def __init__(self, backend: EpisodicBackend, instruments: Instruments) -> None:
        self._backend = backend
        self._instruments = instruments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def _span(
        self, operation: str, where: Filter | None, more: dict[str, int | str] | None = None
    ) -> AbstractContextManager[Any]:
        attributes: dict[str, Any] = dict(more or {})
        if where is not None:
            attributes[f"{_SYSTEM}.filter"] = conditions(where, within=self._backend.namespace)
        return self._instruments.database(operation, attributes)

    def add(
        self, entries: Sequence[EpisodicEntry], *, space: EmbeddingSpace | None = None, skip_equal: bool = False
    ) -> list[str]:
        several = len(entries) > 1  # the conventions know a batch of two and more
        more: dict[str, int | str] = {"db.operation.batch.size": len(entries)} if several else {}
        with self._span("BATCH add" if several else "add", None, more):
            return self._backend.add(entries, space=space, skip_equal=skip_equal)

    def search(
        self, vector: Vector, k: int, where: Filter, *, exact: bool = False, space: EmbeddingSpace | None = None
    ) -> list[Hit]:
        with self._span("search", where, {f"{_SYSTEM}.k": k}) as span:
            hits = self._backend.search(vector, k, where, exact=exact, space=space)
            span.set_attribute("db.response.returned_rows", len(hits))
            return hits

    def named_roles(self, words: Collection[str], where: Filter) -> list[str]:
        return self._backend.named_roles(words, where)

    def retrieve(self, query: Query, k: int, where: Filter, *, space: EmbeddingSpace | None = None) -> list[Hit]:
        more: dict[str, int | str] = {f"{_SYSTEM}.k": k, f"{_SYSTEM}.mode": query.mode}
        with self._span("retrieve", where, more) as span:
            hits = self._backend.retrieve(query, k, where, space=space)
            span.set_attribute("db.response.returned_rows", len(hits))
            return hits

    def mark_processed(self, where: Filter) -> int:
        with self._span("mark_processed", where):
            return self._backend.mark_processed(where)

    def set_expiry(self, where: Filter, expires_at: datetime | None) -> int:
        with self._span("set_expiry", where):
            return self._backend.set_expiry(where, expires_at)

    def delete(self, where: Filter) -> int:
        with self._span("delete", where):
            return self._backend.delete(where)

    def forget(self, where: Filter) -> list[Erased]:
        with self._span("forget", where):
            return self._backend.forget(where)

    def count(self, where: Filter) -> int:
        with self._span("count", where):
            return self._backend.count(where)

    def sessions(self, where: Filter) -> list[SessionSummary]:
        with self._span("sessions", where):
            return self._backend.sessions(where)
