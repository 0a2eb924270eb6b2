"""The protocol over stdin and stdout, for the one client that started this process."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import anyio
from mcp import stdio_server

from llmspell_memory.mcp.server import create_server

if TYPE_CHECKING:
    from llmspell_memory.memory import EpisodicMemory


def serve_stdio(memory: EpisodicMemory) -> None:
    """Serve until the client closes stdin; what was acknowledged by then is stored.

    Meanwhile whatever else this process prints goes to stderr. That the client reads no answers is no error.
    """
    anyio.run(_serve, memory)


async def _serve(memory: EpisodicMemory) -> None:
    server = create_server(memory)
    try:
        # The SDK takes descriptor 1 away from others, but what Python holds back for it would be written at the end.
        async with stdio_server() as (reads, writes):
            with contextlib.redirect_stdout(sys.stderr):
                await server.run(reads, writes, server.create_initialization_options())
    except* BrokenPipeError:
        pass  # the client ended without waiting for an answer
