"""LangGraph's `BaseStore` over an episodic memory."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Self

from langgraph.store.base import (
    BaseStore,
    GetOp,
    ListNamespacesOp,
    PutOp,
    SearchOp,
    ensure_embeddings,
    get_text_at_path,
    tokenize_path,
)

from llmspell_memory.adapters.awaiting import embed_ahead
from llmspell_memory.adapters.embeddings import embedding_service
from llmspell_memory.adapters.langgraph.items import Draft, checked_ttl, id_of, item, search_item
from llmspell_memory.adapters.langgraph.namespaces import common_prefix, listed
from llmspell_memory.adapters.langgraph.reading import Reader
from llmspell_memory.adapters.langgraph.sweeping import Sweeper
from llmspell_memory.adapters.langgraph.writing import Writer
from llmspell_memory.adapters.opened import memory_of
from llmspell_memory.config import MemoryConfig
from llmspell_memory.embeddings import EmbeddingService, HashingProvider
from llmspell_memory.errors import ConfigError, InputError
from llmspell_memory.manager import DefaultMemoryManager
from llmspell_memory.types import json

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from langgraph.store.base import IndexConfig, Op, Result, TTLConfig

    from llmspell_memory.memory import EpisodicMemory
    from llmspell_memory.types import EpisodicEntry

_WHOLE = "$"


class EpisodicStore(BaseStore):
    """A LangGraph store whose items lie in an episodic memory: durable where that is, and searched by meaning.

    Does what LangGraph's `InMemoryStore` does, and keeps: what `put` and `batch` were given is stored, all or none,
    when they return. A batch reads before it writes. Values are JSON, and come back as copies. The memory may hold
    conversations, too; an item with the namespace ("users", "ada") lies in that namespace of the memory.

    May be used by several threads; several processes may open one file.

    Args:
        memory: holds the items. `DefaultMemoryManager.scoped` confines a store to a namespace.
        fields: paths of the texts that an item is looked for by where `put` does not say; "$" is the whole value. None
            for a store without search by meaning.
        ttl: how long items live; see LangGraph's `TTLConfig`. What has expired is unseen at once, whatever
            `omit_expired` says.

    Raises:
        ConfigError: `memory` is none, `fields` is a text, or a setting of `ttl` is out of range.
    """

    supports_ttl = True

    def __init__(
        self,
        memory: DefaultMemoryManager | EpisodicMemory,
        *,
        fields: Sequence[str] | None = (_WHOLE,),
        ttl: TTLConfig | None = None,
    ) -> None:
        if isinstance(fields, str):
            raise ConfigError(f"fields must be a sequence of paths, got the text {fields!r}")
        self._manager: DefaultMemoryManager | None = None
        self._memory = memory_of(memory)
        self._fields = None if fields is None else tuple(map(_path, fields))
        self._reader = Reader(self._memory)
        self._writer = Writer(self._memory)
        self._sweeper: Sweeper | None = None
        self.ttl_config = _checked_config(ttl)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        index: IndexConfig | Mapping[str, Any] | None = None,
        ttl: TTLConfig | None = None,
    ) -> Self:
        """Open a store with a memory of its own, to be closed by `close` or `with`.

        Args:
            path: a SQLite file, searched through HNSW; None keeps all in RAM.
            index: as for LangGraph's own stores, "dims", "embed" and "fields"; "embed" may also be an
                `EmbeddingService` or a provider of this library, and then needs no "dims". None for a store without
                search by meaning.
            ttl: as above.

        Raises:
            ConfigError: `index` lacks "embed", or its "dims" are not those of the vectors.
            SchemaError: the file holds vectors of another embedding space.
        """
        service = EmbeddingService(HashingProvider()) if index is None else _service(index)
        fields = None if index is None else index.get("fields") or [_WHOLE]
        _checked_config(ttl)
        manager = DefaultMemoryManager.with_config(MemoryConfig.for_production(service, path=path))
        store = cls(manager, fields=fields, ttl=ttl)
        store._manager = manager
        return store

    @property
    def memory(self) -> EpisodicMemory:
        """What holds the items."""
        return self._memory

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do several operations, reads before writes, and return their results in order.

        Of several puts to one key the last counts. Puts are stored together, all or none; deletions follow, each by
        itself.

        Raises:
            InputError: an operation is not acceptable: a value that is not JSON, an unknown operator of a filter, a
                negative limit. Nothing is written.
            EmbeddingError: a text could not be embedded. Nothing is written.
            StorageError: the store failed.
        """
        ops = list(ops)
        puts = self._drafts(ops)
        results = [self._read(op) for op in ops]
        self._writer.write(puts)
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do what `batch` does without blocking the event loop; embedding is awaited.

        Cancelled, it has written all of its puts or none of them.
        """
        ops = list(ops)
        drafts = [one for one in self._drafts(ops).values() if one is not None]
        queries = [op.query for op in ops if isinstance(op, SearchOp) and op.query and self._fields is not None]
        await embed_ahead(self._memory.service, [text for one in drafts for text in one.texts], queries)
        return await asyncio.to_thread(self.batch, ops)

    def _read(self, op: Op) -> Result:
        base = self._memory.namespace
        if isinstance(op, GetOp):
            entry = self._reader.get((*base, *op.namespace), op.key)
            self._touch([] if entry is None else [entry], wanted=op.refresh_ttl)
            return None if entry is None else item(entry, base)
        if isinstance(op, SearchOp):
            by_meaning = bool(op.query) and self._fields is not None
            found = self._reader.search(op, by_meaning=by_meaning)
            self._touch([entry for entry, _ in found], wanted=op.refresh_ttl)
            return [search_item(entry, base, score) for entry, score in found]
        if isinstance(op, ListNamespacesOp):
            namespaces = self._reader.namespaces((*base, *common_prefix(op)))
            return listed([one[len(base) :] for one in namespaces], op)
        return None

    def _touch(self, entries: list[EpisodicEntry], *, wanted: bool) -> None:
        if wanted:
            self._writer.refresh(entries)

    def _drafts(self, ops: Sequence[Op]) -> dict[tuple[tuple[str, ...], str], Draft | None]:
        """Return what is to be written, by namespace and key; None for what is to be deleted."""
        drafts: dict[tuple[tuple[str, ...], str], Draft | None] = {}
        for op in ops:
            if isinstance(op, PutOp):
                namespace = (*self._memory.namespace, *op.namespace)
                id_of(op.key)
                drafts[namespace, op.key] = None if op.value is None else self._draft(namespace, op, op.value)
            elif not isinstance(op, GetOp | SearchOp | ListNamespacesOp):
                raise InputError(f"an operation must be a GetOp, SearchOp, PutOp or ListNamespacesOp, got {op!r}")
        return drafts

    def _draft(self, namespace: tuple[str, ...], op: PutOp, value: Mapping[str, Any]) -> Draft:
        checked = json.checked_object(value, name="value")
        fields: Sequence[str | list[str]] = self._fields or ()
        if self._fields is not None and op.index is not None:
            fields = [] if op.index is False else [_path(one) for one in op.index]
        texts = [text for path in fields for text in get_text_at_path(checked, path) if text]
        return Draft(
            namespace=namespace,
            key=op.key,
            value=checked,
            texts=list(dict.fromkeys(texts)),
            ttl=checked_ttl(op.ttl),
        )

    def sweep_ttl(self) -> int:
        """Delete what has expired, and return how many items that were. They are unseen before, too."""
        return self._writer.sweep()

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> None:
        """Sweep in a thread from now on, every so many minutes, or as `ttl` says; with neither, do nothing.

        Raises:
            ConfigError: the interval is not positive.
        """
        configured = (self.ttl_config or {}).get("sweep_interval_minutes")
        minutes = configured if sweep_interval_minutes is None else sweep_interval_minutes
        if minutes is None or (self._sweeper is not None):
            return
        self._sweeper = Sweeper(self.sweep_ttl, _checked_minutes("sweep_interval_minutes", minutes) * 60)

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """End that thread, and say whether it has ended within `timeout` seconds."""
        if self._sweeper is None:
            return True
        ended = self._sweeper.stop(timeout)
        if ended:
            self._sweeper = None
        return ended

    def close(self) -> None:
        """End the sweeper, and close the memory if `open` has opened it."""
        self.stop_ttl_sweeper()
        if self._manager is not None:
            self._manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _service(index: IndexConfig | Mapping[str, Any]) -> EmbeddingService:
    embed: Any = index.get("embed")
    if embed is None:
        raise ConfigError('index needs "embed": who makes the vectors')
    return embedding_service(ensure_embeddings(embed) if isinstance(embed, str) else embed, index.get("dims"))


def _path(field: str) -> str | list[str]:
    return field if field == _WHOLE else tokenize_path(field)


def _checked_config(ttl: TTLConfig | None) -> TTLConfig | None:
    if ttl is not None:
        if (default := ttl.get("default_ttl")) is not None:
            _checked_minutes("default_ttl", default)
        if (interval := ttl.get("sweep_interval_minutes")) is not None:
            _checked_minutes("sweep_interval_minutes", interval)
    return ttl


def _checked_minutes(name: str, minutes: object) -> float:
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 < minutes < math.inf:
        raise ConfigError(f"{name} must be a positive number of minutes, got {minutes!r}")
    return float(minutes)
