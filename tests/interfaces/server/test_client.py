"""The client beside a network that fails: over real sockets, through a door that can be shut and that loses answers."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from llmspell_memory import (
    ConfigError,
    DefaultMemoryManager,
    EmbeddingService,
    SpaceChangedError,
    StorageError,
    UnavailableError,
)
from llmspell_memory.client import HTTPBackend, MemoryClient
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.embeddings.retry import RetryPolicy
from llmspell_memory.testing.backends import contents, entry
from llmspell_memory.types import EmbeddingSpace, Filter
from tests.interfaces.server.conftest import DIMENSIONS, SMALL, Place, manager_at
from tests.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONCE = RetryPolicy(attempts=1)
SOON = RetryPolicy(attempts=6, base_delay=0.01, max_delay=2.0, total=30)


class Door:
    """A port that hands bytes on to another, and can lose what comes back.

    Attributes:
        losing: of how many connections from now on the answer is cut off after `after` bytes.
        asked: connections so far.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.losing, self.after, self.asked = 0, 0, 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                theirs, _ = self._listener.accept()
                self.asked += 1
                most = self.after if self.losing > 0 else None
                self.losing -= 1
                threading.Thread(target=self._join, args=(theirs, most), daemon=True).start()

    def _join(self, theirs: socket.socket, most: int | None) -> None:
        with theirs, socket.create_connection(("127.0.0.1", self._to)) as ours:
            there = threading.Thread(target=_hand, args=(theirs, ours, None), daemon=True)
            there.start()
            _hand(ours, theirs, most)
            there.join()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


def _hand(one: socket.socket, other: socket.socket, most: int | None) -> None:
    """Hand on what comes; of a lost answer, `most` bytes once it has begun."""
    with contextlib.suppress(OSError):
        while data := one.recv(65_536):
            other.sendall(data if most is None else data[:most])
            most = None if most is None else most - len(data)
            if most is not None and most <= 0:
                break
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def door(place: Place) -> Iterator[Door]:
    door = Door(place.port)
    yield door
    door.close()


ANEW: dict[str, Any] = {"limits": httpx.Limits(max_keepalive_connections=0)}
"""A connection for each request, so that each passes the door."""


def test_a_lost_answer_is_asked_for_again(place: Place, door: Door) -> None:
    """An add, a mark and a delete whose answers are lost are done once, and tell what they did."""
    with MemoryClient(door.url, api_key=place.keys["all"], retry=SOON, client_options=ANEW) as client:
        door.losing = 2
        assert client.add_many([entry("one", id="1"), entry("two", id="2")]) == ["1", "2"]
        assert door.asked == 3
        seq = place.manager.stats().seq
        door.losing = 2
        assert client.mark_processed(["1", "2"]) == 2
        door.losing = 1
        assert client.delete(Filter(ids=frozenset(["1"]))) == 1
    assert place.manager.stats().seq == seq + 3, "each row was written once"


def test_without_retries_a_lost_answer_is_told(place: Place, door: Door) -> None:
    """As unavailable; whether it was done, the caller may find out."""
    with MemoryClient(door.url, api_key=place.keys["all"], retry=ONCE, client_options=ANEW) as client:
        door.losing = 1
        with pytest.raises(UnavailableError, match="cannot be reached"):
            client.add(entry("one", id="1"))
        assert contents([client.get("1")]) == ["one"]


def test_a_scan_cut_off_is_an_error_and_never_short(place: Place, door: Door) -> None:
    """Before its first entry it is begun again; later, what came is not all, and that is said."""
    place.manager.episodic.add_many(entry(f"text {n}", id=f"{n:04}") for n in range(500))
    with HTTPBackend(door.url, api_key=place.keys["all"], retry=SOON, client_options=ANEW) as backend:
        door.losing, door.after = 1, 0
        assert len(list(backend.scan(Filter()))) == 500
        for after in (2_000, 30_000, 100_000):
            door.losing, door.after = 1, after
            with pytest.raises(UnavailableError):
                for _ in backend.scan(Filter()):
                    pass


def test_no_server_is_unavailable(place: Place) -> None:
    """Refused at once and after the tries it was allowed; what is no address is a setting."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UnavailableError, match="cannot be reached") as told:
            HTTPBackend(url, retry=RetryPolicy(attempts=3, base_delay=0.01))
        assert told.value.__notes__ == ["gave up after 3 calls"]
    for wrong in ("ftp://x", "127.0.0.1:80", "", 7):
        with pytest.raises(ConfigError, match="url"):
            HTTPBackend(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="address"):
        HTTPBackend("http://[::1", retry=ONCE)
    with pytest.raises(ConfigError, match="timeout"):
        MemoryClient(place.url, timeout=0)
    with pytest.raises(ConfigError, match="api_key"):
        MemoryClient(place.url, api_key="lsm_x\n")


def test_a_server_that_hangs_is_left(place: Place) -> None:
    """After the timeout, as unavailable."""
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        with MemoryClient(url, api_key=place.keys["all"], timeout=0.2, retry=ONCE) as client:
            began = time.monotonic()
            with pytest.raises(UnavailableError, match="in time"):
                client.sessions()
            assert time.monotonic() - began < 10


def test_what_is_no_memory_server_is_told(place: Place) -> None:
    """An answer that is not ours is an error that shows its beginning, not a fault in reading it."""
    with MemoryClient(f"{place.url}/other", api_key=place.keys["all"]) as client, pytest.raises(ConfigError):
        client.sessions()

    def serve(listener: socket.socket, answer: bytes) -> None:
        with listener.accept()[0] as one:
            one.recv(65_536)
            one.sendall(answer)

    for answer in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 500 No\r\nContent-Length: 5\r\nConnection: close\r\n\r\n<html",
    ):
        with socket.create_server(("127.0.0.1", 0)) as other:
            thread = threading.Thread(target=serve, args=(other, answer))
            thread.start()
            with (
                MemoryClient(f"http://127.0.0.1:{other.getsockname()[1]}", retry=ONCE) as client,
                pytest.raises(StorageError, match="answered"),
            ):
                client.sessions()
            thread.join()


def test_a_client_waits_as_long_as_it_is_asked_to(tmp_path: Path) -> None:
    """A 429 is tried again after the seconds that it names, and in the end all is done."""
    manager = manager_at(tmp_path / "memory.db")
    with (
        served(manager, dataclasses.replace(SMALL, rate=3.0)) as server,
        MemoryClient(server.url, retry=SOON) as client,
    ):
        began = time.monotonic()
        for number in range(9):
            client.add(entry(f"text {number}"))
        assert time.monotonic() - began >= 1.0
        assert manager.episodic.count() == 9


def test_a_store_that_moved_to_another_space_is_noticed(place: Place) -> None:
    """The client's memory says so, and knows the new space at once; with its service, it goes on."""
    former = place.manager.service
    other = EmbeddingService(HashingProvider(DIMENSIONS + 16))
    backend = HTTPBackend(place.url, api_key=place.keys["all"])
    with DefaultMemoryManager(backend, former, watch=None) as manager:
        manager.episodic.add(entry("one"))
        place.manager.reembed(other).wait(60)
        with pytest.raises(SpaceChangedError):
            manager.episodic.search("one")
        assert backend.space == other.space
        with DefaultMemoryManager(backend, other, watch=None) as again:
            assert contents(again.episodic.search("one")) == ["one"]


def test_a_client_cannot_move_a_server_to_another_space(place: Place) -> None:
    """That is said with what to do; see `HTTPBackend.beside`."""
    with HTTPBackend(place.url, api_key=place.keys["all"]) as backend:
        with pytest.raises(ConfigError, match="llmspell-memory reembed"):
            backend.beside(EmbeddingSpace(provider="other", model=None, dimensions=3))
        with pytest.raises(StorageError):
            backend.search(
                np.ones(3, np.float32), 1, Filter(), space=EmbeddingSpace(provider="x", model=None, dimensions=3)
            )
