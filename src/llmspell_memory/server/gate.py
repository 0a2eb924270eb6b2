"""Who is let in: keys, what they allow, and how often."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from llmspell_memory.errors import ConfigError, StorageError
from llmspell_memory.operations.keys import Keys, read_keys
from llmspell_memory.server.refusal import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.server.settings import ServerConfig

logger = logging.getLogger(__name__)

Need: TypeAlias = Literal["nothing", "read", "write", "whole"]
"""What an operation needs: no key, one that reads, one that writes, or one of the whole store."""

_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="llmspell-memory"'}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the id of the key, what it shows, and whether it may write."""

    id: str
    root: tuple[str, ...]
    writes: bool


_ANYBODY: Final = Caller("-", (), writes=True)
"""Whoever is on this machine, where there are no keys."""


class _Bucket:
    """Tokens that come back with time (a token bucket)."""

    __slots__ = ("_at", "_left")

    def __init__(self, rate: float, now: float) -> None:
        self._left = 2 * rate
        self._at = now

    def take(self, rate: float, now: float) -> float:
        """Take one, and return 0; or how long to wait for it."""
        self._left = min(2 * rate, self._left + (now - self._at) * rate)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / rate
        self._left -= 1
        return 0.0


class Gate:
    """Lets requests in, or refuses them.

    Without keys, it is open to this machine alone; once there have been some, never again.

    Args:
        backend: of the whole store, whose keys they are.
        settings: where the server listens, and the rate.

    Raises:
        ConfigError: others can reach the server, and there are no keys.
    """

    def __init__(self, backend: EpisodicBackend, settings: ServerConfig) -> None:
        self._backend = backend
        self._rate = settings.rate
        self._keys = Keys(read_keys(backend))
        self._is_open = not self._keys and settings.is_loopback
        self._buckets: dict[str, _Bucket] = {}
        if not self._keys and not self._is_open:
            raise ConfigError(
                f"{settings.host} can be reached from other machines, and this store has no API keys; make one with "
                "`llmspell-memory keys add NAME`, or listen on 127.0.0.1"
            )

    def refresh(self) -> None:
        """Read the keys again; those known stay where that fails."""
        try:
            self._keys = Keys(read_keys(self._backend))
        except StorageError as error:
            logger.warning("API keys could not be read again: %s", error)
            return
        if self._keys:
            self._is_open = False

    def admit(self, request: Request, need: Need) -> Caller:
        """Return who asks.

        Raises:
            Refusal: nobody we know, or one who may not do this, or not so often.
        """
        caller = self._caller(request)
        if need == "write" and not caller.writes:
            raise Refusal(403, "this API key may read alone", name="ConfigError")
        if need == "whole" and (caller.root or not caller.writes):
            raise Refusal(
                403, "this needs an API key that may write to the whole store, without a namespace", name="ConfigError"
            )
        self._check_rate(caller)
        return caller

    def _caller(self, request: Request) -> Caller:
        given = request.headers.get("authorization")
        if self._is_open:
            if not _is_here(request.headers.get("host", "")):
                raise Refusal(403, "without API keys, this server answers to localhost alone", name="ConfigError")
            return _ANYBODY
        scheme, _, secret = (given or "").partition(" ")
        key = self._keys.find(secret.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            told = "send an API key as `Authorization: Bearer lsm_…`" if given is None else "the API key is not known"
            raise Refusal(401, told, name="ConfigError", headers=_CHALLENGE)
        return Caller(key.id, key.namespace, key.writes)

    def _check_rate(self, caller: Caller) -> None:
        if self._rate is None:
            return
        now = time.monotonic()
        bucket = self._buckets.get(caller.id) or self._buckets.setdefault(caller.id, _Bucket(self._rate, now))
        wait = bucket.take(self._rate, now)
        if wait:
            raise Refusal(
                429,
                f"more than {self._rate:g} requests a second with this key",
                name="UnavailableError",
                headers={"Retry-After": f"{max(1, round(wait))}"},
            )


def _is_here(host: str) -> bool:
    """Say whether a Host header names this machine: a page from elsewhere can give its own name our address."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower() in _HOSTS
