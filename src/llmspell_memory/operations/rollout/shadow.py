"""The thread in which the other store follows the one that serves, woken by each write."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from llmspell_memory.errors import UnavailableError
from llmspell_memory.operations.migration.follow import last_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmspell_memory.operations.migration.follow import Follower

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

BATCH: Final = 64
"""Rows read at a time: few, so that whoever writes or searches at that moment waits for some milliseconds at most."""

_IDLE: Final = 1.0
"""Seconds after which it looks whether others, outside of the rollout, have written."""

_GATHER: Final = 0.05
"""Seconds that it lets changes gather in: many together cost less than each alone."""

_SHARES: Final = ((1.0, 0.1), (10.0, 0.25))
"""How much of the time it works at most while nobody waits for it, by how many seconds it is behind."""

_MOST: Final = 0.5
"""How much it works where it is farther behind, as while it makes the first copy."""

_MORE: Final = 8
"""Steps beyond what was written when level was asked for: writers who never rest would keep one waiting for ever."""

_LOOK: Final = 0.05
"""Seconds between two looks of who waits whether it is stuck."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
"""Seconds before a failed step is tried again: at first, and at most."""


_LATE: Final = "the store that follows has not come level in time; try again"


class _Job(Generic[Result]):
    """Something to be done between two steps."""

    def __init__(self, work: Callable[[Follower], Result]) -> None:
        self._work = work
        self.done = threading.Event()
        self.cancelled = False
        self.results: list[Result] = []
        self.error: Exception | None = None

    def run(self, follower: Callable[[], Follower], failed: Callable[[Exception], object]) -> None:
        try:
            if not self.cancelled:
                self.results.append(self._work(follower()))
        except Exception as error:  # noqa: BLE001 (raised where it is waited for)
            self.error = error
            failed(error)  # before anybody goes on, and asks for the state
        finally:
            self.done.set()


class Shadow:
    """Steps a follower along; started by `start`, ended by `stop`.

    Args:
        make: makes the follower, in this thread, for it asks both stores.
        acknowledged: how many writes were acknowledged so far.
        stuck: says what is stuck, None where nothing is.
        failed: is told of an error of a step.
        level: is told whenever the other store has come level.
    """

    def __init__(
        self,
        make: Callable[[], Follower],
        *,
        acknowledged: Callable[[], int],
        stuck: Callable[[], str | None],
        failed: Callable[[Exception], object],
        level: Callable[[], object],
    ) -> None:
        self._make = make
        self._acknowledged = acknowledged
        self._stuck = stuck
        self._failed = failed
        self._level = level
        self._follower: Follower | None = None
        self._thread: threading.Thread | None = None
        self._woken = threading.Event()
        self._hurry = threading.Event()
        self._jobs: list[_Job[object]] = []
        self._guard = threading.Lock()
        self._stopping = False
        self._held = 0
        self._pause = 0.0
        self._behind_since: float | None = None
        self.followed: int | None = None
        """How many acknowledged writes the other store has for certain; None before it was level for the first time."""

    # --- asked by others ---------------------------------------------------------------------------------------------

    @property
    def position(self) -> int | None:
        """The number that was reached; None where that is not known yet."""
        follower = self._follower
        return None if follower is None else follower.position

    @property
    def seconds(self) -> float:
        """For how long it has been behind."""
        since = self._behind_since
        return 0.0 if since is None else time.monotonic() - since

    def start(self) -> None:
        """Start the thread, if it is not there yet."""
        with self._guard:
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="llmspell-memory rollout", daemon=True)
                self._thread.start()

    def wake(self) -> None:
        """Say that something was written."""
        if self._behind_since is None:
            self._behind_since = time.monotonic()
        if not self._woken.is_set():
            self._woken.set()

    def hold(self) -> None:
        """Begin no step until `release`; one that has begun goes on."""
        with self._guard:
            self._held += 1

    def release(self) -> None:
        """Go on."""
        with self._guard:
            self._held -= 1
        self.wake()

    def turn(self, make: Callable[[], Follower], follower: Follower | None) -> None:
        """Follow another way from now on, `followed` by the other store so far what was acknowledged."""
        self._make = make
        self._follower = follower
        self.followed = None if follower is None else self._acknowledged()
        self._pause = 0.0
        self.wake()

    def run(self, work: Callable[[Follower], Result], *, seconds: float | None) -> Result:
        """Do something between two steps, and return what it returns.

        Raises:
            UnavailableError: it was not done in `seconds`, or the candidate hangs; if it has not begun, it never will.
            Exception: whatever the work raised.
        """
        job = _Job(work)
        if threading.current_thread() is self._thread:
            job.run(self._known, lambda _: None)
        else:
            self.start()
            with self._guard:
                self._jobs.append(job)  # type: ignore[arg-type]  # what it returns is for the one who waits
            self._wait(job, None if seconds is None else time.monotonic() + seconds)
        if job.error is not None:
            raise job.error
        return job.results[0]

    def catch_up(self, seconds: float | None) -> None:
        """Return when the other store has all that was written before the call; raises as `run`."""
        until = math.inf if seconds is None else time.monotonic() + seconds
        if not self.run(lambda follower: self._until_level(follower, until), seconds=seconds):
            raise UnavailableError(_LATE)

    def _until_level(self, follower: Follower, until: float) -> bool:
        """Step without a rest, for as long as somebody waits for it; say whether that was long enough."""
        goal, more = last_number(follower.source), _MORE
        while not self._step() and more:
            more -= follower.position >= goal
            if self._stopping or time.monotonic() >= until:
                return follower.position >= goal
        return True

    def _wait(self, job: _Job[Result], until: float | None) -> None:
        self._hurry.set()
        self._woken.set()
        while not job.done.wait(_LOOK):
            stuck = self._stuck()
            late = until is not None and time.monotonic() >= until
            if stuck or late or self._stopping:
                job.cancelled = True
                raise UnavailableError(stuck or _LATE)

    # --- the thread --------------------------------------------------------------------------------------------------

    def _known(self) -> Follower:
        if self._follower is None:
            self._follower = self._make()
        return self._follower

    def _run(self) -> None:
        while not self._stopping:
            self._woken.wait(_IDLE)
            self._hurry.wait(_GATHER)
            self._woken.clear()
            self._hurry.clear()
            self._stuck()
            self._work()
            if not self._held and not self._stopping:
                self._follow()
            if self._pause:
                self._hurry.wait(self._pause)

    def _work(self) -> None:
        while self._jobs and not self._stopping:
            with self._guard:
                job = self._jobs.pop(0)
            job.run(self._known, self._failed)

    def _follow(self) -> None:
        """Step until level, or until somebody wants something else; an error only puts it off."""
        try:
            while not self._stopping and not self._held and not self._jobs:
                began = time.monotonic()
                if self._step():
                    break
                self._rest(time.monotonic() - began)
        except Exception as error:  # noqa: BLE001 (whatever a store may raise; told, and tried again)
            if not self._stopping:
                self._pause = min(_LONGEST_PAUSE, self._pause * 2 or _FIRST_PAUSE)
                self._failed(error)

    def _step(self) -> bool:
        """Make a step, and say whether the other store is level."""
        ticket, began = self._acknowledged(), time.monotonic()
        if self._known().step() is not None:
            return False
        self._now_level(ticket, began)
        return True

    def _now_level(self, ticket: int, began: float) -> None:
        self._pause = 0.0
        self.followed = ticket
        self._behind_since = None if ticket == self._acknowledged() else began
        self._level()

    def _rest(self, worked: float) -> None:
        known = _SHARES if self.followed is not None else ()
        share = next((share for seconds, share in known if self.seconds < seconds), _MOST)
        self._hurry.wait(min(1.0, worked * (1 / share - 1)))

    def stop(self, seconds: float) -> bool:
        """End the thread, and say whether it has ended within `seconds`."""
        with self._guard:
            self._stopping = True
            thread = self._thread
        self._woken.set()
        self._hurry.set()
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(seconds)
        return not thread.is_alive()
