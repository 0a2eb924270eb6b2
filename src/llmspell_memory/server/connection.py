"""A connection that does not wait for ever: uvicorn's own, with deadlines and limits for what comes before an answer.

Uvicorn has a timeout between requests alone, which any byte ends: who sends a byte now and then holds a connection for
good. Here a request's headers have so many seconds and bytes, counted from the first byte, or from the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llmspell_memory.wire.problems import CONTENT_TYPE, problem, written

if TYPE_CHECKING:
    import asyncio

    from llmspell_memory.server.settings import ServerConfig

_PHRASES = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}


class Connection(HttpToolsProtocol):
    """One connection of a client."""

    settings: ServerConfig
    _deadline: asyncio.TimerHandle | None = None
    _in_headers = True
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what is not yet a request, and hand it on."""
        if self._in_headers:
            self._header_bytes += len(data)
            if self._deadline is None:
                self._wait()
        super().data_received(data)
        if self._in_headers and self._header_bytes > self.settings.header_bytes:
            self._refuse(431, self._too_large)

    def on_headers_complete(self) -> None:
        """Begin with the request: its body is waited for elsewhere."""
        taken = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if taken > self.settings.header_bytes:  # they may all have come at once
            self._refuse(431, self._too_large)
            raise ValueError(self._too_large)  # ends the parser
        self._in_headers, self._header_bytes = False, 0
        self._wait_no_more()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Count from anew: what comes next is another request."""
        self._in_headers = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(400, msg)

    @property
    def _too_large(self) -> str:
        return f"the headers take more than {self.settings.header_bytes} bytes"

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(self.settings.header_seconds, self._too_late)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait()  # it is still being answered, and something came behind it
            return
        self._refuse(408, f"no request came within {self.settings.header_seconds:g} s")

    def _refuse(self, status: int, detail: str) -> None:
        """Answer with a problem and close; without a word where another answer is being sent."""
        self._wait_no_more()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            body = written(problem(status, detail, name="UnavailableError" if status == 408 else "InputError"))  # noqa: PLR2004 (HTTP's)
            head = (
                f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: {CONTENT_TYPE}\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()


def connection_class(settings: ServerConfig) -> Any:
    """Return the class of connections with these limits, for uvicorn to make them of."""
    return type("Connection", (Connection,), {"settings": settings})
