"""How a store in Milvus is reached; nothing here needs the driver."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from llmspell_memory.errors import ConfigError

Consistency: TypeAlias = Literal["Strong", "Session", "Bounded", "Eventually"]
"""What a read has seen at least: all writes; all of this process; all but those of the last seconds; some."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_MOST_PARTITIONS: Final = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class MilvusConfig:
    """How a store in Milvus is reached.

    Attributes:
        uri: of the server, such as "http://127.0.0.1:19530".
        token: that it asks for, as "user:password" or a key. It is not shown.
        database: in which the collections are; "" for the server's default.
        prefix: of the collections' names; several stores of one database have each its own.
        consistency: of reads. What other processes have written a moment ago is seen with "Strong" for certain.
        partitions: of a new collection, over which the namespaces' first segments are spread.
        call_seconds: how long one call to the server may take.
        retry_seconds: how long a call is tried again after a lost connection or a restarting server.

    Raises:
        ConfigError: a value is out of its range, or of the wrong kind.
    """

    uri: str
    token: str = field(default="", repr=False)
    database: str = ""
    prefix: str = "llmspell_memory"
    consistency: Consistency = "Session"
    partitions: int = 16
    call_seconds: float = 60.0
    retry_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name in ("uri", "token", "database"):
            if not isinstance(value := getattr(self, name), str):
                raise ConfigError(f"{name} must be a text, got {type(value).__name__}")
        if not self.uri.startswith(("http://", "https://", "tcp://", "unix:")):
            raise ConfigError(f'uri must be that of a server, such as "http://127.0.0.1:19530", got {self.uri!r}')
        if not isinstance(self.prefix, str) or not _NAME.fullmatch(self.prefix):
            raise ConfigError(f"prefix must be a name of letters, digits and _, got {self.prefix!r}")
        if self.consistency not in get_args(Consistency):
            choices = ", ".join(get_args(Consistency))
            raise ConfigError(f"consistency must be one of {choices}, got {self.consistency!r}")
        number = self.partitions
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= _MOST_PARTITIONS:
            raise ConfigError(f"partitions must be an integer in 1..{_MOST_PARTITIONS}, got {self.partitions!r}")
        for name in ("call_seconds", "retry_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ConfigError(f"{name} must be a number from 0 up, got {value!r}")
