"""Connections to the server: a pool, transactions on them, and the one border where the driver's errors become ours."""

from __future__ import annotations

import logging
import random
import time
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from llmspell_memory.backends.checks import Birthplace
from llmspell_memory.errors import (
    ClosedError,
    ConfigError,
    CorruptDataError,
    EpisodicError,
    MissingDependencyError,
    SchemaError,
    StorageError,
    UnavailableError,
)

try:
    import psycopg
    from pgvector.psycopg import register_vector
    from psycopg import errors as states
    from psycopg.conninfo import conninfo_to_dict
    from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout
except ImportError as error:
    raise MissingDependencyError("psycopg, psycopg-pool or pgvector", extra="postgres") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from llmspell_memory.backends.postgres.settings import PostgresConfig

logger = logging.getLogger(__name__)

T = TypeVar("T")
Cursor: TypeAlias = "psycopg.Cursor[tuple[Any, ...]]"
Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.5

REPEATED: Final = (states.SerializationFailure, states.DeadlockDetected)
_AWAY: Final = (
    *(states.AdminShutdown, states.CrashShutdown, states.CannotConnectNow, states.TooManyConnections),
    *(states.ConnectionException, states.ConnectionFailure, states.ConnectionDoesNotExist),
    *(states.SqlclientUnableToEstablishSqlconnection, states.IdleInTransactionSessionTimeout),
)


def _options(config: PostgresConfig) -> dict[str, Any]:
    return {"autocommit": True, "connect_timeout": max(2, round(config.pool_seconds))}


def _connected(config: PostgresConfig, name: str, **options: Any) -> Connection:
    """Return a connection; what is no host's name is refused by Python itself, before the driver can."""
    try:
        return psycopg.connect(config.dsn, **_options(config), **options)
    except UnicodeError as error:
        raise ConfigError(f"{name}: the connection string names no host that there can be: {error}") from error


def name_of(config: PostgresConfig) -> str:
    """Return what a store is called in errors and in the log: nothing of how it is reached."""
    return f"PostgreSQL schema {config.schema}"


class Connections:
    """A pool of connections, each used by one thread at a time, in transactions.

    Args:
        config: how the server is reached.
        prepare: makes what all connections need, in a transaction of its own; None asks nothing of the server yet.
        name: in errors and logs.

    Raises:
        UnavailableError: it cannot be reached.
    """

    def __init__(
        self, config: PostgresConfig, *, prepare: Callable[[Cursor], object] | None, name: str | None = None
    ) -> None:
        self.config = config
        self.name = name or name_of(config)
        self._born = Birthplace()
        self._closed = False
        try:
            if prepare is not None:
                self._prepare(prepare)
            self._pool: ConnectionPool[Connection] = ConnectionPool(
                config.dsn,
                kwargs=_options(config),
                min_size=0,
                max_size=config.pool_size,
                timeout=config.pool_seconds,
                reconnect_timeout=config.retry_seconds,
                configure=register_vector,
                open=True,
            )
        except psycopg.Error as error:
            raise told(error, self.name) from error

    def _prepare(self, prepare: Callable[[Cursor], object]) -> None:
        with _connected(self.config, self.name) as first, first.transaction(), first.cursor() as cursor:
            for statement in self._beginning({}, isolated=False):
                cursor.execute(statement)
            prepare(cursor)

    def reach(self) -> None:
        """Give up connections that the server has left; raise an UnavailableError where it takes no new one."""
        self.check_open()
        try:
            _connected(self.config, self.name).close()
            self._pool.check()
        except psycopg.Error as error:
            raise told(error, self.name) from error

    @property
    def usable(self) -> bool:
        """Whether it is open, and this the process that opened it."""
        return not self._closed and self._born.is_here

    def check_open(self) -> None:
        """Raise where it was closed, or belongs to another process."""
        self._born.check(self.name)
        if self._closed:
            raise ClosedError(f"{self.name} was closed")

    def run(
        self,
        work: Callable[[Cursor], T],
        *,
        settings: Mapping[str, str | int] | None = None,
        isolated: bool = False,
        reading: bool = False,
    ) -> T:
        """Return what `work` does in a transaction, from the beginning again where the server had to break it off.

        So `work` may be called several times, and must do the same each time.

        Args:
            work: is given a cursor.
            settings: that hold for the transaction alone.
            isolated: whether all its statements see one moment.
            reading: whether it writes nothing.

        Raises:
            StorageError: the server could not do it; UnavailableError where trying again may help.
        """

        def once() -> T:
            with self.transaction(settings=settings, isolated=isolated, reading=reading) as cursor:
                return work(cursor)

        return self._again(once)

    @contextmanager
    def looked_through(self) -> Iterator[Cursor]:
        """A cursor in a transaction of one moment that writes nothing; only its beginning is repeated."""
        with ExitStack() as stack:
            yield self._again(lambda: stack.enter_context(self.transaction(isolated=True, reading=True)))

    def _again(self, once: Callable[[], T]) -> T:
        """Call `once` until the server does not break it off."""
        until = time.monotonic() + self.config.retry_seconds
        pause = _FIRST_PAUSE
        while True:
            try:
                return once()
            except UnavailableError as error:
                if not isinstance(error.__cause__, (*REPEATED, *_AWAY, psycopg.OperationalError)):
                    raise
                if isinstance(error.__cause__, states.QueryCanceled) or time.monotonic() + pause > until:
                    raise
                logger.info("%s: tried again after %s", self.name, error)
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (so that two do not meet again)
                pause = min(2 * pause, _LONGEST_PAUSE)

    @contextmanager
    def transaction(
        self, *, settings: Mapping[str, str | int] | None = None, isolated: bool = False, reading: bool = False
    ) -> Iterator[Cursor]:
        """A cursor in a transaction, which is committed where the block ends without an error."""
        self.check_open()
        try:
            with (
                self._pool.connection() as connection,
                self._around(connection, reading=reading) as committing,
                connection.transaction(),
                connection.cursor() as cursor,
            ):
                for statement in self._beginning(settings or {}, isolated=isolated):
                    cursor.execute(statement)
                yield cursor
                committing()
        except EpisodicError:
            raise
        except PoolTimeout as error:
            raise UnavailableError(
                f"{self.name}: none of {self.config.pool_size} connections was free, or could be made, within "
                f"{self.config.pool_seconds:g} s"
            ) from error
        except PoolClosed as error:
            raise ClosedError(f"{self.name} was closed") from error
        except psycopg.Error as error:
            raise told(error, self.name) from error

    def _around(self, connection: Connection, *, reading: bool) -> AbstractContextManager[Callable[[], object]]:
        """What is done on a connection before and after a transaction, and just before its commit: nothing here."""
        del connection, reading
        return nullcontext(lambda: None)

    def _beginning(self, settings: Mapping[str, str | int], *, isolated: bool) -> Iterator[str]:
        """Yield statements that set what holds for one transaction alone: others may get the session after it."""
        if isolated:
            yield "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
        given = {
            "citus.propagate_set_commands": "local",  # a cluster tells its workers what follows
            "search_path": f"{self.config.schema}, public",
            "statement_timeout": round(1000 * self.config.statement_seconds),
            "jit": "off",  # it compiles for longer than a search takes
            **settings,
        }
        yield "; ".join(f"SET LOCAL {name} = {value}" for name, value in given.items())

    @contextmanager
    def outside(self) -> Iterator[Connection]:
        """A connection without a transaction, for what must stand alone and may take long; names need their schema."""
        self.check_open()
        try:
            with self._pool.connection() as connection:
                yield connection
        except PoolTimeout as error:
            raise UnavailableError(f"{self.name}: no connection was free") from error
        except psycopg.Error as error:
            raise told(error, self.name) from error

    @contextmanager
    def apart(self, **settings: str) -> Iterator[Connection]:
        """A connection of its own with these settings, outside of the pool, which is closed where the block ends."""
        self.check_open()
        given = conninfo_to_dict(self.config.dsn).get("options", "")
        options = " ".join([str(given), *(f"-c {name}={value}" for name, value in settings.items())])
        try:
            with _connected(self.config, self.name, options=options) as connection:
                yield connection
        except psycopg.Error as error:
            raise told(error, self.name) from error

    def close(self) -> bool:
        """Close all connections; return whether they were open. In a forked process, they are left alone."""
        was, self._closed = not self._closed, True
        if was and self._born.is_here:
            self._pool.close()
        return was


@contextmanager
def looking(config: PostgresConfig, name: str) -> Iterator[Cursor]:
    """A cursor in a transaction that can change nothing, on a connection of its own; the store need not be there."""
    try:
        with _connected(config, name) as connection, connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute(f"SET LOCAL search_path = {config.schema}, public")
            yield cursor
    except psycopg.Error as error:
        raise told(error, name) from error


_TOLD: Final[tuple[tuple[tuple[type[psycopg.Error], ...], type[EpisodicError], str], ...]] = (
    (REPEATED, UnavailableError, "others wrote to the same rows; try again"),
    ((states.LockNotAvailable, states.QueryCanceled), UnavailableError, "it took too long; nothing is changed"),
    ((states.ReadOnlySqlTransaction,), UnavailableError, "this server takes no writes, as a replica does not"),
    (
        (states.DiskFull, states.OutOfMemory, states.InsufficientResources),
        StorageError,
        "the server has no room left; nothing is changed",
    ),
    (
        (states.InsufficientPrivilege, states.InvalidAuthorizationSpecification, states.InvalidPassword),
        StorageError,
        "this role may not do that",
    ),
    (
        (states.UndefinedTable, states.UndefinedColumn, states.InvalidSchemaName, states.InvalidCatalogName),
        SchemaError,
        "what is looked for is not there: the tables were dropped, or are not those of this version",
    ),
    (
        (states.UndefinedObject, states.UndefinedFunction, states.FeatureNotSupported, states.UndefinedFile),
        StorageError,
        "the server lacks something; pgvector 0.8 or newer is needed",
    ),
    ((states.DataCorrupted, states.IndexCorrupted), CorruptDataError, "the server says that its data is damaged"),
    ((psycopg.OperationalError, psycopg.InterfaceError), UnavailableError, "the server cannot be reached"),
)
"""Errors of the driver, what each is of ours, and what to say; the first that fits."""


def told(error: psycopg.Error, name: str) -> EpisodicError:
    """Return an error of the driver as one of ours, which says what to do."""
    said = " ".join(str(error).split()) or type(error).__name__
    for theirs, ours, what in _TOLD:
        if isinstance(error, theirs):
            return ours(f"{name}: {what}: {said}")
    return StorageError(f"{name}: {said}")
