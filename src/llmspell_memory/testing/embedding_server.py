"""An embedding server that runs in the test's own process, speaks two dialects, and fails when told to.

with EmbeddingServer() as server:
    provider = OpenAIProvider("test", dimensions=server.dimensions, base_url=server.openai_url)
    server.script(Fault(status=429, retry_after="1"), Fault(cut="during"))
    EmbeddingService(provider).embed(["a text"])  # the third request is answered
    assert len(server.requests) == 3
"""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from llmspell_memory.embeddings import HashingProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from numpy.typing import ArrayLike

    from llmspell_memory.protocols import EmbeddingProvider

_OK = 200
_PATHS = ("/v1/embeddings", "/api/embed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How one request is answered instead of well. Several may be combined.

    Attributes:
        status: the status of the answer.
        retry_after: the Retry-After header, as it is sent.
        message: of the error, where `status` is none of success.
        code: of the error, in OpenAI's dialect.
        body: sent as it is, in place of any answer.
        cut: close the connection before the answer, or in its middle.
        delay: seconds before the answer.
        rows: answer with this many rows only.
        width: answer with rows of this width.
        value: put this number at the start of the last row; NaN, for example.
        reverse: answer with the rows in reverse order, numbered where the dialect has numbers.
        renumber: number every row 0.
    """

    status: int = _OK
    retry_after: str | None = None
    message: str = "scripted"
    code: str | None = None
    body: bytes | None = None
    cut: Literal["before", "during"] | None = None
    delay: float = 0.0
    rows: int | None = None
    width: int | None = None
    value: float | None = None
    reverse: bool = False
    renumber: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came: its path, its headers with names in lower case, its body."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        """The texts to embed."""
        given = self.body["input"]
        return [given] if isinstance(given, str) else given


class EmbeddingServer:
    """Answers OpenAI's `/v1/embeddings` and Ollama's `/api/embed` on a free port of 127.0.0.1.

    Args:
        embed: makes one vector per text; by default a `HashingProvider` of 64 dimensions.
        dimensions: what `embed` makes, for the tests to read.

    Attributes:
        requests: what came, in order.
        received: set once a request has come.
    """

    def __init__(self, embed: Callable[[list[str]], ArrayLike] | None = None, *, dimensions: int = 64) -> None:
        hashing: EmbeddingProvider = HashingProvider(dimensions)
        self.dimensions = dimensions
        self.requests: list[Request] = []
        self.received = threading.Event()
        self._embed = embed or hashing.embed
        self._faults: deque[Fault] = deque()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The address, as `OllamaProvider` takes it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def openai_url(self) -> str:
        """The address, as `OpenAIProvider` takes it."""
        return f"{self.url}/v1"

    def script(self, *faults: Fault) -> None:
        """Answer the next requests so, one fault each, after those scripted before; later ones are answered well."""
        with self._lock:
            self._faults.extend(faults)

    def take(self, request: Request) -> Fault:
        """Record a request and return how to answer it."""
        with self._lock:
            self.requests.append(request)
            self.received.set()
            return self._faults.popleft() if self._faults else Fault()

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond the server's end."""
        self._closing.wait(seconds)

    def answer(self, request: Request, fault: Fault) -> bytes:
        """Return the body of an answer in the dialect of the request's path."""
        openai = request.path == _PATHS[0]
        if fault.body is not None:
            return fault.body
        if fault.status != _OK:
            error = {"message": fault.message, "type": "scripted", "code": fault.code} if openai else fault.message
            return json.dumps({"error": error}).encode()
        rows = self._rows(request, fault)
        if not openai:
            order = reversed(rows) if fault.reverse else rows
            return json.dumps({"model": request.body["model"], "embeddings": list(order)}).encode()
        data = [
            {"object": "embedding", "index": 0 if fault.renumber else index, "embedding": row}
            for index, row in enumerate(rows)
        ]
        if fault.reverse:
            data.reverse()
        return json.dumps({"object": "list", "model": request.body["model"], "data": data}).encode()

    def _rows(self, request: Request, fault: Fault) -> list[list[float]]:
        rows: list[list[float]] = np.asarray(self._embed(request.texts), dtype=np.float32).tolist()
        if fault.rows is not None:
            rows = rows[: fault.rows]
        if fault.width is not None:
            rows = [(row * (1 + fault.width // len(row)))[: fault.width] for row in rows]
        if fault.value is not None:
            rows[-1][0] = fault.value
        return rows


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    owner: EmbeddingServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that leaves before its answer is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        """Answer one request, well or as scripted."""
        owner = self.server.owner
        length = int(self.headers.get("content-length", 0))
        body = json.loads(self.rfile.read(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.path, headers, body)
        if self.path not in _PATHS:
            self._send(404, b"404 page not found", Fault())
            return
        fault = owner.take(request)
        owner.wait(fault.delay)
        if fault.cut == "before":
            self.close_connection = True
            return
        self._send(fault.status, owner.answer(request, fault), fault)

    def _send(self, status: int, body: bytes, fault: Fault) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if fault.retry_after is not None:
            self.send_header("Retry-After", fault.retry_after)
        self.end_headers()
        if fault.cut == "during":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name that http.server gives it)
        """Say nothing."""
