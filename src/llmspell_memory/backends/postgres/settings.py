"""How a store in PostgreSQL is reached; nothing here needs the driver."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from llmspell_memory.errors import ConfigError

ReadConsistency: TypeAlias = Literal["Session", "Eventually"]
"""What a read from a replica has seen at least: what was written through the same backend; what has come there."""

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,47}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresConfig:
    """How a store in PostgreSQL is reached.

    Attributes:
        dsn: connection string or URI, as libpq takes it. It is not shown, for it may hold a password.
        schema: of the tables; several stores of one database have each its own.
        pool_size: connections at most, each used by one thread at a time.
        pool_seconds: how long a call waits for one of them.
        statement_seconds: how long one statement may take.
        retry_seconds: how long a call is tried again after a lost connection, a deadlock or a restarting server.
        index_from: entries from which on there is an HNSW index. Fewer are compared one by one, which is exact.
        build_megabytes: memory at most that the server takes to build one, where it would by itself take less than the
            graph needs; a graph that does not fit is built many times slower.
        read_dsn: connection string of a streaming replica, which answers searches and other reads in place of the
            server above as long as it can; not shown either.
        consistency: of reads from the replica. With "Session" they show what there was when the store was opened and
            whatever was written since through the same backend, with "Eventually" they may be as old as the replica is
            behind.
        replica_seconds: how long such a read waits for the replica to come up to what was written, before it goes to
            the server above.

    Raises:
        ConfigError: a value is out of its range, or of the wrong kind.
    """

    dsn: str = field(repr=False)
    schema: str = "llmspell_memory"
    pool_size: int = 8
    pool_seconds: float = 10.0
    statement_seconds: float = 60.0
    retry_seconds: float = 10.0
    index_from: int = 5_000
    build_megabytes: int = 1_024
    read_dsn: str | None = field(default=None, repr=False)
    consistency: ReadConsistency = "Session"
    replica_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.dsn, str):
            raise ConfigError(f"dsn must be a connection string, got {type(self.dsn).__name__}")
        if not isinstance(self.read_dsn, str | None):
            raise ConfigError(f"read_dsn must be a connection string or None, got {type(self.read_dsn).__name__}")
        if self.consistency not in get_args(ReadConsistency):
            choices = ", ".join(get_args(ReadConsistency))
            raise ConfigError(f"consistency must be one of {choices}, got {self.consistency!r}")
        if not isinstance(self.schema, str) or not _NAME.fullmatch(self.schema):
            raise ConfigError(f"schema must be a name of lower-case letters, digits and _, got {self.schema!r}")
        for name, least in (("pool_size", 1), ("index_from", 0), ("build_megabytes", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} must be an integer from {least} up, got {value!r}")
        for name in ("pool_seconds", "statement_seconds", "retry_seconds", "replica_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ConfigError(f"{name} must be a number from 0 up, got {value!r}")
