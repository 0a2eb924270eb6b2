"""The ASGI application: routes, what every one of them does first, and how errors are told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from llmspell_memory.aio import AsyncMemoryManager
from llmspell_memory.errors import EmbeddingError, EpisodicError, StorageError, UnavailableError
from llmspell_memory.server.call import Call, Work, answer, body_of, fields_of
from llmspell_memory.server.gate import Gate
from llmspell_memory.server.metrics import MEDIA_TYPE, metrics_text
from llmspell_memory.server.openapi import document
from llmspell_memory.server.operations import LOOKS, VERBS, WORDS
from llmspell_memory.server.page.files import page_routes
from llmspell_memory.server.refusal import Refusal
from llmspell_memory.server.repeats import Answer, Repeats, checked_key
from llmspell_memory.server.settings import ServerConfig
from llmspell_memory.server.traffic import Desk, Traffic
from llmspell_memory.types import Filter, Query
from llmspell_memory.wire.problems import CONTENT_TYPE, problem, problem_of, written

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    from llmspell_memory.manager import DefaultMemoryManager
    from llmspell_memory.server.gate import Caller, Need
    from llmspell_memory.server.operations import Operation

logger = logging.getLogger(__name__)

_DEFAULTS: Final = ServerConfig()
_SOON: Final = {"Retry-After": "1"}


def create_app(
    manager: DefaultMemoryManager, settings: ServerConfig = _DEFAULTS, *, routes: Sequence[BaseRoute] = ()
) -> ASGIApp:
    """Return the application that serves a memory; when it shuts down, writes are finished and the memory is closed.

    Args:
        manager: of the whole store.
        settings: where it will listen, and limits.
        routes: further ones; `request.app.state.service` is the `Service` behind all.

    Raises:
        ConfigError: others could reach it, and the store has no API keys.
    """
    service = Service(manager, settings)
    by_path: dict[str, dict[str, Operation]] = {}
    for one in (*WORDS, *VERBS, *LOOKS):
        by_path.setdefault(one.path, {})[one.method] = one
    own: list[BaseRoute] = [
        Route(path.replace("{id}", "{id:path}"), partial(service.handle, by_method), methods=list(by_method))
        for path, by_method in by_path.items()
    ]
    own += [
        Route("/healthz", service.health, methods=["GET"]),
        Route("/readyz", service.ready, methods=["GET"]),
        Route("/metrics", service.metrics, methods=["GET"]),
        Route("/openapi.json", service.openapi, methods=["GET"]),
        *page_routes(),
    ]
    app = Starlette(
        routes=[*own, *routes],
        lifespan=service.lifespan,
        exception_handlers=_HANDLERS,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return Desk(app, traffic=service.traffic, send_seconds=settings.send_seconds)


class Service:
    """What stands behind the routes: the memory, who may use it, and what is under way."""

    def __init__(self, manager: DefaultMemoryManager, settings: ServerConfig) -> None:
        self.settings = settings
        self.manager = AsyncMemoryManager.from_sync(manager)
        self.gate = Gate(manager.backend, settings)
        self.traffic = Traffic()
        self._work = Work()
        self._repeats = Repeats()
        self._scopes: dict[tuple[str, ...], AsyncMemoryManager] = {(): self.manager}
        self._document = document(settings, manager.backend.space.dimensions)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Begin with the index in memory, and end with all writes done."""
        del app
        await asyncio.to_thread(self._warm)
        refreshing = asyncio.create_task(self._refresh())
        try:
            yield
        finally:
            refreshing.cancel()
            await self._work.finish()
            await self.manager.close()

    def _warm(self) -> None:
        """Search once, so that no request waits for the index to be read or built."""
        vector = np.zeros(self.manager.backend.space.dimensions, np.float32)
        vector[0] = 1.0
        self.manager.backend.retrieve(Query(text="memory", vector=vector), 1, Filter())

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(self.settings.refresh_seconds)
            await asyncio.to_thread(self.gate.refresh)

    def scope(self, caller: Caller) -> AsyncMemoryManager:
        """Return the memory that a caller sees."""
        if caller.root not in self._scopes:
            self._scopes[caller.root] = self.manager.scoped(*caller.root)
        return self._scopes[caller.root]

    def admit(self, request: Request, need: Need, route: str) -> Caller:
        """Return who asks, and note it for the log; raises a Refusal where they may not."""
        request.scope["llmspell"]["route"] = route
        caller = self.gate.admit(request, need)
        request.scope["llmspell"]["key"] = caller.id
        return caller

    async def handle(self, by_method: dict[str, Operation], request: Request) -> Response:
        """Do the operation that a method means."""
        one = by_method["GET" if request.method == "HEAD" else request.method]
        caller = self.admit(request, one.need, one.path)
        call = Call(request, caller, self.scope(caller), self._work, self.settings, {})
        if not one.takes_body:
            return await one.run(call)
        body = await body_of(request, self.settings)
        call.fields = fields_of(body)
        given = request.headers.get("idempotency-key")
        if given is None or not one.repeats:
            return await one.run(call)
        call.idempotency_key = checked_key(given)

        async def do() -> Answer:
            response = await one.run(call)
            return Answer(response.status_code, bytes(response.body))

        done, before = await self._repeats.once(caller.id, call.idempotency_key, one.name.encode() + b"\0" + body, do)
        headers = {"Idempotency-Replayed": "true"} if before else None
        return Response(done.body, done.status, headers, "application/json")

    async def health(self, request: Request) -> Response:
        """Say that the process runs."""
        request.scope["llmspell"]["route"] = "/healthz"
        return answer({"status": "alive"})

    async def ready(self, request: Request) -> Response:
        """Say whether the store answers."""
        request.scope["llmspell"]["route"] = "/readyz"
        try:
            await asyncio.to_thread(self.manager.backend.read_note, "ready")
        except StorageError as error:
            raise UnavailableError(f"the store does not answer: {error}") from error
        return answer({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """Return figures for Prometheus."""
        caller = self.admit(request, "read", "/metrics")
        if caller.root:
            raise Refusal(403, "metrics are of the whole store, and so must the API key be", name="ConfigError")
        return Response(metrics_text(await self.manager.stats(), self.traffic), media_type=MEDIA_TYPE)

    async def openapi(self, request: Request) -> Response:
        """Return the OpenAPI document."""
        request.scope["llmspell"]["route"] = "/openapi.json"
        return JSONResponse(self._document)


def _problem(told: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(written(told), told["status"], headers, CONTENT_TYPE)


async def _refused(request: Request, error: Refusal) -> Response:
    del request
    return _problem(problem(error.status, error.detail, name=error.name), error.headers)


async def _failed(request: Request, error: EpisodicError) -> Response:
    told = problem_of(error)
    if told["status"] >= 500:  # noqa: PLR2004 (HTTP's)
        logger.warning("%s: %s", request.scope["llmspell"].get("route"), type(error).__name__, exc_info=error)
    retryable = told["status"] == 503 or (isinstance(error, EmbeddingError) and error.retryable)  # noqa: PLR2004
    return _problem(told, _SOON if retryable else None)


async def _unrouted(request: Request, error: HTTPException) -> Response:
    detail = f"{request.method} is not for this path" if error.status_code == 405 else "there is nothing at this path"  # noqa: PLR2004 (HTTP's)
    return _problem(problem(error.status_code, detail), dict(error.headers or {}))


async def _unexpected(request: Request, error: Exception) -> Response:
    del request, error  # Starlette raises it again, and uvicorn logs it
    return _problem(problem(500, "an error that nobody expected; the server's log has it"))


_HANDLERS: Final[dict[Any, Any]] = {  # each takes errors of its class
    Refusal: _refused,
    EpisodicError: _failed,
    HTTPException: _unrouted,
    Exception: _unexpected,
}
