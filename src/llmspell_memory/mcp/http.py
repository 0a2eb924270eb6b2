"""The protocol over HTTP (streamable HTTP at /mcp), for several clients at once.

Each request stands for itself, no session is kept: a server that is started anew is noticed by nobody.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import PlainTextResponse

from llmspell_memory.mcp.server import create_server
from llmspell_memory.mcp.settings import HTTPSettings
from llmspell_memory.wire.listening import Listener

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from llmspell_memory.memory import EpisodicMemory

_PATH: Final = "/mcp"
_LAST_SECONDS: Final = 5
"""How long requests that were begun may take when the server is told to end; then open streams are cut."""

_DEFAULTS: Final = HTTPSettings()


class HTTPServer(Listener):
    """A server that listens as soon as it is made, and serves when it is run.

    Args:
        memory: what it is about; must be open until `run` has returned.
        settings: where it listens, and who may ask it.

    Raises:
        ConfigError: the address cannot be taken.
    """

    def __init__(self, memory: EpisodicMemory, settings: HTTPSettings = _DEFAULTS) -> None:
        app: ASGIApp = create_server(memory).streamable_http_app(
            streamable_http_path=_PATH,
            stateless_http=True,
            json_response=True,
            host=settings.host,
            transport_security=_security(settings),
        )
        if settings.token is not None:
            app = _Gate(app, settings.token)
        super().__init__(app, settings.host, settings.port, timeout_graceful_shutdown=_LAST_SECONDS)
        self.url += _PATH


class _Gate:
    """Lets requests pass that bear the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._passes(scope):
            refusal = PlainTextResponse(
                "send the server's token: Authorization: Bearer ...\n", 401, {"WWW-Authenticate": "Bearer"}
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _passes(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)


def _security(settings: HTTPSettings) -> TransportSecuritySettings:
    """Return who may be called upon: by no other name than its own, and by no page of a browser."""
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[form for host in settings.hosts for form in (host, f"{host}:*")],
        allowed_origins=[],
    )
