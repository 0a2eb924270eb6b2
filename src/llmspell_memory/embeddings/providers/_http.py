"""What the HTTP providers share: clients, one border that translates httpx's errors, and refusals."""

from __future__ import annotations

import json
import math
import os
import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.embeddings.checks import as_matrix
from llmspell_memory.errors import ConfigError, EmbeddingError, MissingDependencyError
from llmspell_memory.types import BatchLimits, EmbeddingSpace
from llmspell_memory.types.locks import ForkLock

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    import httpx

    from llmspell_memory.protocols import EmbeddingKind
    from llmspell_memory.types import Matrix

_OK: Final = 200
_NOT_FOUND: Final = 404
_MESSAGE_CHARACTERS: Final = 300
_RETRYABLE: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Timeout, conflict (OpenAI's lock timeouts), too early, too many requests, and faults of a server that may pass."""

_ADVICE: Final = {
    400: "the server refused the request; compare model, dimensions and limits with what it supports",
    401: "check the API key",
    403: "the key may not use this model or endpoint",
    _NOT_FOUND: "check model and base_url",
    413: "the request is too large; give lower limits",
    422: "the server refused the request; compare model, dimensions and limits with what it supports",
}


class HTTPProvider:
    """A provider behind HTTP. A subclass says where to post, what, and where the vectors stand in the answer.

    Reads no environment variable, so no proxy is taken from there: name one in `client_options`. Connections are kept
    and shared by threads, and by the tasks of one event loop; `close` and `aclose` release them, and a later call opens
    new ones.
    """

    name: str
    _extra: str
    _path: str

    def __init__(
        self,
        *,
        model: str,
        dimensions: int,
        base_url: str,
        timeout: float,
        headers: Mapping[str, str],
        limits: BatchLimits,
        document_prefix: str,
        query_prefix: str,
        client_options: Mapping[str, Any] | None,
    ) -> None:
        _import_httpx(self._extra)
        self.model = _checked("model", model)
        self.dimensions = EmbeddingSpace(provider=self.name, model=model, dimensions=dimensions).dimensions
        self.limits = limits
        self.base_url = _checked("base_url", base_url).rstrip("/")
        if not self.base_url.startswith(("http://", "https://")):
            raise ConfigError("base_url must start with http:// or https://")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
            raise ConfigError(f"timeout must be a positive number of seconds, got {timeout!r}")
        self._prefixes: dict[EmbeddingKind, str] = {"document": document_prefix, "query": query_prefix}
        self._secrets = tuple(value.removeprefix("Bearer ") for value in _checked_headers(headers).values())
        self._options = {"timeout": timeout, "trust_env": False, **(client_options or {}), "headers": dict(headers)}
        self._lock = ForkLock()
        self._client: httpx.Client | None = None
        self._process = os.getpid()
        self._clients: dict[AbstractEventLoop, httpx.AsyncClient] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, dimensions={self.dimensions}, base_url={self._address!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def variant(self) -> str:
        """What the vectors depend on beside the model: the prefixes. Part of a cache's keys."""
        return json.dumps(self._prefixes) if any(self._prefixes.values()) else ""

    def embed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Return one row per text, in order.

        Raises:
            EmbeddingError: the server could not be reached, refused, or answered something else.
        """
        if not texts:
            return as_matrix([], provider=self._label).reshape(0, self.dimensions)
        with self._border():
            response = self._sync_client().post(self._url, json=self._payload(self._prefixed(texts, kind)))
        return self._read(response, len(texts))

    async def aembed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Do what `embed` does, without blocking the event loop."""
        if not texts:
            return as_matrix([], provider=self._label).reshape(0, self.dimensions)
        with self._border():
            response = await self._async_client().post(self._url, json=self._payload(self._prefixed(texts, kind)))
        return self._read(response, len(texts))

    def close(self) -> None:
        """Release the connections of synchronous calls."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None and self._process == os.getpid():
            client.close()

    async def aclose(self) -> None:
        """Release the connections of the running event loop, and those of synchronous calls."""
        import asyncio  # noqa: PLC0415 (10 ms, and who awaits has it)

        with self._lock:
            client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()
        self.close()

    # For the subclass to say.

    def _payload(self, texts: list[str]) -> dict[str, Any]:
        raise NotImplementedError

    def _vectors(self, answer: Any, count: int) -> Any:
        """Return the list of vectors in an answer; LookupError, TypeError or ValueError where there is none."""
        raise NotImplementedError

    def _advice(self, status: int, message: str) -> str:
        """Return what the caller can do about a refusal, "" where nothing is known."""
        del message
        return _ADVICE.get(status, "")

    def _retryable(self, status: int, answer: Any) -> bool:
        del answer
        return status in _RETRYABLE

    # Requests and answers.

    @property
    def _label(self) -> str:
        return f"{self.name}/{self.model}"

    @property
    def _url(self) -> str:
        return self.base_url + self._path

    @property
    def _address(self) -> str:
        """The address without a user and password that may stand in it."""
        scheme, _, rest = self.base_url.partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"

    def _prefixed(self, texts: Sequence[str], kind: EmbeddingKind) -> list[str]:
        prefix = self._prefixes[kind]
        return [prefix + text for text in texts] if prefix else list(texts)

    def _read(self, response: httpx.Response, count: int) -> Matrix:
        try:
            answer = json.loads(response.content)
        except ValueError as error:
            if response.status_code == _OK:
                raise EmbeddingError(f"{self._label} at {self._address} did not answer with JSON") from error
            answer = None
        if response.status_code != _OK:
            raise self._refusal(response, answer)
        try:
            vectors = list(self._vectors(answer, count))
        except (LookupError, TypeError, ValueError) as error:
            raise EmbeddingError(
                f"{self._label} at {self._address} did not answer with vectors as expected: "
                f"{type(error).__name__}: {self._safe(str(error))}"
            ) from error
        if len(vectors) != count:
            raise EmbeddingError(f"{self._label} gave {len(vectors)} vectors, expected {count}")
        rows = as_matrix(vectors, provider=self._label)
        if rows.shape != (count, self.dimensions):
            raise EmbeddingError(
                f"{self._label} gave vectors of the shape {rows.shape}, expected {(count, self.dimensions)}; "
                "set dimensions to what the model gives"
            )
        return rows

    def _refusal(self, response: httpx.Response, answer: Any) -> EmbeddingError:
        status = response.status_code
        message = self._safe(_message(answer) or response.text.strip())
        advice = self._advice(status, message)
        return EmbeddingError(
            f"{self._label} at {self._address} answered {status}"
            f"{f': {message}' if message else ''}{f' ({advice})' if advice else ''}",
            retryable=self._retryable(status, answer),
            retry_after=retry_after(response.headers.get("retry-after")),
        )

    def _safe(self, message: str) -> str:
        """Return a message shortened, and without what was sent in headers: some servers quote the key they refuse."""
        for secret in self._secrets:
            message = message.replace(secret, "***")
        return message if len(message) <= _MESSAGE_CHARACTERS else f"{message[:_MESSAGE_CHARACTERS]}…"

    @contextmanager
    def _border(self) -> Iterator[None]:
        """Translate every error of httpx's own."""
        import httpx  # noqa: PLC0415 (optional)

        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL, httpx.CookieConflict, httpx.StreamError) as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> EmbeddingError:
        import httpx  # noqa: PLC0415 (optional)

        where = f"{self._label} at {self._address}"
        if isinstance(error, httpx.TimeoutException):
            return EmbeddingError(f"{where} did not answer in time ({type(error).__name__})", retryable=True)
        if isinstance(error, httpx.ConnectError):
            return EmbeddingError(f"{where} cannot be reached: {self._safe(str(error))}", retryable=True)
        passing = isinstance(error, httpx.TransportError | httpx.DecodingError) and not isinstance(
            error, httpx.UnsupportedProtocol | httpx.LocalProtocolError
        )
        return EmbeddingError(f"{where} failed: {type(error).__name__}: {self._safe(str(error))}", retryable=passing)

    # Connections.

    def _sync_client(self) -> httpx.Client:
        import httpx  # noqa: PLC0415 (optional)

        with self._lock:
            if self._client is None or self._process != os.getpid():  # a forked child shares no socket with its parent
                self._client, self._process = httpx.Client(**self._options), os.getpid()
                weakref.finalize(self, self._client.close)  # for who forgets to close the provider
            return self._client

    def _async_client(self) -> httpx.AsyncClient:
        """Return the client of the running loop; a connection cannot be awaited from another."""
        import asyncio  # noqa: PLC0415 (10 ms, and who awaits has it)

        import httpx  # noqa: PLC0415 (optional)

        loop = asyncio.get_running_loop()
        with self._lock:
            for other in [one for one in self._clients if one.is_closed()]:
                del self._clients[other]
            if loop not in self._clients:
                self._clients[loop] = httpx.AsyncClient(**self._options)
            return self._clients[loop]


def retry_after(value: str | None, *, now: float | None = None) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, None where it says nothing (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        from email.utils import parsedate_to_datetime  # noqa: PLC0415 (20 ms, for a form that is rare)

        try:
            seconds = parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now)
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _message(answer: Any) -> str:
    """Return the message of an error as OpenAI, vLLM, Ollama and FastAPI write them, "" where there is none."""
    for key in ("error", "message", "detail"):
        found = answer.get(key) if isinstance(answer, dict) else None
        if isinstance(found, dict):
            found = found.get("message")
        if isinstance(found, str):
            return found
    return ""


def _import_httpx(extra: str) -> None:
    try:
        import httpx  # noqa: F401, PLC0415 (optional)
    except ImportError as error:
        raise MissingDependencyError("httpx", extra=extra) from error


def _checked(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{name} must be a str, not empty, got {value!r}")
    return value


def _checked_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Refuse what cannot be sent, without showing it: what is refused later may be quoted by who refuses it."""
    for name, value in headers.items():
        if not (
            isinstance(value, str) and value and value.isascii() and value.isprintable() and value == value.strip()
        ):
            raise ConfigError(
                f"the header {name} must hold printable ASCII; a stray newline or quote is the usual cause"
            )
    return headers
