"""Opening the store a command is about, with no more than the command needs.

The index is never built while opening: only a search needs it, and most commands are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.sqlite.salvage import readable_space
from llmspell_memory.cli.providers import NoProvider, provider_for, provider_for_new
from llmspell_memory.embeddings import EmbeddingService
from llmspell_memory.errors import ConfigError, MissingDependencyError, StorageError
from llmspell_memory.manager import DefaultMemoryManager

if TYPE_CHECKING:
    from pathlib import Path

    from llmspell_memory.cli.settings import Settings
    from llmspell_memory.protocols import EmbeddingProvider
    from llmspell_memory.types import EmbeddingSpace, HNSWConfig


def open_to_read(settings: Settings, *, hnsw: HNSWConfig | None = None) -> DefaultMemoryManager:
    """Open an existing store for what needs no embedding; no provider's package need be installed.

    Raises:
        StorageError: there is no store, or it cannot be opened.
    """
    backend = _existing(settings.db, hnsw)
    reason = ConfigError("this command embeds nothing")
    return DefaultMemoryManager(backend, _service(NoProvider(backend.space, reason), backend.space))


def open_to_search(settings: Settings, *, hnsw: HNSWConfig | None = None) -> DefaultMemoryManager:
    """Open an existing store with the provider that it records.

    Raises:
        StorageError: there is no store, or it cannot be opened; a SchemaError when options ask for another provider.
        ConfigError, MissingDependencyError: the provider cannot be made.
    """
    backend = _existing(settings.db, hnsw)
    try:
        return DefaultMemoryManager(backend, _service(provider_for(backend.space, settings), backend.space))
    except BaseException:
        backend.close()
        raise


def open_to_write(settings: Settings, *, space: EmbeddingSpace | None = None) -> DefaultMemoryManager:
    """Open a store to add to, made when it does not exist; raises as `open_to_search`.

    Args:
        settings: the global options.
        space: of vectors that will be added as they are. A new store is made in it, unless options name a provider; and
            the provider need not be there, as long as nothing is embedded.
    """
    if _is_store(settings.db):
        if space is None:
            return open_to_search(settings)
        backend = _existing(settings.db)
        return DefaultMemoryManager(backend, _service_if_possible(backend.space, settings))
    if space is None or settings.provider is not None:
        service = EmbeddingService(provider_for_new(settings))
    else:
        service = _service_if_possible(space, settings)
    return DefaultMemoryManager(SQLiteBackend(settings.db, service.space, warm=False), service)


def service_to_repair(settings: Settings) -> EmbeddingService | None:
    """Return a service of the space of a store that may be damaged; None where none can be made.

    Raises:
        StorageError: there is no store; a SchemaError when options ask for another provider than it records.
    """
    space = readable_space(settings.db)
    if space is None:
        return None if settings.provider is None else EmbeddingService(provider_for_new(settings))
    try:
        return _service(provider_for(space, settings), space)
    except (MissingDependencyError, ConfigError):
        return None


def _is_store(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _existing(path: Path, hnsw: HNSWConfig | None = None) -> SQLiteBackend:
    if not _is_store(path):
        raise StorageError(
            f"there is no store at {path}; name another with --db (or LLMSPELL_MEMORY_DB), or begin this one with "
            "`llmspell-memory add` or `llmspell-memory import`"
        )
    return SQLiteBackend(path, hnsw=hnsw, warm=False)


def _service(provider: EmbeddingProvider, space: EmbeddingSpace) -> EmbeddingService:
    return EmbeddingService(provider, metric=space.metric)


def _service_if_possible(space: EmbeddingSpace, settings: Settings) -> EmbeddingService:
    try:
        return _service(provider_for(space, settings), space)
    except (MissingDependencyError, ConfigError) as error:
        return _service(NoProvider(space, error), space)
