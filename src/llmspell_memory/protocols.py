"""The three things that can be replaced: who embeds, how vectors are searched, where rows live; and what can be added.

A `Reranker`, a `TimeReader` and a `Consolidator` are the user's own, where one is wanted.

Any object with these members will do; none need inherit. What a backend promises beyond its signatures stands as
tests in `llmspell_memory.testing.BackendContract`, an index's in `IndexContract`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from datetime import datetime

    from numpy.typing import ArrayLike

    from llmspell_memory.types import (
        BackendStats,
        BesideCounts,
        EmbeddingSpace,
        EpisodicEntry,
        Erased,
        Filter,
        Hit,
        HNSWConfig,
        Matrix,
        Query,
        RowChanges,
        RowText,
        SessionSummary,
        Vector,
    )
    from llmspell_memory.types.arrays import Labels

TimeReader: TypeAlias = "Callable[[str, datetime], Sequence[tuple[datetime, datetime]]]"
"""Finds the times that a question names, by the moment it is asked at; each from a moment on until before another."""

EmbeddingKind: TypeAlias = Literal["document", "query"]
"""What a text is embedded as; some models tell a question from a text that may answer it."""


@runtime_checkable
class EmbeddingProvider(Protocol):
    """Makes vectors out of texts.

    A provider whose service limits a call states so in a further attribute, `limits` (a `BatchLimits`). Plain
    attributes serve as well as properties.
    """

    @property
    def name(self) -> str:
        """Of the provider, such as "openai"; part of the embedding space."""
        ...

    @property
    def model(self) -> str | None:
        """Its model, None where it has none; part of the embedding space."""
        ...

    @property
    def dimensions(self) -> int:
        """Width of every vector it makes."""
        ...

    def embed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Return one row per text, in order.

        Raises:
            EmbeddingError: the provider failed; marked `retryable` when trying again may help.
        """
        ...


@runtime_checkable
class AsyncEmbeddingProvider(EmbeddingProvider, Protocol):
    """A provider that can also be awaited, so that a network call holds no thread."""

    async def aembed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Do what `embed` does, without blocking the event loop."""
        ...


class VectorIndex(Protocol):
    """Derived data over vectors, each known by an int64 label; always rebuildable from the rows."""

    def add(self, labels: ArrayLike, vectors: ArrayLike) -> None:
        """Add vectors; a label that is there already gets the new vector."""
        ...

    def remove(self, labels: ArrayLike) -> None:
        """Remove labels; unknown ones are ignored."""
        ...

    def search(self, vector: ArrayLike, k: int, *, among: ArrayLike | None = None) -> tuple[Labels, Vector]:
        """Return the labels and scores of the up to k best, best first; only labels in `among` where it is given."""
        ...

    def __len__(self) -> int:
        """Return how many vectors are live."""
        ...


class VectorsBeside(Protocol):
    """Vectors of a space that a store does not search in yet, or no more, each of its row's present text.

    Where a row's text changes, or it goes, so does its vector here.
    """

    @property
    def space(self) -> EmbeddingSpace:
        """The space of the vectors."""
        ...

    def counts(self) -> BesideCounts:
        """Return how many rows there are, how many lack a vector, and how long the texts of these are."""
        ...

    def missing(self, limit: int, *, after: int = -1) -> list[RowText]:
        """Return up to `limit` rows that have no vector, in the order of their numbers, of those above `after`."""
        ...

    def put(self, rows: Sequence[RowText], vectors: Matrix) -> int:
        """Store vectors, durable on return, and return how many; a row that has changed meanwhile gets none."""
        ...

    def overlap(self, sample: int, k: int) -> Iterator[float]:
        """Yield what share of an entry's k nearest this space shares with the one in use, for about `sample`."""
        ...

    def take_over(self, embed: Callable[[Sequence[str]], Matrix] | None = None) -> bool:
        """Make this the space in use, at once for all; False, and nothing changes, where a row has no vector.

        The former space's vectors stay, as vectors beside this one's.

        Args:
            embed: makes the vectors of the last few rows while writers are kept waiting, who else might always come
                first; where too many lack one, they are left, and that is False, too.
        """
        ...

    def drop(self) -> None:
        """Drop the vectors.

        Raises:
            ConfigError: they are in use by now.
        """
        ...


class EpisodicBackend(Protocol):
    """Keeps entries and finds them again; the rows are the truth, its index a view that catches up with them.

    An entry's identity is (namespace, id). Every entry given to `add` carries a vector of the backend's space.
    """

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of its vectors."""
        ...

    @property
    def namespace(self) -> tuple[str, ...]:
        """The namespace it shows, with those below; () where it shows all, as a backend that keeps rows does."""
        ...

    @property
    def hnsw(self) -> HNSWConfig | None:
        """Parameters of its HNSW index; None when it searches exactly."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether its rows are another machine's or process's, so that every call may have to wait for it."""
        ...

    def add(
        self, entries: Sequence[EpisodicEntry], *, space: EmbeddingSpace | None = None, skip_equal: bool = False
    ) -> list[str]:
        """Store all or none, durable on return; a known identity is replaced but keeps its ingestion_time.

        Args:
            entries: with their vectors.
            space: of the vectors, where the caller wants to be sure.
            skip_equal: leave out an entry of an unknown identity where its session has one of equal role and content
                (that has not expired), be it of the same call.

        Returns:
            Their ids, in order; for one that was left out, the id of the first that it equals.

        Raises:
            SpaceChangedError: the backend is of another space than `space` by now; nothing is stored.
        """
        ...

    def scan(self, where: Filter, *, limit: int | None = None, newest: bool = False) -> Iterator[EpisodicEntry]:
        """Yield matching entries with their vectors, ordered by (timestamp, id), as they were when the scan began.

        Args:
            where: conditions.
            limit: how many at most.
            newest: the other way round, the newest first.
        """
        ...

    def search(
        self, vector: Vector, k: int, where: Filter, *, exact: bool = False, space: EmbeddingSpace | None = None
    ) -> list[Hit]:
        """Return the k entries nearest to `vector` among those that match, best first; fewer only if fewer match.

        Args:
            vector: the query.
            k: how many.
            where: conditions, applied before the k best are chosen.
            exact: do without the index's approximation: the answer that it is judged by.
            space: of the vector, where the caller wants to be sure.

        Raises:
            SpaceChangedError: the backend is of another space than `space` by now.
        """
        ...

    def retrieve(self, query: Query, k: int, where: Filter, *, space: EmbeddingSpace | None = None) -> list[Hit]:
        """Return the k entries that answer a query best among those that match, best first.

        By meaning that is what `search` returns. By words only entries that have one of them are found. A hit's
        surroundings are of its namespace and session, and hide what has expired and what was learned after `known_by`,
        where that is given; the other conditions do not concern them.

        Args:
            query: what is looked for, and how.
            k: how many.
            where: conditions, applied before the k best are chosen; scores are as if nothing else were stored.
            space: of the query's vector, where the caller wants to be sure.

        Raises:
            SpaceChangedError: the backend is of another space than `space` by now.
        """
        ...

    def named_roles(self, words: Collection[str], where: Filter) -> list[str]:
        """Return which of `words`, casefolded, are the role of some entry that matches, or a word of it, in any case.

        Asked before each hybrid search, so it must be quick, and may do without `where.ids`.
        """
        ...

    def changes(self, since: int, *, limit: int = 512) -> RowChanges:
        """Return what happened to rows after a sequence number: about `limit` of what was put, and what has gone.

        Who asks again from the number reached, until that is no higher than the one asked from, has been told of
        everything; from 0 on, of every row.
        """
        ...

    def read_note(self, name: str) -> str | None:
        """Return a text that the store keeps about itself; None where there is none of that name."""
        ...

    def write_note(self, name: str, text: str | None) -> None:
        """Keep a short text about the store itself under this name, durable on return; None removes it."""
        ...

    def mark_processed(self, where: Filter) -> int:
        """Mark what matches; return how many were not marked before."""
        ...

    def set_expiry(self, where: Filter, expires_at: datetime | None) -> int:
        """Have what matches expire at this moment, or never when None; return how many there were.

        What matches is decided in the very act: an entry that was replaced just before is judged as it is by now.
        """
        ...

    def delete(self, where: Filter) -> int:
        """Delete what matches; return how many there were."""
        ...

    def forget(self, where: Filter) -> list[Erased]:
        """Delete what matches and leave no trace of it, in files or in the index; return what was erased.

        Once this returns, what was deleted earlier has left no trace either.
        """
        ...

    def count(self, where: Filter) -> int:
        """Return how many entries match."""
        ...

    def sessions(self, where: Filter) -> list[SessionSummary]:
        """Return one line per session with matching entries, counting those, latest activity first."""
        ...

    def beside(self, space: EmbeddingSpace) -> VectorsBeside:
        """Return vectors of another space for the same rows, of which there may be none yet; searches stay in the old.

        Raises:
            ConfigError: the space is in use already, or this backend cannot hold another.
        """
        ...

    def configure(self, hnsw: HNSWConfig | None, *, rebuild: bool = False) -> None:
        """Change the view: HNSW with these parameters, or exact when None. Reads go on meanwhile.

        A new `ef_search` alone takes effect at once; anything else, or `rebuild`, makes a new index from the stored
        vectors and then switches over.
        """
        ...

    def stats(self) -> BackendStats:
        """Return figures about rows and index."""
        ...

    def close(self) -> None:
        """Release everything; a second call does nothing, any other call afterwards raises ClosedError."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """Judges how well texts answer a query, with more care than a search over all of them could afford."""

    def rerank(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """Return a score for each text, in their order; higher is better, and nothing else is asked of the scale."""
        ...


@runtime_checkable
class Consolidator(Protocol):
    """Makes lasting knowledge of what was said: facts, a summary, preferences; mostly by a language model."""

    def consolidate(self, entries: Sequence[EpisodicEntry]) -> Iterable[EpisodicEntry]:
        """Return new entries made of some of one session, which come oldest first; none where nothing is worth it."""
        ...
