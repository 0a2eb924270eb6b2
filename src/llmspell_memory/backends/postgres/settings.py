"""How a store in PostgreSQL is reached; nothing here needs the driver."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from llmspell_memory.errors import ConfigError

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

    def __post_init__(self) -> None:
        if not isinstance(self.dsn, str):
            raise ConfigError(f"dsn must be a connection string, got {type(self.dsn).__name__}")
        if not isinstance(self.schema, str) or not _NAME.fullmatch(self.schema):
            raise ConfigError(f"schema must be a name of lower-case letters, digits and _, got {self.schema!r}")
        for name, least in (("pool_size", 1), ("index_from", 0), ("build_megabytes", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} must be an integer from {least} up, got {value!r}")
        for name in ("pool_seconds", "statement_seconds", "retry_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ConfigError(f"{name} must be a number from 0 up, got {value!r}")
