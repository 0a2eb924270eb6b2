"""What a migration plans and reports: values, and how they read as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from llmspell_memory.types.text import bytes_told

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmspell_memory.types import Identity

Phase: TypeAlias = Literal["copy", "index", "compare", "search"]
"""What a migration is at: copying rows, building the target's index, comparing rows, searching in both."""

Progress: TypeAlias = "Callable[[Phase, int, int], object]"
"""Called with the phase, how many are done, and how many there are as far as is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A row that is not the same in source and target.

    Attributes:
        namespace: of the entry.
        id: of the entry.
        session_id: its session, in the source where it is there.
        what: "missing" from the target, "surplus" there, or the fields that differ, joined by commas.
    """

    namespace: tuple[str, ...]
    id: str
    session_id: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceCount:
    """How many entries of one namespace source and target hold."""

    namespace: tuple[str, ...]
    source: int
    target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallSample:
    """Searches asked of source and target, judged by the exact answer over the rows that were compared.

    Attributes:
        what: which searches: "all" entries, or those with a "session", "namespace" or "role" as filter.
        searches: how many.
        source: recall of the source, as a fraction; None where it was not asked: a file, another embedding space, or an
            index that would have to be read first.
        target: recall of the target.
        wrong: of them, those where the target's own exact answer is another than the one from its rows.
    """

    what: str
    searches: int
    source: float | None
    target: float
    wrong: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """A comparison of source and target.

    Attributes:
        rows: entries compared.
        sessions: sessions they belong to.
        namespaces: counts by namespace, the largest first.
        checksums: over every field of every row, of source and of target, as first read; while the source is written
            these are of different moments, and what differed was compared again row by row.
        vectors: whether vectors were among the fields; not where the target's were made anew.
        mismatches: rows that differ, the first of them.
        mismatched: how many rows differ, at least.
        unsettled: rows that the source changed too often to compare them.
        again: rows compared one by one, since they were written while the checksums were made.
        searches: what a sample of searches found; empty for a target that searches exactly and has no index in memory.
        indexed: whether the target's index has as many vectors as there are rows.
    """

    rows: int
    sessions: int
    namespaces: tuple[NamespaceCount, ...]
    checksums: tuple[str, str]
    vectors: bool
    mismatches: tuple[Mismatch, ...]
    mismatched: int
    unsettled: int
    again: int
    searches: tuple[RecallSample, ...]
    indexed: bool

    @property
    def passed(self) -> bool:
        """Whether source and target agree in everything that was compared."""
        wrong = sum(one.wrong for one in self.searches)
        return not self.mismatched and not self.unsettled and not wrong and self.indexed


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationReport:
    """What a migration or a rollback did.

    Attributes:
        direction: "migrate" or "rollback".
        source: the path of the source, or what it is.
        target: the path of the target, or what it is.
        entries: rows in the target at the end.
        written: rows that were put or deleted in this run.
        resumed: whether an earlier run had begun it.
        position: the source's sequence number, or a file's line, up to which the target has everything.
        lag: how many numbers the source had beyond that at the end: written meanwhile, and not in the target.
        finished: whether the target says of itself that it is complete.
        verification: the comparison; None where none was asked for.
        kept: rows of the target that were written there meanwhile, and left as they are; only at a rollback.
        restored: rows that were deleted there meanwhile, and put back; only at a rollback.
        seconds: by phase.
    """

    direction: Literal["migrate", "rollback"]
    source: str
    target: str
    entries: int
    written: int
    resumed: bool
    position: int
    lag: int
    finished: bool
    verification: Verification | None
    kept: tuple[Identity, ...] = ()
    restored: int = 0
    seconds: dict[Phase, float]

    @property
    def verified(self) -> bool:
        """Whether a comparison was made, and found source and target equal."""
        return self.verification is not None and self.verification.passed

    @property
    def outcome(self) -> str:
        """Say in a line how it ended."""
        if self.verified:
            return "verified"
        return "not verified" if self.verification is not None or not self.finished else "finished, not compared"

    def lines(self) -> list[tuple[str, str]]:
        """Return the report as pairs of name and value."""
        lines = [
            ("from", self.source),
            ("to", self.target),
            ("outcome", self.outcome + ("" if self.finished else ": the target is marked unfinished")),
            ("entries", f"{self.entries:,} in the target"),
            ("written", f"{self.written:,} rows in this run" + (", which went on with an earlier one" * self.resumed)),
        ]
        if self.lag:
            lines.append(("behind", f"{self.lag:,} changes of the source came after the last pass"))
        if self.direction == "rollback":
            lines.append(("kept", f"{len(self.kept):,} rows written to the target meanwhile"))
            lines.append(("put back", f"{self.restored:,} rows deleted in the target meanwhile"))
        if self.verification is not None:
            lines += _verified(self.verification)
        lines.append(("seconds", ", ".join(f"{phase} {taken:.2f}" for phase, taken in self.seconds.items())))
        return lines

    def table(self) -> str:
        """Return the report as text in two columns."""
        return _table(self.lines())


def _verified(found: Verification) -> list[tuple[str, str]]:
    lines = [
        ("compared", f"{found.rows:,} rows in {found.sessions:,} sessions, {_fields(found)}"),
        ("checksum", found.checksums[1] if len(set(found.checksums)) == 1 else " and ".join(found.checksums)),
    ]
    if found.again:
        lines.append(("again", f"{found.again:,} rows one by one, as they were written meanwhile"))
    for one in found.namespaces[:_SHOWN]:
        count = f"{one.target:,}" if one.source == one.target else f"{one.source:,} and {one.target:,}"
        lines.append(("namespace", f"{' / '.join(one.namespace) or '(none)'}: {count} entries"))
    if len(found.namespaces) > _SHOWN:
        lines.append(("", f"and {len(found.namespaces) - _SHOWN:,} more namespaces"))
    for sample in found.searches:
        source = "" if sample.source is None else f", source {sample.source:.1%}"
        wrong = f", {sample.wrong:,} ANSWERED FROM OTHER ROWS" if sample.wrong else ""
        lines.append(("recall", f"{sample.target:.1%} in {sample.searches:,} searches ({sample.what}){source}{wrong}"))
    if not found.indexed:
        lines.append(("index", "the target's index has another number of vectors than there are rows"))
    if found.unsettled:
        lines.append(("unsettled", f"{found.unsettled:,} rows were written too often to compare them"))
    for row in found.mismatches:
        where = f"{' / '.join(row.namespace)} " if row.namespace else ""
        lines.append(("differs", f"{where}{row.session_id}, {row.id}: {row.what}"))
    if found.mismatched > len(found.mismatches):
        lines.append(("", f"and at least {found.mismatched - len(found.mismatches):,} more rows"))
    return lines


_SHOWN = 10
"""Namespaces in a table."""


def _fields(found: Verification) -> str:
    return "every field" if found.vectors else "every field but the vectors, which were made anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationPlan:
    """What a migration would do, reckoned from rates that were measured just now on a sample.

    Attributes:
        source: the path of the source, or what it is.
        target: the path of the target, or what it is.
        entries: rows to bring over; of a file, its lines.
        bytes: of their texts, metadata and vectors, about.
        embedded: texts that would be embedded anew, about; 0 where vectors are taken over.
        steps: what would be done, in order.
        sample: rows that the rates were measured with.
        read_rate: rows a second read from the source; None where there was nothing to measure.
        write_rate: rows a second written to a target of the same kind beside the target.
        index_rate: rows a second put into an index of the target's kind, at the sample's size.
        seconds: by phase, about.
        disk_bytes: what the target would take on disk, about; 0 for one in memory.
        disk_free: bytes free where the target is; None for one in memory.
        memory_bytes: what the target's index would take in memory, about.
    """

    source: str
    target: str
    entries: int
    bytes: int
    embedded: int
    steps: tuple[str, ...]
    sample: int
    read_rate: float | None
    write_rate: float | None
    index_rate: float | None
    seconds: dict[Phase, float]
    disk_bytes: int
    disk_free: int | None
    memory_bytes: int

    @property
    def fits(self) -> bool:
        """Whether the disk has room."""
        return self.disk_free is None or self.disk_bytes < self.disk_free

    @property
    def total_seconds(self) -> float:
        """How long all of it would take, about."""
        return sum(self.seconds.values())

    def lines(self) -> list[tuple[str, str]]:
        """Return the plan as pairs of name and value."""
        rates = {"read": self.read_rate, "write": self.write_rate, "index": self.index_rate}
        known = [f"{name} {rate:,.0f}" for name, rate in rates.items() if rate is not None]
        lines = [
            ("from", self.source),
            ("to", self.target),
            ("entries", f"{self.entries:,}, about {bytes_told(self.bytes)}"),
            *(("to do" if number == 1 else "", f"{number}. {step}") for number, step in enumerate(self.steps, start=1)),
            ("time", f"about {self.total_seconds:,.1f} s: {_each(self.seconds)}"),
            ("rates", f"{', '.join(known) or 'none'} rows a second, measured on {self.sample:,} rows"),
        ]
        if self.disk_free is not None:
            room = "" if self.fits else ": NOT ENOUGH"
            lines.append(("disk", f"about {bytes_told(self.disk_bytes)} of {bytes_told(self.disk_free)} free{room}"))
        lines.append(("memory", f"about {bytes_told(self.memory_bytes)} for the index"))
        return lines

    def table(self) -> str:
        """Return the plan as text in two columns."""
        return _table(self.lines())


def _each(seconds: dict[Phase, float]) -> str:
    return ", ".join(f"{phase} {taken:,.1f}" for phase, taken in seconds.items())


def _table(lines: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in lines)
