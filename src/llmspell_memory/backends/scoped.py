"""One namespace of a store, as a backend of its own that has no way to anything else in it.

What lies inside is decided in two places alone, `Filter.within` and `EpisodicEntry.within`: by whole segments, compared
as they are. A scope guards against wrong and hostile values, not against code in this process, which has the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.backends.figures import sizes
from llmspell_memory.errors import ClosedError, ConfigError, InputError
from llmspell_memory.types import BackendStats, Filter, IndexStats, RowChanges
from llmspell_memory.types.text import checked_namespace, shortened

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from llmspell_memory.protocols import EpisodicBackend, VectorsBeside
    from llmspell_memory.types import (
        EmbeddingSpace,
        EpisodicEntry,
        Erased,
        Hit,
        HNSWConfig,
        Query,
        SessionSummary,
        Vector,
    )


class ScopedBackend:
    """The entries of one namespace, and of those below it; all others can neither be seen nor changed through it.

    Namespaces stay absolute. An entry without one gets the scope's, one of the scope or below is taken as it is. A
    filter without a namespace, or with one above the scope, means the scope; one of the scope or below stays.

    Args:
        backend: keeps the entries; stays open when the scope is closed. May itself be a scope.
        namespace: the scope's, in the namespace of `backend`.

    Raises:
        InputError: `namespace` has no segment, or lies outside of the backend's. The same for every entry and filter of
            another namespace; nothing is stored or changed then.
    """

    def __init__(self, backend: EpisodicBackend, namespace: tuple[str, ...]) -> None:
        own, outer = checked_namespace(namespace), backend.namespace
        if not own:
            raise InputError('a scope needs a namespace, such as ("acme", "alice"); without one it would be the store')
        if own[: len(outer)] != outer:
            raise InputError(f"the namespace {shortened(own)} lies outside of this memory's, {shortened(outer)}")
        self._backend = backend
        self._namespace = own
        self._closed = False

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of the store."""
        return self._backend.space

    @property
    def namespace(self) -> tuple[str, ...]:
        """The namespace of the scope."""
        return self._namespace

    @property
    def hnsw(self) -> HNSWConfig | None:
        """Parameters of the store's index; None when it is exact."""
        return self._backend.hnsw

    @property
    def is_remote(self) -> bool:
        """Whether the store's rows are elsewhere."""
        return self._backend.is_remote

    def _store(self) -> EpisodicBackend:
        if self._closed:
            raise ClosedError(f"this scope of {shortened(self._namespace)} is closed")
        return self._backend

    def add(
        self, entries: Sequence[EpisodicEntry], *, space: EmbeddingSpace | None = None, skip_equal: bool = False
    ) -> list[str]:
        """Store all or none, in the scope, and return their ids; a known identity keeps its ingestion_time."""
        inside = [entry.within(self._namespace) for entry in entries]
        return self._store().add(inside, space=space, skip_equal=skip_equal)

    def scan(self, where: Filter, *, limit: int | None = None, newest: bool = False) -> Iterator[EpisodicEntry]:
        """Yield the scope's matching entries by (timestamp, id), as they were when the scan began; or newest first."""
        return self._while_open(self._store().scan(where.within(self._namespace), limit=limit, newest=newest))

    def _while_open(self, entries: Iterator[EpisodicEntry]) -> Iterator[EpisodicEntry]:
        self._store()  # it may have been closed since the scan was asked for
        yield from entries

    def search(
        self, vector: Vector, k: int, where: Filter, *, exact: bool = False, space: EmbeddingSpace | None = None
    ) -> list[Hit]:
        """Return the k entries nearest to `vector` among the scope's that match, best first."""
        return self._store().search(vector, k, where.within(self._namespace), exact=exact, space=space)

    def named_roles(self, words: Collection[str], where: Filter) -> list[str]:
        """Return which of `words` name the role of some entry of the scope that matches."""
        return self._store().named_roles(words, where.within(self._namespace))

    def retrieve(self, query: Query, k: int, where: Filter, *, space: EmbeddingSpace | None = None) -> list[Hit]:
        """Return the k entries that answer a query best among the scope's that match, best first."""
        return self._store().retrieve(query, k, where.within(self._namespace), space=space)

    def changes(self, since: int, *, limit: int = 512) -> RowChanges:
        """Return what happened to the scope's rows after a sequence number, which counts the whole store's changes."""
        batch = self._store().changes(since, limit=limit)
        depth = len(self._namespace)
        return RowChanges(
            reached=batch.reached,
            put=tuple(entry for entry in batch.put if entry.namespace[:depth] == self._namespace),
            gone=tuple(name for name in batch.gone if name[0][:depth] == self._namespace),
            forgotten=batch.forgotten,
        )

    def read_note(self, name: str) -> str | None:
        """Return None: what the store notes about itself concerns all who share it."""
        del name
        self._store()
        return None

    def write_note(self, name: str, text: str | None) -> None:  # noqa: ARG002 (the protocol's)
        """Refuse: what the store notes about itself concerns all who share it.

        Raises:
            ConfigError: always.
        """
        self._store()
        raise ConfigError("a scope cannot keep a note about the store it shares with others; use the whole memory")

    def mark_processed(self, where: Filter) -> int:
        """Mark what matches in the scope; return how many were not marked before."""
        return self._store().mark_processed(where.within(self._namespace))

    def set_expiry(self, where: Filter, expires_at: datetime | None) -> int:
        """Have what matches in the scope expire at this moment, or never when None; return how many there were."""
        return self._store().set_expiry(where.within(self._namespace), expires_at)

    def delete(self, where: Filter) -> int:
        """Delete what matches in the scope; return how many there were."""
        return self._store().delete(where.within(self._namespace))

    def forget(self, where: Filter) -> list[Erased]:
        """Delete what matches in the scope and leave no trace of it; return what was erased.

        What was deleted earlier, by whomever, leaves no trace either: the store's files are written anew as a whole.
        """
        return self._store().forget(where.within(self._namespace))

    def count(self, where: Filter) -> int:
        """Return how many of the scope's entries match."""
        return self._store().count(where.within(self._namespace))

    def sessions(self, where: Filter) -> list[SessionSummary]:
        """Return one line per session of the scope, counting the entries that match, latest activity first."""
        return self._store().sessions(where.within(self._namespace))

    def beside(self, space: EmbeddingSpace) -> VectorsBeside:
        """Refuse: the embedding space is that of all who share the store.

        Raises:
            ConfigError: always.
        """
        del space
        self._store()
        raise ConfigError("a scope cannot move the store it shares with others to another space; use the whole memory")

    def configure(self, hnsw: HNSWConfig | None, *, rebuild: bool = False) -> None:  # noqa: ARG002 (the protocol's)
        """Refuse: the index belongs to all who share the store.

        Raises:
            ConfigError: always.
        """
        self._store()
        raise ConfigError("a scope cannot change the index that it shares with others; use the memory it was made from")

    def stats(self) -> BackendStats:
        """Return the scope's figures: its entries, and as many vectors of the index.

        What is known of the store as a whole alone would tell how much others have, so `path` is None, and bytes are 0.
        """
        sessions = self._store().sessions(Filter(namespace=self._namespace, expired=None))
        store = self._backend.stats()
        entries = sum(line.entries for line in sessions)
        return BackendStats(
            rows=store.rows,
            path=None,
            entries=entries,
            unprocessed=sum(line.unprocessed for line in sessions),
            space=store.space,
            index=IndexStats(kind=store.index.kind, size=entries, config=store.index.config, memory_bytes=0),
            memory_bytes=0,
            disk_bytes=0,
            id=store.id,
            seq=0,
            lag=0,
            **sizes({(line.namespace, line.session_id): line.entries for line in sessions}),
        )

    def close(self) -> None:
        """Close the scope, not the store; a second call does nothing."""
        self._closed = True
