"""Opens a memory from its configuration, and holds what belongs together: backend, embedding service, the words."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Self

from llmspell_memory.backends import LocalBackend, ScopedBackend, SQLiteBackend
from llmspell_memory.config import EpisodicBackendType, MemoryConfig
from llmspell_memory.embeddings import EmbeddingService, HashingProvider
from llmspell_memory.errors import ConfigError, InputError, SchemaError
from llmspell_memory.memory import EpisodicMemory
from llmspell_memory.types import HNSWConfig, MemoryStats

if TYPE_CHECKING:
    from types import TracebackType

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import RetentionRule, SweepReport

logger = logging.getLogger(__name__)


class DefaultMemoryManager:
    """A memory that is open.

    Args:
        backend: keeps the entries; any object with the members of `EpisodicBackend`. Closed with the manager.
        service: embeds texts, in the space of the backend. Not closed: it may serve others.
        retention: what `sweep` removes beside what has expired.

    Raises:
        SchemaError: backend and service are of different embedding spaces.

    Most callers use `new_in_memory`, `new_in_memory_with_embeddings` or `with_config` instead. A context manager; may
    be used from several threads.
    """

    def __init__(
        self, backend: EpisodicBackend, service: EmbeddingService, *, retention: tuple[RetentionRule, ...] = ()
    ) -> None:
        if backend.space != service.space:
            raise SchemaError(
                f"the backend holds vectors of {backend.space}, the service makes those of {service.space}; give it "
                "the service that its vectors were made with"
            )
        self._backend = backend
        self._service = service
        self._retention = retention
        self._episodic = EpisodicMemory(backend, service)

    @classmethod
    def new_in_memory(cls) -> Self:
        """Open exact search in RAM with a deterministic offline embedding, for tests and first steps."""
        return cls.with_config(MemoryConfig.for_testing())

    @classmethod
    def new_in_memory_with_embeddings(cls, service: EmbeddingService) -> Self:
        """Open HNSW search in RAM over `service`."""
        return cls.with_config(MemoryConfig.for_production(service))

    @classmethod
    def with_config(cls, config: MemoryConfig) -> Self:
        """Open the memory that `config` describes.

        Raises:
            ConfigError: HNSW without an embedding service.
            SchemaError: the file holds another embedding space, or belongs to a newer version.
            StorageError: the file cannot be opened.
        """
        service = config.service
        hnsw = config.hnsw if config.backend is EpisodicBackendType.HNSW else None
        if service is None:
            if hnsw:
                raise ConfigError(
                    "HNSW backend requires embedding service; give it one: MemoryConfig.for_production(service) or "
                    "config.with_service(EmbeddingService(provider))"
                )
            service = EmbeddingService(HashingProvider())
        if hnsw:
            logger.info("Creating HNSW episodic backend (production mode)")
            logger.info(
                "HNSW backend using embedding service: %s, dimensions: %d", service.space.provider, service.dimensions
            )
            logger.info(
                "HNSW parameters: m=%d, ef_construction=%d, ef_search=%d", hnsw.m, hnsw.ef_construction, hnsw.ef_search
            )
        backend: EpisodicBackend
        if config.path is None:
            backend = LocalBackend(service.space, hnsw=hnsw)
        else:
            backend = SQLiteBackend(
                config.path,
                service.space,
                hnsw=hnsw,
                warm=config.warm,
                durability=config.durability,
                on_progress=config.on_progress,
            )
        return cls(backend, service, retention=config.retention)

    def scoped(self, *segments: str) -> Self:
        """Return a memory of one namespace, which can neither read, find, count, mark nor delete outside of it.

        It shares this one's backend and service, and has those of its rules of retention that concern it. Closing it
        leaves this one open; closing this one ends both.

        Args:
            segments: of the namespace, from the general to the particular; below this memory's own.

        Raises:
            InputError: there is no segment, or one is no text that a namespace may have.
        """
        if not segments:
            raise InputError('scoped() needs at least one segment of a namespace, such as scoped("acme", "alice")')
        scope = ScopedBackend(self._backend, (*self._backend.namespace, *segments))
        rules = tuple(rule for rule in self._retention if rule.concerns(scope.namespace))
        return type(self)(scope, self._service, retention=rules)

    @property
    def episodic(self) -> EpisodicMemory:
        """The memory itself: add, search, get and the other words."""
        return self._episodic

    @property
    def backend(self) -> EpisodicBackend:
        """What keeps the entries."""
        return self._backend

    @property
    def service(self) -> EmbeddingService:
        """The embedding service."""
        return self._service

    @property
    def retention(self) -> tuple[RetentionRule, ...]:
        """What `sweep` removes beside what has expired."""
        return self._retention

    @property
    def backend_name(self) -> str:
        """Which view answers searches: "HNSW" or "InMemory"."""
        return str(EpisodicBackendType.HNSW if self._backend.hnsw else EpisodicBackendType.IN_MEMORY)

    def stats(self) -> MemoryStats:
        """Return figures: counts, index and its parameters, bytes in memory and on disk, cache hits.

        A scoped memory tells of itself alone: what it shares, it counts as 0.
        """
        stats = self._backend.stats()
        fields = {field.name: getattr(stats, field.name) for field in dataclasses.fields(stats)}
        return MemoryStats(
            **fields,
            backend=self.backend_name,
            cache_hits=0 if self._backend.namespace else self._service.hits,
            cache_misses=0 if self._backend.namespace else self._service.misses,
        )

    def sweep(self) -> SweepReport:
        """Delete what has expired and what the configured retention no longer keeps; see `EpisodicMemory.sweep`."""
        return self._episodic.sweep(*self._retention)

    def set_ef_search(self, ef_search: int) -> None:
        """Change how many candidates an HNSW search keeps; the next search uses it.

        Raises:
            ConfigError: out of range, or the search is exact.
        """
        self._backend.configure(dataclasses.replace(self._hnsw(), ef_search=ef_search))

    def switch_backend(self, backend: EpisodicBackendType, *, hnsw: HNSWConfig | None = None) -> None:
        """Search through `backend` from now on: exact to HNSW, or back. Rows stay as they are, nothing is embedded.

        Searches go on in the old view until the new one takes over.

        Args:
            backend: the view to change to.
            hnsw: parameters for HNSW, the defaults when None; of no effect on exact search.
        """
        self._backend.configure((hnsw or HNSWConfig()) if backend is EpisodicBackendType.HNSW else None)

    def rebuild(self, *, m: int | None = None, ef_construction: int | None = None) -> None:
        """Make the HNSW index again from the stored vectors, with other parameters if given; nothing is embedded.

        Searches go on in the old index until the new one takes over.

        Raises:
            ConfigError: out of range, or the search is exact.
        """
        old = self._hnsw()
        hnsw = dataclasses.replace(
            old,
            m=old.m if m is None else m,
            ef_construction=old.ef_construction if ef_construction is None else ef_construction,
        )
        self._backend.configure(hnsw, rebuild=True)

    def _hnsw(self) -> HNSWConfig:
        hnsw = self._backend.hnsw
        if hnsw is None:
            raise ConfigError("this memory searches exactly and has no HNSW index to change")
        return hnsw

    def close(self) -> None:
        """Close the backend; a second call does nothing, any use afterwards raises ClosedError."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
