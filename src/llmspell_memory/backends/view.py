"""Views of rows: an index knows up to which sequence number it has read, and catches up from there.

Opening a store, another process's writes, a new `m`, exact to HNSW and back are all the one act `catch_up`. An index
that was saved is a view that has read far already.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Sized
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeAlias, TypeVar

from llmspell_memory.errors import InputError, StorageError
from llmspell_memory.index import ExactIndex, HNSWIndex

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from llmspell_memory.index.base import Among
    from llmspell_memory.types import EmbeddingSpace, HNSWConfig, IndexStats, Matrix, Vector
    from llmspell_memory.types.arrays import Labels

    Progress: TypeAlias = Callable[[int, int], object]

logger = logging.getLogger(__name__)

Index: TypeAlias = ExactIndex | HNSWIndex

Rows = TypeVar("Rows")
"""What a backend reads its rows from, at one moment: a read transaction, or dictionaries under a lock."""

_WORTH_SAYING: Final = 4096
"""Changes that take so long to read, some tenths of a second, that the log tells of it."""


class Batched(Protocol):
    """A batch of what happened to the rows."""

    @property
    def reached(self) -> int:
        """The sequence number reached by it."""
        ...

    @property
    def count(self) -> int:
        """How many were put."""
        ...


BatchT = TypeVar("BatchT", bound=Batched)
BatchOut_co = TypeVar("BatchOut_co", bound=Batched, covariant=True)


Made = TypeVar("Made", bound=Sized)
"""What a view shows the rows as."""


class Source(Protocol[Rows, BatchOut_co]):
    """The rows that a view is of."""

    def open(self) -> AbstractContextManager[Rows]:
        """Return rows of one moment, for reading."""
        ...

    def changes(self, rows: Rows, since: int) -> BatchOut_co | None:
        """Return the next batch of what happened after a sequence number, None where nothing did."""
        ...

    def pending(self, rows: Rows, since: int) -> int:
        """Return how many were put after a sequence number; after 0 these are all."""
        ...


class View(ABC, Generic[Rows, Made, BatchT]):
    """Something made from rows, that catches up with them.

    Args:
        made: what it begins with, of no rows.
        source: the rows.
        on_progress: called while rows are read, with how many are done and how many there are.
    """

    name: str

    def __init__(self, made: Made, *, source: Source[Rows, BatchT], on_progress: Progress | None = None) -> None:
        self._made = made
        self._source = source
        self._on_progress = on_progress
        self._seen = 0
        self._moment: int | None = 0
        self.lock = threading.RLock()

    @property
    def made(self) -> Made:
        """What is shown."""
        return self._made

    @property
    def moment(self) -> int | None:
        """The sequence number of the rows that are shown; None while that is changing.

        A search whose rows are of this moment, before it and after it, saw view and rows as one.
        """
        return self._moment

    @property
    def seen(self) -> int:
        """The sequence number that it has read up to."""
        return self._seen

    @abstractmethod
    def _put(self, made: Made, batch: BatchT) -> None:
        """Show what happened to the rows."""

    @abstractmethod
    def _begin(self, rows: Rows | None) -> tuple[Made, int]:
        """Return what to begin with, and the number it shows."""

    def catch_up(self, rows: Rows | None = None) -> int:
        """Read what happened since the last time, from `rows` or batch by batch from rows opened anew.

        Interrupted, it goes on from there the next time; a change seen twice changes nothing.

        Returns:
            The number reached.
        """
        with self.lock:
            self._moment = None
            if not self._seen:
                self._made, self._seen = self._begin(rows)
            self._seen = self._read_into(self._made, self._seen, rows)
            self._moment = self._seen
            return self._seen

    def _brought_up_to_date(
        self, saved: Callable[[Rows], tuple[Made, int] | None], rows: Rows | None
    ) -> tuple[Made, int] | None:
        """Return what was saved, if it then shows as many as there are rows."""
        with self._opened(rows) as opened:
            if loaded := saved(opened):
                made, seen = loaded
                seen = self._read_into(made, seen, opened)
                if len(made) == self._source.pending(opened, 0):
                    return made, seen
                logger.warning("The saved %s does not fit its rows; it is built anew", self.name)
        return None

    def _opened(self, rows: Rows | None) -> AbstractContextManager[Rows]:
        return nullcontext(rows) if rows is not None else self._source.open()

    def _read_into(self, made: Made, seen: int, rows: Rows | None = None) -> int:
        done, total = 0, None
        while True:
            with self._opened(rows) as opened:
                batch = self._source.changes(opened, seen)
                if batch is None:
                    break
                if total is None:
                    total = self._source.pending(opened, seen)
                    if total >= _WORTH_SAYING:
                        logger.info("Reading %d rows into the %s", total, self.name)
            self._put(made, batch)
            seen = batch.reached
            done += batch.count
            if self._on_progress and done:
                self._on_progress(done, max(total, done))
        return seen

    @abstractmethod
    def release(self) -> None:
        """Let go of everything."""


@dataclass(frozen=True, slots=True)
class Changes:
    """A batch of what happened to vectors: labels gone, labels with a new vector, and the number reached by it."""

    reached: int
    gone: Labels
    labels: Labels
    vectors: Matrix

    @property
    def count(self) -> int:
        """How many vectors were put."""
        return len(self.labels)


class IndexView(View[Rows, Index, Changes]):
    """The vector index of one backend.

    Args:
        space: width and metric of the vectors.
        hnsw: parameters of an HNSW index; None for the exact one.
        source: the rows.
        saved: returns an index of these rows with these parameters, and the number it shows; None where there is none.
        on_progress: called while vectors are read, with how many are done and how many there are.
    """

    def __init__(
        self,
        space: EmbeddingSpace,
        hnsw: HNSWConfig | None,
        *,
        source: Source[Rows, Changes],
        saved: Callable[[Rows, HNSWConfig], tuple[HNSWIndex, int] | None] | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        self._space = space
        self._saved = saved
        self._rebuilding = threading.Lock()
        super().__init__(self._new(hnsw), source=source, on_progress=on_progress)

    @property
    def name(self) -> str:  # type: ignore[override]
        """What the log calls it."""
        return f"{self._made.stats().kind} index"

    @property
    def space(self) -> EmbeddingSpace:
        """Width and metric of the vectors, and where they come from."""
        return self._space

    def _new(self, hnsw: HNSWConfig | None) -> Index:
        dimensions, metric = self._space.dimensions, self._space.metric
        if hnsw is None:
            return ExactIndex(dimensions=dimensions, metric=metric)
        return HNSWIndex(dimensions=dimensions, metric=metric, config=hnsw)

    @property
    def index(self) -> Index:
        """The index itself."""
        return self._made

    @property
    def hnsw(self) -> HNSWConfig | None:
        """Parameters of the index; None when it is exact."""
        return self._made.config if isinstance(self._made, HNSWIndex) else None

    def _begin(self, rows: Rows | None) -> tuple[Index, int]:
        return self._beginning(self.hnsw, rows)

    def _beginning(self, hnsw: HNSWConfig | None, rows: Rows | None = None) -> tuple[Index, int]:
        """Return an index to begin with, and the number it shows: the saved one if it fits, else an empty one."""
        saved = self._saved
        if saved is not None and hnsw is not None:
            found = self._brought_up_to_date(lambda opened: saved(opened, hnsw), rows)
            if found is not None:
                return found
        return self._new(hnsw), 0

    def _put(self, made: Index, batch: Changes) -> None:
        made.remove(batch.gone)
        try:
            made.add(batch.labels, batch.vectors, threads=None)
        except InputError as error:  # others, with another index, have stored what this one cannot keep
            raise StorageError(f"the index cannot show what is stored: {error}") from error

    def search(self, vector: Vector, k: int, among: Among, *, exact: bool = False) -> tuple[Labels, Vector]:
        """Return labels and scores of the nearest; for certain, where `exact`."""
        index = self._made
        if exact and isinstance(index, HNSWIndex):
            return index.search(vector, k, among=among, exact=True)
        return index.search(vector, k, among=among)

    def configure(self, hnsw: HNSWConfig | None, *, rebuild: bool) -> bool:
        """Change the index and say whether it was built anew: beside the old, which answers until the switch."""
        current = self.hnsw
        if not rebuild and hnsw == current:
            return False
        if not rebuild and hnsw and current and replace(current, ef_search=hnsw.ef_search) == hnsw:
            self._set_ef_search(hnsw.ef_search)
            return False
        with self._rebuilding:
            asked = self.hnsw
            fresh, seen = (self._new(hnsw), 0) if rebuild else self._beginning(hnsw)
            seen = self._read_into(fresh, seen)
            with self.lock:
                self.catch_up()  # so that whoever follows the changes is told of all of them while there is no moment
                changed = self.hnsw != asked  # by an ef_search set meanwhile
                latest = self.hnsw
                self._moment = None
                self._made, self._seen = fresh, self._read_into(fresh, seen)
                self._moment = self._seen
                if changed and latest:
                    self._set_ef_search(latest.ef_search)
        told = {"vectors": len(fresh), "index_kind": "hnsw" if hnsw else "exact"}
        logger.info("Rebuilt the vector index: %d vectors, %s", len(fresh), hnsw or "exact", extra=told)
        return True

    def _set_ef_search(self, ef_search: int) -> None:
        if isinstance(self._made, HNSWIndex):
            self._made.ef_search = ef_search

    def stats(self) -> IndexStats:
        """Return figures about the index."""
        return self._made.stats()

    def release(self) -> None:
        """Let go of every vector."""
        with self.lock:
            self._made, self._seen, self._moment = self._new(None), 0, None
