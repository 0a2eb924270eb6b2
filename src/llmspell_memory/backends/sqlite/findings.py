"""What a check has found so far, with an end to how often it says the same."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from llmspell_memory.types import Finding

if TYPE_CHECKING:
    from llmspell_memory.types.care import Severity

REPAIR: Final = "bring what can be read into a new store: `llmspell-memory repair FILE`"
NOTHING: Final = "nothing"
_MOST: Final = 100
"""Findings of one kind that are told one by one."""


class Findings:
    """Findings by kind."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        self._counts: Counter[tuple[Severity, str]] = Counter()

    def fault(self, kind: str, where: str, what: str, remedy: str = REPAIR) -> None:
        """Add something that loses data or makes answers wrong."""
        self._add("fault", kind, where, what, remedy)

    def note(self, kind: str, where: str, what: str, remedy: str = NOTHING) -> None:
        """Add something that does neither."""
        self._add("note", kind, where, what, remedy)

    def _add(self, severity: Severity, kind: str, where: str, what: str, remedy: str) -> None:
        self._counts[severity, kind] += 1
        if self._counts[severity, kind] <= _MOST:
            self._found.append(Finding(severity=severity, where=where, what=what, remedy=remedy))

    @property
    def sound(self) -> bool:
        """Whether there is no fault so far."""
        return not any(severity == "fault" for severity, _ in self._counts)

    def all(self) -> tuple[Finding, ...]:
        """Return them, faults first."""
        more = [
            Finding(severity=severity, where=kind, what=f"{count - _MOST:,} more like these", remedy=REPAIR)
            for (severity, kind), count in self._counts.items()
            if count > _MOST
        ]
        return tuple(sorted([*self._found, *more], key=lambda finding: finding.severity != "fault"))
