"""Where a server listens, and who may ask it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final

from llmspell_memory.errors import ConfigError
from llmspell_memory.wire.addresses import check_address, is_loopback

_TOKEN: Final = re.compile(r"[!-~]{16,512}")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_THIS_MACHINE: Final = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPSettings:
    """Where a server listens, and who may ask it.

    Attributes:
        host: the address; one that others can reach needs a token.
        port: 0 for any that is free.
        token: what each request must bear (`Authorization: Bearer ...`), 16 characters or more; None for nothing.
        names: further names of this machine that clients may call it by, as where a proxy stands before it. A request
            that calls it by another is refused, or a page in a browser could have its own name lead here.

    Raises:
        ConfigError: a value is not acceptable, or others can reach the address and there is no token.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = field(default=None, repr=False)
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_address(self.host, self.port, of="HTTPSettings")
        if self.token is not None and not (isinstance(self.token, str) and _TOKEN.fullmatch(self.token)):
            raise ConfigError("the token must be 16 to 512 visible ASCII characters; `openssl rand -hex 32` makes one")
        for name in self.names:
            if not isinstance(name, str) or not _HOST.fullmatch(name):
                raise ConfigError(f"a name of this machine has letters, digits, '.', '-' and no port, got {name!r}")
        if not self.is_loopback and self.token is None:
            raise ConfigError(
                f"others can reach {self.host}, so a token is needed that clients show: set LLMSPELL_MEMORY_MCP_TOKEN, "
                "or listen on 127.0.0.1"
            )
        if self._is_any and not self.names:
            raise ConfigError(
                f"{self.host} is every address of this machine: say by which names clients will call it (--allow-host)"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether it listens to this machine alone."""
        return is_loopback(self.host)

    @property
    def hosts(self) -> tuple[str, ...]:
        """What a request's Host may be, without its port."""
        own = () if self._is_any else (f"[{self.host}]" if ":" in self.host else self.host,)
        return tuple(dict.fromkeys((*_THIS_MACHINE, *own, *self.names)))

    @property
    def _is_any(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False
