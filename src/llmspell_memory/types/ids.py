"""Ids that sort by the time they were made."""

from __future__ import annotations

import os
import threading
import time
import uuid

_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """Return a UUID of version 7 (RFC 9562, section 5.7), greater than every id this process made before.

    48 bits of Unix milliseconds, then 74 bits that start at random in each millisecond and grow by a random step
    within it, so that ids made in one loop keep their order.
    """
    global _last  # noqa: PLW0603 (one counter per process is what makes the order)
    fresh = (time.time_ns() // 1_000_000) << 74 | int.from_bytes(os.urandom(10)) >> 7
    with _lock:
        if fresh >> 74 > _last >> 74:
            _last = fresh
        else:
            _last += 1 + (fresh & 0xFFFF_FFFF)
        moment, tail = _last >> 74, _last & ((1 << 74) - 1)
    value = moment << 80 | 0x7 << 76 | (tail >> 62) << 64 | 0b10 << 62 | tail & ((1 << 62) - 1)
    return str(uuid.UUID(int=value))


if hasattr(os, "register_at_fork"):

    def _forget_after_fork() -> None:
        global _lock  # noqa: PLW0603 (the parent may have held it)
        _lock = threading.Lock()

    os.register_at_fork(after_in_child=_forget_after_fork)
