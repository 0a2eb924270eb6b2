"""The memory behind HTTP: `/v1` for programs in any language, and for the client that is a backend itself.

Needs the extra `server`: Starlette on uvicorn, with httptools. Nothing listens before `Server` is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.errors import MissingDependencyError
from llmspell_memory.server.settings import ServerConfig

if TYPE_CHECKING:
    from llmspell_memory.server.app import create_app
    from llmspell_memory.server.running import Server

__all__ = ["Server", "ServerConfig", "create_app"]

_PLACES = {"Server": "running", "create_app": "app"}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 (its packages are optional)

    try:
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in {"starlette", "uvicorn", "httptools"}:
            raise
        raise MissingDependencyError(package, extra="server") from error
