"""`mcp`: the memory as tools for a language model."""

import contextlib
import logging
import os
import signal
import sys
from typing import Annotated, Final

import typer

from llmspell_memory.cli.opening import open_to_search, open_to_write
from llmspell_memory.cli.options import View, is_hnsw, settings_of
from llmspell_memory.cli.settings import Settings
from llmspell_memory.manager import DefaultMemoryManager
from llmspell_memory.mcp.settings import HTTPSettings

_TOKEN: Final = "LLMSPELL_MEMORY_MCP_TOKEN"  # noqa: S105 (the name of a variable)
_DEFAULTS: Final = HTTPSettings()


def mcp(
    ctx: typer.Context,
    *,
    namespace: Annotated[
        list[str] | None,
        typer.Option("--namespace", metavar="SEGMENT", help="Show this namespace alone; once for each segment."),
    ] = None,
    index: Annotated[
        View | None,
        typer.Option("--index", help="What answers searches. Unless given, a file is searched exactly."),
    ] = None,
    http: Annotated[bool, typer.Option("--http", help="Serve over HTTP, not over stdin and stdout.")] = False,
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="ADDRESS", help=f"With --http, where to listen; {_DEFAULTS.host} unless given."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="N", min=0, max=65_535, help=f"With --http; {_DEFAULTS.port} unless given, 0 for any."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="With --http, a further name that clients call it by."),
    ] = None,
) -> None:
    """Serve the store to language models by the Model Context Protocol (MCP); it is made when it does not exist.

    Over stdin and stdout, as a client starts it, until the client ends. With --http, at /mcp until interrupted; there
    every request must bear the token in LLMSPELL_MEMORY_MCP_TOKEN, if it is set, and an address that others can reach
    needs one. Logs go to stderr.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if not http and (host is not None or port is not None or allow_host):
        raise typer.BadParameter("--host, --port and --allow-host are about --http; give that, too")
    if http:
        _over_http(ctx, index, namespace, _http_settings(host, port, allow_host))
    else:
        _over_stdio(ctx, index, namespace)


def _over_stdio(ctx: typer.Context, index: View | None, namespace: list[str] | None) -> None:
    from llmspell_memory.mcp import serve_stdio  # noqa: PLC0415 (its packages are optional)

    # A thread waits for stdin and would keep an interrupted process; all that was acknowledged is stored anyway.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with contextlib.redirect_stdout(sys.stderr):  # whatever a provider may have to say
        opened = _opened(settings_of(ctx), index)
    with opened as manager:
        serve_stdio(_shown(manager, namespace).episodic)


def _over_http(ctx: typer.Context, index: View | None, namespace: list[str] | None, settings: HTTPSettings) -> None:
    from llmspell_memory.mcp import HTTPServer  # noqa: PLC0415 (its packages are optional)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the server raises it again when it has ended
    with _opened(settings_of(ctx), index) as manager:
        server = HTTPServer(_shown(manager, namespace).episodic, settings)
        who = "with the token" if settings.token else "without a token: open to this machine"
        server.run(on_ready=lambda: typer.echo(f"serving on {server.url} ({who})", err=True))


def _http_settings(host: str | None, port: int | None, names: list[str] | None) -> HTTPSettings:
    return HTTPSettings(
        host=_DEFAULTS.host if host is None else host,
        port=_DEFAULTS.port if port is None else port,
        token=os.environ.get(_TOKEN) or None,
        names=tuple(names or ()),
    )


def _opened(settings: Settings, index: View | None) -> DefaultMemoryManager:
    if not settings.db.exists():
        open_to_write(settings).close()
    return open_to_search(settings, hnsw=settings.db.parameters(hnsw=is_hnsw(index)))


def _shown(manager: DefaultMemoryManager, namespace: list[str] | None) -> DefaultMemoryManager:
    return manager.scoped(*namespace) if namespace else manager
