"""The verbs of a backend whose rows live in RAM, for tests and for memories that need not outlive the process."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from contextlib import contextmanager
from datetime import UTC, datetime
from operator import attrgetter, itemgetter
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from llmspell_memory.backends.checks import check_space, checked_vector
from llmspell_memory.backends.figures import sizes
from llmspell_memory.backends.finding import Views, Wanted, nearest
from llmspell_memory.backends.local.beside import VectorsBeside
from llmspell_memory.backends.local.rows import Feed, RowFeed, Rows
from llmspell_memory.backends.repeats import Repeats
from llmspell_memory.backends.row_view import RowView
from llmspell_memory.backends.view import IndexView
from llmspell_memory.errors import SpaceChangedError
from llmspell_memory.types import BackendStats, Erased, KeywordConfig, RowChanges, SessionSummary, SpaceCount
from llmspell_memory.types.entry import own
from llmspell_memory.types.histogram import SearchParts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from llmspell_memory.backends.finding import Found
    from llmspell_memory.backends.view import Index
    from llmspell_memory.types import EmbeddingSpace, EpisodicEntry, Filter, Hit, HNSWConfig, Matrix, Query, Vector
    from llmspell_memory.types.arrays import Labels

_KEYWORDS = KeywordConfig()
_ENTRY_BYTES = 900
"""A row's objects beside its texts and vector, measured with tracemalloc on CPython 3.11."""


class LocalBackend:
    """Entries in dictionaries, searched through any index; gone when the process ends.

    May be used from several threads. In a process made by fork every use is a StorageError: the copy there would go
    its own way.

    Args:
        space: of the vectors that will be stored.
        hnsw: parameters of an HNSW index; None for exact search.
        keywords: how words are told apart and scored; None for as by default.
    """

    def __init__(
        self, space: EmbeddingSpace, *, hnsw: HNSWConfig | None = None, keywords: KeywordConfig | None = None
    ) -> None:
        self._rows = Rows(space)
        self._row_view = RowView(keywords or KeywordConfig(), source=RowFeed(self._rows))
        self._view = IndexView(space, hnsw, source=Feed(self._rows, space))
        self._switching = threading.Lock()
        self._parts = SearchParts()

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of the vectors."""
        return self._view.space  # as a search sees it, which during a move must not be told of another

    @property
    def namespace(self) -> tuple[str, ...]:
        """(): it shows every namespace; a `ScopedBackend` over it shows one."""
        return ()

    @property
    def hnsw(self) -> HNSWConfig | None:
        """Parameters of the index; None when it is exact."""
        return self._view.hnsw

    @property
    def is_remote(self) -> bool:
        """False: its rows are in this process."""
        return False

    def add(
        self, entries: Sequence[EpisodicEntry], *, space: EmbeddingSpace | None = None, skip_equal: bool = False
    ) -> list[str]:
        """Store all or none, and return their ids; a known identity is replaced but keeps its ingestion_time."""
        before = self.space if space is None else space
        for entry in entries:
            checked_vector(entry, before, self.hnsw)
        self._rows.check_open()
        with self._rows.writing, self._rows as rows:
            check_space(rows.space, before)
            repeats = Repeats(entries, known=rows.knows, read=rows.saying) if skip_equal else None
            ids = []
            for entry in entries:
                other = repeats and repeats.instead_of(entry)
                if other is None:
                    rows.put(entry)
                ids.append(other or entry.id)
        self._catch_up()
        return ids

    def _catch_up(self) -> None:
        self._row_view.catch_up()
        self._view.catch_up()

    def scan(self, where: Filter, *, limit: int | None = None, newest: bool = False) -> Iterator[EpisodicEntry]:
        """Yield matching entries ordered by (timestamp, id), as they were when the scan began; or the newest first."""
        with self._rows as rows:
            found = rows.scan(where, limit=limit, newest=newest)
        yield from map(own, found)

    def search(
        self, vector: Vector, k: int, where: Filter, *, exact: bool = False, space: EmbeddingSpace | None = None
    ) -> list[Hit]:
        """Return the k entries nearest to `vector` among those that match, best first."""
        return self._timed_search(nearest(vector, k, where, exact=exact), space)

    def retrieve(self, query: Query, k: int, where: Filter, *, space: EmbeddingSpace | None = None) -> list[Hit]:
        """Return the k entries that answer a query best among those that match, best first."""
        return self._timed_search(Wanted(query, k, where), space)

    def named_roles(self, words: Collection[str], where: Filter) -> list[str]:
        """Return which of `words` name the role of some entry that matches."""
        self._rows.check_open()
        return Views(self._view, self._row_view).named_roles(words, where, datetime.now(UTC))

    def _timed_search(self, wanted: Wanted, space: EmbeddingSpace | None) -> list[Hit]:
        began = perf_counter_ns()
        self._rows.check_open()  # the index may be searched before the rows are entered
        view = self._view
        check_space(view.space, space)
        try:
            return self._search(Views(view, self._row_view), wanted)
        except SpaceChangedError:
            with self._switching:  # that is to be seen when this is raised
                raise
        finally:
            self._parts.whole_took(perf_counter_ns() - began)

    def _search(self, views: Views[Rows], wanted: Wanted) -> list[Hit]:
        alone = wanted.by_vector_alone and not self._rows.may_have_expired
        moment, named = views.moment(alone=alone), self._labels_of(wanted.where)
        if moment is not None:
            found = self._found(views, wanted, named, alone=alone)
            with self._rows as rows:
                check_space(rows.space, views.vectors.space)
                if views.moment(alone=alone) == rows.seq == moment and (hits := found.hits(rows.entries)) is not None:
                    return hits
        with views.locked(), self._rows as rows:  # an index was behind, or a write came between
            check_space(rows.space, views.vectors.space)
            views.catch_up(rows)
            named = rows.with_ids(wanted.where.ids) if wanted.where.ids is not None else None
            hits = self._found(views, wanted, named, alone=False).hits(rows.entries)
            assert hits is not None  # noqa: S101 (for the type checker: all is of this moment)
            return hits

    def _labels_of(self, where: Filter) -> list[int] | None:
        if where.ids is None:
            return None
        with self._rows as rows:
            return rows.with_ids(where.ids)

    def _found(self, views: Views[Rows], wanted: Wanted, named: list[int] | None, *, alone: bool) -> Found:
        now = datetime.now(UTC)
        return views.find(wanted, None if alone else views.choice(wanted.where, now, named), now=now)

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
        self._row_view.catch_up()
        return len(fresh)

    def set_expiry(self, where: Filter, expires_at: datetime | None) -> int:
        """Have what matches expire at this moment, or never when None; return how many there were."""
        with self._rows as rows:
            labels = rows.matching(where)
            for label in labels:
                rows.set_expiry(label, expires_at)
        self._row_view.catch_up()
        return len(labels)

    def delete(self, where: Filter) -> int:
        """Delete what matches; return how many there were."""
        with self._rows as rows:
            gone = [rows.drop(label) for label in rows.matching(where)]
        self._catch_up()
        return len(gone)

    def forget(self, where: Filter) -> list[Erased]:
        """Delete what matches, its place in the index zeroed, and return what it was. There are no files."""
        with self._rows as rows:
            gone = [rows.drop(label) for label in rows.matching(where)]
            rows.forget_names()
        self._catch_up()
        return [Erased(entry.namespace, entry.id, entry.session_id, entry.content) for entry in gone]

    def count(self, where: Filter) -> int:
        """Return how many entries match."""
        with self._rows as rows:
            return len(rows.matching(where))

    def sessions(self, where: Filter) -> list[SessionSummary]:
        """Return one line per session, counting the entries that match, latest activity first."""
        groups: dict[tuple[str, tuple[str, ...]], list[EpisodicEntry]] = defaultdict(list)
        with self._rows as rows:
            found = rows.scan(where, limit=None, newest=False)
        for entry in found:
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
        moved = True
        while moved:
            view = self._view
            view.configure(hnsw, rebuild=rebuild)
            with self._switching:
                moved = self._view is not view  # to another space, whose view has not heard of this

    def beside(self, space: EmbeddingSpace) -> VectorsBeside:
        """Return vectors of another space for the same rows, begun if there are none yet."""
        return VectorsBeside(self._rows, space, using=lambda: self._view, adopt=self._adopt)

    @contextmanager
    def _adopt(self) -> Iterator[Callable[[IndexView[Rows]], None]]:
        """Keep searches that meet the change waiting, until it is whole."""

        def adopted(fresh: IndexView[Rows]) -> None:
            self._view = fresh

        with self._switching:
            yield adopted

    def index(self) -> Index:
        """Return the index that answers searches, up to date: to measure it, not to change it."""
        self._rows.check_open()
        self._view.catch_up()
        return self._view.index

    def labels(self, where: Filter) -> Labels:
        """Return the numbers by which the index knows the entries that match, in order."""
        with self._rows as rows:
            return np.array(sorted(rows.matching(where)), np.int64)

    def vectors(self, labels: Labels) -> tuple[Labels, Matrix]:
        """Return the vectors of those of the labels that are there, with their labels, in any order."""
        with self._rows as rows:
            there = [label for label in labels.tolist() if label in rows.entries]
            vectors = [rows.entries[label].embedding for label in there]
        return np.array(there, np.int64), np.array(vectors, np.float32).reshape(len(there), self.space.dimensions)

    def stats(self) -> BackendStats:
        """Return figures about rows and index; the rows' bytes are estimated from their texts."""
        with self._rows as rows:
            entries, seq = list(rows.entries.values()), rows.seq
            beside = tuple(SpaceCount(space=one, vectors=len(vectors)) for one, vectors in rows.beside.items())
        texts = sum(len(entry.content) + len(entry.id) for entry in entries)
        index = self._view.stats()
        widths = [self.space.dimensions * len(entries), *(one.vectors * one.space.dimensions for one in beside)]
        return BackendStats(
            rows="ram",
            path=None,
            entries=len(entries),
            unprocessed=sum(not entry.processed for entry in entries),
            space=self.space,
            index=index,
            memory_bytes=index.memory_bytes
            + self._row_view.made.memory_bytes
            + texts
            + len(entries) * _ENTRY_BYTES
            + 4 * sum(widths),
            disk_bytes=0,
            id=self._rows.id,
            seq=seq,
            lag=max(0, seq - self._view.seen),
            beside=beside,
            timings=self._parts.snapshot(),
            **sizes(Counter((entry.namespace, entry.session_id) for entry in entries)),
        )

    def close(self) -> None:
        """Let go of every entry; a second call does nothing."""
        if self._rows.close():
            self._row_view.release()
            self._view.release()
