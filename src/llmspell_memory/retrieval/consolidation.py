"""What was said is read, a batch at a time, and what a `Consolidator` makes of it is stored; never while writing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmspell_memory.errors import InputError
from llmspell_memory.protocols import Consolidator
from llmspell_memory.types import EpisodicEntry, Filter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmspell_memory.protocols import EpisodicBackend


@dataclass(frozen=True, slots=True)
class Consolidation:
    """What a consolidation did.

    Attributes:
        batches: calls of the consolidator.
        read: entries that were read and marked processed.
        added: entries that were made of them.
    """

    batches: int = 0
    read: int = 0
    added: int = 0


def consolidated(
    backend: EpisodicBackend,
    consolidator: Consolidator,
    add: Callable[[Sequence[EpisodicEntry]], object],
    where: Filter,
    batch: int,
) -> Consolidation:
    """Read what is unprocessed and matches, store what is made of it with `add`, and then mark what was read.

    Raises:
        InputError: the consolidator has no such method, has returned something else than entries, or `batch` is wrong.
    """
    if not isinstance(consolidator, Consolidator):
        raise InputError(f"a consolidator must have a method consolidate(entries), got {type(consolidator).__name__}")
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise InputError(f"batch must be an integer from 1 up, got {batch!r}")
    done = Consolidation()
    for line in backend.sessions(replace(where, processed=False)):
        one = replace(where, session_id=line.session_id, namespace=line.namespace, below=False, processed=False)
        while entries := list(backend.scan(one, limit=batch)):
            made = _made(consolidator, entries)
            if made:
                add(made)
            backend.mark_processed(replace(one, ids=frozenset(entry.id for entry in entries)))
            done = Consolidation(done.batches + 1, done.read + len(entries), done.added + len(made))
    return done


def _made(consolidator: Consolidator, entries: Sequence[EpisodicEntry]) -> list[EpisodicEntry]:
    """Return what is made of a batch, with ids that the same batch gets again, and processed, so that it is not read.

    The ids are those of the batch's first entry, digested: where entries were added to the session before a batch is
    repeated, it grows at its end, and what is made of it takes the place of what was.
    """
    first = entries[0]
    stem = hashlib.sha256("\0".join([*first.namespace, first.session_id, first.id]).encode()).hexdigest()[:32]
    made = list(consolidator.consolidate(entries))
    for entry in made:
        if not isinstance(entry, EpisodicEntry):
            raise InputError(f"a consolidator must return entries, got {type(entry).__name__}")
    return [
        entry.changed(id=f"{stem}-{number}", namespace=first.namespace, processed=True)
        for number, entry in enumerate(made)
    ]
