"""Servers of the tests' own: the library's, run by uvicorn in a thread, on a port of the loopback interface."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from llmspell_memory.server import Server, ServerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmspell_memory import DefaultMemoryManager

WIDE = ServerConfig(port=0, batch=10_000, k=10_000, body_bytes=64 << 20, rate=None)
"""Limits that the contract, which knows of none, does not come to."""


@contextlib.contextmanager
def served(manager: DefaultMemoryManager, settings: ServerConfig = WIDE) -> Iterator[Server]:
    """Serve a memory until the end of the block, which closes it."""
    server = Server(manager, settings)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        until = time.monotonic() + 30
        while not server.is_ready:
            assert thread.is_alive(), "the server ended at once"
            assert time.monotonic() < until, "the server does not come up"
            time.sleep(0.002)
        yield server
    finally:
        server.stop()
        thread.join()
