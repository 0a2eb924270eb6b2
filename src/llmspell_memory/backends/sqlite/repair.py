"""A new store out of what can be read of a damaged one."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llmspell_memory.backends.notes import is_of_this_store
from llmspell_memory.backends.sqlite.backend import SQLiteBackend
from llmspell_memory.backends.sqlite.beside import written_beside
from llmspell_memory.backends.sqlite.connection import connect, translated
from llmspell_memory.backends.sqlite.rows import COLUMNS, packed_vector, to_row
from llmspell_memory.backends.sqlite.salvage import Salvage, keeping_moment
from llmspell_memory.errors import CorruptDataError, SchemaError
from llmspell_memory.types import Loss, RepairReport

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet

    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.types import EmbeddingSpace

_BATCH: Final = 64
"""Texts embedded at a time."""

_EVERY: Final = 512
"""Rows between two words about progress."""


def repair(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    service: EmbeddingService | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> RepairReport:
    """Make a new store at `target` from all rows that can be read in the one at `path`, which is left as it is.

    Rows keep everything: ids, namespaces, moments, marks, metadata, vectors. Notes that can be read are kept, API keys
    and the choice of parameters among them, but for those of moves to and from other stores. What is derived from rows
    is made anew, an HNSW index when the new store is opened. Only pages that are what was written are believed; in a
    store made by an earlier version, whose pages have no checksums, rows that make sense.

    Args:
        path: of the damaged store; close it in every process first.
        target: of the new one; its folder must exist, the file must not.
        service: embeds anew what has lost its vector; without one these entries are losses.
        on_progress: called with how many rows are read, and about how many there are.

    Raises:
        InputError: something is at `target`.
        SchemaError: `path` is another application's, or of a newer version; or `service` is of another space.
        CorruptDataError: nothing tells the embedding space, and no service is given, or no table is left.
        StorageError: `path` cannot be read, or `target` not be written. In every case nothing is left at `target`.
    """
    began = time.monotonic()
    source, made = Path(path).absolute(), Path(target).absolute()
    with written_beside(made, source=source) as beside, keeping_moment(source), Salvage(source) as salvage:
        space = _space(salvage, service, source)
        SQLiteBackend(beside, space, warm=False).close()
        with translated(made), closing(connect(beside, mode="rw")) as db:
            db.execute("PRAGMA journal_mode = OFF")  # nobody needs what a failure leaves half-written
            db.execute("PRAGMA synchronous = OFF")
            work = _Repair(salvage, db)
            work.run(service, on_progress)
            db.execute("PRAGMA journal_mode = WAL")
        if on_progress:
            on_progress(work.read, work.read)
        losses = tuple(work.losses())
    return RepairReport(
        path=source,
        target=made,
        entries=work.entries,
        embedded=work.embedded,
        losses=losses,
        seconds=time.monotonic() - began,
    )


def _space(salvage: Salvage, service: EmbeddingService | None, source: Path) -> EmbeddingSpace:
    space = salvage.space
    if not salvage.has_tables:
        raise CorruptDataError(f"nothing of a store can be read in {source}")
    if space is None and service is None:
        raise CorruptDataError(
            f"nothing in {source} tells its embedding space any more; give the service it was made with "
            "(--provider on the command line)"
        )
    if service is not None and space not in (None, service.space):
        raise SchemaError(f"{source} holds vectors of {space}, the service makes those of {service.space}")
    if space is None and service is not None:
        space = salvage.space = service.space
    assert space is not None  # noqa: S101 (for the type checker)
    return space


class _Repair:
    """Rows on their way from a damaged store into the tables of a new one."""

    def __init__(self, salvage: Salvage, db: sqlite3.Connection) -> None:
        self._salvage = salvage
        self._db = db
        self._identities = salvage.identities()
        self._lost: dict[int, str] = {}
        self._nameless: list[str] = []
        self._kept: set[int] = set()
        self.read = 0
        self.embedded = 0

    @property
    def entries(self) -> int:
        """How many entries the new store has."""
        return len(self._kept)

    def run(self, service: EmbeddingService | None, on_progress: Callable[[int, int], object] | None) -> None:
        """Fill the new store, in one transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            f"INSERT INTO entries (label, {COLUMNS}) VALUES (?{', ?' * len(COLUMNS.split(','))})",  # noqa: S608
            self._told(self._entry_rows(), on_progress),
        )
        self._db.executemany("INSERT INTO vectors_1 VALUES (?, ?, ?)", self._told(self._vector_rows(), on_progress))
        self._match(service)
        kept = [note for note in self._salvage.notes().items() if not is_of_this_store(note[0])]
        self._db.executemany("INSERT INTO notes (name, text) VALUES (?, ?)", kept)
        self._db.execute("UPDATE entries SET seq = (SELECT seq FROM vectors_1 WHERE vectors_1.label = entries.label)")
        self._db.execute(
            "UPDATE state SET seq = max(?, (SELECT ifnull(max(seq), 0) FROM vectors_1))", (self._salvage.seq or 0,)
        )
        self._db.execute("COMMIT")

    def _told(
        self, some: Iterator[tuple[object, ...]], on_progress: Callable[[int, int], object] | None
    ) -> Iterator[tuple[object, ...]]:
        for row in some:
            yield row
            self.read += 1
            if on_progress and self.read % _EVERY == 0:
                on_progress(self.read, max(self.read, 2 * len(self._identities)))

    def _entry_rows(self) -> Iterator[tuple[object, ...]]:
        taken: dict[tuple[str, tuple[str, ...]], int] = {}
        for label, entry, why in self._salvage.entries():
            if label is None:
                self._nameless.append(f"a row of entries: {why}")
            elif entry is None:
                self._lost[label] = why
            elif taken.setdefault((entry.id, entry.namespace), label) != label:
                self._lost[label] = f"its identity is that of label {taken[entry.id, entry.namespace]}, too"
            else:
                self._kept.add(label)
                yield (label, *to_row(entry))

    def _vector_rows(self) -> Iterator[tuple[object, ...]]:
        for label, seq, vector, why in self._salvage.vectors():
            if label is None:
                self._nameless.append(f"a row of vectors: {why}")
            elif label not in self._kept:
                self._lost.setdefault(label, self._unread("entries", label))
            elif vector is None:
                self._lost[label] = why
            else:
                self._lost.pop(label, None)
                yield label, seq, packed_vector(vector)

    def _match(self, service: EmbeddingService | None) -> None:
        """See to it that every entry has a vector: a new one, or the entry is a loss."""
        without = self._db.execute(
            "SELECT label FROM entries WHERE label NOT IN (SELECT label FROM vectors_1)"
        ).fetchall()
        if service is None:
            for (label,) in without:
                why = self._lost.get(label) or self._unread("vectors_", label)
                self._lost[label] = f"{why}; its text is there, and repairing with the embedding service keeps it"
                self._kept.discard(label)
            self._db.executemany("DELETE FROM entries WHERE label = ?", without)
            return
        for begin in range(0, len(without), _BATCH):
            labels = [label for (label,) in without[begin : begin + _BATCH]]
            self._embed(service, labels)

    def _embed(self, service: EmbeddingService, labels: list[int]) -> None:
        some = f"SELECT label, content FROM entries WHERE label IN ({', '.join('?' * len(labels))})"  # noqa: S608 (bound)
        rows = self._db.execute(some, labels).fetchall()
        vectors = service.embed([text for _, text in rows])
        for (label, _), vector in zip(rows, vectors, strict=True):
            self._db.execute(
                "INSERT INTO vectors_1 SELECT ?, max(?, ifnull(max(seq), 0)) + 1, ? FROM vectors_1",
                (label, self._salvage.seq or 0, packed_vector(vector)),
            )
            self._lost.pop(label, None)
            self.embedded += 1

    def losses(self) -> Iterator[Loss]:
        """Yield what the new store lacks, by label; then what has no label any more."""
        dead = self._salvage.tombstones().keys()
        for label in self._identities.keys() - self._kept - self._lost.keys():
            self._lost[label] = self._unread("entries", label)
        for label in sorted(self._lost):
            if label in self._identities or label not in dead:
                entry_id, namespace = self._identities.get(label, (None, None))
                yield Loss(label=label, id=entry_id, namespace=namespace, why=self._lost[label])
        notes = (f"notes that the store keeps: {page.why}" for page in self._salvage.lost_pages.get("notes", []))
        for why in (*self._nameless, *self._unknown(dead), *notes):
            yield Loss(label=None, id=None, namespace=None, why=why)

    def _unread(self, table: str, label: int) -> str:
        """Say why a row that should be there was not met."""
        what = "its row cannot be read" if table == "entries" else "its vector cannot be read"
        pages = self._salvage.lost_pages.get(table, [])
        at = bisect_left(pages, label, key=lambda page: page.low) - 1  # they are in the order of their labels
        return f"{what}: {pages[at].why}" if at >= 0 and label <= (pages[at].high or label) else what

    def _unknown(self, dead: AbstractSet[int]) -> Iterator[str]:
        """Say of which numbers on damaged pages nothing tells whether entries had them."""
        known = sorted(self._kept | self._lost.keys() | dead)
        last = self._salvage.last_label() or max(known, default=0)
        for page in self._salvage.lost_pages.get("entries", []):
            low, high = max(page.low, 0), last if page.high is None else page.high
            unknown = high - low - (bisect_right(known, high) - bisect_right(known, low))
            if unknown > 0:
                yield f"{page.why}: nothing tells whether {unknown} of the labels {low + 1} to {high} were entries"
