"""What looking after a store reports: a backup, a check and what it found, a repair and what was lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

    from llmspell_memory.types.space import EmbeddingSpace

Severity: TypeAlias = Literal["fault", "note"]
SnapshotState: TypeAlias = Literal["absent", "stale", "foreign", "damaged", "newer", "wrong", "whole", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupReport:
    """A backup that was made.

    Attributes:
        path: the store.
        target: its copy.
        entries: how many the copy holds.
        bytes: the copy's size.
        seconds: how long it took.
    """

    path: Path
    target: Path
    entries: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something a check found.

    Attributes:
        severity: "fault" where data is lost or answers may be wrong; "note" where nothing is, as with derived data.
        where: which part of the store: a page, a row, a table, the snapshot.
        what: what is wrong with it.
        remedy: what to do.
    """

    severity: Severity
    where: str
    what: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a check of a store saw.

    Attributes:
        path: the store.
        schema: the version of its tables, None where that cannot be read.
        space: the embedding space it records, None where that cannot be read.
        pages: pages of the file.
        checksums: whether its pages have checksums.
        entries: entries that can be read.
        vectors: vectors that can be read.
        snapshot: the saved index: "absent"; "whole" when it shows the rows as they are, "stale" when it is whole but
            behind them; "foreign" when it is of other rows, "damaged", or of a "newer" version, all of which is
            passed over when the store is opened; "wrong" when it is none of these and still does not agree with the
            rows; "unknown" where too little of the store can be read to tell.
        recall: how many of the 10 nearest the saved index found, as a fraction; None where it was not measured.
        findings: all that was found, faults first.
    """

    path: Path
    schema: int | None
    space: EmbeddingSpace | None
    pages: int
    checksums: bool
    entries: int
    vectors: int
    snapshot: SnapshotState
    recall: float | None
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether no fault was found."""
        return all(finding.severity != "fault" for finding in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What a repair could not bring over.

    Attributes:
        label: the row's number; None where only a range of numbers is known, which `why` names.
        id: of the entry, None where nothing tells it any more.
        namespace: of the entry, None where nothing tells it any more.
        why: what could not be read.
    """

    label: int | None
    id: str | None
    namespace: tuple[str, ...] | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """A store that was made from what could be read of a damaged one.

    Attributes:
        path: the damaged store.
        target: the new one.
        entries: how many the new one holds.
        embedded: those of them whose vector was lost and made anew.
        losses: what the new one lacks.
        seconds: how long it took.
    """

    path: Path
    target: Path
    entries: int
    embedded: int
    losses: tuple[Loss, ...]
    seconds: float
