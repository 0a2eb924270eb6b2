"""Rows in dictionaries, and how an index and other followers are told of their changes."""

from __future__ import annotations

import heapq
import secrets
import threading
from bisect import bisect_right
from collections import defaultdict
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import numpy as np

from llmspell_memory.backends.checks import Birthplace
from llmspell_memory.backends.row_view import RowBatch, turn_of
from llmspell_memory.backends.view import Changes
from llmspell_memory.errors import ClosedError
from llmspell_memory.types import RowChanges
from llmspell_memory.types.entry import own

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmspell_memory.types import EmbeddingSpace, EpisodicEntry, Filter, Identity, Vector

Place: TypeAlias = tuple[datetime, str, int]
_NEVER: Final[Place] = (datetime.min.replace(tzinfo=UTC), "", -1)


class Log:
    """Which label last changed when, in the order of the sequence numbers."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self._seqs: list[int] = []
        self._labels: list[int] = []  # of the same places; one whose label has changed again is out of date

    def note(self, label: int, seq: int) -> None:
        """Note that a label changed, with the number of the change."""
        if len(self._seqs) > 2 * len(self._last) + 64:  # most of it is out of date
            current = [(at, of) for at, of in zip(self._seqs, self._labels, strict=True) if self._last[of] == at]
            self._seqs, self._labels = [at for at, _ in current], [of for _, of in current]
        self._seqs.append(seq)
        self._labels.append(label)
        self._last[label] = seq

    def after(self, seq: int) -> list[int]:
        """Labels that changed after `seq`, oldest change first."""
        return [label for _, label in self.since(seq, len(self._seqs))]

    def since(self, seq: int, limit: int) -> list[tuple[int, int]]:
        """Up to `limit` numbers after `seq`, each with the label that then changed for the last time so far."""
        found: list[tuple[int, int]] = []
        for place in range(bisect_right(self._seqs, seq), len(self._seqs)):
            if len(found) == limit:
                break
            at, label = self._seqs[place], self._labels[place]
            if self._last[label] == at:
                found.append((at, label))
        return found

    def last(self, label: int) -> int:
        """Return the number of a label's last change."""
        return self._last[label]

    def clear(self) -> None:
        """Let go of everything."""
        self._last.clear()
        self._seqs.clear()
        self._labels.clear()


class Rows:
    """Entries by label, the labels by id and by session, and a log of which label last changed when.

    Used inside `with`, by one thread at a time. Where the view's lock is needed too, that is taken first.
    """

    def __init__(self, space: EmbeddingSpace) -> None:
        self.space = space
        self.beside: dict[EmbeddingSpace, dict[int, Vector]] = {}  # of other spaces, each of its row's present text
        self._lock = threading.Lock()
        self.writing = threading.Lock()  # taken first by who adds, and by whoever wants no texts added for a while
        self._birthplace = Birthplace()
        self._closed = False
        self.id = secrets.token_hex(16)
        self.entries: dict[int, EpisodicEntry] = {}
        self.notes: dict[str, str] = {}
        self.seq = 0
        self._changes = Log()
        self._vectors = {space: Log()}  # changes of vectors, by their space
        self._names: dict[int, Identity | None] = {}  # of what was deleted, None once it is forgotten
        self._next_label = 0
        self._order: list[int] = []
        self._ordered = True
        self._last = _NEVER  # no entry stands later
        self._by_id: defaultdict[str, dict[int, None]] = defaultdict(dict)
        self._by_session: defaultdict[str, dict[int, None]] = defaultdict(dict)
        self._expiring: list[tuple[datetime, int]] = []  # a heap; what it says of a label may be out of date
        self._expired: set[int] = set()

    def check_open(self) -> None:
        """Raise ClosedError after `close`, StorageError in a process that was forked since."""
        if self._closed:
            raise ClosedError("this backend is closed")
        self._birthplace.check("this memory in RAM")

    def __enter__(self) -> Self:
        self.check_open()  # before the lock, which in a forked process may be held for ever
        self._lock.acquire()
        if self._closed:
            self._lock.release()
            raise ClosedError("this backend is closed")
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def close(self) -> bool:
        """Let go of everything and say so; entering again is a ClosedError. In a forked process all is left alone."""
        if not self._birthplace.is_here:
            self._closed = True
            return False
        with self._lock:
            self._closed = True
            for held in (
                self.entries,
                self._order,
                self._by_id,
                self._by_session,
                self.notes,
                self.beside,
                self._vectors,
                self._changes,
                self._names,
                self._expiring,
                self._expired,
            ):
                held.clear()
        return True

    def put(self, entry: EpisodicEntry) -> None:
        """Put an entry in place of the one with its identity, whose ingestion_time it gets."""
        label = self._label_of(entry.identity)
        if label is None:
            label = self._next_label
            self._next_label += 1
            place = entry.timestamp, entry.id, label
            self._ordered &= place > self._last
            self._last = max(place, self._last)
            self._order.append(label)
        else:
            old = self._remove(label)
            self._ordered &= entry.timestamp == old.timestamp
            entry = entry.changed(ingestion_time=old.ingestion_time)
            if entry.content != old.content:
                self._drop_beside(label)
        self.entries[label] = own(entry)
        self._by_id[entry.id][label] = None
        self._by_session[entry.session_id][label] = None
        if entry.expires_at is not None:
            self._expect(label, entry.expires_at)
        self._note(label)

    def _label_of(self, identity: Identity) -> int | None:
        namespace, name = identity
        return next((one for one in self._by_id.get(name, ()) if self.entries[one].namespace == namespace), None)

    def knows(self, identity: Identity) -> bool:
        """Say whether an identity has a row."""
        return self._label_of(identity) is not None

    def saying(self, namespace: tuple[str, ...], session_id: str, contents: set[str]) -> Iterator[tuple[str, str, str]]:
        """Yield role, content and id of a session's entries with one of the contents, first what was added first."""
        expired = self.expired()
        for label in sorted(self._by_session.get(session_id, ())):
            entry = self.entries[label]
            if entry.content in contents and entry.namespace == namespace and label not in expired:
                yield entry.role, entry.content, entry.id

    def mark(self, label: int) -> None:
        """Mark an entry as processed."""
        self.entries[label] = self.entries[label].changed(processed=True)
        self.seq += 1
        self._changes.note(label, self.seq)

    def set_expiry(self, label: int, expires_at: datetime | None) -> None:
        """Have an entry expire at this moment, or never."""
        self.entries[label] = self.entries[label].changed(expires_at=expires_at)
        self._expired.discard(label)
        if expires_at is not None:
            self._expect(label, expires_at)
        self.seq += 1
        self._changes.note(label, self.seq)

    def drop(self, label: int) -> EpisodicEntry:
        """Delete an entry, and return it."""
        entry = self._remove(label)
        self._drop_beside(label)
        self._names[label] = entry.identity
        self._note(label)
        return entry

    def forget_names(self) -> None:
        """Keep no id of anything that was deleted."""
        self._names = dict.fromkeys(self._names)

    def _remove(self, label: int) -> EpisodicEntry:
        entry = self.entries.pop(label)
        self._expired.discard(label)
        for labels, key in ((self._by_id, entry.id), (self._by_session, entry.session_id)):
            del labels[key][label]
            if not labels[key]:
                del labels[key]
        return entry

    @property
    def may_have_expired(self) -> bool:
        """Whether some entry has expired by now; may be asked without entering."""
        expiring = self._expiring[:1]  # at once, for another thread may be changing it
        return bool(self._expired) or (bool(expiring) and expiring[0][0] <= datetime.now(UTC))

    def expired(self) -> set[int]:
        """Labels of the entries that have expired by now."""
        now = datetime.now(UTC)
        while self._expiring and self._expiring[0][0] <= now:
            expires_at, label = heapq.heappop(self._expiring)
            if label in self.entries and self.entries[label].expires_at == expires_at:
                self._expired.add(label)
        return self._expired

    def _expect(self, label: int, expires_at: datetime) -> None:
        if len(self._expiring) > 2 * len(self.entries) + 64:  # most of it is out of date
            current = ((entry.expires_at, of) for of, entry in self.entries.items() if entry.expires_at is not None)
            self._expiring = sorted(current)
        heapq.heappush(self._expiring, (expires_at, label))

    def _in_order(self) -> list[int]:
        """Labels by (timestamp, id, label), gone ones among them; at hand where entries come as they happen."""
        if not self._ordered or len(self._order) > 2 * len(self.entries) + 64:
            self._order = sorted(self.entries, key=self._place)
            self._last = self._place(self._order[-1]) if self._order else _NEVER
            self._ordered = True
        return self._order

    def _place(self, label: int) -> Place:
        """Where an entry stands in time: one id at one moment in two namespaces stands as it was added."""
        entry = self.entries[label]
        return entry.timestamp, entry.id, label

    def scan(self, where: Filter, *, limit: int | None, newest: bool) -> list[EpisodicEntry]:
        """Return up to `limit` of the entries that match, which no caller may be given, by time or the newest first."""
        if where.ids is not None or where.session_id is not None:
            labels = sorted(self.matching(where), key=self._place, reverse=newest)[:limit]
            return [self.entries[label] for label in labels]
        now = datetime.now(UTC)
        order = reversed(self._in_order()) if newest else self._in_order()
        there = (self.entries[label] for label in order if label in self.entries)
        return list(islice((entry for entry in there if where.matches(entry, now=now)), limit))

    def matching(self, where: Filter) -> list[int]:
        """Labels of the entries that match, in the order they were added."""
        if where.ids is not None:
            near: Iterable[int] = self.with_ids(where.ids)
        elif where.session_id is not None:
            near = sorted(self._by_session.get(where.session_id, ()))
        else:
            near = self.entries
        now = datetime.now(UTC)
        return [label for label in near if where.matches(self.entries[label], now=now)]

    def with_ids(self, ids: Iterable[str]) -> list[int]:
        """Return the labels of the entries whose id is one of these, in the order they were added."""
        return sorted(label for one in ids for label in self._by_id.get(one, ()))

    def _note(self, label: int) -> None:
        self.seq += 1
        self._changes.note(label, self.seq)
        for log in self._vectors.values():
            log.note(label, self.seq)

    def rows_after(self, seq: int) -> list[int]:
        """Labels of rows that were put, changed or dropped after a sequence number, oldest change first."""
        return self._changes.after(seq)

    def changed_at(self, label: int) -> int:
        """Return the number of a row's last change."""
        return self._changes.last(label)

    # --- vectors of several spaces ----------------------------------------------------------------------------------

    def begin_beside(self, space: EmbeddingSpace) -> Log:
        """Let there be vectors of another space, and return the log of their changes."""
        if space != self.space and space not in self.beside:
            self.beside[space], self._vectors[space] = {}, Log()
        return self._vectors[space]

    def put_beside(self, space: EmbeddingSpace, vectors: dict[int, Vector]) -> None:
        """Put vectors of another space, by the labels of their rows."""
        self.begin_beside(space)
        for label, vector in vectors.items():
            self.seq += 1
            self.beside[space][label] = vector
            self._vectors[space].note(label, self.seq)

    def _drop_beside(self, label: int) -> None:
        for vectors in self.beside.values():
            vectors.pop(label, None)

    def end_beside(self, space: EmbeddingSpace) -> None:
        """Drop the vectors of another space."""
        self.beside.pop(space, None)
        if space != self.space:
            self._vectors.pop(space, None)

    def without(self, space: EmbeddingSpace) -> Iterator[int]:
        """Yield the labels of rows that have no vector of a space; none where it has become the one in use."""
        if space == self.space:
            return iter(())
        made = self.beside.get(space, {})
        return (label for label in self.entries if label not in made)

    def use(self, space: EmbeddingSpace) -> None:
        """Make another space, of which every row has a vector, the one in use; the former stays beside it."""
        made = self.beside.pop(space)
        former: dict[int, Vector] = {}
        for label, entry in self.entries.items():
            if entry.embedding is not None:
                former[label] = entry.embedding
            self.entries[label] = entry.changed(embedding=made[label])
        self.beside[self.space], self.space = former, space

    def vector(self, label: int, space: EmbeddingSpace) -> Vector | None:
        """Return a row's vector of a space, None where there is no such row or vector."""
        if space != self.space:
            return self.beside[space].get(label) if space in self.beside else None
        return self.entries[label].embedding if label in self.entries else None

    def vectors_after(self, space: EmbeddingSpace, seq: int) -> list[int]:
        """Labels whose vector of a space was put or dropped after a sequence number, oldest change first."""
        return self._vectors[space].after(seq) if space in self._vectors else []

    def changes(self, since: int, limit: int) -> RowChanges:
        """Return what happened to rows after a sequence number."""
        page = self._changes.since(since, limit)
        labels = [label for _, label in page]
        dead = [label for label in labels if label not in self.entries]
        names = [name for name in map(self._names.get, dead) if name is not None]
        return RowChanges(
            reached=page[-1][0] if len(page) == limit else self.seq,
            put=tuple(own(self.entries[label]) for label in labels if label in self.entries),
            gone=tuple(names),
            forgotten=len(names) < len(dead),
        )


class Feed:
    """The rows as the index sees them, a `Source`."""

    def __init__(self, rows: Rows, space: EmbeddingSpace) -> None:
        self._rows = rows
        self._space = space

    def open(self) -> Rows:
        """Return the rows, whose lock a `with` takes."""
        return self._rows

    def changes(self, rows: Rows, since: int) -> Changes | None:
        """Return what happened to vectors after a sequence number, None where nothing did."""
        if rows.seq <= since:
            return None
        labels = rows.vectors_after(self._space, since)
        made = {label: vector for label in labels if (vector := rows.vector(label, self._space)) is not None}
        live, vectors = list(made), list(made.values())
        return Changes(
            reached=rows.seq,
            gone=np.array([label for label in labels if label not in made], np.int64),
            labels=np.array(live, np.int64),
            vectors=np.array(vectors, np.float32).reshape(len(live), self._space.dimensions),
        )

    def pending(self, rows: Rows, since: int) -> int:
        """Return how many vectors were put after a sequence number."""
        return sum(rows.vector(label, self._space) is not None for label in rows.vectors_after(self._space, since))


class RowFeed:
    """The rows without their vectors, a `Source`."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def open(self) -> Rows:
        """Return the rows, whose lock a `with` takes."""
        return self._rows

    def changes(self, rows: Rows, since: int) -> RowBatch | None:
        """Return what happened to rows after a sequence number, None where nothing did."""
        if rows.seq <= since:
            return None
        labels = rows.rows_after(since)
        live = [label for label in labels if label in rows.entries]
        return RowBatch(
            reached=rows.seq,
            gone=np.array([label for label in labels if label not in rows.entries], np.int64),
            turns=[turn_of(label, rows.entries[label]) for label in live],
            texts=[rows.entries[label].content for label in live],
        )

    def pending(self, rows: Rows, since: int) -> int:
        """Return how many rows were put after a sequence number."""
        return sum(label in rows.entries for label in rows.rows_after(since))
