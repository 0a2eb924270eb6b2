"""The stores that a command can be about: in a file, in PostgreSQL, in Milvus. Named here, and not open yet.

A driver is loaded when a server's store is first looked at.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.milvus.settings import MilvusConfig
from llmspell_memory.backends.postgres.settings import PostgresConfig
from llmspell_memory.backends.sqlite.index_file import saved_parameters
from llmspell_memory.cli.urls import address_of
from llmspell_memory.errors import ConfigError
from llmspell_memory.types import HNSWConfig

if TYPE_CHECKING:
    from llmspell_memory.backends.looking import Found
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace, KeywordConfig

TOKEN: Final = "MILVUS_TOKEN"  # noqa: S105 (the name of the variable that holds one)
"""The environment variable with what a Milvus server asks for, as user:password or a key."""

_SQLITE: Final = b"SQLite format 3\0"

_Config = TypeVar("_Config")


class Store(Protocol):
    """A store by its name, which `str` gives as it may be shown.

    Attributes:
        path: its file; None where a server keeps it.
    """

    path: Path | None

    def exists(self) -> bool:
        """Say whether there is something at its place that is to be opened, not made."""
        ...

    def is_store(self) -> bool:
        """Say whether that is a store."""
        ...

    def is_other(self) -> bool:
        """Say whether something else than a store has its place."""
        ...

    def index(self) -> HNSWConfig | None:
        """Return the parameters of the index that is kept with it; None where there is none."""
        ...

    def parameters(self, *, hnsw: bool | None) -> HNSWConfig | None:
        """Return the parameters to open it with for an HNSW index, for none, or as is usual where nobody says (None).

        A file is then searched exactly, for an index would be built for one search. A server has its index anyway, and
        keeps the parameters that this one has.
        """
        ...

    def open(
        self,
        space: EmbeddingSpace | None = None,
        *,
        hnsw: HNSWConfig | None = None,
        tuned: bool = False,
        keywords: KeywordConfig | None = None,
        warm: bool = False,
    ) -> EpisodicBackend:
        """Open it; made if it does not exist and a space is given.

        Args:
            space: of its vectors; None for as recorded.
            hnsw: parameters of an HNSW index; None for exact search.
            tuned: take those that tuning has recorded in a file, where there are any.
            keywords: how words are told apart; None for as recorded.
            warm: load or build a file's index now and not at the first search. A server's is built if there is none.
        """
        ...


def store_of(text: str | Path) -> Store:
    """Return the store that a path or a URL names.

    Raises:
        ConfigError: it is a URL that cannot be used.
    """
    address = address_of(str(text), token=os.environ.get(TOKEN, ""))
    if address is None:
        return FileStore(Path(text))
    if isinstance(address.server, MilvusConfig):
        return MilvusStore(address.shown, address.server)
    return PostgresStore(address.shown, address.server)


def file_of(store: Store, command: str, *, instead: str | None = None) -> Path:
    """Return the file of a store, for a command that is about files alone.

    Args:
        store: the store.
        command: its name.
        instead: what else to do with a server's store; use its server's own tools, or copy it, where it is not said.

    Raises:
        ConfigError: a server keeps it; says what to do.
    """
    if store.path is not None:
        return store.path
    own = f"use {getattr(store, 'tools', 'tools of its own')}, or bring it into a file by `llmspell-memory migrate`"
    raise ConfigError(f"`{command}` works on files, and a server keeps {store}: {instead or own}")


class FileStore:
    """A SQLite file."""

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def exists(self) -> bool:
        """Say whether there is a file that is not empty."""
        return self._path.exists() and self._path.stat().st_size > 0

    def is_store(self) -> bool:
        """Say whether the file is a store, by its first bytes."""
        if not self._path.is_file():
            return False
        with self._path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE

    def is_other(self) -> bool:
        """Say whether there is another kind of file."""
        return self.exists() and not self.is_store()

    def index(self) -> HNSWConfig | None:
        """Return the parameters of the index saved beside it."""
        return saved_parameters(self._path)

    def parameters(self, *, hnsw: bool | None) -> HNSWConfig | None:
        """Return the default parameters if an index is wanted."""
        return HNSWConfig() if hnsw else None

    def open(
        self,
        space: EmbeddingSpace | None = None,
        *,
        hnsw: HNSWConfig | None = None,
        tuned: bool = False,
        keywords: KeywordConfig | None = None,
        warm: bool = False,
    ) -> SQLiteBackend:
        """Open it."""
        return SQLiteBackend(self._path, space, hnsw=hnsw, tuned=tuned, keywords=keywords, warm=warm)


class _ServerStore(ABC, Generic[_Config]):
    """What stores of servers have in common: they are looked at once before they are opened.

    Args:
        shown: its URL without a password.
        config: how it is reached.
    """

    path: Path | None = None
    tools: str

    def __init__(self, shown: str, config: _Config) -> None:
        self._shown = shown
        self._config = config
        self._seen: tuple[Found | None] | None = None

    def __str__(self) -> str:
        return self._shown

    @abstractmethod
    def _look(self) -> Found | None: ...

    @abstractmethod
    def _opened(
        self, space: EmbeddingSpace | None, hnsw: HNSWConfig | None, keywords: KeywordConfig | None, *, builds: bool
    ) -> EpisodicBackend: ...

    def _found(self) -> Found | None:
        if self._seen is None:
            self._seen = (self._look(),)
        return self._seen[0]

    def exists(self) -> bool:
        """Say whether the server has it, with a space."""
        return self._found() is not None

    def is_store(self) -> bool:
        """Say the same."""
        return self.exists()

    def is_other(self) -> bool:
        """Say no: what is not ours is left alone, for names differ."""
        return False

    def index(self) -> HNSWConfig | None:
        """Return the parameters of the server's index."""
        found = self._found()
        return None if found is None else found.hnsw

    def parameters(self, *, hnsw: bool | None) -> HNSWConfig | None:
        """Return the parameters of the server's index, unless none is wanted; the default if one is to be made."""
        if hnsw is False:
            return None
        return self.index() or (HNSWConfig() if hnsw else None)

    def open(
        self,
        space: EmbeddingSpace | None = None,
        *,
        hnsw: HNSWConfig | None = None,
        tuned: bool = False,
        keywords: KeywordConfig | None = None,
        warm: bool = False,
    ) -> EpisodicBackend:
        """Open it."""
        del tuned, warm
        builds = hnsw is not None and self.index() is None
        self._seen = None  # what was not there may be there from now on
        return self._opened(space, hnsw, keywords, builds=builds)


class PostgresStore(_ServerStore[PostgresConfig]):
    """A schema of a PostgreSQL database."""

    tools = "PostgreSQL's own tools (pg_dump, pg_amcheck)"

    def _look(self) -> Found | None:
        from llmspell_memory.backends.postgres.looking import look  # noqa: PLC0415 (it needs the driver)

        return look(self._config)

    def _opened(
        self, space: EmbeddingSpace | None, hnsw: HNSWConfig | None, keywords: KeywordConfig | None, *, builds: bool
    ) -> EpisodicBackend:
        from llmspell_memory.backends.postgres import PostgresBackend  # noqa: PLC0415 (it needs the driver)

        return PostgresBackend(self._config, space, hnsw=hnsw, warm=builds, keywords=keywords)


class MilvusStore(_ServerStore[MilvusConfig]):
    """Collections of a Milvus server."""

    tools = "Milvus' own tools (milvus-backup)"

    def _look(self) -> Found | None:
        from llmspell_memory.backends.milvus.looking import look  # noqa: PLC0415 (it needs the driver)

        return look(self._config)

    def _opened(
        self, space: EmbeddingSpace | None, hnsw: HNSWConfig | None, keywords: KeywordConfig | None, *, builds: bool
    ) -> EpisodicBackend:
        from llmspell_memory.backends.milvus import MilvusBackend  # noqa: PLC0415 (it needs the driver)

        del builds  # by opening it
        return MilvusBackend(self._config, space, hnsw=hnsw, keywords=keywords)
