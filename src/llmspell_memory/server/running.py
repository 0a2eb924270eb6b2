"""Serving until told to stop."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Final

import uvicorn

from llmspell_memory.errors import ConfigError
from llmspell_memory.server.app import create_app
from llmspell_memory.server.connection import connection_class
from llmspell_memory.server.settings import ServerConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.routing import BaseRoute

    from llmspell_memory.manager import DefaultMemoryManager

logger = logging.getLogger(__name__)

_DEFAULTS: Final = ServerConfig()
_BACKLOG: Final = 2048


class Server:
    """A server that listens as soon as it is made, and serves when it is run.

    Args:
        manager: of the whole store; closed when the server ends.
        settings: where it listens, and its limits.
        routes: further ones of the application.

    Raises:
        ConfigError: the address cannot be taken, or others can reach it and the store has no API keys.
    """

    def __init__(
        self,
        manager: DefaultMemoryManager,
        settings: ServerConfig = _DEFAULTS,
        *,
        routes: Sequence[BaseRoute] = (),
    ) -> None:
        app = create_app(manager, settings, routes=routes)
        self._socket = _listening(settings)
        host, self.port = settings.host, int(self._socket.getsockname()[1])
        self.url = f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=connection_class(settings),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=settings.connections,
                timeout_graceful_shutdown=int(max(1, settings.shutdown_seconds)),
            )
        )

    def run(self, *, on_ready: Callable[[], object] | None = None) -> None:
        """Serve until `stop`, or in the main thread until SIGINT or SIGTERM; requests that were begun are answered.

        Args:
            on_ready: called before the first request is taken.
        """
        if on_ready is not None:
            on_ready()
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Have `run` end, from any thread."""
        self._server.should_exit = True

    @property
    def is_ready(self) -> bool:
        """Whether requests are answered by now."""
        return self._server.started


def _listening(settings: ServerConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named: asyncio switches Nagle's algorithm off for such sockets alone, and without that an answer
    # waits 40 ms for the other side's acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}; give another port or host"
        ) from error
    return listener
