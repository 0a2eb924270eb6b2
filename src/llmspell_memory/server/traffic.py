"""What every request passes, whatever it asks: an id, a clock, a line in the log, a count; no content in any."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.types.histogram import Histogram

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from llmspell_memory.types import LatencyStats

logger = logging.getLogger(__name__)
access: Final = logging.getLogger("llmspell_memory.server.access")
_NONE: Final = "(none)"
"""The route of what is no route of ours: a path may hold anything, and the log shall not."""


class _NobodyReadsError(Exception):
    """The other side takes in nothing."""


class Traffic:
    """Counts and durations of requests by route."""

    def __init__(self) -> None:
        self._durations: dict[str, Histogram] = {}
        self._counts: dict[tuple[str, str, int], int] = {}
        self.under_way = 0

    def record(self, method: str, route: str, status: int, ns: int) -> None:
        """Count an answered request."""
        self._durations.setdefault(route, Histogram()).record(ns)
        self._counts[method, route, status] = self._counts.get((method, route, status), 0) + 1

    def counts(self) -> dict[tuple[str, str, int], int]:
        """Return how many requests were answered, by method, route and status."""
        return dict(self._counts)

    def durations(self) -> dict[str, LatencyStats]:
        """Return how long they took, by route."""
        return {route: one.snapshot() for route, one in sorted(self._durations.items())}


class Desk:
    """An ASGI application around another, which it watches.

    Args:
        app: the application.
        traffic: is told of each request.
        send_seconds: how long the reader of an answer may take in nothing, before it is left.
    """

    def __init__(self, app: ASGIApp, *, traffic: Traffic, send_seconds: float) -> None:
        self._app = app
        self._traffic = traffic
        self._send_seconds = send_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; what is none is handed on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen: dict[str, Any] = {"status": 0, "bytes": 0}
        given = {name for name, value in scope["headers"] if value != b"0"}
        unread = b"content-length" in given or b"transfer-encoding" in given
        request_id = secrets.token_hex(8)
        scope["llmspell"] = seen

        async def heard() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and message.get("more_body", False)
            return message

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                # The rest of a body that nobody reads would come as slowly as it likes, so there is no next request.
                closing = [(b"connection", b"close")] if unread else []
                headers = [one for one in message.get("headers", ()) if not closing or one[0] != b"connection"]
                message["headers"] = [*headers, *closing, (b"x-request-id", request_id.encode())]
            else:
                seen["bytes"] += len(message.get("body", b""))
            try:
                async with asyncio.timeout(self._send_seconds):
                    await send(message)
            except TimeoutError as error:
                raise _NobodyReadsError from error

        began = time.perf_counter_ns()
        self._traffic.under_way += 1
        try:
            await self._app(scope, heard, told)
        except _NobodyReadsError:
            logger.info("nobody read an answer of %s; it was given up", seen.get("route", _NONE))
        finally:
            self._traffic.under_way -= 1
            self._told(scope, seen, request_id, time.perf_counter_ns() - began)

    def _told(self, scope: Scope, seen: dict[str, Any], request_id: str, ns: int) -> None:
        method, route = scope["method"], seen.get("route", _NONE)
        self._traffic.record(method, route, seen["status"], ns)
        if access.isEnabledFor(logging.INFO):
            line = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "request": request_id,
                "key": seen.get("key"),
                "method": method,
                "route": route,
                "status": seen["status"],
                "ms": round(ns / 1e6, 3),
                "bytes": seen["bytes"],
            }
            access.info("%s", json.dumps(line))
