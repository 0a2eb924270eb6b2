"""Threads of the library's own are stopped before the interpreter goes away.

Such a thread is a daemon, so that a forgotten `close` keeps no process alive. But a daemon thread that comes back from
native code to an interpreter that is gone is ended by unwinding its stack, and C++ aborts the process at that.
"""

from __future__ import annotations

import atexit
import weakref
from typing import Final, Protocol


class Worker(Protocol):
    """What has a thread."""

    def end(self) -> None:
        """Stop the thread, and wait for that for some seconds at most."""
        ...


_working: Final[weakref.WeakSet[Worker]] = weakref.WeakSet()


def end_at_exit(worker: Worker) -> None:
    """Have a worker that is about to start its thread stopped when the process ends, unless it is gone by then."""
    if not _working:
        atexit.register(_end)
    _working.add(worker)


def _end() -> None:
    for worker in list(_working):
        worker.end()
