"""What a memory is made of, as one frozen value."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, get_args

from llmspell_memory.backends.milvus.settings import MilvusConfig
from llmspell_memory.backends.postgres.settings import PostgresConfig
from llmspell_memory.embeddings import EmbeddingService, HashingProvider
from llmspell_memory.errors import ConfigError
from llmspell_memory.types import HNSWConfig, KeywordConfig, RetentionRule, SearchMode, Telemetry, Watch
from llmspell_memory.types.query import DEFAULT_MODE
from llmspell_memory.types.settings import checked_durability

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from llmspell_memory.types import Durability

_NOT_CHOSEN: Final = HNSWConfig()
"""The default of a configuration, told from parameters that were chosen by being this very object."""


_OPTIONAL: Final[dict[str, type]] = {
    "watch": Watch,
    "telemetry": Telemetry,
    "keywords": KeywordConfig,
    "postgres": PostgresConfig,
    "milvus": MilvusConfig,
}


class EpisodicBackendType(Enum):
    """Which view of the rows answers searches."""

    IN_MEMORY = "InMemory"
    """Every vector is looked at: exact, for tests and small memories."""

    HNSW = "HNSW"
    """A graph leads to the nearest: for production."""

    POSTGRES = "Postgres"
    """A PostgreSQL server keeps the rows and answers searches, for several machines at once."""

    MILVUS = "Milvus"
    """A Milvus server keeps the rows and answers searches, for more vectors than one machine holds."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryConfig:
    """Configuration of a `DefaultMemoryManager`; the `with_*` methods return changed copies.

    Attributes:
        backend: exact or HNSW search.
        service: makes vectors. HNSW needs one; without one, exact search falls back on `HashingProvider`.
        hnsw: parameters of the HNSW index; of no effect on exact search. Left out, they are those that
            `DefaultMemoryManager.tune` has recorded in the store, if it has, and else the default; given, be it as
            `HNSWConfig()`, they are those given.
        path: SQLite file that keeps the rows; None keeps them in RAM only.
        warm: load or build the index while opening; otherwise at the first search.
        durability: with "normal", what a call has written survives the death of the process; with "full" a power cut,
            too, at the price of a wait for the disk in every write. Of no effect without a path.
        retention: what `DefaultMemoryManager.sweep` removes beside what has expired.
        on_progress: called while vectors are read from a file into the index, with how many are done and how many there
            are.
        watch: how recall is estimated while the memory is used; None for not at all.
        telemetry: that OpenTelemetry is told of calls; None for not at all. Needs the extra `otel`.
        search_mode: how a text is looked for where a search does not say.
        keywords: how words are told apart and scored: the language whose stemmer makes them comparable, above all.
            A durable memory records it; None for what it records, and else the default, which is English.
        postgres: how the server is reached, for the backend of that name.
        milvus: the same.

    Raises:
        ConfigError: a value is of the wrong kind.
    """

    backend: EpisodicBackendType = EpisodicBackendType.IN_MEMORY
    service: EmbeddingService | None = None
    hnsw: HNSWConfig = _NOT_CHOSEN
    path: Path | None = None
    warm: bool = True
    durability: Durability = "normal"
    retention: tuple[RetentionRule, ...] = ()
    on_progress: Callable[[int, int], object] | None = None
    watch: Watch | None = field(default_factory=Watch)
    telemetry: Telemetry | None = None
    search_mode: SearchMode = DEFAULT_MODE
    keywords: KeywordConfig | None = None
    postgres: PostgresConfig | None = None
    milvus: MilvusConfig | None = None

    def __post_init__(self) -> None:
        backend: object = self.backend
        if not isinstance(backend, EpisodicBackendType):
            choices = ", ".join(f"EpisodicBackendType.{one.name}" for one in EpisodicBackendType)
            raise ConfigError(f"backend must be one of {choices}, got {backend!r}")
        if self.service is not None and not isinstance(self.service, EmbeddingService):
            raise ConfigError(
                f"service must be an EmbeddingService, got {type(self.service).__name__}; wrap a provider: "
                "EmbeddingService(provider)"
            )
        if not isinstance(self.hnsw, HNSWConfig):
            raise ConfigError(f"hnsw must be an HNSWConfig, got {type(self.hnsw).__name__}")
        checked_durability(self.durability)
        for name, kind in _OPTIONAL.items():
            if (value := getattr(self, name)) is not None and not isinstance(value, kind):
                raise ConfigError(f"{name} must be a {kind.__name__} or None, got {type(value).__name__}")
        if not isinstance(self.retention, tuple) or not all(isinstance(one, RetentionRule) for one in self.retention):
            raise ConfigError(f"retention must be a tuple of RetentionRule, got {self.retention!r}")
        if self.search_mode not in get_args(SearchMode):
            raise ConfigError(f'search_mode must be "semantic", "keyword" or "hybrid", got {self.search_mode!r}')
        if self.path is not None:
            object.__setattr__(self, "path", _checked_path(self.path))

    def __reduce__(self) -> tuple[Callable[[], Self], tuple[()]]:
        """Return how it is made again from a pickle: with `hnsw` left out, if it was."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        if not self.hnsw_chosen:
            del given["hnsw"]
        return partial(type(self), **given), ()

    @property
    def hnsw_chosen(self) -> bool:
        """Whether `hnsw` was given; otherwise what tuning has recorded in the store comes before it."""
        return self.hnsw is not _NOT_CHOSEN

    @classmethod
    def for_testing(cls) -> Self:
        """Return exact search in RAM with a deterministic offline embedding: quick, and the same every time."""
        return cls(service=EmbeddingService(HashingProvider()))

    @classmethod
    def for_production(cls, service: EmbeddingService, *, path: str | os.PathLike[str] | None = None) -> Self:
        """Return HNSW search over `service`; durable when given a `path`, volatile when not."""
        return cls(backend=EpisodicBackendType.HNSW, service=service, path=_checked_path(path))

    @classmethod
    def for_postgres(cls, server: PostgresConfig | str, service: EmbeddingService) -> Self:
        """Return a memory over `service` in a PostgreSQL server, with pgvector's HNSW index; the extra is `postgres`.

        Args:
            server: how it is reached, or its connection string.
            service: makes vectors.
        """
        config = PostgresConfig(dsn=server) if isinstance(server, str) else server
        return cls(backend=EpisodicBackendType.POSTGRES, service=service, postgres=config)

    @classmethod
    def for_milvus(cls, server: MilvusConfig | str, service: EmbeddingService) -> Self:
        """Return a memory over `service` in a Milvus server, with its HNSW index; the extra is `milvus`.

        Args:
            server: how it is reached, or its URI.
            service: makes vectors.
        """
        config = MilvusConfig(uri=server) if isinstance(server, str) else server
        return cls(backend=EpisodicBackendType.MILVUS, service=service, milvus=config)

    def with_backend(self, backend: EpisodicBackendType) -> Self:
        """Return a copy that searches through `backend`."""
        return replace(self, backend=backend)

    def with_service(self, service: EmbeddingService) -> Self:
        """Return a copy that embeds by `service`."""
        return replace(self, service=service)

    def with_hnsw_config(self, hnsw: HNSWConfig) -> Self:
        """Return a copy with these parameters of the HNSW index, whatever tuning has recorded in the store."""
        return replace(self, hnsw=copy(hnsw))  # the default of another configuration is a choice here

    def with_path(self, path: str | os.PathLike[str] | None) -> Self:
        """Return a copy that keeps its rows in the file `path`, or in RAM when None."""
        return replace(self, path=_checked_path(path))

    def with_warm(self, warm: bool) -> Self:  # noqa: FBT001 (the method's name says what it is)
        """Return a copy that builds the index while opening (True) or at the first search (False)."""
        return replace(self, warm=warm)

    def with_durability(self, durability: Durability) -> Self:
        """Return a copy whose writes survive a power cut ("full"), or the death of the process alone ("normal")."""
        return replace(self, durability=durability)

    def with_retention(self, *rules: RetentionRule) -> Self:
        """Return a copy with these rules for sweeping."""
        return replace(self, retention=rules)

    def with_search_mode(self, search_mode: SearchMode) -> Self:
        """Return a copy that looks for a text so where a search does not say."""
        return replace(self, search_mode=search_mode)

    def with_keywords(self, keywords: KeywordConfig | None) -> Self:
        """Return a copy that tells words apart and scores them so, or as the store records when None."""
        return replace(self, keywords=keywords)

    def with_watch(self, watch: Watch | None) -> Self:
        """Return a copy that estimates recall as `watch` says, or not at all when None."""
        return replace(self, watch=watch)

    def with_telemetry(self, *, tracer_provider: Any = None, meter_provider: Any = None) -> Self:
        """Return a copy that tells OpenTelemetry what is done: by these providers, or the application's global ones."""
        return replace(self, telemetry=Telemetry(tracer_provider=tracer_provider, meter_provider=meter_provider))


def _checked_path(path: object) -> Path | None:
    if path is None:
        return None
    try:
        return Path(path)  # type: ignore[arg-type]  # checked by trying
    except TypeError as error:
        raise ConfigError(f"path must be a path to a file, got {type(path).__name__}") from error
