"""Rows in RAM, for tests and for memories that need not outlive the process."""

from __future__ import annotations

import heapq
import secrets
import threading
from bisect import bisect_right
from collections import defaultdict
from datetime import UTC, datetime
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import numpy as np

from llmspell_memory.backends.checks import Birthplace, check_space, checked_vector
from llmspell_memory.backends.view import Changes, IndexView
from llmspell_memory.errors import ClosedError
from llmspell_memory.types import BackendStats, Erased, Hit, RowChanges, SessionSummary
from llmspell_memory.types.entry import own

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from llmspell_memory.types import EmbeddingSpace, EpisodicEntry, Filter, HNSWConfig, Identity, Vector
    from llmspell_memory.types.arrays import Labels

_ENTRY_BYTES = 900
"""A row's objects beside its texts and vector, measured with tracemalloc on CPython 3.11."""


_FEW: Final = 512
"""Expired entries that are left out of what the index finds; more are left out of what it searches."""


class _Choice(NamedTuple):
    """Labels that a search may return: of `among`, or of all for None, those that are not in `but`."""

    among: Labels | None
    but: frozenset[int]


_ALL: Final = _Choice(None, frozenset())


class LocalBackend:
    """Entries in dictionaries, searched through any index; gone when the process ends.

    May be used from several threads. In a process made by fork every use is a StorageError: the copy there would go
    its own way.

    Args:
        space: of the vectors that will be stored.
        hnsw: parameters of an HNSW index; None for exact search.
    """

    def __init__(self, space: EmbeddingSpace, *, hnsw: HNSWConfig | None = None) -> None:
        self._space = space
        self._rows = _Rows()
        self._view = IndexView(space, hnsw, source=_Feed(self._rows, space))

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of the vectors."""
        return self._space

    @property
    def namespace(self) -> tuple[str, ...]:
        """(): it shows every namespace; a `ScopedBackend` over it shows one."""
        return ()

    @property
    def hnsw(self) -> HNSWConfig | None:
        """Parameters of the index; None when it is exact."""
        return self._view.hnsw

    def add(self, entries: Sequence[EpisodicEntry], *, space: EmbeddingSpace | None = None) -> None:
        """Store all or none; a known identity is replaced but keeps its ingestion_time."""
        check_space(self._space, space)
        for entry in entries:
            checked_vector(entry, self._space, self.hnsw)
        with self._rows as rows:
            for entry in entries:
                rows.put(entry)
        self._view.catch_up()

    def scan(self, where: Filter, *, limit: int | None = None) -> Iterator[EpisodicEntry]:
        """Yield matching entries ordered by (timestamp, id), as they were when the scan began."""
        yield from map(own, self._in_order(where)[:limit])

    def _in_order(self, where: Filter) -> list[EpisodicEntry]:
        """The store's own entries that match, which no caller may be given."""
        with self._rows as rows:
            found = [(rows.entries[label], label) for label in rows.matching(where)]
        # One id at one moment in two namespaces: the one that was added first comes first, as in a file.
        return [entry for entry, _ in sorted(found, key=lambda one: (one[0].timestamp, one[0].id, one[1]))]

    def search(
        self, vector: Vector, k: int, where: Filter, *, exact: bool = False, space: EmbeddingSpace | None = None
    ) -> list[Hit]:
        """Return the k entries nearest to `vector` among those that match, best first."""
        check_space(self._space, space)
        self._rows.check_open()  # the index may be searched before the rows are entered
        moment, choice = self._view.moment, _ALL
        if not where.is_everything or self._rows.may_have_expired:
            with self._rows as rows:
                moment, choice = rows.seq, rows.choice(where)
        if self._view.moment == moment is not None:
            labels, scores = self._view.search(vector, k + len(choice.but), choice.among, exact=exact)
            with self._rows as rows:
                if self._view.moment == rows.seq == moment:
                    return rows.hits(labels, scores, choice)[:k]
        with self._view.lock, self._rows as rows:  # the index was behind, or a write came between
            self._view.catch_up(rows)
            choice = rows.choice(where)
            found = self._view.search(vector, k + len(choice.but), choice.among, exact=exact)
            return rows.hits(*found, choice)[:k]

    def changes(self, since: int, *, limit: int = 512) -> RowChanges:
        """Return what happened to rows after a sequence number."""
        with self._rows as rows:
            return rows.changes(since, limit)

    def read_note(self, name: str) -> str | None:
        """Return a text that the store keeps about itself; None where there is none of that name."""
        with self._rows as rows:
            return rows.notes.get(name)

    def write_note(self, name: str, text: str | None) -> None:
        """Keep a text about the store itself for as long as it lives; None removes it."""
        with self._rows as rows:
            if text is None:
                rows.notes.pop(name, None)
            else:
                rows.notes[name] = text

    def mark_processed(self, where: Filter) -> int:
        """Mark what matches; return how many were not marked before."""
        with self._rows as rows:
            fresh = [label for label in rows.matching(where) if not rows.entries[label].processed]
            for label in fresh:
                rows.mark(label)
        return len(fresh)

    def delete(self, where: Filter) -> int:
        """Delete what matches; return how many there were."""
        with self._rows as rows:
            gone = [rows.drop(label) for label in rows.matching(where)]
        self._view.catch_up()
        return len(gone)

    def forget(self, where: Filter) -> list[Erased]:
        """Delete what matches, its place in the index zeroed, and return what it was. There are no files."""
        with self._rows as rows:
            gone = [rows.drop(label) for label in rows.matching(where)]
            rows.forget_names()
        self._view.catch_up()
        return [Erased(entry.namespace, entry.id, entry.session_id, entry.content) for entry in gone]

    def count(self, where: Filter) -> int:
        """Return how many entries match."""
        with self._rows as rows:
            return len(rows.matching(where))

    def sessions(self, where: Filter) -> list[SessionSummary]:
        """Return one line per session, counting the entries that match, latest activity first."""
        groups: dict[tuple[str, tuple[str, ...]], list[EpisodicEntry]] = defaultdict(list)
        for entry in self._in_order(where):
            groups[entry.session_id, entry.namespace].append(entry)
        lines = [
            SessionSummary(
                session_id=session_id,
                namespace=namespace,
                entries=len(entries),
                unprocessed=sum(not entry.processed for entry in entries),
                first=entries[0].timestamp,
                last=entries[-1].timestamp,
            )
            for (session_id, namespace), entries in sorted(groups.items(), key=itemgetter(0))
        ]
        return sorted(lines, key=attrgetter("last"), reverse=True)

    def configure(self, hnsw: HNSWConfig | None, *, rebuild: bool = False) -> None:
        """Change the index's parameters or kind; reads go on meanwhile."""
        with self._rows:
            pass
        self._view.configure(hnsw, rebuild=rebuild)

    def stats(self) -> BackendStats:
        """Return figures about rows and index; the rows' bytes are estimated from their texts."""
        with self._rows as rows:
            entries, seq = list(rows.entries.values()), rows.seq
        texts = sum(len(entry.content) + len(entry.id) for entry in entries)
        index = self._view.stats()
        return BackendStats(
            rows="ram",
            path=None,
            entries=len(entries),
            unprocessed=sum(not entry.processed for entry in entries),
            sessions=len({(entry.namespace, entry.session_id) for entry in entries}),
            space=self._space,
            index=index,
            memory_bytes=index.memory_bytes + texts + len(entries) * (_ENTRY_BYTES + 4 * self._space.dimensions),
            disk_bytes=0,
            id=self._rows.id,
            seq=seq,
            lag=max(0, seq - self._view.seen),
        )

    def close(self) -> None:
        """Let go of every entry; a second call does nothing."""
        if self._rows.close():
            self._view.release()


class _Feed:
    """The rows as the index sees them, a `Source`."""

    def __init__(self, rows: _Rows, space: EmbeddingSpace) -> None:
        self._rows = rows
        self._space = space

    def open(self) -> _Rows:
        return self._rows

    def changes(self, rows: _Rows, since: int) -> Changes | None:
        if rows.seq <= since:
            return None
        labels = rows.vectors.after(since)
        live = [label for label in labels if label in rows.entries]
        vectors = [rows.entries[label].embedding for label in live]
        return Changes(
            reached=rows.seq,
            gone=np.array([label for label in labels if label not in rows.entries], np.int64),
            labels=np.array(live, np.int64),
            vectors=np.array(vectors, np.float32).reshape(len(live), self._space.dimensions),
        )

    def pending(self, rows: _Rows, since: int) -> int:
        return sum(label in rows.entries for label in rows.vectors.after(since))


class _Log:
    """Which label last changed when, in the order of the sequence numbers."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self._seqs: list[int] = []
        self._labels: list[int] = []  # of the same places; one whose label has changed again is out of date

    def note(self, label: int, seq: int) -> None:
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

    def clear(self) -> None:
        self._last.clear()
        self._seqs.clear()
        self._labels.clear()


class _Rows:
    """Entries by label, the labels by id and by session, and a log of which label last changed when.

    Used inside `with`, by one thread at a time. Where the view's lock is needed too, that is taken first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._birthplace = Birthplace()
        self._closed = False
        self.id = secrets.token_hex(16)
        self.entries: dict[int, EpisodicEntry] = {}
        self.notes: dict[str, str] = {}
        self.seq = 0
        self.vectors = _Log()
        self._changes = _Log()
        self._names: dict[int, Identity | None] = {}  # of what was deleted, None once it is forgotten
        self._next_label = 0
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
                self._by_id,
                self._by_session,
                self.notes,
                self.vectors,
                self._changes,
                self._names,
                self._expiring,
                self._expired,
            ):
                held.clear()
        return True

    def put(self, entry: EpisodicEntry) -> None:
        label = next((one for one in self._by_id[entry.id] if self.entries[one].namespace == entry.namespace), None)
        if label is None:
            label = self._next_label
            self._next_label += 1
        else:
            entry = entry.changed(ingestion_time=self.entries[label].ingestion_time)
            self._remove(label)
        self.entries[label] = own(entry)
        self._by_id[entry.id][label] = None
        self._by_session[entry.session_id][label] = None
        if entry.expires_at is not None:
            self._expect(label, entry.expires_at)
        self._note(label)

    def mark(self, label: int) -> None:
        self.entries[label] = self.entries[label].changed(processed=True)
        self.seq += 1
        self._changes.note(label, self.seq)

    def drop(self, label: int) -> EpisodicEntry:
        entry = self._remove(label)
        self._names[label] = entry.namespace, entry.id
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

    def matching(self, where: Filter) -> list[int]:
        """Labels of the entries that match, in the order they were added."""
        if where.ids is not None:
            near: Iterable[int] = sorted(label for one in where.ids for label in self._by_id.get(one, ()))
        elif where.session_id is not None:
            near = sorted(self._by_session.get(where.session_id, ()))
        else:
            near = self.entries
        now = datetime.now(UTC)
        return [label for label in near if where.matches(self.entries[label], now=now)]

    def choice(self, where: Filter) -> _Choice:
        """Return what a search is to choose from."""
        if where.is_everything and len(expired := self.expired()) <= _FEW:
            return _Choice(None, frozenset(expired))
        return _Choice(np.array(self.matching(where), np.int64), frozenset())

    def hits(self, labels: Labels, scores: Vector, choice: _Choice) -> list[Hit]:
        return [
            Hit(own(self.entries[label]), score)
            for label, score in zip(labels.tolist(), scores.tolist(), strict=True)
            if label not in choice.but
        ]

    def _note(self, label: int) -> None:
        self.seq += 1
        self.vectors.note(label, self.seq)
        self._changes.note(label, self.seq)

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
