"""mem0's `Memory`, by its verbs, over an episodic memory."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from llmspell_memory.adapters.finding import best
from llmspell_memory.adapters.mem0.records import changed, day, entry_of, fields_of, history_of, said, told
from llmspell_memory.adapters.mem0.scopes import IDS, condition, merged, scope_of
from llmspell_memory.adapters.opened import memory_of
from llmspell_memory.config import MemoryConfig
from llmspell_memory.errors import ConfigError, InputError
from llmspell_memory.manager import DefaultMemoryManager
from llmspell_memory.types import Filter
from llmspell_memory.types.arrays import checked_k
from llmspell_memory.types.text import checked_text, shortened

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from types import TracebackType

    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.memory import EpisodicMemory
    from llmspell_memory.types import EpisodicEntry, Hit

_UNSET: Final = object()
_TOP: Final = 20


class Memory:
    """Does what mem0's `Memory` does with `infer=False`: keeps messages as they are, for users, agents and runs.

    Nothing calls a language model, and nothing is sent anywhere but to the embedding service. What one user, agent or
    run has is found by nobody who names another; ids are compared whole, after blanks around them are cut off.

    Where mem0 took `user_id`, `agent_id` and `run_id` beside `filters` in one version and inside in the next, both do.

    Args:
        memory: holds the memories; when None, one of its own in RAM, whose embeddings need no model.
        namespace: where they lie, below the memory's own.

    Raises:
        ConfigError: `memory` is none.
    """

    def __init__(
        self,
        memory: DefaultMemoryManager | EpisodicMemory | None = None,
        *,
        namespace: tuple[str, ...] = ("mem0",),
    ) -> None:
        self._manager = DefaultMemoryManager.new_in_memory() if memory is None else None
        self._memory = memory_of(memory or self._manager)
        checked = Filter(namespace=namespace).namespace
        self._all = Filter(namespace=(*self._memory.namespace, *checked), below=False)
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str | os.PathLike[str], service: EmbeddingService) -> Self:
        """Return one with a memory of its own in a SQLite file, searched through HNSW; `close` or `with` closes it."""
        manager = DefaultMemoryManager.with_config(MemoryConfig.for_production(service, path=path))
        opened = cls(manager)
        opened._manager = manager
        return opened

    @classmethod
    def from_config(cls, config_dict: Mapping[str, Any]) -> Self:
        """Refuse: mem0's configuration names engines that are not here.

        Raises:
            ConfigError: always; it says what to write instead.
        """
        raise ConfigError(
            f"a configuration of mem0 ({', '.join(config_dict)}) names engines that are not here; write "
            'Memory.open("memory.db", EmbeddingService(...)), see llmspell_memory.embeddings'
        )

    @property
    def memory(self) -> EpisodicMemory:
        """What holds the memories."""
        return self._memory

    def add(
        self,
        messages: str | dict[str, Any] | list[dict[str, Any]],
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expiration_date: object = None,
        infer: bool = False,
    ) -> dict[str, Any]:
        """Keep messages, all or none, each as a memory of its own, and return them under "results".

        A system's messages are not kept, nor are those without text.

        Args:
            messages: a text, which the user said; a message; or several, each with "role" and "content".
            user_id: whose they are; of this and the next two, one at least.
            agent_id: whose agent's.
            run_id: of which run.
            metadata: JSON, kept with each.
            expiration_date: the last day (UTC) on which they are seen.
            infer: False; nothing here makes facts of messages (`EpisodicMemory.consolidate` calls what you give it).

        Raises:
            InputError: an argument is not acceptable. Nothing is stored.
            EmbeddingError: a text could not be embedded. Nothing is stored.
        """
        if infer:
            raise InputError("infer=True needs a language model, and nothing here calls one; leave it out")
        scope, now = scope_of({"user_id": user_id, "agent_id": agent_id, "run_id": run_id}), datetime.now(UTC)
        entries, actors = [], []
        for n, (role, text, actor) in enumerate(said(messages)):
            actors.append(actor)
            entries.append(
                entry_of(
                    text,
                    role,
                    scope=scope,
                    namespace=self._all.namespace,
                    now=now + timedelta(microseconds=n),
                    actor=actor,
                    given=metadata,
                    expires=day(expiration_date),
                )
            )
        self._memory.add_many(entries)
        return {
            "results": [
                {"id": one.id, "memory": one.content, "event": "ADD", "actor_id": actor, "role": one.role}
                for one, actor in zip(entries, actors, strict=True)
            ]
        }

    def search(
        self,
        query: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        top_k: int | None = None,
        limit: int | None = None,
        filters: Mapping[str, Any] | None = None,
        threshold: float | None = 0.1,
        rerank: bool = False,  # noqa: ARG002 (mem0 without a reranker ignores it, too)
        show_expired: bool = False,
    ) -> dict[str, Any]:
        """Return the memories nearest to a text in meaning, best first, under "results", each with its "score".

        Args:
            query: what is looked for.
            user_id: whose memories; of this and the next two, one at least, here or in `filters`.
            agent_id: whose agent's.
            run_id: of which run.
            top_k: how many at most, 20 when None.
            limit: the same, as mem0 called it before.
            filters: ids and conditions of the metadata, with mem0's operators, "AND", "OR" and "NOT".
            threshold: the least cosine similarity.
            rerank: of no effect, as in mem0 without a reranker.
            show_expired: also those whose last day has passed and that were not swept.

        Raises:
            InputError: an argument is not acceptable.
            EmbeddingError: the text could not be embedded.
        """
        text = checked_text(query.strip() if isinstance(query, str) else query, name="query")
        least = _threshold(threshold)
        where, passes = self._where(filters, (user_id, agent_id, run_id), show_expired=show_expired)

        def search(k: int) -> list[Hit]:
            return self._memory.search(text, k, where=where, mode="semantic")

        def passing(hits: list[Hit]) -> list[Hit]:
            return [hit for hit in hits if passes(hit.entry)]

        hits = best(search, passing, _count(top_k, limit), first=_TOP)
        return {"results": [told(hit.entry) | {"score": hit.score} for hit in hits if hit.score >= least]}

    def get(self, memory_id: str) -> dict[str, Any] | None:
        """Return a memory by its id, None where there is none."""
        found = self._found(memory_id)
        return None if found is None else told(found) | {"score": None}

    def get_all(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        filters: Mapping[str, Any] | None = None,
        top_k: int | None = None,
        limit: int | None = None,
        show_expired: bool = False,
    ) -> dict[str, Any]:
        """Return the newest memories that pass, oldest first, under "results"; see `search` for the arguments."""
        where, passes = self._where(filters, (user_id, agent_id, run_id), show_expired=show_expired)
        wanted = _count(top_k, limit)

        def recent(k: int) -> list[EpisodicEntry]:
            return self._memory.recent(k, where=where)[::-1]

        kept = best(recent, lambda entries: [one for one in entries if passes(one)], wanted, first=_TOP)
        return {"results": [told(one) for one in kept[::-1]]}

    def update(
        self,
        memory_id: str,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expiration_date: object = _UNSET,
        data: str | None = None,
    ) -> dict[str, str]:
        """Change a memory's text, keys of its metadata, or its last day; whose it is never changes.

        Args:
            memory_id: which.
            text: the new text.
            metadata: keys that change.
            expiration_date: the last day on which it is seen; None for ever.
            data: the text, as mem0 called it before.

        Raises:
            InputError: there is no such memory, or nothing to change.
        """
        text = data if text is None else text
        kept = expiration_date is _UNSET
        if text is None and metadata is None and kept:
            raise InputError("nothing is to be changed: give text, metadata or expiration_date")
        expires = None if kept else day(expiration_date)
        with self._lock:
            found = self._known(memory_id)
            self._memory.add(changed(found, text=text, given=metadata, expires=expires, keep_expiry=kept))
        return {"message": "Memory updated successfully!"}

    def delete(self, memory_id: str) -> dict[str, str]:
        """Delete a memory, and its history with it.

        Raises:
            InputError: there is no such memory.
        """
        with self._lock:
            found = self._known(memory_id)
            self._memory.delete(replace(self._all, ids=frozenset([found.id]), expired=None))
        return {"message": "Memory deleted successfully!"}

    def delete_all(
        self, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None
    ) -> dict[str, str]:
        """Delete all memories of a user, an agent or a run; of two of them, those that are of both.

        Raises:
            InputError: none is named; `reset` deletes everybody's.
        """
        scope = scope_of({"user_id": user_id, "agent_id": agent_id, "run_id": run_id})
        with self._lock:
            self._memory.delete(replace(self._all, metadata=scope, expired=None))
        return {"message": "Memories deleted successfully!"}

    def history(self, memory_id: str) -> list[dict[str, Any]]:
        """Return how a memory came to be what it is, oldest first; [] where there is none."""
        found = self._found(memory_id)
        return [] if found is None else history_of(found)

    def reset(self) -> None:
        """Delete everybody's memories; other entries of the store stay."""
        with self._lock:
            self._memory.delete(replace(self._all, expired=None), everything=True)

    def close(self) -> None:
        """Close the memory if this has opened it."""
        if self._manager is not None:
            self._manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _where(
        self, filters: Mapping[str, Any] | None, ids: tuple[Any, ...], *, show_expired: bool
    ) -> tuple[Filter, Any]:
        scope, passes = condition(merged(filters, dict(zip(IDS, ids, strict=True))))
        where = replace(self._all, metadata=scope, expired=None if show_expired else False)
        return where, (lambda entry: passes is None or passes(fields_of(entry)))

    def _found(self, memory_id: str) -> EpisodicEntry | None:
        wanted = replace(self._all, ids=frozenset([checked_text(memory_id, name="memory_id")]), expired=None)
        return next(self._memory.scan(wanted), None)

    def _known(self, memory_id: str) -> EpisodicEntry:
        found = self._found(memory_id)
        if found is None:
            raise InputError(f"there is no memory with the id {shortened(memory_id)}")
        return found


def _count(top_k: int | None, limit: int | None) -> int:
    return checked_k(next((one for one in (top_k, limit) if one is not None), _TOP))


def _threshold(value: object) -> float:
    if value is None:
        return 0.1
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(f"threshold must be a number from 0 to 1, got {value!r}")
    return float(value)
