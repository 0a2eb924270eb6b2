"""The words of memory over HTTP, the texts embedded by the server: one client that waits, and one that is awaited.

What is sent and how answers are read stands in `calls`, once for both.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.client import calls
from llmspell_memory.client.transport import Settings, Tries, border, refuse, result_of, send
from llmspell_memory.errors import ClosedError, EpisodicError, InputError
from llmspell_memory.types import Filter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from numpy.typing import ArrayLike

    from llmspell_memory.client.calls import Call, T
    from llmspell_memory.embeddings.retry import RetryPolicy
    from llmspell_memory.memory import OnDuplicate
    from llmspell_memory.operations import ImportReport
    from llmspell_memory.retrieval import Context, Ranking
    from llmspell_memory.types import BackendStats, EpisodicEntry, Hit, SearchMode, SessionSummary

_EVERYTHING: Final = Filter()


class _Words:
    """What both clients have: their settings."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        client_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings = Settings(url, api_key=api_key, timeout=timeout, retry=retry, options=client_options)
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.url!r})"

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this client is closed")


class MemoryClient(_Words):
    """A server's memory by the words of `EpisodicMemory`; the server embeds what needs it.

    The key's namespace is () here. Entries that a search returns come without their vectors. A call that fails for want
    of a server is tried again, and a write is done once however often it was sent. Threads may share it.

    Args:
        url: of the server, such as "http://127.0.0.1:8080".
        api_key: as `llmspell-memory keys add` told it; None where the server has no keys.
        timeout: seconds that the server may say nothing.
        retry: when a call that failed is tried again.
        client_options: further ones of `httpx.Client`.

    Raises:
        ConfigError: an argument is wrong.
        MissingDependencyError: httpx is not installed.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._client = self._settings.client()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, entry: EpisodicEntry, *, on_duplicate: OnDuplicate = "keep") -> str:
        """See `EpisodicMemory.add`."""
        return self.add_many([entry], on_duplicate=on_duplicate)[0]

    def add_many(self, entries: Iterable[EpisodicEntry], *, on_duplicate: OnDuplicate = "keep") -> list[str]:
        """See `EpisodicMemory.add_many`; more than the server takes at once is an InputError, and nothing is stored."""
        return self._send(calls.add_many(entries, on_duplicate=on_duplicate))

    def get(self, entry_id: str, *, namespace: tuple[str, ...] = ()) -> EpisodicEntry:
        """See `EpisodicMemory.get`."""
        return self._send(calls.get(entry_id, namespace=namespace))

    def search(
        self,
        query: str | ArrayLike,
        k: int = 10,
        *,
        where: Filter = _EVERYTHING,
        mode: SearchMode | None = None,
        around: int = 0,
        parts: bool = False,
        ranking: Ranking | None = None,
    ) -> list[Hit]:
        """See `EpisodicMemory.search`; a ranking without a reranker of its own."""
        return self._send(calls.search(query, k, where=where, mode=mode, around=around, parts=parts, ranking=ranking))

    def context(
        self,
        query: str | ArrayLike,
        *,
        budget_tokens: int,
        k: int = 20,
        where: Filter = _EVERYTHING,
        mode: SearchMode | None = None,
        ranking: Ranking | None = None,
    ) -> Context:
        """See `EpisodicMemory.context`; tokens are estimated by the server."""
        return self._send(
            calls.context(query, budget_tokens=budget_tokens, k=k, where=where, mode=mode, ranking=ranking)
        )

    def recent(self, n: int, *, where: Filter = _EVERYTHING) -> list[EpisodicEntry]:
        """See `EpisodicMemory.recent`."""
        return self._send(calls.recent(n, where=where))

    def get_session(self, session_id: str, *, namespace: tuple[str, ...] = ()) -> list[EpisodicEntry]:
        """See `EpisodicMemory.get_session`."""
        return self._send(calls.get_session(session_id, namespace=namespace))

    def sessions(self, where: Filter = _EVERYTHING) -> list[SessionSummary]:
        """See `EpisodicMemory.sessions`."""
        return self._send(calls.sessions(where))

    def mark_processed(self, ids: Iterable[str], *, namespace: tuple[str, ...] = ()) -> int:
        """See `EpisodicMemory.mark_processed`."""
        return self._send(calls.mark_processed(ids, namespace=namespace))

    def set_expiry(self, where: Filter, expires_at: datetime | None) -> int:
        """See `EpisodicMemory.set_expiry`."""
        return self._send(calls.set_expiry(where, expires_at))

    def delete(self, where: Filter, *, everything: bool = False) -> int:
        """See `EpisodicMemory.delete`."""
        return self._send(calls.delete(where, everything=everything))

    def forget(self, where: Filter, *, everything: bool = False) -> int:
        """Do what `EpisodicMemory.forget` does, and return how many entries were erased."""
        return self._send(calls.forget(where, everything=everything))

    def stats(self) -> BackendStats:
        """Return the memory's figures, as far as the key shows them."""
        return self._send(calls.stats())

    def export(self, path: Path, *, where: Filter = _EVERYTHING, vectors: bool = False) -> int:
        """Write matching entries to a JSONL file, as `llmspell-memory export` does, and return how many."""
        self._check_open()
        url, count = self._settings.url, -1  # the first line is a header
        query = calls.conditions(where) | {"vectors": json.dumps(vectors)}
        with border(url), self._client.stream("GET", "/v1/export", params=query) as response:
            if response.is_error:
                response.read()
                refuse(response, url)
            with path.open("wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
                    count += chunk.count(b"\n")
        return count

    def import_file(self, path: Path, *, on_duplicate: OnDuplicate = "keep", reembed: bool = False) -> ImportReport:
        """Store the entries of a JSONL file, and pass over what is there already; may be repeated."""
        self._check_open()
        url = self._settings.url
        query = {"on_duplicate": on_duplicate, "reembed": json.dumps(reembed)}
        call = calls.Call("POST", "/v1/import", calls.read_report)
        try:
            with path.open("rb") as file, border(url):
                response = self._client.post(
                    "/v1/import",
                    params=query,
                    content=file,
                    headers={"Content-Type": "application/x-ndjson"},
                    timeout=self._settings.long,
                )
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
        return result_of(call, response, url)

    def close(self) -> None:
        """Close the connections; a second call does nothing, any other call afterwards raises ClosedError."""
        self._closed = True
        self._client.close()

    def _send(self, call: Call[T]) -> T:
        return send(self._client, self._settings, call, check_open=self._check_open)


class AsyncMemoryClient(_Words):
    """`MemoryClient`, awaited: the same names and arguments, all but those about files.

    The tasks of one event loop may share it.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._client = self._settings.async_client()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def add(self, entry: EpisodicEntry, *, on_duplicate: OnDuplicate = "keep") -> str:
        """See `MemoryClient.add`."""
        return (await self.add_many([entry], on_duplicate=on_duplicate))[0]

    async def add_many(self, entries: Iterable[EpisodicEntry], *, on_duplicate: OnDuplicate = "keep") -> list[str]:
        """See `MemoryClient.add_many`."""
        return await self._send(calls.add_many(entries, on_duplicate=on_duplicate))

    async def get(self, entry_id: str, *, namespace: tuple[str, ...] = ()) -> EpisodicEntry:
        """See `MemoryClient.get`."""
        return await self._send(calls.get(entry_id, namespace=namespace))

    async def search(
        self,
        query: str | ArrayLike,
        k: int = 10,
        *,
        where: Filter = _EVERYTHING,
        mode: SearchMode | None = None,
        around: int = 0,
        parts: bool = False,
        ranking: Ranking | None = None,
    ) -> list[Hit]:
        """See `MemoryClient.search`."""
        return await self._send(
            calls.search(query, k, where=where, mode=mode, around=around, parts=parts, ranking=ranking)
        )

    async def context(
        self,
        query: str | ArrayLike,
        *,
        budget_tokens: int,
        k: int = 20,
        where: Filter = _EVERYTHING,
        mode: SearchMode | None = None,
        ranking: Ranking | None = None,
    ) -> Context:
        """See `MemoryClient.context`."""
        return await self._send(
            calls.context(query, budget_tokens=budget_tokens, k=k, where=where, mode=mode, ranking=ranking)
        )

    async def recent(self, n: int, *, where: Filter = _EVERYTHING) -> list[EpisodicEntry]:
        """See `MemoryClient.recent`."""
        return await self._send(calls.recent(n, where=where))

    async def get_session(self, session_id: str, *, namespace: tuple[str, ...] = ()) -> list[EpisodicEntry]:
        """See `MemoryClient.get_session`."""
        return await self._send(calls.get_session(session_id, namespace=namespace))

    async def sessions(self, where: Filter = _EVERYTHING) -> list[SessionSummary]:
        """See `MemoryClient.sessions`."""
        return await self._send(calls.sessions(where))

    async def mark_processed(self, ids: Iterable[str], *, namespace: tuple[str, ...] = ()) -> int:
        """See `MemoryClient.mark_processed`."""
        return await self._send(calls.mark_processed(ids, namespace=namespace))

    async def set_expiry(self, where: Filter, expires_at: datetime | None) -> int:
        """See `MemoryClient.set_expiry`."""
        return await self._send(calls.set_expiry(where, expires_at))

    async def delete(self, where: Filter, *, everything: bool = False) -> int:
        """See `MemoryClient.delete`."""
        return await self._send(calls.delete(where, everything=everything))

    async def forget(self, where: Filter, *, everything: bool = False) -> int:
        """See `MemoryClient.forget`."""
        return await self._send(calls.forget(where, everything=everything))

    async def stats(self) -> BackendStats:
        """See `MemoryClient.stats`."""
        return await self._send(calls.stats())

    async def close(self) -> None:
        """See `MemoryClient.close`."""
        self._closed = True
        await self._client.aclose()

    async def _send(self, call: Call[T]) -> T:
        request, tries = self._settings.request_of(call), Tries(self._settings.retry)
        while True:
            self._check_open()
            try:
                with border(self._settings.url):
                    response = await self._client.request(**request)
                tries.heard(response)
                return result_of(call, response, self._settings.url)
            except EpisodicError as error:
                await asyncio.sleep(tries.wait_after(error))
