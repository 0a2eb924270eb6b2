"""A memory moved to another backend: rows as they are, while the source is written, and compared before it counts.

The target keeps the note "migration": "unfinished" from before the first row, "finished" once it was compared. It names
the source, and the numbers that the two stores had in common, from which a rollback goes on.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from llmspell_memory.backends.notes import FINISHED, MIGRATION, UNFINISHED, read_note
from llmspell_memory.errors import InputError
from llmspell_memory.operations.migration.follow import Follower, about, check_pair, kept_in, last_number
from llmspell_memory.operations.migration.plan import place_of, planned
from llmspell_memory.operations.migration.report import MigrationReport
from llmspell_memory.operations.migration.verify import ALL, Verifier, catch_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.operations.migration.follow import Prepare
    from llmspell_memory.operations.migration.report import MigrationPlan, Phase, Progress, Verification
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EpisodicEntry

SEARCHES: Final = 60
"""Searches that a verification asks of both stores."""

_MORE: Final = 256
"""Batches for what is written while rows are copied; a source that is written faster than that is left behind."""


@overload
def migrate(
    source: Any,
    target: Any,
    *,
    dry_run: Literal[False] = False,
    verify: bool = True,
    batch: int = 512,
    reembed: bool = False,
    on_progress: Progress | None = None,
) -> MigrationReport: ...
@overload
def migrate(
    source: Any,
    target: Any,
    *,
    dry_run: Literal[True],
    verify: bool = True,
    batch: int = 512,
    reembed: bool = False,
    on_progress: Progress | None = None,
) -> MigrationPlan: ...
def migrate(
    source: Any,
    target: Any,
    *,
    dry_run: bool = False,
    verify: bool = True,
    batch: int = 512,
    reembed: bool = False,
    on_progress: Progress | None = None,
) -> MigrationReport | MigrationPlan:
    """Bring every entry of `source` into `target` as it is: ids, times, flags, metadata, namespaces and vectors.

    The source is only read, and others may write to it meanwhile: what they change is brought over, too, until the
    target is level. Interrupted at any point, the same call goes on. Memory is bounded by `batch`, and some 100 bytes a
    session and a namespace while rows are compared.

    Args:
        source: a manager, or a backend; one namespace of a store, too.
        target: a manager, or a backend, of a whole store. Empty, or from an earlier run with the same source.
        dry_run: change nothing, and return a plan instead, from rates measured on a sample.
        verify: compare counts, a checksum over every field of every row, and a sample of searches; the target counts as
            finished only when they agree.
        batch: rows read and written at a time.
        reembed: where the two are of different embedding spaces, embed the texts anew by the target's service; the
            target must be a manager then.
        on_progress: called with the phase, how many are done, and how many there are.

    Returns:
        A report; `report.verified` says whether both are equal. If not, the target stays marked as unfinished, and the
        same call compares every row again and puts right what differs. With `dry_run`, a plan.

    Raises:
        InputError: the target holds entries of its own, or was written since it was finished; or the spaces differ, and
            `reembed` is False. Nothing is changed.
        StorageError: a store failed. The source is as it was, the target is marked as unfinished.
    """
    pair = Pair(source, target, reembed=reembed)
    check_pair(pair.source, pair.target, same_space=False)
    resumed = check_target(pair.target, about(pair.source).id, pair.source.namespace)
    if dry_run:
        return planned(pair.source, place_of(pair.target), batch=batch, service=pair.service, verify=verify)
    follower = Follower(pair.source, pair.target, note=MIGRATION, batch=batch, state=UNFINISHED, prepare=pair.prepare)
    follower.record(state=UNFINISHED, target_position=None, source_name=name_of(pair.source))
    run = Run(follower, vectors=pair.prepare is None, on_progress=on_progress)
    with noted(follower):
        run.copy()
        run.index()
        verification = run.verify() if verify else None
        return run.report("migrate", verification, resumed=resumed)


def check_target(target: EpisodicBackend, source_id: str, namespace: tuple[str, ...] = ()) -> bool:
    """Refuse a target that holds anything but an earlier run of the same migration; return whether it holds one.

    Args:
        target: the target.
        source_id: of the source.
        namespace: that the source shows.

    Raises:
        InputError: says what the target is, and what to do.
    """
    note = read_note(target, MIGRATION)
    if note is None:
        if entries := target.count(ALL):
            raise InputError(
                f"the target holds {entries:,} entries of its own; migrate into an empty store, or add to this "
                "one by `llmspell-memory export` and `import`"
            )
        return False
    if note.get("source") != source_id or note.get("namespace", []) != list(namespace):
        raise InputError(
            f"the target was migrated from {note.get('source_name', 'another store')} (state: {note.get('state')}); "
            "migrate into an empty store"
        )
    if note.get("state") == FINISHED and note.get("target_seq") != last_number(target):
        raise InputError(
            "the target was written since its migration was finished, and those changes would be lost; bring them to "
            "the source by rollback, or migrate into an empty store"
        )
    return "position" in note


class Pair:
    """The two backends of a migration, and what embeds where their spaces differ.

    Args:
        source: a manager or a backend.
        target: a manager or a backend.
        reembed: whether texts may be embedded anew.

    Raises:
        InputError: the spaces differ, and nothing may or can embed.
    """

    def __init__(self, source: Any, target: Any, *, reembed: bool) -> None:
        self.source: EpisodicBackend = getattr(source, "backend", source)
        self.target: EpisodicBackend = getattr(target, "backend", target)
        self.service: EmbeddingService | None = None
        if self.source.space != self.target.space:
            check_pair(self.source, self.target, same_space=not reembed)
            self.service = getattr(target, "service", None)
            if self.service is None:
                raise InputError("to embed texts anew, give a manager as target: its service makes the vectors")

    @property
    def prepare(self) -> Prepare | None:
        """What gives rows vectors of the target's space; None where they have theirs."""
        return None if self.service is None else preparing(self.service)


def preparing(service: EmbeddingService) -> Prepare:
    """Return a function that gives entries vectors by this service."""

    def prepare(entries: Sequence[EpisodicEntry]) -> list[EpisodicEntry]:
        vectors = service.embed([entry.content for entry in entries])
        return [entry.changed(embedding=vector) for entry, vector in zip(entries, vectors, strict=True)]

    return prepare


class Run:
    """The phases of a migration, with the seconds that each takes.

    Args:
        follower: from source to target.
        vectors: whether both are of one space, so that vectors are compared.
        on_progress: told of the phases.
    """

    def __init__(self, follower: Follower, *, vectors: bool, on_progress: Progress | None) -> None:
        self.follower = follower
        self.seconds: dict[Phase, float] = {}
        self.written = 0
        self._level = 0
        self._vectors = vectors
        self._tell = on_progress or (lambda _phase, _done, _total: None)

    def copy(self) -> None:
        """Apply batches until the target is level."""
        with timed(self.seconds, "copy"):
            seq = last_number(self.follower.source)
            more = 0
            while more < _MORE and (applied := self.follower.step()) is not None:
                self.written += applied
                more += self.follower.position >= seq
                self._tell("copy", self.follower.position, max(seq, self.follower.position))
            self._level = last_number(self.follower.target)

    def index(self) -> None:
        """Let the target's index read what was written, which else waits for the first search."""
        read_into_index(self.follower.target, self.seconds, self._tell)

    def verify(self) -> Verification:
        """Compare both, and let the target say what came of it."""
        with timed(self.seconds, "compare"):
            verifier = Verifier(self.follower, vectors=self._vectors, searches=SEARCHES, on_progress=self._tell)
            found = verifier.run()
        if not found.passed:
            self.follower.start_over()  # the next run compares every row, and puts right what differs
        return found

    def report(
        self,
        direction: Literal["migrate", "rollback"],
        verification: Verification | None,
        *,
        resumed: bool,
        level: Callable[[], int] | None = None,
    ) -> MigrationReport:
        """Do the last short pass, finish the note, and return the report.

        The note's "target_position" is where a rollback will begin to read: everything up to it is known to be the
        source's. So it is from before the comparison, or what `level` says; to read a little too much does no harm.
        """
        follower = self.follower
        passed = verification is None or verification.passed
        if passed:
            with timed(self.seconds, "copy"):
                self.written += catch_up(follower)
            follower.record(
                state=FINISHED,
                verified=verification is not None,
                target_position=self._level if level is None else level(),
                target_seq=last_number(follower.target),
                finished=datetime.now(UTC).isoformat(),
            )
        return MigrationReport(
            direction=direction,
            source=name_of(follower.source),
            target=name_of(follower.target),
            entries=follower.target.count(ALL),
            written=self.written,
            resumed=resumed,
            position=follower.position,
            lag=follower.lag if passed else 0,
            finished=passed,
            verification=verification,
            seconds=self.seconds,
        )


@contextmanager
def timed(seconds: dict[Phase, float], phase: Phase) -> Iterator[None]:
    """Add how long the block takes to a phase's seconds."""
    began = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - began


def read_into_index(target: EpisodicBackend, seconds: dict[Phase, float], tell: Progress) -> None:
    """Let an HNSW index read what was written, which else waits for the first search."""
    if target.hnsw is None or not (some := next(iter(target.scan(ALL, limit=1)), None)):
        return
    assert some.embedding is not None  # noqa: S101 (for the type checker: a stored row has its vector)
    with timed(seconds, "index"):
        entries = target.count(ALL)
        tell("index", 0, entries)
        target.configure(target.hnsw)
        target.search(some.embedding, 1, ALL)
        tell("index", entries, entries)


@contextmanager
def noted(follower: Follower) -> Iterator[None]:
    """Add to whatever interrupts a run how far it came, and that it can go on."""
    try:
        yield
    except BaseException as error:
        error.add_note(
            f"the target is marked unfinished, and level with the source up to change {follower.position:,}; the same "
            "call goes on from there"
        )
        raise


def name_of(backend: EpisodicBackend) -> str:
    """Return what a backend is called in a report: its path, or what it is."""
    known = about(backend)
    if backend.namespace:
        return f"the namespace {' / '.join(backend.namespace)} of a {known.rows} store"
    return str(known.path) if known.path is not None else f"a store in {kept_in(backend)} ({backend.space})"
