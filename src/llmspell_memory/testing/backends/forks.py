"""What a forked process does with an open memory it inherited."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from typing import TYPE_CHECKING

from llmspell_memory.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SECONDS = 20
"""A child that takes longer waits for a lock that nobody will give back."""


def refused_in_a_child(uses: Sequence[Callable[[], object]], *, then: Callable[[], object] = int) -> int:
    """Fork, do all `uses` and then `then` in the child, and return how many were a StorageError that says why.

    A child that hangs is killed, and one that raises anything else says what; both are an AssertionError here.
    """
    if sys.platform == "win32":
        raise NotImplementedError("this system has no fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forking beside threads
        child = os.fork()
    if child == 0:
        _work_and_leave(uses, then)
    outcome = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert 0 <= outcome < _FAILED, f"the child ended with {outcome}"
    return outcome


_FAILED = 255


def _work_and_leave(uses: Sequence[Callable[[], object]], then: Callable[[], object]) -> None:
    if sys.platform == "win32":
        raise NotImplementedError("this system has no alarm")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_SECONDS)
    refused = 0
    try:
        for use in uses:
            try:
                use()
            except StorageError as error:
                refused += "forked" in str(error)
        then()
    except BaseException:  # noqa: BLE001 (it must not go on as a second test run)
        traceback.print_exc()
        refused = _FAILED
    finally:
        os._exit(refused)
