"""Whether a store is whole: its pages, tables and rows, and the saved index against the rows. Nothing is changed."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from llmspell_memory.backends.notes import REMEDY, UNFINISHED, fields_of
from llmspell_memory.backends.sqlite.check_index import SavedIndexCheck
from llmspell_memory.backends.sqlite.connection import translated
from llmspell_memory.backends.sqlite.findings import Findings
from llmspell_memory.backends.sqlite.pages import damage
from llmspell_memory.backends.sqlite.salvage import Salvage, keeping_moment
from llmspell_memory.backends.sqlite.schema import MIGRATIONS
from llmspell_memory.errors import InputError, StorageError
from llmspell_memory.types import CheckReport

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Iterable

    from llmspell_memory.types import Matrix, Vector
    from llmspell_memory.types.arrays import Labels

_BATCH: Final = 512
_WITH_SNAPSHOTS: Final = 2
"""The first schema version that records index files."""

_WITH_NOTES: Final = 3
"""The first schema version that keeps notes."""

_SETTLE_SECONDS: Final = 0.05
"""A page that somebody is writing just now is whole after this."""


def check(path: str | os.PathLike[str], *, sample: int = 100) -> CheckReport:
    """Look at everything in the store at `path`, to its end where it is damaged, and report what is wrong.

    Seen are: every page's checksum; SQLite's own integrity check; that every row can be decoded, every entry has a
    vector that an index takes, and every vector an entry; the embedding space and the sequence numbers; and the saved
    index: whether it is whole and of these rows, holds their vectors and no others, and finds the nearest. Others may
    use the store meanwhile. The vectors are held in memory while recall is measured.

    Args:
        path: of the store.
        sample: how many searches to measure recall with, by stored vectors with some noise; 0 for none.

    Raises:
        InputError: `sample` is negative.
        StorageError: there is no store at `path`; a SchemaError when the file is not ours, or of a newer version.
    """
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 0:
        raise InputError(f"sample must be an integer from 0 up, got {sample!r}")
    source = Path(path).absolute()
    if not source.is_file() or not source.stat().st_size:
        raise StorageError(f"there is no store at {source}")
    findings = Findings()
    index = SavedIndexCheck(source, findings)
    index.open()
    with keeping_moment(source) as db, Salvage(source) as salvage:
        return _Check(source, salvage, db, findings).run(index, sample)


class _Check:
    """One look at one store."""

    def __init__(self, path: Path, salvage: Salvage, db: sqlite3.Connection | StorageError, findings: Findings) -> None:
        self._path = path
        self._salvage = salvage
        self._db = db
        self._found = findings
        self._identities = salvage.identities()

    def run(self, index: SavedIndexCheck, sample: int) -> CheckReport:
        """Look at one part after the other."""
        salvage = self._salvage
        self._pages()
        self._integrity()
        self._records()
        entries = self._entries()
        dead = self._tombstones(entries)
        index.place(salvage.space, self._tags())
        index.begin(entries, dead, sample=sample)
        vectors = self._vectors(entries, index)
        recall = index.end(whole=self._found.sound)
        return CheckReport(
            path=self._path,
            schema=salvage.schema,
            space=salvage.space,
            pages=salvage.file.count,
            checksums=salvage.file.checksums,
            entries=len(entries),
            vectors=vectors,
            snapshot=index.state,
            recall=recall,
            findings=self._found.all(),
        )

    def _name(self, label: int | None) -> str:
        if label not in self._identities:
            return f"label {label}"
        entry_id, namespace = self._identities[label]
        of = f" of namespace {namespace!r}" if namespace else ""
        return f"entry {entry_id!r}{of} (label {label})"

    def _pages(self) -> None:
        file = self._salvage.file
        if not file.checksums:
            self._found.note(
                "pages",
                "the file",
                "its pages have no checksums: it was made by an earlier version, which could not see every damage",
                "`llmspell-memory repair FILE` makes a store that has them",
            )
        (recorded,) = struct.unpack_from(">I", file.header, 28)
        damaged = file.damaged()
        if damaged:
            time.sleep(_SETTLE_SECONDS)
        free = file.free() or set()
        for number in damaged:
            where = f"page {number} (at byte {(number - 1) * file.page_bytes:,})"
            if file.is_whole(number) or (1 not in damaged and number > recorded):
                continue
            if number not in free:
                self._found.fault("pages", where, "is not what was written")
            elif not file.is_empty(number):  # a page that was never needed after all is never written
                self._found.note("free pages", where, "is not what was written, but free: nothing is lost")
        if 1 not in damaged and recorded > file.count:
            self._found.fault("pages", "the file", f"it ends after {file.count:,} of {recorded:,} pages")

    def _integrity(self) -> None:
        try:
            if isinstance(self._db, StorageError):
                raise self._db
            with translated(self._path):
                said = [row[0] for row in self._db.execute("PRAGMA integrity_check")]
            damage()  # SQLite told of it in words; nobody else is to hear of that page again
        except StorageError as error:
            self._found.fault("SQLite", "the file", f"SQLite cannot read it to its end: {error}")
            return
        lines = [line for text in said for line in text.splitlines() if line != "ok" and not line.startswith("***")]
        unused = [line for line in lines if line.endswith("is never used")]
        if unused:
            self._found.fault("SQLite", "the file", f"SQLite does not reach {len(unused)} or more of its pages")
        for line in lines:
            if line not in unused:
                self._found.fault("SQLite", "the file", f"SQLite's integrity check: {line}")

    def _records(self) -> None:
        salvage = self._salvage
        if salvage.schema is None:
            self._found.fault("records", "the file", "its schema version cannot be read")
        elif salvage.schema < len(MIGRATIONS):
            what = f"its tables are of version {salvage.schema}, this release's of {len(MIGRATIONS)}"
            self._found.note("records", "the file", what, "nothing: the next opening brings them up to date")
        if not salvage.has_tables:
            self._found.fault("records", "the file", "no table of a store can be found in it")
        if salvage.seq is None:
            self._found.fault("records", "table state", "the number of the last change cannot be read")
        if salvage.space is None:
            self._found.fault("records", "table spaces", "the embedding space cannot be read")
        self._notes()

    def _notes(self) -> None:
        """Tell of a migration to this store, or a rollback, that was begun and not finished."""
        if isinstance(self._db, StorageError) or (self._salvage.schema or 0) < _WITH_NOTES:
            return
        try:
            with translated(self._path):
                notes = dict(self._db.execute("SELECT name, text FROM notes"))
        except StorageError:
            return
        for name, remedy in REMEDY.items():
            if (fields_of(notes.get(name)) or {}).get("state") == UNFINISHED:
                self._found.note("notes", "the file", f"its {name} is unfinished: it may lack entries", remedy)

    def _entries(self) -> set[int]:
        """Return the labels of the entries that can be read."""
        labels, unread = set(), set()
        for label, entry, why in self._salvage.entries():
            if entry is None or label is None:
                self._found.fault("entries", self._name(label), why)
                unread.add(label)
            else:
                labels.add(label)
        for page in self._salvage.lost_pages["entries"]:
            if not page.number:
                self._found.fault("entries", "table entries", page.why)
        for label in sorted(self._identities.keys() - labels - unread):
            self._found.fault("entries", self._name(label), "its row cannot be read")
        return labels

    def _tombstones(self, entries: set[int]) -> dict[int, int]:
        """Return what was deleted when, as far as it can be read."""
        dead = self._salvage.tombstones()
        for label in sorted(dead.keys() & entries):
            self._found.fault("tombstones", self._name(label), "it is there, and recorded as deleted, too")
        self._ahead("tombstones", dead.items())
        return dead

    def _ahead(self, table: str, changes: Iterable[tuple[int, int]]) -> None:
        last = self._salvage.seq
        for label, seq in changes:
            if last is not None and seq > last:
                what = f"its change has the number {seq}, the last one was {last}: other processes may not see it"
                self._found.fault(table, self._name(label), what)

    def _vectors(self, entries: set[int], index: SavedIndexCheck) -> int:
        """Return how many vectors can be read, and show them to `index`."""
        missing, count = set(entries), 0
        batch: list[tuple[int, int, Vector]] = []
        for label, seq, vector, why in self._salvage.vectors():
            if label is None or vector is None:
                self._found.fault("vectors", self._name(label), why)
                missing -= {label}
                continue
            count += 1
            missing.discard(label)
            self._ahead("vectors", [(label, seq)])
            if label not in entries and label not in self._identities:  # else its entry was found to be missing
                self._found.fault("vectors", self._name(label), "a vector without an entry")
            batch.append((label, seq, vector))
            if len(batch) == _BATCH:
                index.see(*_columns(batch))
                batch.clear()
        if batch:
            index.see(*_columns(batch))
        for label in sorted(missing):
            self._found.fault("vectors", self._name(label), "an entry without a vector that can be read")
        return count

    def _tags(self) -> dict[int, int] | None:
        """Return the tags of index files that the rows know, and what each of them shows; None where nothing tells."""
        if isinstance(self._db, StorageError) or self._salvage.schema is None:
            return None
        if self._salvage.schema < _WITH_SNAPSHOTS:
            return {}
        try:
            with translated(self._path):
                return dict(self._db.execute("SELECT tag, seq FROM snapshots"))
        except StorageError:
            return None


def _columns(batch: list[tuple[int, int, Vector]]) -> tuple[Labels, Labels, Matrix]:
    labels, seqs, vectors = zip(*batch, strict=True)
    return np.array(labels, np.int64), np.array(seqs, np.int64), np.array(vectors, np.float32)
