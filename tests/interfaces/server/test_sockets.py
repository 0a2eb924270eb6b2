"""What is no proper request, byte by byte over a socket: it is answered as such, or cut off, and the server goes on."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmspell_memory.testing.backends import entry
from tests.interfaces.server.conftest import DIMENSIONS, SMALL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interfaces.server.conftest import Place


@contextlib.contextmanager
def connected(place: Place) -> Iterator[socket.socket]:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)  # so that a reader who waits is noticed
        one.settimeout(20)
        one.connect(("127.0.0.1", place.port))
        yield one


def everything(one: socket.socket) -> bytes:
    """Read until the other side closes."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := one.recv(65_536):
            data += chunk
    return data


def status_of(data: bytes) -> int:
    """Return the status of an answer, which must be a whole problem."""
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    told = json.loads(body)
    assert told["status"] == int(head.split()[1])
    return int(told["status"])


def head(place: Place, *lines: str, path: str = "/v1/search") -> bytes:
    """Return the beginning of a request with a JSON body."""
    given = [
        *(f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {place.keys['all']}"),
        *("Content-Type: application/json", *lines),
    ]
    return ("\r\n".join(given) + "\r\n\r\n").encode()


def test_a_client_that_says_nothing_is_left(place: Place) -> None:
    """A connection on which nothing comes is answered with 408 and closed."""
    with connected(place) as one:
        assert status_of(everything(one)) == 408


def test_a_client_that_trickles_headers_is_left(place: Place) -> None:
    """A byte now and then holds no connection: headers have half a second here, whatever comes meanwhile."""
    began = time.monotonic()
    with connected(place) as one:
        sent = b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"a" * 500:
                one.sendall(bytes([byte]))
                sent += bytes([byte])
                time.sleep(0.02)
                one.settimeout(0.001)
                with contextlib.suppress(TimeoutError):
                    if one.recv(1, socket.MSG_PEEK):
                        break
        one.settimeout(20)
        assert status_of(everything(one)) == 408
    assert len(sent) < 400
    assert time.monotonic() - began >= SMALL.header_seconds


def test_a_client_that_trickles_its_body_is_left(place: Place) -> None:
    """A body that stops coming is a 408, too, and ends the connection."""
    with connected(place) as one:
        one.sendall(head(place, "Content-Length: 100") + b'{"query"')
        assert status_of(everything(one)) == 408


def test_many_slow_clients_keep_nobody_out(place: Place) -> None:
    """A hundred that say nothing, and one that asks: it is answered, and they are gone soon."""
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connected(place)) for _ in range(100)]
        for one in slow:
            one.sendall(b"POST /v1/entries HTTP/1.1\r\nHost: ")
        with place.http() as http:
            assert http.get("/v1/stats").status_code == 200
        assert {status_of(everything(one)) for one in slow} == {408}


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        bytes(1000),
    ],
    ids=["tls", "words", "version", "path", "colon", "negative", "two lengths", "length and chunks", "nul"],
)
def test_what_is_no_http_is_a_400(place: Place, garbage: bytes) -> None:
    with connected(place) as one:
        one.sendall(garbage)
        assert status_of(everything(one)) == 400
    with place.http() as http:
        assert http.get("/v1/stats").status_code == 200


def test_large_headers_are_refused(place: Place) -> None:
    """At once, or line by line without an end: a 431."""
    with connected(place) as one:
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 20_000 + b"\r\n\r\n")
        assert status_of(everything(one)) == 431
    with connected(place) as one:
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for number in range(10_000):
                one.sendall(f"X-{number}: {number}\r\n".encode())
        assert status_of(everything(one)) == 431


def test_large_bodies_are_refused(place: Place) -> None:
    """Told beforehand, or found while they come in chunks, or gone on and on: a 413, and little is kept of it."""
    with connected(place) as one:
        one.sendall(head(place, "Content-Length: 99999999999"))
        one.sendall(b"x" * 1000)
        assert status_of(everything(one)) == 413
    with connected(place) as one:
        one.sendall(head(place, "Transfer-Encoding: chunked"))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(100):
                one.sendall(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
        assert status_of(everything(one)) == 413


def test_an_unauthorised_body_is_not_read(place: Place) -> None:
    """Who has no key is refused before a byte of the body came, and cannot hold the connection by sending it slowly."""
    with connected(place) as one:
        one.sendall(
            b"POST /v1/entries HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 10000\r\n\r\n"
        )
        assert status_of(everything(one)) == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe{}", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'{"a": 1, "a": 2}', 400),
        (b'{"query": NaN, "k": 1e999}', 422),
        (b"[" * 9_000, 400),
        (b'{"a":' * 2_000 + b"1" + b"}" * 2_000, 400),
        (b'{"k": ' + b"9" * 5_000 + b"}", 400),
        (b'{"query": "\\ud800"}', 422),
        (b'{"query": "x", "where": {"session": "s"}}', 422),
        (b'{"query": "x", "unknown": 1}', 422),
        (b"{}", 422),
    ],
)
def test_malformed_bodies_are_told_so(place: Place, body: bytes, status: int) -> None:
    """Not JSON, not UTF-8, too deep, too long a number, a key twice, unknown names: a problem, no fault of ours."""
    with place.http() as http:
        answer = http.post("/v1/search", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["type"] == "urn:llmspell-memory:InputError"


def test_requests_in_one_piece_are_answered_in_turn(place: Place) -> None:
    """Two requests sent at once come back in their order, on one connection."""
    bodies = [json.dumps({"query": text, "k": 1}).encode() for text in ("one", "two")]
    with connected(place) as one:
        one.sendall(b"".join(head(place, f"Content-Length: {len(body)}") + body for body in bodies))
        data = b""
        while data.count(b'{"hits":[]}') < 2:
            chunk = one.recv(65_536)
            assert chunk, data
            data += chunk
        assert data.count(b"HTTP/1.1 200") == 2


def filled(place: Place) -> None:
    """Store more than the buffers between two sockets hold."""
    for start in range(0, 10_000, 1_000):
        place.manager.episodic.add_many(
            entry("x" * 1_000, id=f"{start + n}", embedding=np.ones(DIMENSIONS)) for n in range(1_000)
        )


def left_alone(place: Place) -> bool:
    """Wait until nobody but the one who asks for that is being answered."""
    until = time.monotonic() + 20
    with place.http() as http:
        while "llmspell_memory_http_requests_under_way 1\n" not in http.get("/metrics").text:
            if time.monotonic() > until:
                return False
    return True


def asking(place: Place) -> bytes:
    key = f"Authorization: Bearer {place.keys['all']}\r\n"
    return f"GET /v1/export?vectors=true HTTP/1.1\r\nHost: x\r\n{key}\r\n".encode()


def test_a_reader_who_leaves_ends_the_scan(place: Place) -> None:
    """An export that nobody reads any more is not read from the store to its end."""
    filled(place)
    with connected(place) as one:
        one.sendall(asking(place))
        assert one.recv(100)
    assert left_alone(place)


def test_a_reader_who_takes_in_nothing_is_left(place: Place) -> None:
    """An answer that waits for its reader is given up after half a second here, and cut off."""
    filled(place)
    with connected(place) as one:
        one.sendall(asking(place))
        assert one.recv(100)
        assert left_alone(place)
        one.settimeout(20)
        assert b"\r\n0\r\n\r\n" not in everything(one)[-10:], "it looks complete"
