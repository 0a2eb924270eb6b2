"""Clients of the Model Context Protocol, the SDK's own, and servers for them over both transports."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp import StdioServerParameters
from mcp.types import TextContent

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicBackendType, MemoryConfig
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.mcp import HTTPServer, HTTPSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcp import Client
    from mcp.types import CallToolResult

    from llmspell_memory import EpisodicMemory

PROGRAM = Path(sys.executable).with_name("llmspell-memory")
NEW = ("--provider", "hashing", "--dimensions", "64")
ANY_PORT = HTTPSettings(port=0)


def command(db: Path | str, *arguments: str) -> list[str]:
    """Return the command that serves a store."""
    return [str(PROGRAM), "--db", str(db), *NEW, "mcp", *arguments]


def environment(**more: str) -> dict[str, str]:
    """Return an environment without what would change the command."""
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | more


def started(db: Path | str, *arguments: str) -> StdioServerParameters:
    """Return what a client starts over stdio."""
    program, *others = command(db, *arguments)
    return StdioServerParameters(command=program, args=others, env=environment())


def opened(db: Path) -> DefaultMemoryManager:
    """Open a store as the command does."""
    config = MemoryConfig(service=EmbeddingService(HashingProvider(dimensions=64)), path=db)
    return DefaultMemoryManager.with_config(config.with_backend(EpisodicBackendType.IN_MEMORY))


@contextlib.contextmanager
def served(memory: EpisodicMemory, settings: HTTPSettings = ANY_PORT) -> Iterator[HTTPServer]:
    """Serve a memory over HTTP until the end of the block."""
    server = HTTPServer(memory, settings)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


def text_of(result: CallToolResult) -> str:
    """Return a result's text."""
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


async def answer(client: Client, tool: str, **arguments: Any) -> Any:
    """Call a tool and return its structured answer."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, text_of(result)
    return result.structured_content


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    """Call a tool in vain and return what it says."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, text_of(result)
    assert result.structured_content is None
    return text_of(result)
