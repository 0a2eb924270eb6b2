"""The memory as tools for language models: a server of the Model Context Protocol (MCP), over stdio or HTTP.

Needs the extra `mcp`, the protocol's official SDK for Python. Nothing is read or listens before one of these is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.errors import MissingDependencyError
from llmspell_memory.mcp.settings import HTTPSettings

if TYPE_CHECKING:
    from llmspell_memory.mcp.http import HTTPServer
    from llmspell_memory.mcp.server import create_server
    from llmspell_memory.mcp.stdio import serve_stdio

__all__ = ["HTTPServer", "HTTPSettings", "create_server", "serve_stdio"]

_PLACES = {"HTTPServer": "http", "create_server": "server", "serve_stdio": "stdio"}
_PACKAGES = {"mcp", "mcp_types", "pydantic", "anyio", "starlette", "uvicorn"}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 (its packages are optional)

    try:
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES:
            raise
        raise MissingDependencyError(package, extra="mcp") from error
