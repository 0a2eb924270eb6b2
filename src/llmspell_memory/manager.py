"""Opens a memory from its configuration, and holds what belongs together: backend, embedding service, the words."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Self

from llmspell_memory.backends import LocalBackend, ScopedBackend, SQLiteBackend
from llmspell_memory.backends.notes import REMEDY, unfinished
from llmspell_memory.backends.tuned import NOTE, read_tuned, tuned_or
from llmspell_memory.config import EpisodicBackendType, MemoryConfig
from llmspell_memory.embeddings import EmbeddingService, HashingProvider
from llmspell_memory.embeddings.services import Services
from llmspell_memory.errors import ConfigError, InputError, SchemaError
from llmspell_memory.memory import EpisodicMemory
from llmspell_memory.types import Filter, HNSWConfig, MemoryStats, Watch
from llmspell_memory.types.filter import EVERYTHING
from llmspell_memory.types.query import DEFAULT_MODE
from llmspell_memory.watch.observer import Observer
from llmspell_memory.watch.recall import LiveRecall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from numpy.typing import ArrayLike

    from llmspell_memory.operations.reembed import Reembedding
    from llmspell_memory.operations.tuning.advice import Advice
    from llmspell_memory.operations.tuning.queries import Recorded
    from llmspell_memory.operations.tuning.report import TuneReport
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import (
        EmbeddingSpace,
        ReembeddingEstimate,
        RetentionRule,
        SearchMode,
        SweepReport,
        Telemetry,
    )
    from llmspell_memory.watch.telemetry import Instruments

logger = logging.getLogger(__name__)

_WATCH = Watch()


class DefaultMemoryManager:
    """A memory that is open.

    Args:
        backend: keeps the entries; any object with the members of `EpisodicBackend`. Closed with the manager.
        service: embeds texts, in the space of the backend. Not closed: it may serve others.
        retention: what `sweep` removes beside what has expired.
        watch: how recall is estimated while the memory is used; None for not at all.
        telemetry: that OpenTelemetry is told of calls; None for not at all.
        search_mode: how a text is looked for where a search does not say.

    Raises:
        InputError: there is no such mode.
        SchemaError: backend and service are of different embedding spaces.
        MissingDependencyError: `telemetry` is given and opentelemetry-api not installed.

    Most callers use `new_in_memory`, `new_in_memory_with_embeddings` or `with_config` instead. A context manager; may
    be used from several threads.
    """

    def __init__(
        self,
        backend: EpisodicBackend,
        service: EmbeddingService,
        *,
        retention: tuple[RetentionRule, ...] = (),
        watch: Watch | None = _WATCH,
        telemetry: Telemetry | None = None,
        search_mode: SearchMode = DEFAULT_MODE,
    ) -> None:
        if backend.space != service.space:
            raise SchemaError(
                f"the backend holds vectors of {backend.space}, the service makes those of {service.space}; give it "
                "the service that its vectors were made with"
            )
        recall = None if watch is None else LiveRecall(watch, backend)
        instruments = None if telemetry is None else _instruments(telemetry, backend)
        self._hold(backend, Services(service), retention, Observer(recall, instruments=instruments), search_mode)

    def _hold(
        self,
        backend: EpisodicBackend,
        services: Services,
        retention: tuple[RetentionRule, ...],
        observer: Observer,
        search_mode: SearchMode,
    ) -> None:
        self._backend = backend
        self._services = services
        self._retention = retention
        self._observer = observer
        told = backend if observer.instruments is None else observer.instruments.traced(backend)
        self._episodic = EpisodicMemory(told, services, observer=observer, search_mode=search_mode)
        self._told = self._episodic, told, observer
        self._reembedding: Reembedding | None = None
        if begun := unfinished(backend):
            logger.warning("This memory may lack entries: its %s is unfinished; %s", begun, REMEDY[begun])

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
            ConfigError: HNSW without an embedding service, or a language without a stemmer.
            SchemaError: the file holds another embedding space, or belongs to a newer version.
            StorageError: the file cannot be opened.
        """
        service = config.service
        hnsw = None if config.backend is EpisodicBackendType.IN_MEMORY else config.hnsw
        if service is None:
            if hnsw:
                raise ConfigError(
                    "HNSW backend requires embedding service; give it one: MemoryConfig.for_production(service) or "
                    "config.with_service(EmbeddingService(provider))"
                )
            service = EmbeddingService(HashingProvider())
        if hnsw:
            logger.info("Creating HNSW episodic backend (production mode)")
            space = {"provider": service.space.provider, "dimensions": service.dimensions}
            logger.info("HNSW backend using embedding service: %s, dimensions: %d", *space.values(), extra=space)
        backend = _backend(config, service.space, hnsw)
        try:
            if backend.hnsw:
                _tell_parameters(backend, backend.hnsw, chosen=config.hnsw_chosen)
            return cls(
                backend,
                service,
                retention=config.retention,
                watch=config.watch,
                telemetry=config.telemetry,
                search_mode=config.search_mode,
            )
        except BaseException:
            backend.close()
            raise

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
        manager = object.__new__(type(self))
        observer = self._observer.scoped(scope.namespace)
        manager._hold(scope, self._services, rules, observer, self._episodic.search_mode)
        return manager

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
        """The embedding service, of the space that the store is in."""
        return self._services.of(self._backend.space)

    @property
    def retention(self) -> tuple[RetentionRule, ...]:
        """What `sweep` removes beside what has expired."""
        return self._retention

    @property
    def recall(self) -> LiveRecall | None:
        """What estimates recall from this manager's searches, and keeps some of the queries; None without a `Watch`."""
        return self._observer.recall

    @property
    def backend_name(self) -> str:
        """Which view answers searches: "HNSW" or "InMemory"."""
        return str(EpisodicBackendType.HNSW if self._backend.hnsw else EpisodicBackendType.IN_MEMORY)

    def stats(self) -> MemoryStats:
        """Return figures: counts, index and its parameters, bytes in memory and on disk, cache hits, times, recall.

        Counts are of the store; times and recall of what was done through this manager and its scopes since it was
        opened. A scoped memory tells of itself alone: what it shares, it counts as 0.
        """
        stats, service = self._backend.stats(), self.service
        fields = {field.name: getattr(stats, field.name) for field in dataclasses.fields(stats)}
        timings = {**fields.pop("timings"), **self._observer.operations.timings()}
        return MemoryStats(
            **fields,
            timings={name: timings[name] for name in sorted(timings) if timings[name].count},
            failures=self._observer.operations.failures(),
            recall=self._observer.recall.stats() if self._observer.recall else None,
            unfinished=unfinished(self._backend),
            backend=self.backend_name,
            cache_hits=0 if self._backend.namespace else service.hits,
            cache_misses=0 if self._backend.namespace else service.misses,
        )

    def sweep(self) -> SweepReport:
        """Delete what has expired and what the configured retention no longer keeps; see `EpisodicMemory.sweep`."""
        return self._episodic.sweep(*self._retention)

    def set_ef_search(self, ef_search: int) -> None:
        """Change how many candidates an HNSW search keeps; the next search uses it.

        Raises:
            ConfigError: out of range, or the search is exact.
        """
        self._configure(dataclasses.replace(self._hnsw(), ef_search=ef_search))

    def switch_backend(self, backend: EpisodicBackendType, *, hnsw: HNSWConfig | None = None) -> None:
        """Search through `backend` from now on: exact to HNSW, or back. Rows stay as they are, nothing is embedded.

        Searches go on in the old view until the new one takes over.

        Args:
            backend: the view to change to.
            hnsw: parameters for HNSW; when None, those that `tune` has recorded in the store, or else the defaults. Of
                no effect on exact search.
        """
        if backend is not EpisodicBackendType.HNSW:
            self._configure(None)
        else:
            self._configure(hnsw or tuned_or(HNSWConfig(), self._backend.read_note(NOTE), self._backend.space))

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
        self._configure(hnsw, rebuild=True)

    def _configure(self, hnsw: HNSWConfig | None, *, rebuild: bool = False) -> None:
        self._backend.configure(hnsw, rebuild=rebuild)
        if self._observer.recall is not None:
            self._observer.recall.reset()

    def estimate_reembedding(self, service: EmbeddingService) -> ReembeddingEstimate:
        """Return what it would cost to move this memory to the space of `service`; nothing is embedded or changed.

        Raises:
            ConfigError: the memory is in that space already, or is a scope.
        """
        from llmspell_memory.operations.reembed import estimate  # noqa: PLC0415 (few processes move)

        return estimate(self._backend, service)

    def reembed(self, service: EmbeddingService, *, switch: bool = True, sample: int = 100) -> Reembedding:
        """Begin to make vectors of all texts by `service`, in the background, beside the present ones, and return that.

        Searches and writes go on in the present space, until every entry has its new vector; then all of them are in
        the new space at once. What is interrupted, by a pause, an error or the end of the process, goes on when this is
        called again. The former vectors stay, so that the same call with the former service takes it back, and embeds
        what was written since; `drop_space` drops them.

        Args:
            service: of another space; from the switch on, it embeds what is written and asked for.
            switch: move to the new space when it is complete; otherwise when `Reembedding.switch` is called.
            sample: for how many entries the neighbours in both spaces are compared; 0 for none.

        Raises:
            ConfigError: the memory is in that space already, is a scope, or is being re-embedded.
        """
        from llmspell_memory.operations.reembed import Reembedding  # noqa: PLC0415 (few processes move)

        if self._reembedding is not None and self._reembedding.running:
            raise ConfigError("this memory is being re-embedded; wait for that, or stop it first")
        beside = self._backend.beside(service.space)
        self._services.know(service)
        told = self._observer.told(service)
        self._reembedding = Reembedding(beside, told, source=self._backend.space, switch=switch, sample=sample)
        return self._reembedding

    def drop_space(self, space: EmbeddingSpace) -> None:
        """Drop the vectors of a space that is kept beside the one in use; moving back there means embedding all anew.

        Raises:
            InputError: there are none of that space, or it is the one in use.
            ConfigError: this memory is a scope.
        """
        if self._backend.namespace:
            raise ConfigError("a scope cannot drop vectors of the store it shares with others; use the whole memory")
        kept = [one.space for one in self._backend.stats().beside]
        if space not in kept:
            names = ", ".join(map(str, kept)) or "none"
            raise InputError(f"no vectors of {space} are kept beside those of {self._backend.space}, but: {names}")
        self._backend.beside(space).drop()

    def tune(
        self,
        *,
        target_recall: float | None = None,
        target_p95_us: float | None = None,
        k: int | None = None,
        queries: Iterable[str | ArrayLike] | None = None,
        sample: int = 1_000,
        where: Filter = EVERYTHING,
        builds: bool | Iterable[HNSWConfig] = False,
        apply: bool = False,
        on_progress: Callable[[str, int, int], object] | None = None,
    ) -> TuneReport:
        """Measure recall against latency on this memory's data, and name the cheapest parameters that meet a target.

        Searches and writes go on meanwhile. Without `queries`, searches that were made and recorded are taken, or else
        queries made from stored entries.

        Args:
            target_recall: the least recall, above 0 up to 1.
            target_p95_us: the most that the 95th percentile of a search of the index may be, in microseconds. Give one
                of the two.
            k: how many hits a query asks for; when None, as many as most recorded ones did, or 10.
            queries: texts and vectors to measure with.
            sample: how many recorded queries, or stored entries, are taken at most.
            where: a filter for given queries and those made from entries.
            builds: True also tries graphs of other m and ef_construction, built beside the live index; a collection of
                HNSWConfig tries those. One trial index at a time is in memory.
            apply: put the chosen parameters in force, by a rebuild where they are of another graph, and record them in
                the store for later openings. Nothing is applied where the target is not met.
            on_progress: called with what is being done, how much of it is done, and how much there is.

        Raises:
            ConfigError: not exactly one target; or the search is exact, so that there is nothing to tune without
                `builds`; or the memory is scoped; or what was measured under a filter is to be applied.
            InputError: a query, `k`, `sample` or `where` is not acceptable.
            EmbeddingError: a query could not be embedded.
        """
        from llmspell_memory.operations.tuning.tuning import tune  # noqa: PLC0415 (few processes tune)

        return tune(
            self._backend,
            self._observer.told(self.service),
            target_recall=target_recall,
            target_p95_us=target_p95_us,
            k=k,
            queries=queries,
            recorded=self._recorded(),
            sample=sample,
            where=where,
            builds=builds,
            apply=apply,
            on_progress=on_progress,
        )

    def advise(self, *, k: int = 10, on_progress: Callable[[str, int, int], object] | None = None) -> Advice:
        """Say whether HNSW pays for this memory, from how many entries on, at what cost in memory and with what recall.

        Both views are measured on this memory's own vectors at several sizes; nothing is changed.

        Args:
            k: how many hits a query asks for.
            on_progress: called with what is being done, how much of it is done, and how much there is.

        Raises:
            ConfigError: the memory is scoped.
        """
        from llmspell_memory.operations.tuning.advising import advise  # noqa: PLC0415 (few processes ask)

        return advise(self._backend, self.service, k=k, recorded=self._recorded(), on_progress=on_progress)

    def _recorded(self) -> Sequence[Recorded]:
        """Searches that were made on this memory lately."""
        recall = self._observer.recall
        return () if recall is None else recall.recorded()

    def _hnsw(self) -> HNSWConfig:
        hnsw = self._backend.hnsw
        if hnsw is None:
            raise ConfigError("this memory searches exactly and has no HNSW index to change")
        return hnsw

    def close(self) -> None:
        """Close the backend; a second call does nothing, any use afterwards raises ClosedError."""
        if self._reembedding is not None:
            self._reembedding.stop()
        if self._observer.recall is not None:
            self._observer.recall.close()
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _backend(config: MemoryConfig, space: EmbeddingSpace, hnsw: HNSWConfig | None) -> EpisodicBackend:
    """Return the backend that a configuration describes."""
    if config.backend is EpisodicBackendType.POSTGRES:
        if config.postgres is None:
            raise ConfigError(
                "the PostgreSQL backend needs to know its server: MemoryConfig.for_postgres(dsn, service)"
            )
        from llmspell_memory.backends.postgres import PostgresBackend  # noqa: PLC0415 (it needs the driver)

        return PostgresBackend(
            config.postgres,
            space,
            hnsw=hnsw,
            warm=config.warm,
            on_progress=config.on_progress,
            keywords=config.keywords,
        )
    if config.backend is EpisodicBackendType.MILVUS:
        if config.milvus is None:
            raise ConfigError("the Milvus backend needs to know its server: MemoryConfig.for_milvus(uri, service)")
        from llmspell_memory.backends.milvus import MilvusBackend  # noqa: PLC0415 (it needs the driver)

        return MilvusBackend(config.milvus, space, hnsw=hnsw, keywords=config.keywords)
    if config.path is None:
        return LocalBackend(space, hnsw=hnsw, keywords=config.keywords)
    return SQLiteBackend(
        config.path,
        space,
        hnsw=hnsw,
        tuned=not config.hnsw_chosen,
        warm=config.warm,
        durability=config.durability,
        keywords=config.keywords,
        on_progress=config.on_progress,
    )


def _tell_parameters(backend: EpisodicBackend, hnsw: HNSWConfig, *, chosen: bool) -> None:
    told = {"m": hnsw.m, "ef_construction": hnsw.ef_construction, "ef_search": hnsw.ef_search}
    logger.info("HNSW parameters: m=%d, ef_construction=%d, ef_search=%d", *told.values(), extra=told)
    tuned = read_tuned(backend.read_note(NOTE), backend.space) if chosen else None
    if tuned and tuned.hnsw != hnsw:
        logger.info("These were given; those that tuning has recorded in the store wait: %s", tuned.hnsw)


def _instruments(telemetry: Telemetry, backend: EpisodicBackend) -> Instruments:
    from llmspell_memory import __version__  # noqa: PLC0415 (the package imports this module)
    from llmspell_memory.watch.telemetry import Instruments  # noqa: PLC0415 (only when it is asked for)

    path = getattr(backend, "path", None)
    return Instruments(telemetry, __version__, "" if path is None else path.name)
