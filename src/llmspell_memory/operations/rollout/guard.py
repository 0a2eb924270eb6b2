"""What keeps a candidate from doing harm: calls that are watched, waits that end, and a pause of writes."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from llmspell_memory.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmspell_memory.protocols import EpisodicBackend

Result = TypeVar("Result")

_PATIENCE: Final = {"forget": 20.0, "configure": 100.0}
"""Verbs that rewrite files or build an index may take so many times as long as others."""


_CHANGING: Final = frozenset({"add", "delete", "forget", "mark_processed", "set_expiry", "write_note"})


class Watched:
    """A backend whose calls in one thread are watched: since when one is under way, and what it last raised.

    And it can be closed to writes: what was read before another store took over must not be written after that.
    """

    def __init__(self, backend: EpisodicBackend) -> None:
        self._backend = backend
        self._under_way: tuple[str, float] | None = None
        self._writing = threading.Lock()
        self._revoked = False
        self.error: Exception | None = None

    def revoke(self, seconds: float) -> bool:
        """Let no more writes through, and say whether the one under way has ended within `seconds`."""
        self._revoked = True
        ended = self._writing.acquire(timeout=seconds)
        if ended:
            self._writing.release()
        return ended

    def hangs(self, timeout: float) -> str | None:
        """Return the verb that has been under way for longer than `timeout` seconds."""
        under_way = self._under_way
        if under_way is None:
            return None
        verb, since = under_way
        return verb if time.monotonic() - since > timeout * _PATIENCE.get(verb, 1.0) else None

    def __getattr__(self, name: str) -> Any:
        value = self._timed(name, partial(getattr, self._backend, name))  # a property may raise, too
        return partial(self._call, name, value) if callable(value) else value

    def _call(self, name: str, verb: Callable[..., Any], *args: Any, **named: Any) -> Any:
        if name not in _CHANGING:
            return self._timed(name, verb, *args, **named)
        with self._writing:
            if self._revoked:
                raise UnavailableError("another store has taken over; this one is not written any more")
            return self._timed(name, verb, *args, **named)

    def _timed(self, name: str, verb: Callable[..., Any], *args: Any, **named: Any) -> Any:
        self._under_way = name, time.monotonic()
        try:
            result = verb(*args, **named)
        except Exception as error:
            self.error = error
            raise
        finally:
            self._under_way = None
        return self._each(result) if name == "scan" and not callable(result) else result  # a generator works later

    def _each(self, entries: Iterator[Any]) -> Iterator[Any]:
        left, end = iter(entries), object()
        while (entry := self._call("next", next, left, end)) is not end:
            yield entry


def within(seconds: float, call: Callable[[], Result], *, what: str) -> Result:
    """Return what `call` does, in a thread of its own, if it does so in time.

    Raises:
        UnavailableError: it takes longer; the thread is left to itself.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 (raised where it is waited for)
            errors.append(error)

    worker = threading.Thread(target=work, name=f"llmspell-memory {what}", daemon=True)
    worker.start()
    worker.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise UnavailableError(f"{what} takes longer than {seconds:g} s")
    return results[0]


class Gate:
    """Lets writes through side by side, and can be held closed for a moment."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._closed = False
        self._epoch = 0
        self.acknowledged = 0
        """How many writes were."""

    def __enter__(self) -> int:
        """Wait where it is closed; return what `acknowledge` is to be asked with."""
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._inside += 1
            return self._epoch

    def acknowledge(self, epoch: int) -> bool:
        """Count a write that is done; False where it no longer counts, for the stores have changed places since."""
        with self._changed:
            self.acknowledged += epoch == self._epoch
            return epoch == self._epoch

    def count(self) -> None:
        """Count a write that was done while it was closed."""
        with self._changed:
            self.acknowledged += 1

    def disown(self) -> None:
        """Let no write count that is still inside."""
        with self._changed:
            self._epoch += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            if self._closed:
                self._changed.notify_all()

    @contextmanager
    def closed(self, seconds: float) -> Iterator[bool]:
        """Hold it closed; tell whether all who were inside have left within `seconds`."""
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._closed = True
            alone = self._changed.wait_for(lambda: not self._inside, timeout=seconds)
        try:
            yield alone
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()
