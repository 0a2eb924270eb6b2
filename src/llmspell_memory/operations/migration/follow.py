"""One store brought level with another, from where it stood the last time: rows as a view of rows.

The position is a sequence number of the source, kept as a note in the target. It is written after the rows that it
stands for, so a process that dies in between does a batch twice, which changes nothing.
"""

from __future__ import annotations

import json as stdlib_json
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from llmspell_memory.backends.notes import era_of, read_note
from llmspell_memory.errors import InputError, SpaceChangedError
from llmspell_memory.operations.batches import batched, check_batch
from llmspell_memory.types import Filter
from llmspell_memory.types.entry import same

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace, EpisodicEntry, Identity, RowChanges

    Prepare = Callable[[Sequence[EpisodicEntry]], Sequence[EpisodicEntry]]

NOBODY: Final = Filter(ids=frozenset[str]())
"""Matches nothing: to forget it erases what was deleted earlier."""

_FAR: Final = 1 << 62
"""A number that no store reaches: whoever asks from there is told the last one."""

_NOWHERE: Final = -1
"""The position of a target whose rows are yet to be compared."""


class Follower:
    """Brings `target` level with `source`, batch by batch.

    The target is to hold what the source holds and nothing else: an identity that the source no longer has goes, and
    is erased where the source has erased something. Used by one thread at a time.

    Args:
        source: is read alone; may be written meanwhile by others. A `ScopedBackend`, too.
        target: of the same embedding space, unless `prepare` makes vectors of its own.
        note: name of the note in the target that keeps the position: a JSON object of "source" (the store's id),
            "namespace", "position", "era", "clean", "state", and what `record` was given.
        batch: rows read at a time.
        state: in the note, until `record` is given another.
        start: where to begin when the note knows no position: after this number of the source's. Up to it the target
            must be level already.
        spare: identities of the target that did not come from the source, and are left as they are.
        prepare: makes rows of the source ready for the target where their vectors are of another space; given only
            rows whose words are new to the target.

    Raises:
        ConfigError: `batch` is not a positive integer.
        InputError: the target shows one namespace alone, is the source itself, or is of another embedding space.
    """

    def __init__(
        self,
        source: EpisodicBackend,
        target: EpisodicBackend,
        *,
        note: str,
        batch: int = 512,
        state: str = "following",
        start: int = 0,
        spare: Collection[Identity] = (),
        prepare: Prepare | None = None,
    ) -> None:
        check_batch(batch)
        check_pair(source, target, same_space=prepare is None)
        self.source = source
        self.target = target
        self.spare = spare
        self._note = note
        self._batch = batch
        self._prepare = prepare
        self._start = start
        self._space, self._target_space = source.space, target.space
        self._source_id = about(source).id
        fresh: dict[str, Any] = {
            "source": self._source_id,
            "namespace": list(source.namespace),
            "state": state,
        }
        self._fields = self._noted() or fresh
        self._begun = False

    # --- where it stands --------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The number of the source's that the target has reached; 0 before the first step of all."""
        return max(0, int(self._fields.get("position", self._start)))

    @property
    def lag(self) -> int:
        """How many of the source's numbers the target is behind."""
        return max(0, last_number(self.source) - self.position)

    @property
    def state(self) -> str:
        """What the note says of the state."""
        return str(self._fields["state"])

    @property
    def fields(self) -> dict[str, Any]:
        """A copy of the note."""
        return dict(self._fields)

    def record(self, **fields: Any) -> None:
        """Put fields into the note, durable on return; one that is None is taken out."""
        if "position" in fields:
            fields["era"] = era_of(self.source, fields["position"])
        known = {name: value for name, value in (self._fields | fields).items() if value is not None}
        self.target.write_note(self._note, stdlib_json.dumps(known))
        self._fields = known

    def start_over(self) -> None:
        """Compare all rows from the next step on, whatever was reached before; equal ones are not written again."""
        self.record(position=_NOWHERE)
        self._begun = False

    def _noted(self) -> dict[str, Any] | None:
        """Return the note, if it is about this source."""
        fields = read_note(self.target, self._note)
        if fields is None or fields.get("source") != self._source_id:
            return None
        return fields if fields.get("namespace") == list(self.source.namespace) else None

    # --- following --------------------------------------------------------------------------------------------------

    def step(self) -> int | None:
        """Apply the next batch and record the position; return how many rows were put or gone, None when level.

        Raises:
            SpaceChangedError: the source or the target is of another embedding space by now.
            StorageError: a store failed; the position stands, and the next step tries again. An UnavailableError also
                where others keep what is to be erased from being erased.
        """
        if not self._begun:
            self._begin()
        batch = self.source.changes(self.position, limit=self._batch)
        if batch.forgotten and self._forgotten_before(batch.reached):
            self._compare()
            return 0  # what was just read may be forgotten by now, and more than the comparison has seen
        if batch.reached <= self.position:
            return None
        if self.source.space != self._space:
            raise SpaceChangedError(
                f"the source has moved from {self._space} to {self.source.space}; begin anew with another target"
            )
        self._apply(batch)
        self.record(position=batch.reached)
        return len(batch.gone) + len(batch.put)

    def _forgotten_before(self, number: int) -> bool:
        """Say whether something was erased that was not looked for yet.

        It is not enough that `number` is a new one: while a writer never rests there would be no end of comparing.
        """
        since = max(self.position, self._fields["clean"])
        while since < number:
            batch = self.source.changes(since, limit=self._batch)
            if batch.forgotten or batch.reached <= since:
                return True
            since = batch.reached
        return False

    def _begin(self) -> None:
        """Go on from the position in the note, if the source has got so far; else compare from the first number on.

        A source with lower numbers is a backup that was put back, and so is one whose number at that position is not
        the one that was read.
        """
        noted = self._fields.get("position")
        put_back = self._fields.get("era") not in (None, era_of(self.source, self.position))
        if noted is None and self._start:
            self._fields |= {"position": self._start, "clean": self._start}
        elif noted is None or put_back or not 0 <= noted <= last_number(self.source):
            self.record(position=_NOWHERE)
            self._compare()
            self._fields["position"] = 0
        self.record()
        self._begun = True

    def _compare(self) -> None:
        """Erase every row that came from the source and is there no more, comparing identities a batch at a time.

        What is forgotten up to the number "clean" needs no further look, for all that is read later is without it.
        """
        seq = last_number(self.source)
        ours = Filter(namespace=self.source.namespace, expired=None)
        if last_number(self.target):  # otherwise it never held a row
            for rows in batched(self.target.scan(ours), self._batch):
                self._delete(missing(self.source, [entry.identity for entry in rows]))
            self.target.forget(NOBODY)  # also what a delete before this, or a dead process, has left behind
        self.record(clean=seq)

    def _apply(self, batch: RowChanges) -> None:
        self._delete(batch.gone)
        self._put(batch.put)

    def _delete(self, names: Iterable[Identity]) -> None:
        delete(self.target, (name for name in names if name not in self.spare))

    def _put(self, entries: Iterable[EpisodicEntry]) -> None:
        put(
            self.target,
            [entry for entry in entries if entry.identity not in self.spare],
            prepare=self._prepare,
            space=self._target_space,
        )


def put(
    target: EpisodicBackend,
    entries: Sequence[EpisodicEntry],
    *,
    prepare: Prepare | None = None,
    space: EmbeddingSpace | None = None,
) -> int:
    """Make rows of the target equal to these, each identity once, and return how many had to be written.

    Args:
        target: to write to.
        entries: the rows.
        prepare: gives vectors to those whose words the target does not have; the others keep the target's.
        space: of the vectors; the target's when None.

    Raises:
        SpaceChangedError: the target is of another embedding space by now.
    """
    known = found(target, [entry.identity for entry in entries])
    fresh: list[EpisodicEntry] = []
    new: list[EpisodicEntry] = []
    stale: list[Identity] = []
    for given in entries:
        entry, old = given, known.get(given.identity)
        if old is None or old.content != given.content:
            new.append(given)
        elif prepare is not None:
            entry = given.changed(embedding=old.embedding)
        if old is not None and same(entry, old):
            continue
        if old is not None and old.ingestion_time != entry.ingestion_time:
            stale.append(entry.identity)  # to replace it would keep the old moment
        fresh.append(entry)
    if prepare is not None and new:
        made = {entry.identity: entry for entry in prepare(new)}
        fresh = [made.get(entry.identity, entry) for entry in fresh]
    delete(target, stale)
    if fresh:
        target.add(fresh, space=space)
    return len(fresh)


def delete(target: EpisodicBackend, names: Iterable[Identity]) -> None:
    """Delete exactly these identities, expired or not."""
    for where in filters(names):
        target.delete(where)


def check_pair(source: EpisodicBackend, target: EpisodicBackend, *, same_space: bool = True) -> None:
    """Refuse a target that cannot be made like the source.

    Raises:
        InputError: says why, and what to do.
    """
    if target.namespace:
        raise InputError(
            "the target shows one namespace of a store; give the whole store, or import the entries into the scope"
        )
    if source is target or about(source).id == about(target).id:
        raise InputError(
            "source and target are the same store, or one is a copy of the other's file; give a new store as target"
        )
    if same_space and source.space != target.space:
        raise InputError(
            f"the source holds vectors of {source.space}, the target those of {target.space}, and the two cannot be "
            "compared. Make the target with the source's provider and model, or embed the texts anew: "
            "--reembed, in Python reembed=True"
        )


class About(NamedTuple):
    """What stays of a store as long as it is open: its id, its kind and its file."""

    id: str
    rows: str
    path: Path | None


_KEEPERS: Final = {"postgres": "PostgreSQL", "milvus": "Milvus"}

_known: Final[WeakKeyDictionary[EpisodicBackend, About]] = WeakKeyDictionary()


def about(backend: EpisodicBackend) -> About:
    """Return a store's id, kind and file, asked for once: all its figures with them take a walk over all rows."""
    try:
        return _known[backend]
    except KeyError:
        stats = backend.stats()
        _known[backend] = About(stats.id, stats.rows, stats.path)
        return _known[backend]
    except TypeError:  # a backend of somebody else's that cannot be a key
        stats = backend.stats()
        return About(stats.id, stats.rows, stats.path)


def kept_in(backend: EpisodicBackend) -> str:
    """Return what keeps the rows of a store that has no file."""
    return _KEEPERS.get(about(backend).rows, "memory")


def last_number(backend: EpisodicBackend) -> int:
    """Return the number of a store's last change; a scope's too, whose figures do not tell it."""
    return backend.changes(_FAR, limit=1).reached


def filters(names: Iterable[Identity]) -> Iterator[Filter]:
    """Yield filters, one a namespace, that together mean exactly these identities, expired or not."""
    by_namespace: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for namespace, name in names:
        by_namespace[namespace].add(name)
    for namespace, ids in by_namespace.items():
        yield Filter(ids=frozenset(ids), namespace=namespace, below=False, expired=None)


def found(backend: EpisodicBackend, names: Iterable[Identity]) -> dict[Identity, EpisodicEntry]:
    """Return those of the identities that a backend has, with their rows."""
    return {entry.identity: entry for where in filters(names) for entry in backend.scan(where)}


def missing(backend: EpisodicBackend, names: Iterable[Identity]) -> list[Identity]:
    """Return those of the identities that a backend does not have."""
    lacking: list[Identity] = []
    for where in filters(names):
        ids = where.ids or frozenset()
        if backend.count(where) < len(ids):  # counted without reading a row, which is all that is needed mostly
            there = {entry.id for entry in backend.scan(where)}
            lacking += [(where.namespace, name) for name in sorted(ids - there)]
    return lacking
