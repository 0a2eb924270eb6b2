"""Requests to a server: one border that translates httpx's errors, and calls that are tried again.

Every call may be tried again: a read changes nothing, and a write carries an idempotency key, so that it is done once
however often it is sent.
"""

from __future__ import annotations

import json
import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

from llmspell_memory.embeddings.providers._http import retry_after
from llmspell_memory.embeddings.retry import RetryPolicy
from llmspell_memory.errors import (
    ClosedError,
    ConfigError,
    EmbeddingError,
    EpisodicError,
    MissingDependencyError,
    StorageError,
    UnavailableError,
)
from llmspell_memory.types.text import shortened
from llmspell_memory.wire.problems import error_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import httpx

    from llmspell_memory.client.calls import Call, T

_DEFAULT_RETRY: Final = RetryPolicy(attempts=5, base_delay=0.2, max_delay=10.0, total=60.0)
_REFUSED: Final = 400
_LONG_SECONDS: Final = 3600.0
"""How long a call is waited for that writes the store anew."""


class Settings:
    """How a server is reached; checked when it is made.

    Args:
        url: of the server, such as "http://127.0.0.1:8080".
        api_key: as `llmspell-memory keys add` told it; None where the server has no keys.
        timeout: seconds that the server may say nothing.
        retry: when a call that failed is tried again.
        options: of httpx's clients.

    Raises:
        ConfigError: a value is none.
        MissingDependencyError: httpx is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None,
        timeout: float,
        retry: RetryPolicy | None,
        options: Mapping[str, Any] | None,
    ) -> None:
        try:
            import httpx  # noqa: PLC0415 (optional)
        except ModuleNotFoundError as error:
            raise MissingDependencyError("httpx", extra="client") from error
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise ConfigError(f"url must begin with http:// or https://, got {shortened(url)}")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
            raise ConfigError(f"timeout must be a positive number of seconds, got {timeout!r}")
        if api_key is not None and not (isinstance(api_key, str) and api_key.isascii() and api_key.isprintable()):
            raise ConfigError("api_key must be printable ASCII; a stray newline or quote is the usual cause")
        self.url = url.rstrip("/")
        self.retry = retry or _DEFAULT_RETRY
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self.options: dict[str, Any] = {
            "timeout": httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            "trust_env": False,
            "base_url": self.url,
            "headers": headers,
            # Certificates take 100 ms to read, and are of no use here.
            **({"verify": False} if self.url.startswith("http://") else {}),
            **(options or {}),
        }
        self.long = httpx.Timeout(_LONG_SECONDS, connect=min(timeout, 10.0))

    def client(self) -> httpx.Client:
        """Return a client that waits."""
        import httpx  # noqa: PLC0415 (optional)

        with border(self.url):
            return httpx.Client(**self.options)

    def async_client(self) -> httpx.AsyncClient:
        """Return a client that is awaited."""
        import httpx  # noqa: PLC0415 (optional)

        with border(self.url):
            return httpx.AsyncClient(**self.options)

    def request_of(self, call: Call[Any]) -> dict[str, Any]:
        """Return the arguments of httpx's `request` for a call, the same for each of its tries."""
        arguments: dict[str, Any] = {"method": call.method, "url": call.path, "headers": {}}
        if call.query:
            arguments["params"] = {name: value for name, value in call.query.items() if value not in (None, (), [])}
        if call.body is not None:
            arguments["content"] = json.dumps(call.body, ensure_ascii=False, separators=(",", ":")).encode()
            arguments["headers"]["Content-Type"] = "application/json"
        if call.writes:
            arguments["headers"]["Idempotency-Key"] = secrets.token_hex(16)
        if call.is_long:
            arguments["timeout"] = self.long
        return arguments


class Tries:
    """The tries of one call."""

    def __init__(self, retry: RetryPolicy) -> None:
        self._retry = retry
        self._began = time.monotonic()
        self._failures = 0
        self._asked: float | None = None

    def heard(self, response: httpx.Response) -> None:
        """Note how long a server asks to wait."""
        self._asked = retry_after(response.headers.get("retry-after"))

    def wait_after(self, error: EpisodicError) -> float:
        """Return how long to wait before the next try; raise the error where there is none."""
        self._failures += 1
        if not (isinstance(error, UnavailableError) or (isinstance(error, EmbeddingError) and error.retryable)):
            raise error
        wait = self._retry.delay(self._failures, at_least=self._asked)
        self._asked = None
        if reason := self._retry.why_stop(self._failures, wait, elapsed=time.monotonic() - self._began):
            if self._failures > 1:
                error.add_note(reason)
            raise error
        return wait


def send(client: httpx.Client, settings: Settings, call: Call[T], *, check_open: Callable[[], None]) -> T:
    """Return what a server answers to a call, which is tried again as long as that may help and the client is open."""
    request, tries = settings.request_of(call), Tries(settings.retry)
    while True:
        check_open()
        try:
            with border(settings.url):
                response = client.request(**request)
            tries.heard(response)
            return result_of(call, response, settings.url)
        except EpisodicError as error:
            time.sleep(tries.wait_after(error))


@contextmanager
def border(url: str) -> Iterator[None]:
    """Translate every error of httpx's own."""
    import httpx  # noqa: PLC0415 (optional)

    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise ConfigError(f"{url} is no address of a server: {error}") from error
    except httpx.TimeoutException as error:
        raise UnavailableError(f"{url} did not answer in time ({type(error).__name__})") from error
    except httpx.TransportError as error:
        raise UnavailableError(f"{url} cannot be reached: {error or type(error).__name__}") from error
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise StorageError(f"{url} did not answer as expected: {error}") from error
    except RuntimeError as error:
        if "closed" not in str(error):
            raise
        raise ClosedError("this client is closed") from error  # by another thread, amid a call


def result_of(call: Call[T], response: httpx.Response, url: str) -> T:
    """Return what a server answered; raise the error that it did."""
    if response.status_code >= _REFUSED:
        refuse(response, url)
    try:
        return call.read(json.loads(response.content))
    except (ValueError, LookupError, TypeError) as error:
        raise StorageError(
            f"{url} answered {call.path} with something else than this version of the client reads: "
            f"{type(error).__name__}: {error}"
        ) from error


def refuse(response: httpx.Response, url: str) -> NoReturn:
    """Raise the error that an answer tells of; its body must have been read."""
    try:
        told = json.loads(response.content)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        told = {"detail": f"{url} answered {response.status_code}: {shortened(response.text)}"}
    raise error_from(told, response.status_code)


def lines_of(response: httpx.Response) -> Iterator[bytes]:
    """Yield the lines of an answer that is being received; httpx's own lines end at more than newlines."""
    rest = b""
    for chunk in response.iter_bytes():
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest
