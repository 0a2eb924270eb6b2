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

    Raises:
        ConfigError: a value is out of its range, or of the wrong kind.
    """

    dsn: str = field(repr=False)
    schema: str = "llmspell_memory"
    pool_size: int = 8
    pool_seconds: float = 10.0
    statement_seconds: float = 60.0
    retry_seconds: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.dsn, str):
            raise ConfigError(f"dsn must be a connection string, got {type(self.dsn).__name__}")
        if not isinstance(self.schema, str) or not _NAME.fullmatch(self.schema):
            raise ConfigError(f"schema must be a name of lower-case letters, digits and _, got {self.schema!r}")
        if isinstance(self.pool_size, bool) or not isinstance(self.pool_size, int) or self.pool_size < 1:
            raise ConfigError(f"pool_size must be a positive integer, got {self.pool_size!r}")
        for name in ("pool_seconds", "statement_seconds", "retry_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ConfigError(f"{name} must be a number from 0 up, got {value!r}")
