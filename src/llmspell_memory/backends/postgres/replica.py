"""Reads from a streaming replica, and what makes them show this backend's own writes.

A position in the write-ahead log says how far a server has come. After a write the primary is asked for its own; a
connection to the replica shows the write once the replica has replayed the log up to there. What the replica cannot
answer, the primary does: it is gone, or behind for too long, or had to break a statement off so as to replay a change
of the rows that it was reading.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg import errors as states
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import PoolTimeout

from llmspell_memory.backends.postgres.connections import REPEATED, Connection, Connections, Cursor
from llmspell_memory.errors import ClosedError, ConfigError, SchemaError, StorageError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from llmspell_memory.backends.postgres.settings import PostgresConfig

logger = logging.getLogger(__name__)

T = TypeVar("T")

_WRITTEN: Final = (
    "SELECT CASE current_setting('synchronous_commit') WHEN 'off' THEN pg_current_wal_insert_lsn()"
    " ELSE pg_current_wal_flush_lsn() END - '0/0'"
)
"""Where the log ends after a commit: it is on the disk up to there by then, unless commits do not wait for that."""

_REPLAYED: Final = "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn() - '0/0'"

_FIRST_LOOK: Final = 0.001
_SLOWEST_LOOK: Final = 0.05
"""Seconds between two looks at how far the replica has come."""

_FIRST_ABSENCE: Final = 0.5
_LONGEST_ABSENCE: Final = 10.0
"""Seconds after which a replica that could not answer is asked again, twice as long each time."""

_FREE_SECONDS: Final = 1.0
"""How long a read waits for a free connection to the replica at most."""

_CUT: Final = {"tcp_user_timeout": "5000", "keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3"}
"""After how many ms and s a machine that is silent counts as gone; a connection string may say otherwise."""


def _with_limits(dsn: str) -> str:
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
        for host in given.get("host", "").split(","):
            if not host.startswith("/"):
                host.encode("idna")  # as is done before it is looked up, when nobody waits for an error any more
    except (psycopg.Error, UnicodeError):  # whose message may show a part of it
        raise ConfigError("read_dsn must be a connection string or URI, as libpq takes it") from None
    return make_conninfo(**{**_CUT, **given})


def _nothing() -> None:
    """Do nothing before the commit of what is only read."""


class OwnWrites:
    """How far a replica must have come to show what was written through one backend."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._position = 0
        self._doubts = self._settled = 0

    @contextmanager
    def noted(self, connection: Connection) -> Iterator[Callable[[], None]]:
        """Note how far the log reaches after the block, which commits a write on this connection.

        What is yielded is to be called before the commit: an error after that leaves open what became of it.
        """
        committing = threading.Event()
        try:
            yield committing.set
        except BaseException:
            if committing.is_set():
                self._doubt()
            raise
        known = False
        try:
            self._note(connection.cursor())
            known = True
        except psycopg.Error as error:  # the write stands
            logger.info("How far the log reaches after a write is asked again later: %s", error)
        finally:
            if not known:
                self._doubt()

    def _doubt(self) -> None:
        with self._lock:
            self._doubts += 1

    def _note(self, db: Cursor) -> None:
        (position,) = db.execute(_WRITTEN).fetchone() or (0,)
        with self._lock:
            self._position = max(self._position, int(position))

    def position(self, primary: Connections) -> int:
        """Return how far the log reached after the last write; the primary is asked where that is not known."""
        doubts = self._doubts
        if doubts > self._settled:
            with primary.transaction(reading=True) as db:
                self._note(db)
            with self._lock:
                self._settled = max(self._settled, doubts)
        return self._position


class Primary(Connections):
    """The server that takes writes, which are noted for a replica to show them.

    Args:
        config: how the server is reached.
        prepare: makes what all connections need, in a transaction of its own.

    Raises:
        ConfigError: the connection string of its replica is none.
        UnavailableError: it cannot be reached.
    """

    def __init__(self, config: PostgresConfig, *, prepare: Callable[[Cursor], object]) -> None:
        self.read_dsn = None if config.read_dsn is None else _with_limits(config.read_dsn)
        follows = config.read_dsn is not None and config.consistency == "Session"
        self.own_writes = OwnWrites() if follows else None
        super().__init__(config, prepare=prepare)

    @contextmanager
    def _around(self, connection: Connection, *, reading: bool) -> Iterator[Callable[[], object]]:
        if reading or self.own_writes is None:
            yield _nothing
        else:
            with self.own_writes.noted(connection) as committing:
                yield committing


class Replica(Connections):
    """A server that follows the primary, and need not be there.

    Args:
        primary: which it follows.
        dsn: its connection string.
    """

    def __init__(self, primary: Primary, dsn: str) -> None:
        seconds = min(primary.config.pool_seconds, _FREE_SECONDS)
        own = replace(primary.config, dsn=dsn, pool_seconds=seconds, retry_seconds=seconds)
        super().__init__(own, prepare=None, name=f"replica of {primary.name}")
        self._primary = primary
        self._replayed: WeakKeyDictionary[Connection, int] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._absent = False
        self._asked_again = 0.0
        self._absence = _FIRST_ABSENCE

    # --- whether it is asked ----------------------------------------------------------------------------------------

    def may_answer(self) -> bool:
        """Say whether it is worth asking; one that could not answer is tried again now and then, by one caller."""
        if not self._absent:
            return True
        with self._lock:
            if time.monotonic() < self._asked_again:
                return False
            self._put_off()
        return self._is_there()

    def _is_there(self) -> bool:
        try:
            self.reach()
        except StorageError:
            return False
        return True

    def _put_off(self) -> None:
        self._asked_again = time.monotonic() + self._absence
        self._absence = min(2 * self._absence, _LONGEST_ABSENCE)

    def answered(self) -> None:
        """Ask it from now on, as it has just answered."""
        if self._absent:
            with self._lock:
                self._absent, self._absence = False, _FIRST_ABSENCE
            logger.info("%s answers reads again", self.name)

    def failed(self, error: StorageError | ClosedError) -> None:
        """Ask it no more for a while, unless the error was of this one statement alone."""
        cause = error.__cause__
        of_statement = isinstance(cause, (*REPEATED, states.QueryCanceled))
        if of_statement or not isinstance(error, UnavailableError | SchemaError):
            logger.info("%s could not answer a read: %s", self.name, error)
            return
        if isinstance(cause, PoolTimeout) and self._is_there():  # all its connections are in use
            return
        with self._lock:
            if self._absent:
                return
            self._absent = True
            self._put_off()
        logger.warning("Reads go to the primary until the %s can answer them: %s", self.name, error)

    # --- how far it has come ----------------------------------------------------------------------------------------

    @contextmanager
    def _around(self, connection: Connection, *, reading: bool) -> Iterator[Callable[[], object]]:
        del reading
        own_writes = self._primary.own_writes
        if own_writes is not None:
            self._wait(connection, own_writes.position(self._primary))
        yield _nothing

    def _wait(self, connection: Connection, position: int) -> None:
        """Wait until a connection shows what the log holds up to a position.

        What is known is known of the connection: another may lead to another replica, or to this one after its crash,
        from which it comes back with less than it had replayed.
        """
        if self._replayed.get(connection, -1) >= position:
            return
        until = time.monotonic() + self.config.replica_seconds
        pause = _FIRST_LOOK
        while True:
            follows, replayed = connection.execute(_REPLAYED).fetchone() or (False, None)
            if not follows:
                raise UnavailableError(f"{self.name}: read_dsn leads to a server that is no replica")
            if replayed is not None and replayed >= position:
                self._replayed[connection] = int(replayed)
                return
            if time.monotonic() + pause > until:
                raise UnavailableError(f"{self.name}: it is behind what was written")
            time.sleep(pause)
            pause = min(2 * pause, _SLOWEST_LOOK)


class Reads:
    """Transactions that write nothing: the replica's as long as it can, the primary's otherwise.

    Args:
        primary: the server that takes writes.
    """

    def __init__(self, primary: Primary) -> None:
        self._primary = primary
        self.config, self.name = primary.config, primary.name
        self._replica = None if primary.read_dsn is None else Replica(primary, primary.read_dsn)
        # Whoever drops or rewrites a table on the primary locks it on the replica, until that is replayed to its end.
        self._patience = {"lock_timeout": max(1, round(1000 * primary.config.replica_seconds))}

    def run(
        self, work: Callable[[Cursor], T], *, settings: Mapping[str, str | int] | None = None, isolated: bool = False
    ) -> T:
        """Return what `work` does in a transaction, as `Connections.run` does.

        Raises:
            StorageError: the primary could not do it either; UnavailableError where trying again may help.
        """
        self._primary.check_open()
        replica = self._replica
        if replica is not None and replica.may_answer():
            try:
                with replica.transaction(settings={**(settings or {}), **self._patience}, isolated=isolated) as db:
                    done = work(db)
            except (StorageError, ClosedError) as error:
                replica.failed(error)
            else:
                replica.answered()
                return done
        return self._primary.run(work, settings=settings, isolated=isolated, reading=True)

    def each(self, work: Callable[[Cursor], Iterator[T]]) -> Iterator[T]:
        """Yield what `work` yields in a transaction that sees one moment; it is begun anew until the first is there."""
        self._primary.check_open()
        replica, begun = self._replica, False
        if replica is not None and replica.may_answer():
            try:
                with replica.transaction(settings=self._patience, isolated=True) as db:
                    for one in work(db):
                        begun = True
                        yield one
            except (StorageError, ClosedError) as error:
                replica.failed(error)
                if begun:  # the primary would go on from another moment
                    raise
            else:
                replica.answered()
                return
        with self._primary.looked_through() as db:
            yield from work(db)

    def close(self) -> None:
        """Close the connections to the replica."""
        if self._replica is not None:
            self._replica.close()
