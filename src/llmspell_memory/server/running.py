"""The HTTP server: the application, listening by its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llmspell_memory.server.app import create_app
from llmspell_memory.server.connection import connection_class
from llmspell_memory.server.settings import ServerConfig
from llmspell_memory.wire.listening import Listener

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute

    from llmspell_memory.manager import DefaultMemoryManager

_DEFAULTS: Final = ServerConfig()


class Server(Listener):
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
        super().__init__(
            create_app(manager, settings, routes=routes),
            settings.host,
            settings.port,
            http=connection_class(settings),
            limit_concurrency=settings.connections,
            timeout_graceful_shutdown=int(max(1, settings.shutdown_seconds)),
        )
