"""A request on its way: what it may do, what it brought, and how its answer is written."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from starlette.responses import Response

from llmspell_memory.errors import InputError
from llmspell_memory.operations.files.jsonl import as_moment
from llmspell_memory.server.refusal import Refusal
from llmspell_memory.types.arrays import checked_k
from llmspell_memory.types.text import checked_moment
from llmspell_memory.wire.values import as_whole, checked_keys, read_object

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection
    from datetime import datetime

    from starlette.requests import Request

    from llmspell_memory.aio import AsyncEpisodicMemory, AsyncMemoryManager
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.server.gate import Caller
    from llmspell_memory.server.settings import ServerConfig

_P = ParamSpec("_P")
_T = TypeVar("_T")

_DRAINED_SECONDS: Final = 2.0
_FLAGS: Final = {"true": True, "false": False}


@dataclass(slots=True)
class Call:
    """One request to one operation.

    Attributes:
        request: as it came, its body read.
        caller: who asks.
        manager: of the namespace that the caller sees.
        work: the writes of the server that are under way.
        settings: the server's limits.
        fields: of its body, a JSON object; {} where it has none.
        idempotency_key: None where it gives none.
    """

    request: Request
    caller: Caller
    manager: AsyncMemoryManager
    work: Work
    settings: ServerConfig
    fields: dict[str, Any]
    idempotency_key: str | None = None

    @property
    def root(self) -> tuple[str, ...]:
        """The namespace that the caller sees as ()."""
        return self.caller.root

    @property
    def memory(self) -> AsyncEpisodicMemory:
        """The words."""
        return self.manager.episodic

    @property
    def backend(self) -> EpisodicBackend:
        """The verbs."""
        return self.manager.backend

    def given(self, *known: str) -> dict[str, Any]:
        """Return what the body gives; an InputError where it has a key that is not known."""
        return checked_keys(self.fields, known, name="the body")

    def expiry(self) -> datetime | None:
        """Return the moment under `expires_at`, None for null: never. It must be there, for "never" is meant then."""
        if "expires_at" not in self.fields:
            raise InputError("give expires_at, a moment, or null for never")
        moment = self.fields["expires_at"]
        return None if moment is None else checked_moment(as_moment(moment, name="expires_at"), name="expires_at")

    def query(self, *known: str, several: Collection[str] = ()) -> dict[str, Any]:
        """Return the query's parameters, those of `several` as lists; a name that is not known is an InputError."""
        told: dict[str, Any] = {}
        for name, value in self.request.query_params.multi_items():
            if name in several:
                told.setdefault(name, []).append(value)
            elif name in told:
                raise InputError(f"the parameter {name!r} is given twice")
            else:
                told[name] = value
        return checked_keys(told, (*known, *several), name="the query")

    def checked_batch(self, entries: list[Any]) -> list[Any]:
        """Return entries if they are not too many."""
        if len(entries) > self.settings.batch:
            raise InputError(f"at most {self.settings.batch} entries in one request, got {len(entries)}")
        return entries

    def checked_k(self, k: object, *, name: str = "k", most: int | None = None) -> int:
        """Return how many are asked for, if they are not too many."""
        most = self.settings.k if most is None else most
        checked = checked_k(as_whole(k))
        if checked > most:
            raise InputError(f"{name} must be at most {most}, got {checked}")
        return checked

    async def quick(self, call: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
        """Return what a short call does: here, or in a thread where it has to wait for another machine."""
        if self.backend.is_remote:
            return await asyncio.to_thread(call, *arguments, **options)
        return call(*arguments, **options)


class Work:
    """Writes that were begun: they are finished, whoever stops waiting for them, and the server's end waits, too."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[Any]] = set()

    async def run(self, call: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
        """Do a write in a thread."""
        task = asyncio.create_task(asyncio.to_thread(call, *arguments, **options))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def finish(self) -> None:
        """Wait until all that were begun are done."""
        while self._under_way:
            await asyncio.wait(set(self._under_way))


def flag(value: str, *, name: str) -> bool:
    """Return what a parameter of a query says, "true" or "false"."""
    if value not in _FLAGS:
        raise InputError(f"{name} must be true or false, got {value[:40]!r}")
    return _FLAGS[value]


def whole(value: str, *, name: str) -> int:
    """Return the number that a parameter of a query is."""
    if not (value.isascii() and value.isdigit() and len(value) <= 9):  # noqa: PLR2004 (nobody counts so far)
        raise InputError(f"{name} must be an integer from 0 up, got {value[:40]!r}")
    return int(value)


def encoded(content: Any) -> bytes:
    """Return JSON as it is sent."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def answer(content: Any, status: int = 200) -> Response:
    """Return an answer in JSON."""
    return Response(encoded(content), status, media_type="application/json")


async def body_of(request: Request, settings: ServerConfig) -> bytes:
    """Return a request's body.

    Raises:
        Refusal: it is too large, of another content type than JSON, or too slow.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise _closing(415, "send the body as application/json", name="InputError")
    chunks = bytearray()
    async for chunk in chunks_of(request, settings, settings.body_bytes):
        chunks += chunk
    return bytes(chunks)


async def chunks_of(request: Request, settings: ServerConfig, most: int) -> AsyncIterator[bytes]:
    """Yield the chunks of a body of at most so many bytes; raises as `body_of`."""
    declared = request.headers.get("content-length", "")
    taken, stream = 0, request.stream()
    too_large = declared.isdigit() and int(declared) > most
    until = asyncio.get_running_loop().time() + settings.body_seconds
    while not too_large:
        try:
            async with asyncio.timeout_at(until):
                chunk = await anext(stream, None)
        except TimeoutError as error:
            raise _closing(
                408, f"the body did not come within {settings.body_seconds:g} s", name="UnavailableError"
            ) from error
        if chunk is None:
            return
        taken += len(chunk)
        too_large = taken > most
        if not too_large:
            yield chunk
    await _drain(stream, most)
    raise _closing(413, f"the body takes more than {most} bytes; send less at once", name="InputError")


def _closing(status: int, detail: str, *, name: str) -> Refusal:
    """Return a refusal after which the connection is closed: what comes on it is the rest of a body."""
    return Refusal(status, detail, name=name, headers={"Connection": "close"})


async def _drain(stream: AsyncIterator[bytes], most: int) -> None:
    """Read on for a moment, so that the other side comes to read why it is refused before the connection is closed."""
    try:
        async with asyncio.timeout(_DRAINED_SECONDS):
            async for chunk in stream:
                most -= len(chunk)
                if most < 0:
                    return
    except TimeoutError:
        return


def fields_of(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body is.

    Raises:
        Refusal: it is none.
    """
    try:
        return read_object(body, name="the body")
    except InputError as error:
        raise Refusal(400, str(error), name="InputError") from error
