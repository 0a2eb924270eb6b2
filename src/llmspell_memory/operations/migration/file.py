"""A JSONL file moved into a store, and a store into a JSONL file, compared like any other migration.

A file is what a memory that lived in RAM leaves behind (`export`, with its vectors). It is read line by line, as often
as it must be, and never held.
"""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llmspell_memory.backends.notes import FINISHED, MIGRATION, UNFINISHED, read_note
from llmspell_memory.errors import InputError
from llmspell_memory.operations.batches import batched
from llmspell_memory.operations.files.formats import open_source
from llmspell_memory.operations.files.jsonl import dumped, entry_line, header_line
from llmspell_memory.operations.files.output import written_whole
from llmspell_memory.operations.migration.digest import Digest, identity_number
from llmspell_memory.operations.migration.follow import found, last_number, put
from llmspell_memory.operations.migration.migrate import SEARCHES, check_target, name_of, read_into_index, timed
from llmspell_memory.operations.migration.plan import plan_from
from llmspell_memory.operations.migration.report import MigrationReport, Mismatch, Verification
from llmspell_memory.operations.migration.sample import asked
from llmspell_memory.operations.migration.verify import ALL, Compared, compare, is_indexed, mismatch, namespace_counts

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.operations.migration.plan import Place
    from llmspell_memory.operations.migration.report import MigrationPlan, Phase, Progress, RecallSample
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace, EpisodicEntry, Identity

_END: Final = 1 << 16
_NAMED: Final = 10
_EVERY: Final = 256
_SAMPLE: Final = 4096


def from_file(
    path: str | os.PathLike[str],
    target: Any,
    *,
    verify: bool = True,
    batch: int = 512,
    reembed: bool = False,
    on_progress: Progress | None = None,
) -> MigrationReport:
    """Bring the entries of a JSONL file, plain or gzipped, into a store as they are; otherwise as `migrate`.

    Where an identity stands in several lines, the last one counts. Texts without a vector are embedded.

    Args:
        path: of the file.
        target: a manager, or a backend, of a whole store. Empty, or from an earlier run with the same file.
        verify: as for `migrate`.
        batch: lines read and rows written at a time.
        reembed: drop the vectors in the file, and embed its texts anew.
        on_progress: as for `migrate`.

    Raises:
        InputError: as for `migrate`; or the file cannot be read, or is no JSONL.
        EmbeddingError: a text could not be embedded.
    """
    backend: EpisodicBackend = getattr(target, "backend", target)
    file = FileRows(Path(path), backend, reembed=reembed)
    run = _FileRun(file, backend, getattr(target, "service", None), on_progress)
    try:
        run.copy(batch)
        read_into_index(backend, run.seconds, run.tell)
        verification = run.verify() if verify else None
        return run.report(verification)
    except BaseException as error:
        error.add_note(
            f"the target is marked unfinished, and has the first {run.lines:,} lines; the same call goes on from there"
        )
        raise


class FileRows:
    """A file of entries that fits a store, to be read again and again.

    Args:
        path: of the file.
        target: the store.
        reembed: leave the file's vectors out.

    Attributes:
        id: by which the target knows the file again: a checksum of its length, its beginning and its end.
        space: of the vectors in it.
        learned: the ingestion_time of lines that have none.

    Raises:
        InputError: the file cannot be read, is no JSONL, or holds vectors of another space.
    """

    def __init__(self, path: Path, target: EpisodicBackend, *, reembed: bool) -> None:
        self.path = path.absolute()
        self._reembed = reembed
        with open_source(path) as source:
            if source.format != "jsonl":
                raise InputError(
                    f"{path} is an export of {source.format}, not of a memory; bring it in by `llmspell-memory import`"
                )
            self.space: EmbeddingSpace | None = None if reembed else source.space
        self.id = _checksum(self.path)
        noted = read_note(target, MIGRATION) or {}
        self.learned = datetime.fromisoformat(noted.get("learned", datetime.now(UTC).isoformat()))
        self._last: NDArray[np.bool_] | None = None
        self.all_have_vectors = not reembed
        if self.space not in (None, target.space):
            raise InputError(
                f"the file holds vectors of {self.space}, the target those of {target.space}, and the two cannot be "
                "compared. Make the target with the same provider and model, or embed the texts anew: "
                "--reembed, in Python reembed=True"
            )

    def lines(self) -> Iterator[EpisodicEntry]:
        """Yield the entry of every line."""
        with open_source(self.path, format="jsonl", learned=self.learned) as source:
            for entry in source.entries:
                yield entry.changed(embedding=None) if self._reembed else entry

    def rows(self) -> Iterator[EpisodicEntry]:
        """Yield the entries that count: of each identity its last line. Eight bytes a line are held."""
        if self._last is None:
            self._last = self._find_last()
        for counts, entry in zip(self._last.tolist(), self.lines(), strict=True):
            if counts:
                yield entry

    def _find_last(self) -> NDArray[np.bool_]:
        def numbers() -> Iterator[int]:
            for entry in self.lines():
                self.all_have_vectors &= entry.embedding is not None
                yield identity_number(*entry.identity)

        names = np.fromiter(numbers(), np.uint64)
        _, first_from_behind = np.unique(names[::-1], return_index=True)
        last = np.zeros(len(names), np.bool_)
        last[len(names) - 1 - first_from_behind] = True
        return last


def _checksum(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_END)
        file.seek(max(0, size - _END))
        return f"file:{blake2b(start + file.read(_END) + size.to_bytes(8, 'little'), digest_size=16).hexdigest()}"


class _FileRun:
    """The phases of bringing a file into a store."""

    def __init__(
        self, file: FileRows, target: EpisodicBackend, service: EmbeddingService | None, on_progress: Progress | None
    ) -> None:
        self._file = file
        self._target = target
        self._space = target.space
        self._service = service
        self.tell: Progress = on_progress or (lambda _phase, _done, _total: None)
        self.resumed = check_target(target, file.id)
        self.seconds: dict[Phase, float] = {}
        self.written = 0
        fields = read_note(target, MIGRATION) or {}
        self.lines: int = fields.get("position", 0)
        self._record(state=UNFINISHED)

    def _record(self, **fields: Any) -> None:
        known: dict[str, Any] = {
            "source": self._file.id,
            "source_name": str(self._file.path),
            "namespace": [],
            "position": self.lines,
            "learned": self._file.learned.isoformat(),
        }
        self._target.write_note(MIGRATION, dumped(known | fields))

    def copy(self, batch: int) -> None:
        """Put line after line, from where an earlier run has come to."""
        with timed(self.seconds, "copy"):
            left = itertools.islice(self._file.lines(), self.lines, None)
            for some in batched(left, batch):
                last = {entry.identity: entry for entry in some}
                self.written += put(self._target, self._with_vectors(list(last.values())), space=self._space)
                self.lines += len(some)
                self._record(state=UNFINISHED)
                self.tell("copy", self.lines, self.lines)

    def _with_vectors(self, entries: list[EpisodicEntry]) -> list[EpisodicEntry]:
        """Embed the texts that come without a vector, all but those the target has already."""
        bare: dict[Identity, EpisodicEntry] = {entry.identity: entry for entry in entries if entry.embedding is None}
        if not bare:
            return entries
        there = found(self._target, bare)
        vectors = {
            name: old.embedding
            for name, old in there.items()
            if old.content == bare[name].content  # the same words have the same vector
        }
        new = [entry for name, entry in bare.items() if name not in vectors]
        if new and self._service is None:
            raise InputError(
                f"entry {new[0].id!r} has no vector; give a manager as target: its service makes what is missing"
            )
        if new and self._service is not None:
            made = self._service.embed([entry.content for entry in new])
            vectors |= {entry.identity: vector for entry, vector in zip(new, made, strict=True)}
        return [
            entry if entry.embedding is not None else entry.changed(embedding=vectors[entry.identity])
            for entry in entries
        ]

    def verify(self) -> Verification:
        """Compare the file with the store; without vectors where some were made here."""
        with timed(self.seconds, "compare"):
            total = 2 * self._target.count(ALL)
            next(self._file.rows(), None)  # finds out whether all lines have vectors
            vectors = self._file.all_have_vectors
            compared = compare(
                self._file.rows,
                self._target,
                vectors=vectors,
                searches=SEARCHES,
                on_rows=lambda done: self.tell("compare", done, max(done, total)),
            )
            return Verification(
                rows=compared.target.rows,
                sessions=len(compared.target.sessions),
                namespaces=namespace_counts(compared),
                checksums=(compared.source.checksum, compared.target.checksum),
                vectors=vectors,
                mismatches=self._mismatches(compared, vectors=vectors),
                mismatched=len(compared.suspects) + compared.more,
                unsettled=0,
                again=0,
                searches=self._ask(compared),
                indexed=is_indexed(self._target),
            )

    def _ask(self, compared: Compared) -> tuple[RecallSample, ...]:
        assert compared.truth is not None  # noqa: S101 (for the type checker)
        total = len(compared.truth.questions)
        return asked(
            compared.truth, None, self._target, still=True, on_done=lambda done: self.tell("search", done, total)
        )

    def _mismatches(self, compared: Compared, *, vectors: bool) -> tuple[Mismatch, ...]:
        names = sorted(compared.suspects)[:_NAMED]
        if not names:
            return ()
        wanted = set(names)
        ours = {name: one for one in self._file.rows() if (name := one.identity) in wanted}
        theirs = found(self._target, names)
        told = (mismatch(name, ours.get(name), theirs.get(name), vectors=vectors) for name in names)
        return tuple(one for one in told if one is not None)

    def report(self, verification: Verification | None) -> MigrationReport:
        """Finish the note, and return the report."""
        passed = verification is None or verification.passed
        if passed:
            self._record(state=FINISHED, verified=verification is not None, target_seq=last_number(self._target))
        else:
            self.lines = 0  # the next run looks at every line again, and puts right what differs
            self._record(state=UNFINISHED)
        return MigrationReport(
            direction="migrate",
            source=str(self._file.path),
            target=name_of(self._target),
            entries=self._target.count(ALL),
            written=self.written,
            resumed=self.resumed,
            position=self.lines,
            lag=0,
            finished=passed,
            verification=verification,
            seconds=self.seconds,
        )


def to_file(
    source: Any, path: str | os.PathLike[str], *, verify: bool = True, on_progress: Progress | None = None
) -> MigrationReport:
    """Write every entry of a store, expired ones too, into a JSONL file with its vectors; a name in .gz is compressed.

    The file is of one moment, and there when it is whole; with `verify` it is read back, and compared with what was
    written.

    Raises:
        InputError: there is something at `path`.
        StorageError: the file cannot be written.
    """
    backend: EpisodicBackend = getattr(source, "backend", source)
    path = Path(path).absolute()
    if path.exists():
        raise InputError(f"{path} exists; choose another name, or move it away")
    tell: Progress = on_progress or (lambda _phase, _done, _total: None)
    seconds: dict[Phase, float] = {}
    ours, theirs = Digest(vectors=True), Digest(vectors=True)
    position = last_number(backend)
    with written_whole(path) as stream, timed(seconds, "copy"):
        total = backend.count(ALL)
        stream.write(header_line(backend.space) + "\n")
        for entry in backend.scan(ALL):
            stream.write(entry_line(entry, vector=True) + "\n")
            ours.add(entry)
            if ours.rows % _EVERY == 0:
                tell("copy", ours.rows, max(ours.rows, total))
    if verify:
        with timed(seconds, "compare"), open_source(path, format="jsonl") as read:
            for entry in read.entries:
                theirs.add(entry)
    verification = _read_back(ours, theirs) if verify else None
    return MigrationReport(
        direction="migrate",
        source=name_of(backend),
        target=str(path),
        entries=ours.rows,
        written=ours.rows,
        resumed=False,
        position=position,
        lag=max(0, last_number(backend) - position),
        finished=verification is None or verification.passed,
        verification=verification,
        seconds=seconds,
    )


def _read_back(written: Digest, read: Digest) -> Verification:
    """Return what a comparison of two checksums says; a sample of searches has no meaning for a file."""
    compared = Compared(written, read, set(), len(written.differing(read)))
    return Verification(
        rows=read.rows,
        sessions=len(read.sessions),
        namespaces=namespace_counts(compared),
        checksums=(written.checksum, read.checksum),
        vectors=True,
        mismatches=(),
        mismatched=compared.more + abs(written.rows - read.rows),
        unsettled=0,
        again=0,
        searches=(),
        indexed=True,
    )


def plan_from_file(
    path: str | os.PathLike[str],
    place: Place,
    *,
    service: EmbeddingService | None,
    reembed: bool = False,
    verify: bool = True,
) -> MigrationPlan:
    """Return what it would take to bring a JSONL file into a store at `place`; nothing is changed.

    Args:
        path: of the file.
        place: where the store is, or would be.
        service: embeds texts that come without a vector.
        reembed: whether the vectors in the file are left out.
        verify: whether both would be compared.

    Raises:
        InputError: the file cannot be read, or is no JSONL.
    """
    began = time.perf_counter()
    with open_source(path) as source:
        rows = list(itertools.islice(source.entries, _SAMPLE))
        seconds = time.perf_counter() - began
        entries = len(rows) + sum(1 for _ in source.entries)
    embeds = reembed or any(row.embedding is None for row in rows)
    return plan_from(
        rows,
        seconds,
        entries=entries,
        source=str(Path(path).absolute()),
        place=place,
        service=service if embeds else None,
        verify=verify,
    )
