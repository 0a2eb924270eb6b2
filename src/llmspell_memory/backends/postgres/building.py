"""When the HNSW index of a store's vectors is made, and how far that is.

pgvector links every new row into a graph that is there, which takes far longer than storing it; making the graph of
rows that are there takes a part of that. And where rows are few, comparing each is quick, and exact. So a store begins
without an index, and gets it when it has enough rows and no more are being brought in, beside writers and searches,
which are exact until then.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from psycopg import errors as states

from llmspell_memory.backends.postgres.schema import lock_of
from llmspell_memory.errors import ClosedError, StorageError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmspell_memory.backends.postgres.connections import Connection, Connections, Cursor
    from llmspell_memory.backends.postgres.vectors import InUse, Vectors

logger = logging.getLogger(__name__)

_QUIET: Final = 2.0
"""Seconds without a write that tell that no more rows are being brought in."""

_PATIENCE: Final = 600.0
"""Seconds after which the index is made though writes go on."""

_AGAIN: Final = 60.0
"""Seconds until the index is thought of again where it could not be made, or was not worth it."""

_LOOK: Final = 0.5
"""Seconds between two looks at how far it is."""

_NEARLY: Final = 0.99
"""The share of an index that is made, and looked over by the server before it may be used."""

_OF_GRAPH: Final = 250
_OF_LINK: Final = 16
"""Bytes in memory that the server needs for a row while it makes a graph, beside its vector: about, of pgvector 0.8."""

_NO_ROOM: Final = (states.DiskFull, states.OutOfMemory, states.InsufficientResources)


class _Found(NamedTuple):
    """An index on a table of vectors: its name, whether it is whole, and its parameters as the server writes them."""

    name: str
    whole: bool
    parameters: frozenset[str]


class IndexBuilder:
    """Makes the HNSW index of one store.

    Args:
        connections: to the server.
        using: returns the vectors in use.
        on_progress: called in the thread that asked for an index with how many rows are in it, and how many there are.
    """

    def __init__(
        self,
        connections: Connections,
        using: Callable[[], Vectors],
        *,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> None:
        self._connections = connections
        self._schema = connections.config.schema
        self._using = using
        self._on_progress = on_progress
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._not_before = 0.0
        self._latest_write = 0.0

    # --- by itself --------------------------------------------------------------------------------------------------

    def seen(self, now: InUse, *, written: int = 0) -> None:
        """See to an index in the background where a call found none.

        Args:
            now: how it found the vectors.
            written: how many it has put since.
        """
        if written:
            self._latest_write = time.monotonic()
        if now.indexed or self._using().hnsw is None or now.labels + written < self._connections.config.index_from:
            return
        with self._lock:
            busy = self._thread is not None and self._thread.is_alive()
            if busy or self._closing.is_set() or time.monotonic() < self._not_before:
                return
            self._thread = threading.Thread(target=self._when_quiet, name="llmspell-memory index", daemon=True)
            self._thread.start()

    def _when_quiet(self) -> None:
        until = time.monotonic() + _PATIENCE
        while (pause := min(until, self._latest_write + _QUIET) - time.monotonic()) > 0:
            if self._closing.wait(pause):
                return
        try:
            if self.build(self._using(), missing=True):
                return
        except ClosedError:
            return
        except StorageError as error:
            logger.warning("The HNSW index could not be made, so searches are exact until it is: %s", error)
        self._not_before = time.monotonic() + _AGAIN

    # --- at once ----------------------------------------------------------------------------------------------------

    def build(self, vectors: Vectors, *, rebuild: bool = False, missing: bool = False) -> bool:
        """Make the index of these parameters, if there are rows enough, and drop others.

        Args:
            vectors: that it is of.
            rebuild: also where it is there.
            missing: only where there is none, whatever its parameters.

        Returns:
            Whether it was made.

        Raises:
            ClosedError: the store was closed meanwhile.
            StorageError: the server could not make it; what was there before is there still.
        """
        if vectors.hnsw is None:
            return False
        with self._alone() as db:
            found = {one.name: one for one in self._found(db, vectors)}
            there = found.get(vectors.index)
            as_wanted = there is not None and there.whole and (missing or there.parameters == vectors.parameters_told)
            rows = self._rows(db, vectors)
            if (as_wanted and not rebuild) or rows < self._connections.config.index_from or not self._owns(db, vectors):
                return False
            self._make(db, vectors, found, rows)
        return True

    def _make(self, db: Connection, vectors: Vectors, found: dict[str, _Found], rows: int) -> None:
        fresh = f"{vectors.index}_new"
        began = time.monotonic()
        logger.info("Building the HNSW index of %s: %d rows, %s", self._connections.name, rows, vectors.hnsw)
        made = found.pop(fresh, None)
        if made is None or not made.whole or made.parameters != vectors.parameters_told:
            self._drop(db, fresh)
            self._create(db, vectors, fresh, rows)
        with db.transaction():
            if vectors.index in found:
                self._drop(db, f"{vectors.index}_old", concurrently=False)
                db.execute(f"ALTER INDEX {self._schema}.{vectors.index} RENAME TO {vectors.index}_old")
            db.execute(f"ALTER INDEX {self._schema}.{fresh} RENAME TO {vectors.index}")
        for old in {*found, f"{vectors.index}_old"} - {vectors.index}:
            self._drop(db, old)
        logger.info("Built the HNSW index of %s in %.1f s", self._connections.name, time.monotonic() - began)

    def _drop(self, db: Connection, name: str, *, concurrently: bool = True) -> None:
        db.execute(f"DROP INDEX {'CONCURRENTLY' if concurrently else ''} IF EXISTS {self._schema}.{name}")

    def _create(self, db: Connection, vectors: Vectors, name: str, rows: int) -> None:
        """Make an index under a name that no search knows."""
        settings = {"maintenance_work_mem": f"{self._megabytes(db, vectors, rows)}MB"}
        statement = (
            f"CREATE INDEX CONCURRENTLY {name} ON {self._schema}.{vectors.table} USING hnsw {vectors.definition}"
        )
        try:
            self._watched(statement, settings, vectors, rows)
        except StorageError as error:
            if not isinstance(error.__cause__, _NO_ROOM):
                raise
            logger.info("%s: no room to build an index in parallel, as in a small container", self._connections.name)
            self._drop(db, name)
            self._watched(statement, {**settings, "max_parallel_maintenance_workers": "0"}, vectors, rows)

    def _megabytes(self, db: Connection, vectors: Vectors, rows: int) -> int:
        """Return the memory that the server should take for a graph: more than it would where that is too little."""
        kilobytes = int(_one(db, "SELECT setting FROM pg_settings WHERE name = 'maintenance_work_mem'"))
        assert vectors.hnsw is not None  # noqa: S101 (for the type checker)
        of_row = 4 * vectors.space.dimensions + 2 * _OF_LINK * vectors.hnsw.m + _OF_GRAPH
        needed = rows * of_row // 2**20 + 1
        return max(kilobytes // 1024, min(needed, self._connections.config.build_megabytes))

    def _watched(self, statement: str, settings: dict[str, str], vectors: Vectors, rows: int) -> None:
        """Run a statement, and tell how far it is; whoever interrupts that interrupts it, too."""
        with self._connections.apart(**settings, statement_timeout="0") as db:
            self._run(db, statement, lambda: self._tell(vectors, rows))

    def _run(self, db: Connection, statement: str, tell: Callable[[], None]) -> None:
        running: Future[object] = Future()

        def run() -> None:
            try:
                running.set_result(db.execute(statement))
            except BaseException as error:  # noqa: BLE001 (it is raised below)
                running.set_exception(error)

        threading.Thread(target=run, name="llmspell-memory index statement", daemon=True).start()
        try:
            while wait([running], timeout=_LOOK).not_done:
                tell()
                if self._closing.is_set():
                    db.cancel_safe()
        except BaseException:
            db.cancel_safe()
            wait([running], timeout=self._connections.config.pool_seconds)
            raise
        try:
            running.result()
        except states.QueryCanceled:
            if self._closing.is_set():
                raise ClosedError(f"{self._connections.name} was closed while its index was made") from None
            raise

    def _tell(self, vectors: Vectors, rows: int) -> None:
        share = None
        with contextlib.suppress(UnavailableError, ClosedError):  # it is told again in a moment
            share = self._connections.run(lambda db: share_made(db, vectors), reading=True)
        if share is not None:
            logger.debug("%s: %.0f %% of the index", self._connections.name, 100 * share)
            if self._on_progress:
                self._on_progress(round(share * rows), rows)

    # --- what is there ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[Connection]:
        """A connection of its own, for the pool would miss one for so long, while nobody else builds."""
        with self._connections.apart(statement_timeout="0") as db:
            lock = lock_of(self._schema) ^ 2
            while db.execute("SELECT pg_try_advisory_lock(%s)", (lock,)).fetchone() != (True,):
                if self._closing.wait(_LOOK):  # not by waiting for the lock: who builds waits for all who wait
                    raise ClosedError(f"{self._connections.name} was closed")
            yield db

    def _found(self, db: Connection, vectors: Vectors) -> list[_Found]:
        rows = db.execute(
            "SELECT c.relname, i.indisvalid, c.reloptions FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " JOIN pg_am a ON a.oid = c.relam WHERE i.indrelid = to_regclass(%s) AND a.amname = 'hnsw'",
            (f"{self._schema}.{vectors.table}",),
        ).fetchall()
        return [_Found(name, whole, frozenset(parameters or ())) for name, whole, parameters in rows]

    def _rows(self, db: Connection, vectors: Vectors) -> int:
        return int(_one(db, f"SELECT count(*) FROM {self._schema}.{vectors.table}"))

    def _owns(self, db: Connection, vectors: Vectors) -> bool:
        owns = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(%s)"
        return bool(_one(db, owns, f"{self._schema}.{vectors.table}"))

    def close(self) -> None:
        """Break off what is being made in the background, and wait for its end."""
        self._closing.set()
        with self._lock:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()


def _one(db: Connection | Cursor, statement: str, *parameters: Any) -> Any:
    row = db.execute(statement, parameters or None).fetchone()
    return None if row is None else row[0]


def share_made(db: Cursor, vectors: Vectors) -> float | None:
    """Return which share of an index is made by now; None where none is being made."""
    row = db.execute(
        "SELECT phase, blocks_done::float8 / nullif(blocks_total, 0) FROM pg_stat_progress_create_index"
        " WHERE relid = to_regclass(%s)",
        (vectors.table,),
    ).fetchone()
    if row is None:
        return None
    phase, share = row[0] or "", row[1] or 0.0
    if "loading" in phase:
        return min(1.0, share)
    return 1.0 if "validation" in phase or "old snapshots" in phase else 0.0


def share_there(db: Cursor, vectors: Vectors) -> float:
    """Return which share of its index a search may use: all of it, or what is made of the first one."""
    if vectors.hnsw is None or _one(db, "SELECT to_regclass(%s) IS NOT NULL", vectors.index):
        return 1.0
    return min(share_made(db, vectors) or 0.0, _NEARLY)
