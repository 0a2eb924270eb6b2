"""Listening, and serving until told to stop; needs uvicorn."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from llmspell_memory.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

_BACKLOG: Final = 2048

_ALONE: Final = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
"""Take a port that was in use a moment ago, and none that is in use. Windows has its own option for that; the other one
would let two servers share a port there, and either get the other's requests."""


class Listener:
    """A server that listens as soon as it is made, and serves when it is run.

    Args:
        app: what answers.
        host: the address.
        port: 0 for any that is free.
        options: further ones of uvicorn's.

    Raises:
        ConfigError: the address cannot be taken.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, **options: Any) -> None:
        self._socket = _listening(host, port)
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                **options,
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


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named: asyncio switches Nagle's algorithm off for such sockets alone, and without that an answer
    # waits 40 ms for the other side's acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, _ALONE, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; give another port or host"
        ) from error
    return listener
