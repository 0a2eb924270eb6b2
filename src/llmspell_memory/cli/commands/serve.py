"""`serve`: the memory behind HTTP."""

import logging
import sys
from typing import Annotated

import typer

from llmspell_memory.cli.opening import open_to_search, open_to_tune, open_to_write
from llmspell_memory.cli.options import View, settings_of
from llmspell_memory.cli.settings import Settings
from llmspell_memory.manager import DefaultMemoryManager
from llmspell_memory.operations.keys import read_keys
from llmspell_memory.server.settings import ServerConfig

_DEFAULT = ServerConfig()


def serve(
    ctx: typer.Context,
    *,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; another than this machine needs keys.")
    ] = _DEFAULT.host,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65_535, help="0 for any that is free.")
    ] = _DEFAULT.port,
    view: Annotated[View | None, typer.Option("--view", help="What answers searches; an index unless given.")] = None,
    rate: Annotated[
        float, typer.Option("--rate", metavar="N", min=0.0, help="Requests a second for each key; 0 for any number.")
    ] = _DEFAULT.rate or 0.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log no requests.")] = False,
) -> None:
    """Serve the store over HTTP until interrupted; requests that were begun are answered first.

    Without API keys (`keys add`), only this machine can ask. The log goes to stderr, a JSON object for each request,
    without what it says. The interface is described at /openapi.json.
    """
    from llmspell_memory.server import Server  # noqa: PLC0415 (its packages are optional)

    settings = ServerConfig(host=host, port=port, rate=rate or None)
    _log(requests=not quiet)
    manager = _opened(settings_of(ctx), view)
    try:
        server = Server(manager, settings)
        keys = len(read_keys(manager.backend))
    except BaseException:
        manager.close()
        raise
    told = f"{keys} API {'key' if keys == 1 else 'keys'}" if keys else "no API keys: open to this machine"
    server.run(on_ready=lambda: typer.echo(f"serving on {server.url} ({told})", err=True))


def _opened(settings: Settings, view: View | None) -> DefaultMemoryManager:
    """Open the store, made where there is none; one that a server keeps has its index anyway."""
    if not settings.db.exists():
        made = open_to_write(settings)
        if settings.db.path is None:
            return made
        made.close()
    if settings.db.path is not None and view is not View.EXACT:
        return open_to_tune(settings, embeds=True)
    wanted = None if view is None else view is View.HNSW
    return open_to_search(settings, hnsw=settings.db.parameters(hnsw=wanted))


def _log(*, requests: bool) -> None:
    """Have requests logged as they are, and all else that may matter."""
    logger = logging.getLogger("llmspell_memory.server.access")
    handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if requests else logging.WARNING)
    logger.propagate = False
