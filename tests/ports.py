"""Ports for servers of the tests' own, several of which may be started at the same moment."""

from __future__ import annotations

import secrets
import socket


def free_port() -> int:
    """Return a port of the loopback interface that is free, and that no client is given by chance."""
    while True:
        port = 12_000 + secrets.randbelow(20_000)  # those above are given to clients; hypothesis fixes `random`
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
