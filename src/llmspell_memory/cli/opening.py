"""Opening the store a command is about, with no more than the command needs.

The index is never built while opening: only a search needs it, and most commands are none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmspell_memory.backends.sqlite.salvage import readable_space
from llmspell_memory.backends.tuned import NOTE, read_tuned
from llmspell_memory.cli.providers import NoProvider, provider_for, provider_for_new
from llmspell_memory.embeddings import EmbeddingService
from llmspell_memory.errors import ConfigError, MissingDependencyError, StorageError
from llmspell_memory.manager import DefaultMemoryManager
from llmspell_memory.types import HNSWConfig

if TYPE_CHECKING:
    from pathlib import Path

    from llmspell_memory.cli.settings import Settings
    from llmspell_memory.protocols import EmbeddingProvider, EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace


def open_to_read(settings: Settings, *, hnsw: HNSWConfig | None = None, tuned: bool = True) -> DefaultMemoryManager:
    """Open an existing store for what needs no embedding; no provider's package need be installed.

    Raises:
        StorageError: there is no store, or it cannot be opened.
    """
    backend = _existing(settings, hnsw, tuned=tuned)
    reason = ConfigError("this command embeds nothing")
    return DefaultMemoryManager(backend, _service(NoProvider(backend.space, reason), backend.space))


def open_to_search(settings: Settings, *, hnsw: HNSWConfig | None = None, tuned: bool = True) -> DefaultMemoryManager:
    """Open an existing store with the provider that it records.

    Args:
        settings: the global options.
        hnsw: parameters of an HNSW index; None for exact search.
        tuned: take those that tuning has recorded in the store, where there are any.

    Raises:
        StorageError: there is no store, or it cannot be opened; a SchemaError when options ask for another provider.
        ConfigError, MissingDependencyError: the provider cannot be made.
    """
    backend = _existing(settings, hnsw, tuned=tuned)
    try:
        return DefaultMemoryManager(backend, _service(provider_for(backend.space, settings), backend.space))
    except BaseException:
        backend.close()
        raise


def open_to_tune(settings: Settings, *, embeds: bool) -> DefaultMemoryManager:
    """Open an existing file with an HNSW index: of the graph that it was last saved with, or tuned to, or the default.

    Args:
        settings: the global options.
        embeds: whether texts will be embedded, so that the provider is needed.

    Raises:
        StorageError, SchemaError, ConfigError, MissingDependencyError: as `open_to_search`.
    """
    saved = settings.db.index()
    opened = open_to_search if embeds else open_to_read
    if saved is None:
        return opened(settings, hnsw=HNSWConfig())
    memory = opened(settings, hnsw=saved, tuned=False)
    tuned = read_tuned(memory.backend.read_note(NOTE), memory.backend.space)
    if tuned and replace(tuned.hnsw, ef_search=saved.ef_search) == saved:
        memory.set_ef_search(tuned.hnsw.ef_search)
    return memory


def open_to_advise(settings: Settings) -> DefaultMemoryManager:
    """Open an existing store with the index that it has; to search exactly where there is none."""
    return open_to_read(settings, hnsw=settings.db.index(), tuned=False)


def open_to_write(settings: Settings, *, space: EmbeddingSpace | None = None) -> DefaultMemoryManager:
    """Open a store to add to, made when it does not exist; raises as `open_to_search`.

    Args:
        settings: the global options.
        space: of vectors that will be added as they are. A new store is made in it, unless options name a provider; and
            the provider need not be there, as long as nothing is embedded.
    """
    if settings.db.exists():
        if space is None:
            return open_to_search(settings)
        backend = _existing(settings)
        return DefaultMemoryManager(backend, service_if_possible(backend.space, settings))
    if space is None or settings.provider is not None:
        service = EmbeddingService(provider_for_new(settings))
    else:
        service = service_if_possible(space, settings)
    return DefaultMemoryManager(settings.db.open(service.space, keywords=settings.keywords), service)


def service_to_repair(file: Path, settings: Settings) -> EmbeddingService | None:
    """Return a service of the space of a file that may be damaged; None where none can be made.

    Raises:
        StorageError: there is no store; a SchemaError when options ask for another provider than it records.
    """
    space = readable_space(file)
    if space is None:
        return None if settings.provider is None else EmbeddingService(provider_for_new(settings))
    try:
        return _service(provider_for(space, settings), space)
    except (MissingDependencyError, ConfigError):
        return None


def _existing(settings: Settings, hnsw: HNSWConfig | None = None, *, tuned: bool = True) -> EpisodicBackend:
    if not settings.db.exists():
        raise StorageError(
            f"there is no store at {settings.db}; name another with --db (or LLMSPELL_MEMORY_DB), or begin this one "
            "with `llmspell-memory add` or `llmspell-memory import`"
        )
    return settings.db.open(hnsw=hnsw, tuned=tuned, keywords=settings.keywords)


def _service(provider: EmbeddingProvider, space: EmbeddingSpace) -> EmbeddingService:
    return EmbeddingService(provider, metric=space.metric)


def service_if_possible(space: EmbeddingSpace, settings: Settings) -> EmbeddingService:
    """Return the service of a space; where its provider cannot be made, one that says so when it is to embed."""
    try:
        return _service(provider_for(space, settings), space)
    except (MissingDependencyError, ConfigError) as error:
        return _service(NoProvider(space, error), space)
