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
            _delete_surplus(backend, entries[0], len(made))
            read = _as_read(backend, entries)
            backend.mark_processed(replace(one, ids=frozenset(read)))
            done = Consolidation(done.batches + 1, done.read + len(read), done.added + len(made))
            if not read:  # all have been replaced meanwhile, perhaps by the consolidator itself: the next call's
                break
    return done


def _made(consolidator: Consolidator, entries: Sequence[EpisodicEntry]) -> list[EpisodicEntry]:
    """Return what is made of a batch, with ids that the same batch gets again, and processed, lest it be read."""
    first = entries[0]
    made = list(consolidator.consolidate(entries))
    for entry in made:
        if not isinstance(entry, EpisodicEntry):
            raise InputError(f"a consolidator must return entries, got {type(entry).__name__}")
    return [
        entry.changed(id=_id_of(first, number), namespace=first.namespace, processed=True)
        for number, entry in enumerate(made)
    ]


def _id_of(first: EpisodicEntry, number: int) -> str:
    """Return the id of what is made of a batch.

    It is that of the batch's first entry, digested: where entries were added to the session before a batch is repeated,
    it grows at its end, and what is made of it takes the place of what was.
    """
    identity = "\0".join([*first.namespace, first.session_id, first.id])
    return f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}-{number}"


def _delete_surplus(backend: EpisodicBackend, first: EpisodicEntry, count: int) -> None:
    """Delete what the same batch, read before by a process that was killed, has given beyond what it gives now."""
    number = count
    while backend.delete(Filter(ids=frozenset([_id_of(first, number)]), namespace=first.namespace, below=False)):
        number += 1


def _as_read(backend: EpisodicBackend, entries: Sequence[EpisodicEntry]) -> list[str]:
    """Return the ids of those that still say what was read; one that was replaced meanwhile is to be read again."""
    said = {entry.id: (entry.role, entry.content) for entry in entries}
    ids = Filter(ids=frozenset(said), namespace=entries[0].namespace, below=False)
    return [entry.id for entry in backend.scan(ids) if said[entry.id] == (entry.role, entry.content)]
