"""The way back from a migration: the old store brought level with what was written to the new one since.

What the two had in common last is in a note of one of them. From there the old store follows the new one. Rows that
somebody wrote to the old store meanwhile did not come from the new one: they are found by the old store's own sequence
numbers, kept as they are, and reported.
"""

from __future__ import annotations

import json as stdlib_json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from llmspell_memory.backends.notes import KEPT, MIGRATION, ROLLBACK, UNFINISHED, read_note
from llmspell_memory.errors import InputError
from llmspell_memory.operations.migration.follow import Follower, about, check_pair, found, last_number, missing
from llmspell_memory.operations.migration.migrate import Pair, Run, name_of, noted
from llmspell_memory.types.entry import same

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from llmspell_memory.operations.migration.follow import Prepare
    from llmspell_memory.operations.migration.report import MigrationReport, Progress
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EpisodicEntry, Identity, RowChanges


def rollback(
    source: Any,
    target: Any,
    *,
    verify: bool = True,
    batch: int = 512,
    reembed: bool = False,
    on_progress: Progress | None = None,
) -> MigrationReport:
    """Bring the old store, `target`, level with what was written to the new one, `source`, since the migration.

    Rows that were written to the old store meanwhile are never deleted nor replaced; the report names them. Rows that
    were deleted there meanwhile come back. The new store is only read. Interrupted at any point, the same call goes on.

    Args:
        source: the new store, or its manager: one that a migration from the old one has finished.
        target: the old store, or its manager.
        verify: compare both afterwards, all but the rows that were kept.
        batch: rows read and written at a time.
        reembed: where the new store is of another embedding space, embed what is new by the target's service; the
            target must be a manager then.
        on_progress: called with the phase, how many are done, and how many there are.

    Raises:
        InputError: the two were never level, or one of them is a backup from before that was put back. Nothing is
            changed.
        StorageError: a store failed. The new one is as it was; the old one says that it is unfinished.
    """
    pair = Pair(source, target, reembed=reembed)
    check_pair(pair.source, pair.target, same_space=False)
    begun = begun_before(pair.source, pair.target)
    link = link_of(pair.source, pair.target) if begun is None else Link(begun["position"], begun["since"])
    kept = Kept(pair.source, pair.target, link, begun)
    follower = _Backwards(pair.source, pair.target, kept, batch=batch, prepare=pair.prepare)
    run = Run(follower, vectors=pair.prepare is None, on_progress=on_progress)
    with noted(follower):
        if begun is None:
            follower.begin_at(link)
        if not follower.fields["put_back"]:
            run.written += follower.put_back(link)
        run.copy()
        run.index()
        verification = run.verify() if verify else None
        report = run.report("rollback", verification, resumed=begun is not None, level=kept.look)
    return replace(report, kept=tuple(sorted(kept.names)), restored=follower.restored)


def begun_before(source: EpisodicBackend, target: EpisodicBackend) -> dict[str, Any] | None:
    """Return the note of a rollback from this source that was begun and not finished; None where there is none.

    Raises:
        InputError: the source has been put back to an earlier time since.
    """
    note = read_note(target, ROLLBACK)
    if note is None or note.get("source") != about(source).id or note.get("state") != UNFINISHED:
        return None
    if note["position"] > last_number(source):
        raise _put_back(source)
    return note


class Link(NamedTuple):
    """Sequence numbers at which two stores were level: of the one to be read, and of the one to be written."""

    source: int
    target: int


def link_of(source: EpisodicBackend, target: EpisodicBackend) -> Link:
    """Return where two stores were level last, by the notes that migrations and rollbacks left in either.

    Raises:
        InputError: they never were, or one of them has been put back to an earlier time since.
    """
    ours, theirs = about(source).id, about(target).id
    links = [
        Link(note["target_position"], note["position"])
        for name in (MIGRATION, ROLLBACK)
        if (note := _noted(source, name, theirs))
    ] + [
        Link(note["position"], note["target_position"])
        for name in (MIGRATION, ROLLBACK)
        if (note := _noted(target, name, ours))
    ]
    if not links:
        raise _unknown(source, target)
    link = max(links)
    ahead = link.source > last_number(source)
    if ahead or link.target > last_number(target):
        raise _put_back(source if ahead else target)
    return link


def _noted(backend: EpisodicBackend, name: str, other: str) -> dict[str, Any] | None:
    """Return a note that says where a backend was level with the whole of the store `other`."""
    note = read_note(backend, name) or {}
    fits = note.get("source") == other and not note.get("namespace") and "target_position" in note
    return note if fits else None


def _unknown(source: EpisodicBackend, target: EpisodicBackend) -> InputError:
    note = read_note(source, MIGRATION) or {}
    if note.get("source") != about(target).id:
        return InputError(
            f"{name_of(source)} was not migrated from {name_of(target)}, so there is nothing to go back to; use "
            "migrate or import"
        )
    if note.get("namespace"):
        return InputError(
            f"one namespace of {name_of(target)} was migrated, which has others beside it; bring entries back by "
            "`llmspell-memory export` and `import`"
        )
    return InputError(
        "the migration to this store was never finished, so the old one is still the whole; go on with migrate, or go "
        "on using the old one"
    )


def _put_back(backend: EpisodicBackend) -> InputError:
    return InputError(
        f"{name_of(backend)} is from before the two were level: a backup that was put back. What was written since "
        "cannot be told; import the one into the other instead"
    )


class Kept:
    """Rows of the old store that did not come from the new one.

    Known by the old store's sequence numbers: what was put there after the two were level, and not by this rollback.
    To tell the two apart after a death amid a batch, the batch's identities are noted before it is written.

    Args:
        source: the new store.
        target: the old store.
        link: where they were level.
        begun: the note of this rollback, where it was begun before.

    Attributes:
        names: identities of those rows.
        cursor: the old store's number up to which they are known.
    """

    def __init__(
        self, source: EpisodicBackend, target: EpisodicBackend, link: Link, begun: dict[str, Any] | None
    ) -> None:
        self._source, self._target = source, target
        noted = stdlib_json.loads(target.read_note(KEPT) or "[]")
        # What an earlier rollback kept is kept still, unless it has become the same in both.
        self.names: set[Identity] = set(self._different([(tuple(namespace), name) for namespace, name in noted]))
        self.cursor: int = begun["cursor"] if begun else link.target
        self.look(but={(tuple(namespace), name) for namespace, name in (begun or {}).get("writing", ())})

    def _different(self, names: Collection[Identity]) -> Iterator[Identity]:
        """Yield those of the identities that the old store has, and not as the new one."""
        ours, theirs = found(self._target, names), found(self._source, names)
        for name, row in ours.items():
            if name not in theirs or not same(row, theirs[name]):
                yield name

    def look(self, *, but: Collection[Identity] = ()) -> int:
        """Take in what others have put into the old store since the last look, all but what was just written there.

        Returns:
            The old store's number up to which this tells the two apart.
        """
        before = len(self.names)
        while (batch := self._target.changes(self.cursor)).reached > self.cursor:
            names = {entry.identity for entry in batch.put}
            self.names |= set(self._different(names.difference(but, self.names)))
            self.cursor = batch.reached
        if len(self.names) > before:
            self._target.write_note(KEPT, stdlib_json.dumps(sorted(self.names)))
        return self.cursor


class _Backwards(Follower):
    """A follower that tells what it writes from what others write to the target meanwhile.

    Attributes:
        restored: rows put back that had been deleted from the target.
    """

    def __init__(
        self, source: EpisodicBackend, target: EpisodicBackend, kept: Kept, *, batch: int, prepare: Prepare | None
    ) -> None:
        super().__init__(
            source, target, note=ROLLBACK, batch=batch, state=UNFINISHED, spare=kept.names, prepare=prepare
        )
        self._kept = kept
        self.restored = 0

    def begin_at(self, link: Link) -> None:
        """Begin where the two were level; from here on the note says that the old store is not yet level again."""
        self.record(
            state=UNFINISHED,
            position=link.source,
            clean=link.source,
            since=link.target,
            cursor=self._kept.cursor,
            put_back=False,
            target_position=None,
            source_name=name_of(self.source),
        )

    def put_back(self, link: Link) -> int:
        """Put back what was deleted from the old store since, as far as the new one has it; return how many rows."""
        gone: set[Identity] = set()
        at, forgotten = link.target, False
        while (batch := self.target.changes(at, limit=self._batch)).reached > at:
            gone |= set(batch.gone)
            forgotten |= batch.forgotten
            at = batch.reached
        names = sorted(gone - self._kept.names)
        for start in range(0, len(names), self._batch):
            self._write([], list(found(self.source, names[start : start + self._batch]).values()))
        self.restored = len(names) - len(missing(self.source, names))
        if forgotten:  # what that was nobody knows any more; so all rows are compared
            self.start_over()
        self.record(put_back=True)
        return self.restored

    def _apply(self, batch: RowChanges) -> None:
        self._write(batch.gone, batch.put)

    def _write(self, gone: Iterable[Identity], entries: Sequence[EpisodicEntry]) -> None:
        self._delete(gone)
        names = [entry.identity for entry in entries]
        self._kept.look()
        self.record(cursor=self._kept.cursor, writing=names)
        self._put(entries)
        self._kept.look(but=frozenset(names))
        self.record(cursor=self._kept.cursor, writing=None)

    def _delete(self, names: Iterable[Identity]) -> None:
        names = list(names)
        self._kept.look()  # what was put there a moment ago is not to be deleted
        super()._delete(names)
