"""Locks for what is used on both sides of a fork: nothing is half done in the fork, and all locks are free there."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Final

_MOST_SECONDS: Final = 5.0
"""A fork waits no longer than this, all locks together: one may be held by the very thread that forks."""

_locks: Final[weakref.WeakSet[ForkLock]] = weakref.WeakSet()
_held: Final[list[list[ForkLock]]] = []


class ForkLock:
    """A lock, used by `with`, that a fork waits for and that is free in the forked process.

    Args:
        wait: whether a fork waits until the lock is given back; False where it guards no state that a fork would find
            half changed.
    """

    def __init__(self, *, wait: bool = True) -> None:
        self._lock = threading.Lock()
        self._wait = wait
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def settle(self, seconds: float) -> bool:
        """Before a fork: take the lock when it is given back, and say whether it was in time."""
        return self._wait and self._lock.acquire(timeout=max(0.0, seconds))

    def renew(self) -> None:
        """In a fork: be free, whoever held it; that thread does not exist here."""
        self._lock = threading.Lock()


def _all() -> list[ForkLock]:
    while True:
        try:
            return list(_locks)
        except RuntimeError:  # another thread has made one meanwhile
            continue


def _settle() -> None:
    until = time.monotonic() + _MOST_SECONDS
    _held.append([lock for lock in _all() if lock.settle(until - time.monotonic())])


def _go_on() -> None:
    for lock in _held.pop():
        lock.__exit__()


def _renew() -> None:
    _held.clear()
    for lock in _all():
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_settle, after_in_parent=_go_on, after_in_child=_renew)
