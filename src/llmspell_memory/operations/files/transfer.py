"""Entries out of a memory into a file, and out of a file into a memory, without loss in either direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from llmspell_memory.errors import SchemaError
from llmspell_memory.operations.batches import batched, check_batch
from llmspell_memory.operations.files.jsonl import entry_line, header_line
from llmspell_memory.types import Filter
from llmspell_memory.types.entry import same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TextIO

    from llmspell_memory.memory import EpisodicMemory, OnDuplicate
    from llmspell_memory.operations.files.formats import Source
    from llmspell_memory.types import EmbeddingSpace, EpisodicEntry

_EVERYTHING: Final = Filter()
_EVERY: Final = 256
"""Entries between two words about progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did.

    Attributes:
        read: entries read.
        new: stored, not there before.
        replaced: stored in place of one with the same id and other words, metadata or time.
        unchanged: there already, so left alone.
        skipped: left out, for their session has the same words of the same role.
        embedded: texts of those handed to the memory that came without a vector.
        with_vectors: of those handed to the memory, how many came with their vector.
    """

    read: int = 0
    new: int = 0
    replaced: int = 0
    unchanged: int = 0
    skipped: int = 0
    embedded: int = 0
    with_vectors: int = 0

    @property
    def stored(self) -> int:
        """Entries written: new and replaced."""
        return self.new + self.replaced


def export_jsonl(
    memory: EpisodicMemory,
    stream: TextIO,
    *,
    space: EmbeddingSpace | None,
    where: Filter = _EVERYTHING,
    on_progress: Callable[[int], None] | None = None,
) -> int:
    """Write matching entries as JSONL in the order they happened, and return how many.

    Args:
        memory: is read page by page.
        stream: for text in UTF-8.
        space: the memory's embedding space, to write the vectors, exact to the bit; None to leave them out.
        where: which entries.
        on_progress: called with the number of entries written so far, now and then and at the end.
    """
    count = 0
    stream.write(header_line(space) + "\n")
    for entry in memory.scan(where):
        stream.write(entry_line(entry, vector=space is not None) + "\n")
        count += 1
        if on_progress and count % _EVERY == 0:
            on_progress(count)
    if on_progress:
        on_progress(count)
    return count


def fitting(source: Source, space: EmbeddingSpace, *, reembed: bool = False) -> Iterable[EpisodicEntry]:
    """Return the entries of `source` as a memory in `space` can take them.

    Args:
        source: an open file.
        space: of the memory.
        reembed: drop the vectors in the file, so that the texts are embedded anew.

    Raises:
        SchemaError: the file holds vectors of another space, and `reembed` is False.
    """
    if reembed:
        return (entry.changed(embedding=None) for entry in source.entries)
    if source.space not in (None, space):
        raise SchemaError(
            f"the file holds vectors of {source.space}, the store those of {space}, and the two cannot be compared. "
            "Import it with --reembed (reembed=True), which embeds its texts anew, or into another store"
        )
    return source.entries


def import_entries(
    memory: EpisodicMemory,
    entries: Iterable[EpisodicEntry],
    *,
    batch: int = 256,
    on_duplicate: OnDuplicate = "keep",
    on_progress: Callable[[int], None] | None = None,
) -> ImportReport:
    """Store entries batch by batch; what is there already, the same in every field, is neither stored nor embedded.

    An entry that comes with a vector keeps it, others are embedded. One that was marked processed stays so when it
    comes again with the same words. The ingestion_time of what is there stays.

    Args:
        memory: to store them in.
        entries: the entries, read as they are needed.
        batch: how many are stored at a time, all or none.
        on_duplicate: what becomes of entries that repeat others of their session; see `EpisodicMemory.add`.
        on_progress: called with the number of entries read so far, after every batch.

    Raises:
        ConfigError: `batch` is not a positive integer.
        EpisodicError: an entry could not be read, embedded or stored. Earlier batches are stored, as a note on the
            error says; the import can be repeated, and goes on where it stopped.
    """
    check_batch(batch)
    total = _Tally()
    try:
        for some in batched(entries, batch):
            _store(memory, some, total, on_duplicate)
            if on_progress:
                on_progress(total.read)
    except BaseException as error:
        error.add_note(f"{total.stored} entries were stored before that; a repeated import passes over them")
        raise
    return total.report()


class _Tally:
    """Counts of what has been stored so far."""

    def __init__(self) -> None:
        self.read = self.new = self.replaced = self.unchanged = self.skipped = self.embedded = self.with_vectors = 0

    @property
    def stored(self) -> int:
        return self.new + self.replaced

    def report(self) -> ImportReport:
        return ImportReport(**vars(self))


def _store(memory: EpisodicMemory, batch: list[EpisodicEntry], total: _Tally, on_duplicate: OnDuplicate) -> None:
    entries = [entry.within(memory.namespace) for entry in batch]
    known = {
        entry.identity: entry
        for entry in memory.scan(Filter(ids=frozenset(entry.id for entry in entries), expired=None))
    }
    fresh, new = [], 0
    for entry in entries:
        old = known.get(entry.identity)
        merged = entry if old is None else _merged(entry, old)
        if old is not None and _same(merged, old):
            continue
        fresh.append(merged)
        new += old is None
        known[entry.identity] = merged
    stored = memory.add_many(fresh, on_duplicate=on_duplicate) if fresh else []
    skipped = sum(entry.id != one for entry, one in zip(fresh, stored, strict=True))
    total.skipped += skipped
    total.read += len(entries)
    total.new += new - skipped
    total.replaced += len(fresh) - new
    total.unchanged += len(entries) - len(fresh)
    total.embedded += sum(entry.embedding is None for entry in fresh)
    total.with_vectors += sum(entry.embedding is not None for entry in fresh)


def _merged(entry: EpisodicEntry, old: EpisodicEntry) -> EpisodicEntry:
    kept = old.processed and entry.content == old.content
    return entry.changed(ingestion_time=old.ingestion_time, processed=entry.processed or kept)


def _same(entry: EpisodicEntry, old: EpisodicEntry) -> bool:
    """Say whether nothing would change; an entry without a vector of its own takes the one that is there."""
    return same(entry if entry.embedding is not None else entry.changed(embedding=old.embedding), old)
