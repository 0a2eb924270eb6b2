"""Answers of any length: lines made page by page while they are read."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from llmspell_memory.errors import EpisodicError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import Receive, Scope, Send

    from llmspell_memory.types import EpisodicEntry

MEDIA_TYPE: Final = "application/x-ndjson"
_PAGE: Final = 128
"""Entries fetched in one visit to a thread."""


class Lines(Response):
    """A line for each entry of a scan, which ends when nobody reads any more.

    Args:
        entries: the scan.
        line: writes an entry's line.
        first: a line before them.
        last: writes the line behind them, by how many there were; None for none.
        fault: writes the last line where the scan fails in its midst; None to cut the answer off, which the other side
            sees as such.
    """

    def __init__(
        self,
        entries: Iterator[EpisodicEntry],
        line: Callable[[EpisodicEntry], bytes],
        *,
        first: bytes = b"",
        last: Callable[[int], bytes] | None = None,
        fault: Callable[[EpisodicError], bytes] | None = None,
    ) -> None:
        super().__init__(media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._entries = entries
        self._line = line
        self._first = first
        self._last = last
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines."""
        del scope
        page = await asyncio.to_thread(self._page)  # what is wrong with the scan as a whole is found here
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        left = asyncio.ensure_future(_left(receive))
        count, data = 0, self._first
        try:
            while page and not left.done():
                count += len(page)
                await send({"type": "http.response.body", "body": data + b"".join(page), "more_body": True})
                data = b""
                page = await asyncio.to_thread(self._page)
            if page:
                return  # nobody reads any more
            data += self._last(count) if self._last is not None else b""
        except EpisodicError as error:
            if self._fault is None:
                raise
            data = self._fault(error)
        finally:
            left.cancel()
            await asyncio.to_thread(self._close)
        await send({"type": "http.response.body", "body": data})

    def _page(self) -> list[bytes]:
        return [self._line(entry) for entry in itertools.islice(self._entries, _PAGE)]

    def _close(self) -> None:
        close = getattr(self._entries, "close", None)
        if close is not None:
            close()


async def _left(receive: Receive) -> None:
    """Return when the other side has gone; until then what comes is the request's own end."""
    while (await receive())["type"] != "http.disconnect":
        pass
