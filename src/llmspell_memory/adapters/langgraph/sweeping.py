"""A thread that sweeps now and then."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from llmspell_memory.errors import ClosedError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("llmspell_memory.adapters.langgraph")


class Sweeper:
    """Calls `sweep` every so many seconds, in a thread of its own, until it is stopped or the memory is closed.

    Args:
        sweep: what is called; an error of the store is logged, and tried again the next time.
        seconds: between two calls.
    """

    def __init__(self, sweep: Callable[[], object], seconds: float) -> None:
        self._sweep = sweep
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llmspell-memory-sweeper", daemon=True)
        self._thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """End the thread, and say whether it has ended within `timeout` seconds."""
        self._stopped.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self._sweep()
            except ClosedError:
                return
            except StorageError:
                _log.exception("What has expired could not be swept; it will be tried again")
