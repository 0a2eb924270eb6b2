"""Addresses that a server may listen on."""

from __future__ import annotations

import ipaddress
from typing import Final

from llmspell_memory.errors import ConfigError

_PORTS: Final = 65_535


def check_address(host: object, port: object, *, of: str) -> None:
    """Raise a ConfigError where these are no address and no port; `of` names whose they are."""
    if not isinstance(host, str) or not host:
        raise ConfigError(f"{of}.host must be an address, got {host!r}")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= _PORTS:
        raise ConfigError(f"{of}.port must be an integer in 0..{_PORTS}, got {port!r}")


def is_loopback(host: str) -> bool:
    """Say whether whoever listens there listens to this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
