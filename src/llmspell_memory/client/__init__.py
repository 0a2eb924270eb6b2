"""Clients of a server's memory: `HTTPBackend`, a backend like any other, and `MemoryClient`, which embeds nothing.

Needs the extra `client`, which is httpx. Nothing is connected before one is made.
"""

from __future__ import annotations

from llmspell_memory.client.backend import HTTPBackend
from llmspell_memory.client.words import AsyncMemoryClient, MemoryClient

__all__ = ["AsyncMemoryClient", "HTTPBackend", "MemoryClient"]
