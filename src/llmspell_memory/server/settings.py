"""What a server may be asked for, how much of it, and how long it waits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from llmspell_memory.errors import ConfigError
from llmspell_memory.wire.addresses import check_address, is_loopback

_WHOLE: Final = ("body_bytes", "import_bytes", "header_bytes", "batch", "k", "connections")
_SECONDS: Final = ("header_seconds", "body_seconds", "send_seconds", "shutdown_seconds", "refresh_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where a server listens, and its limits.

    Attributes:
        host: the address; one that is not of this machine alone needs API keys.
        port: 0 for any that is free.
        body_bytes: the largest body of a request.
        import_bytes: the largest body of an import, which is put into a temporary file.
        header_bytes: the most that all headers of a request may take.
        batch: the most entries in one request, and in one answer of a listing.
        k: the most hits of a search.
        rate: requests a second for each key, twice as many at once; None for no limit.
        connections: the most at a time.
        header_seconds: until a request's headers must be there.
        body_seconds: until its body must be.
        send_seconds: how long the reader of an answer may take in nothing.
        shutdown_seconds: how long requests that were begun may take when the server is told to end.
        refresh_seconds: after how long a key that was made or revoked is known to be.

    Raises:
        ConfigError: a value is not a number in its range.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    body_bytes: int = 16 << 20
    import_bytes: int = 1 << 30
    header_bytes: int = 32 << 10
    batch: int = 1_000
    k: int = 1_000
    rate: float | None = 1_000.0
    connections: int = 1_000
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    send_seconds: float = 60.0
    shutdown_seconds: float = 30.0
    refresh_seconds: float = 2.0

    def __post_init__(self) -> None:
        check_address(self.host, self.port, of="ServerConfig")
        for name in _WHOLE:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"ServerConfig.{name} must be a positive integer, got {value!r}")
        for name in (*_SECONDS, *(() if self.rate is None else ("rate",))):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ConfigError(f"ServerConfig.{name} must be a positive number, got {value!r}")

    @property
    def is_loopback(self) -> bool:
        """Whether it listens to this machine alone."""
        return is_loopback(self.host)
