"""The same memory for asyncio: one thin facade, the same names and arguments, nothing decided twice.

A network embedding is awaited. A search takes microseconds and runs inline; a hop to a thread would cost a hundred.
Writes go to one thread of the manager's own, in the order their vectors are ready, and once begun are finished, whoever
stops waiting for them. Opening, rebuilding, and reads that may be long go to asyncio's threads.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from llmspell_memory.errors import ClosedError, SpaceChangedError
from llmspell_memory.manager import DefaultMemoryManager
from llmspell_memory.memory import Batch, EpisodicMemory, check_moved, checked_on_duplicate
from llmspell_memory.retrieval.asking import answered, asked
from llmspell_memory.retrieval.context import best_within, checked_budget, most_tokens
from llmspell_memory.types import Filter, Watch
from llmspell_memory.types.filter import EVERYTHING
from llmspell_memory.types.query import DEFAULT_MODE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from datetime import datetime
    from types import TracebackType

    from numpy.typing import ArrayLike

    from llmspell_memory.config import EpisodicBackendType, MemoryConfig
    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.memory import OnDuplicate
    from llmspell_memory.operations.reembed import Reembedding
    from llmspell_memory.operations.tuning.advice import Advice
    from llmspell_memory.operations.tuning.report import TuneReport
    from llmspell_memory.protocols import Consolidator, EpisodicBackend
    from llmspell_memory.retrieval.asking import Asked
    from llmspell_memory.retrieval.consolidation import Consolidation
    from llmspell_memory.retrieval.context import Context, TokenCounter
    from llmspell_memory.retrieval.ranking import Ranking
    from llmspell_memory.types import (
        EmbeddingSpace,
        EpisodicEntry,
        ForgetReceipt,
        Hit,
        HNSWConfig,
        MemoryStats,
        ReembeddingEstimate,
        RetentionRule,
        SearchMode,
        SessionSummary,
        SweepReport,
        Telemetry,
        Vector,
    )
    from llmspell_memory.watch.observer import Observer
    from llmspell_memory.watch.recall import LiveRecall

_P = ParamSpec("_P")
_T = TypeVar("_T")

_WATCH = Watch()
_PAGE = 256
"""Entries of a scan fetched in one visit to a thread."""


class _Worker:
    """One thread for what may block, or a share in another's."""

    def __init__(self, owner: _Worker | None = None) -> None:
        self._owner = owner
        self.executor: ThreadPoolExecutor = (
            owner.executor if owner else ThreadPoolExecutor(1, thread_name_prefix="llmspell-memory")
        )
        self._stopped = False

    @property
    def stopped(self) -> bool:
        return self._stopped or (self._owner is not None and self._owner.stopped)

    async def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if self.stopped:
            raise ClosedError("this memory is closed")
        context = contextvars.copy_context()  # so that spans there belong to the caller's
        future = asyncio.wrap_future(self.executor.submit(context.run, partial(work, *args, **kwargs)))
        return await asyncio.shield(future)  # cancelling the caller leaves the work to finish

    def stop(self) -> None:
        self._stopped = True
        if self._owner is None:
            self.executor.shutdown(wait=False)


class AsyncEpisodicMemory:
    """`EpisodicMemory`, awaited."""

    def __init__(self, sync: EpisodicMemory, backend: EpisodicBackend, observer: Observer, worker: _Worker) -> None:
        self._sync = sync
        self._observer = observer
        self._backend = backend
        self._worker = worker

    @property
    def service(self) -> EmbeddingService:
        """See `EpisodicMemory.service`."""
        return self._sync.service

    @property
    def namespace(self) -> tuple[str, ...]:
        """See `EpisodicMemory.namespace`."""
        return self._sync.namespace

    @property
    def search_mode(self) -> SearchMode:
        """See `EpisodicMemory.search_mode`."""
        return self._sync.search_mode

    async def add(self, entry: EpisodicEntry, *, on_duplicate: OnDuplicate = "keep") -> str:
        """See `EpisodicMemory.add`. Cancelled, it leaves the entry whole or absent."""
        return (await self.add_many([entry], on_duplicate=on_duplicate))[0]

    async def add_many(self, entries: Iterable[EpisodicEntry], *, on_duplicate: OnDuplicate = "keep") -> list[str]:
        """See `EpisodicMemory.add_many`. Cancelled, it leaves all entries or none."""
        with self._observer.timed("add"):
            skip = checked_on_duplicate(on_duplicate) == "skip"
            batch = Batch(entries, self.namespace)
            while True:
                service = self.service
                texts, began = batch.texts_for(service), perf_counter_ns()
                vectors = await self._observer.told(service).aembed(texts)
                if texts:
                    self._observer.took("add.embed", began)
                try:
                    return await self._worker.run(
                        self._backend.add, batch.finished(vectors), space=service.space, skip_equal=skip
                    )
                except SpaceChangedError:
                    check_moved(service, self.service, given=batch.has_vectors)

    async def get(self, entry_id: str, *, namespace: tuple[str, ...] = ()) -> EpisodicEntry:
        """See `EpisodicMemory.get`."""
        return await self._at_once(self._sync.get, entry_id, namespace=namespace)

    async def _at_once(self, call: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
        """Return what a short call does: here, or in a thread where it has to wait for another machine."""
        if self._backend.is_remote:
            return await asyncio.to_thread(call, *arguments, **options)
        return call(*arguments, **options)

    async def search(
        self,
        query: str | ArrayLike,
        k: int = 10,
        *,
        where: Filter = EVERYTHING,
        mode: SearchMode | None = None,
        around: int = 0,
        parts: bool = False,
        ranking: Ranking | None = None,
    ) -> list[Hit]:
        """See `EpisodicMemory.search`; other tasks run while a reranker or a reader of dates works."""
        began = perf_counter_ns()
        try:
            one = asked(
                query, k, where, mode=mode, default=self.search_mode, around=around, parts=parts, ranking=ranking
            )
            hits, vector = await self._found(one)
        except BaseException:
            self._observer.operations.failed("search")
            raise
        self._observer.searched(began, vector, one.k, one.where)
        return hits

    async def _found(self, one: Asked) -> tuple[list[Hit], Vector | None]:
        while True:
            service = self.service
            one = await self._at_once(one.among, self._backend)
            vector = None if one.by_words_alone else await self._query_vector(one.sought, service)
            try:
                if one.ranking is not None and (one.ranking.reranker or one.ranking.dates):
                    return await asyncio.to_thread(answered, one, vector, self._backend, service.space), vector
                return await self._at_once(answered, one, vector, self._backend, service.space), vector
            except SpaceChangedError:
                check_moved(service, self.service, given=not one.text)

    async def _query_vector(self, query: str | ArrayLike, service: EmbeddingService) -> Vector:
        if not isinstance(query, str):
            return service.check_vector(query)
        began = perf_counter_ns()
        vector = await self._observer.told(service).aembed_one(query, kind="query")
        self._observer.took("search.embed", began)
        return vector

    async def context(
        self,
        query: str | ArrayLike,
        *,
        budget_tokens: int,
        k: int = 20,
        where: Filter = EVERYTHING,
        mode: SearchMode | None = None,
        ranking: Ranking | None = None,
        count_tokens: TokenCounter = most_tokens,
    ) -> Context:
        """See `EpisodicMemory.context`; other tasks run while tokens are counted."""
        budget = checked_budget(budget_tokens)
        hits = await self.search(query, k, where=where, mode=mode, ranking=ranking)
        return await asyncio.to_thread(best_within, [hit.entry for hit in hits], budget, count_tokens)

    async def recall_session(
        self,
        session_id: str,
        *,
        budget_tokens: int | None = None,
        namespace: tuple[str, ...] = (),
        count_tokens: TokenCounter = most_tokens,
    ) -> Context:
        """See `EpisodicMemory.recall_session`."""
        return await asyncio.to_thread(
            self._sync.recall_session,
            session_id,
            budget_tokens=budget_tokens,
            namespace=namespace,
            count_tokens=count_tokens,
        )

    async def recent(self, n: int, *, where: Filter = EVERYTHING) -> list[EpisodicEntry]:
        """See `EpisodicMemory.recent`."""
        return await asyncio.to_thread(self._sync.recent, n, where=where)

    async def get_session(self, session_id: str, *, namespace: tuple[str, ...] = ()) -> list[EpisodicEntry]:
        """See `EpisodicMemory.get_session`."""
        return await asyncio.to_thread(self._sync.get_session, session_id, namespace=namespace)

    async def list_unprocessed(
        self, session_id: str | None = None, *, limit: int | None = None, namespace: tuple[str, ...] = ()
    ) -> list[EpisodicEntry]:
        """See `EpisodicMemory.list_unprocessed`."""
        return await asyncio.to_thread(self._sync.list_unprocessed, session_id, limit=limit, namespace=namespace)

    async def mark_processed(self, ids: Iterable[str], *, namespace: tuple[str, ...] = ()) -> int:
        """See `EpisodicMemory.mark_processed`."""
        return await self._worker.run(self._sync.mark_processed, ids, namespace=namespace)

    async def consolidate(
        self, consolidator: Consolidator, *, where: Filter = EVERYTHING, batch: int = 50
    ) -> Consolidation:
        """See `EpisodicMemory.consolidate`; the consolidator is called in a thread, and other writes go on."""
        return await asyncio.to_thread(self._sync.consolidate, consolidator, where=where, batch=batch)

    async def set_expiry(self, where: Filter, expires_at: datetime | None) -> int:
        """See `EpisodicMemory.set_expiry`."""
        return await self._worker.run(self._sync.set_expiry, where, expires_at)

    async def delete_before(self, moment: datetime, *, namespace: tuple[str, ...] = ()) -> int:
        """See `EpisodicMemory.delete_before`."""
        return await self._worker.run(self._sync.delete_before, moment, namespace=namespace)

    async def delete(self, where: Filter, *, everything: bool = False) -> int:
        """See `EpisodicMemory.delete`."""
        return await self._worker.run(self._sync.delete, where, everything=everything)

    async def forget(self, where: Filter, *, everything: bool = False) -> ForgetReceipt:
        """See `EpisodicMemory.forget`."""
        return await self._worker.run(self._sync.forget, where, everything=everything)

    async def sweep(self, *rules: RetentionRule) -> SweepReport:
        """See `EpisodicMemory.sweep`."""
        return await self._worker.run(self._sync.sweep, *rules)

    async def list_sessions_with_unprocessed(self, *, namespace: tuple[str, ...] = ()) -> list[str]:
        """See `EpisodicMemory.list_sessions_with_unprocessed`."""
        return await asyncio.to_thread(self._sync.list_sessions_with_unprocessed, namespace=namespace)

    async def sessions(self, where: Filter = EVERYTHING) -> list[SessionSummary]:
        """See `EpisodicMemory.sessions`."""
        return await asyncio.to_thread(self._sync.sessions, where)

    async def scan(self, where: Filter = EVERYTHING, *, limit: int | None = None) -> AsyncIterator[EpisodicEntry]:
        """See `EpisodicMemory.scan`; other tasks run while it reads."""
        entries = self._sync.scan(where, limit=limit)
        while page := await asyncio.to_thread(lambda: list(itertools.islice(entries, _PAGE))):
            for entry in page:
                yield entry

    async def count(self, where: Filter = EVERYTHING) -> int:
        """See `EpisodicMemory.count`."""
        return await asyncio.to_thread(self._sync.count, where)


class AsyncMemoryManager:
    """`DefaultMemoryManager` for asyncio; an async context manager. Opening is awaited: it may build an index.

    Args:
        backend: keeps the entries; closed with the manager.
        service: embeds texts, in the space of the backend.
        retention: what `sweep` removes beside what has expired.
        watch: how recall is estimated while the memory is used; None for not at all.
        telemetry: that OpenTelemetry is told of calls; None for not at all.
        search_mode: how a text is looked for where a search does not say.
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
        manager = DefaultMemoryManager(
            backend, service, retention=retention, watch=watch, telemetry=telemetry, search_mode=search_mode
        )
        self._hold(manager, _Worker())

    def _hold(self, manager: DefaultMemoryManager, worker: _Worker) -> None:
        self._sync = manager
        self._worker = worker
        memory, backend, observer = manager._told  # noqa: SLF001 (one manager with two faces)
        self._episodic = AsyncEpisodicMemory(memory, backend, observer, worker)

    @classmethod
    async def new_in_memory(cls) -> Self:
        """See `DefaultMemoryManager.new_in_memory`."""
        return cls.from_sync(DefaultMemoryManager.new_in_memory())

    @classmethod
    async def new_in_memory_with_embeddings(cls, service: EmbeddingService) -> Self:
        """See `DefaultMemoryManager.new_in_memory_with_embeddings`."""
        return cls.from_sync(DefaultMemoryManager.new_in_memory_with_embeddings(service))

    @classmethod
    async def with_config(cls, config: MemoryConfig) -> Self:
        """See `DefaultMemoryManager.with_config`; always warm: a search must not build an index on the event loop."""
        warm = dataclasses.replace(config, warm=True)
        opening = asyncio.ensure_future(asyncio.to_thread(DefaultMemoryManager.with_config, warm))
        try:
            return cls.from_sync(await asyncio.shield(opening))
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unwanted)
            raise

    @classmethod
    def from_sync(cls, manager: DefaultMemoryManager) -> Self:
        """Return another face of `manager`, for a program that has both; closing either closes both."""
        opened = object.__new__(cls)
        opened._hold(manager, _Worker())
        return opened

    @property
    def sync(self) -> DefaultMemoryManager:
        """The same memory, not awaited; for a thread, or code that knows no event loop."""
        return self._sync

    def scoped(self, *segments: str) -> Self:
        """See `DefaultMemoryManager.scoped`; not awaited. One thread does the writes of both, one after the other."""
        scope = object.__new__(type(self))
        scope._hold(self._sync.scoped(*segments), _Worker(self._worker))
        return scope

    @property
    def episodic(self) -> AsyncEpisodicMemory:
        """The memory itself: add, search, get and the other words."""
        return self._episodic

    @property
    def backend(self) -> EpisodicBackend:
        """What keeps the entries."""
        return self._sync.backend

    @property
    def service(self) -> EmbeddingService:
        """The embedding service."""
        return self._sync.service

    @property
    def retention(self) -> tuple[RetentionRule, ...]:
        """What `sweep` removes beside what has expired."""
        return self._sync.retention

    @property
    def recall(self) -> LiveRecall | None:
        """See `DefaultMemoryManager.recall`."""
        return self._sync.recall

    @property
    def backend_name(self) -> str:
        """See `DefaultMemoryManager.backend_name`."""
        return self._sync.backend_name

    async def stats(self) -> MemoryStats:
        """See `DefaultMemoryManager.stats`."""
        return await asyncio.to_thread(self._sync.stats)

    async def sweep(self) -> SweepReport:
        """See `DefaultMemoryManager.sweep`."""
        return await self._worker.run(self._sync.sweep)

    async def set_ef_search(self, ef_search: int) -> None:
        """See `DefaultMemoryManager.set_ef_search`."""
        await asyncio.to_thread(self._sync.set_ef_search, ef_search)

    async def switch_backend(self, backend: EpisodicBackendType, *, hnsw: HNSWConfig | None = None) -> None:
        """See `DefaultMemoryManager.switch_backend`."""
        await asyncio.to_thread(self._sync.switch_backend, backend, hnsw=hnsw)

    async def rebuild(self, *, m: int | None = None, ef_construction: int | None = None) -> None:
        """See `DefaultMemoryManager.rebuild`."""
        await asyncio.to_thread(self._sync.rebuild, m=m, ef_construction=ef_construction)

    async def estimate_reembedding(self, service: EmbeddingService) -> ReembeddingEstimate:
        """See `DefaultMemoryManager.estimate_reembedding`."""
        return await asyncio.to_thread(self._sync.estimate_reembedding, service)

    async def reembed(self, service: EmbeddingService, *, switch: bool = True, sample: int = 100) -> Reembedding:
        """See `DefaultMemoryManager.reembed`; `await asyncio.to_thread(reembedding.wait)` waits for its end."""
        return await asyncio.to_thread(self._sync.reembed, service, switch=switch, sample=sample)

    async def drop_space(self, space: EmbeddingSpace) -> None:
        """See `DefaultMemoryManager.drop_space`."""
        await asyncio.to_thread(self._sync.drop_space, space)

    async def tune(
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
        """See `DefaultMemoryManager.tune`; measured in a thread, so other tasks make times longer than they are."""
        return await asyncio.to_thread(
            self._sync.tune,
            target_recall=target_recall,
            target_p95_us=target_p95_us,
            k=k,
            queries=queries,
            sample=sample,
            where=where,
            builds=builds,
            apply=apply,
            on_progress=on_progress,
        )

    async def advise(self, *, k: int = 10, on_progress: Callable[[str, int, int], object] | None = None) -> Advice:
        """See `DefaultMemoryManager.advise`; measured in a thread."""
        return await asyncio.to_thread(self._sync.advise, k=k, on_progress=on_progress)

    async def close(self) -> None:
        """See `DefaultMemoryManager.close`; waits for writes that were begun."""
        if not self._worker.stopped:
            try:
                await self._worker.run(self._sync.close)
            finally:
                self._worker.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _close_unwanted(opening: asyncio.Future[DefaultMemoryManager]) -> None:
    """Close a memory whose opener was cancelled while it was being opened."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
