"""What a rollout has to know after a restart: a note in one of the two stores, its home, decides who serves.

The home is the store that was the primary when the rollout began. One note in one store changes all at once or not at
all, so there are never two that serve. The other store's note only says whose candidate it is.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from llmspell_memory.backends.notes import read_note
from llmspell_memory.errors import CorruptDataError, StorageError
from llmspell_memory.operations.rollout.figures import Figures

if TYPE_CHECKING:
    from llmspell_memory.operations.rollout.figures import RolloutState, Side
    from llmspell_memory.protocols import EpisodicBackend

NOTE: Final = "rollout"
"""Of the home: the record. Of the candidate: whose it is."""

FORTH: Final = "rollout-following"
"""Of the candidate: how far it has followed the primary."""

BACK: Final = "rollout-returning"
"""Of the former primary: how far it has followed the candidate, once that serves."""

_open: Final[set[str]] = set()
"""Tokens of this process's open rollouts."""


@dataclass(slots=True)
class Record:
    """The note of the home.

    Attributes:
        primary: id of the home.
        candidate: id of the other store; None until it has answered.
        phase: "comparing", "promoted", "rolled back" or "broken".
        serving: who answers and takes writes.
        reason: of a rollback or a break.
        stale: that the candidate's position is not to be trusted, and its rows are to be compared.
        unerased: that the follower may still hold what was forgotten.
        owner: the process that has the rollout open.
        figures: counts so far.
    """

    primary: str
    figures: Figures
    candidate: str | None = None
    phase: RolloutState = "comparing"
    serving: Side = "primary"
    reason: str | None = None
    stale: bool = False
    unerased: bool = False
    owner: dict[str, Any] | None = field(default=None)

    def text(self, **changed: Any) -> str:
        """Return the note, with other values in `changed`."""
        plain = {name: getattr(self, name) for name in _PLAIN} | changed
        return json.dumps({"kind": "home", **plain, "figures": self.figures.to_json()})


_PLAIN: Final = ("primary", "candidate", "phase", "serving", "reason", "stale", "unerased", "owner")


def read_record(home: EpisodicBackend, *, window: int) -> Record | None:
    """Return the record that a store keeps; None where it is no rollout's home.

    Raises:
        CorruptDataError: there is one that cannot be read.
    """
    known = read_note(home, NOTE)
    if known is None or known.get("kind") != "home":
        return None
    try:
        figures = Figures.from_json(known["figures"], window=window)
        return Record(figures=figures, **{name: known[name] for name in _PLAIN})
    except (KeyError, TypeError) as error:
        raise CorruptDataError(
            f"the note {NOTE!r} of the store {home.stats().id} cannot be read; write_note({NOTE!r}, None) removes it"
        ) from error


def home_of(store: EpisodicBackend) -> str | None:
    """Return the id of the primary that a store is the candidate of; None where it is none."""
    known = read_note(store, NOTE)
    return cast("str | None", known.get("primary")) if known is not None and known.get("kind") == "candidate" else None


def write_home(candidate: EpisodicBackend, home: str, **fields: Any) -> None:
    """Let a candidate say whose it is, and keep these fields beside."""
    known = read_note(candidate, NOTE)
    old = known if known is not None and home_of(candidate) == home else {}
    new = old | {"kind": "candidate", "primary": home} | fields
    if new != known:
        candidate.write_note(NOTE, json.dumps(new))


class Owner:
    """The one process, and the one object in it, that has a rollout open."""

    def __init__(self) -> None:
        self._token = secrets.token_hex(8)
        pid = os.getpid()
        self.fields = {"host": platform.node(), "pid": pid, "began": _began(pid), "token": self._token}
        _open.add(self._token)

    def leave(self) -> None:
        """Let others open it in this process."""
        _open.discard(self._token)


def check_free(owner: dict[str, Any] | None) -> None:
    """Refuse what another living process of this machine has open: two that follow would undo each other's rows.

    Raises:
        StorageError: says which process.
    """
    if owner is None or owner.get("host") != platform.node():
        return  # a container that was started anew has another name; nothing can be asked about another machine
    pid = owner.get("pid")
    if pid == os.getpid():
        if owner.get("token") in _open:
            raise StorageError("this rollout is open already in this process; use that object, or close it first")
    elif isinstance(pid, int) and _began(pid) == owner.get("began") is not None:
        raise StorageError(
            f"this rollout is open in process {pid}; promote, roll back and look at its report there, or end it first"
        )


def _began(pid: int) -> str | None:
    """Return something that tells a living process from a later one of the same number; None where that is unknown.

    Linux says in /proc when it was started, macOS by `ps`. Nothing is known under Windows.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return asked_ps(pid) if sys.platform == "darwin" else None
    return fields[19] if fields[0] not in {"Z", "X"} else None  # started at, in ticks since the machine was; proc(5)


def asked_ps(pid: int) -> str | None:
    """Return when a process was started, to the second, as `ps` tells it; None where there is none."""
    told = subprocess.run(  # noqa: S603 (no shell, and a number)
        ["/bin/ps", "-o", "state=,lstart=", "-p", str(pid)],
        env={"LC_ALL": "C", "TZ": "UTC"},  # the same text to whoever asks
        capture_output=True,
        encoding="utf-8",
        check=False,
    ).stdout
    state, _, started = told.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()
