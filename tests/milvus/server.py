"""Milvus servers of the tests' own: real ones, on ports of the loopback interface, which end with the tests."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


class Reachable(Protocol):
    uri: str


class MilvusServer:
    """A server with a data folder of its own.

    Args:
        folder: where to; made by the test, and deleted by it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        program = Path(sys.executable).with_name("milvus-lite")
        where = ["--data-dir", str(self.folder / "data"), "--host", "127.0.0.1", "--port", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([program, "server", *where], stdout=log, stderr=subprocess.STDOUT)
        until = time.monotonic() + 60
        while not self._answers():
            ended = self._process.poll() is not None or time.monotonic() > until
            assert not ended, f"the server did not start: {(self.folder / 'log').read_text()}"
            time.sleep(0.05)

    def _answers(self) -> bool:
        """Say whether it does what it is asked; on a machine that is busy, it takes connections long before."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1.0).close()
            client = MilvusClient(uri=self.uri, timeout=5.0, dedicated=True)
        except (OSError, MilvusException):
            return False
        try:
            client.list_collections()
        except MilvusException:
            return False
        finally:
            client.close()
        return True

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def kill(self) -> None:
        """End it at once, as a crash of the machine's would."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(30)


@contextlib.contextmanager
def own() -> Iterator[MilvusServer]:
    """A server that one test has to itself."""
    folder = Path(tempfile.mkdtemp(prefix="llmspell-milvus-"))
    try:
        server = MilvusServer(folder)
        try:
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Given:
    """A cluster that the environment names."""

    def __init__(self, uri: str) -> None:
        self.uri = uri


@functools.cache
def shared() -> Reachable:
    """Return a server that many tests use, each with a prefix of its own: that of the environment, or one made here."""
    if uri := os.environ.get("LLMSPELL_TEST_MILVUS_URI"):
        return Given(uri)
    opened = own()
    server = opened.__enter__()
    atexit.register(opened.__exit__, None, None, None)
    return server
