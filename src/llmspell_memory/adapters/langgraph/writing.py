"""Items written, kept alive, deleted and swept."""

from __future__ import annotations

import threading
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmspell_memory.adapters.langgraph.items import (
    ITEM,
    PART,
    TTL,
    Clock,
    entries_of,
    expiry,
    has_parts,
    id_of,
    is_item,
    of_one_write,
)
from llmspell_memory.adapters.langgraph.reading import Reader
from llmspell_memory.errors import SpaceChangedError
from llmspell_memory.types import Filter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmspell_memory.adapters.langgraph.items import Draft
    from llmspell_memory.memory import EpisodicMemory
    from llmspell_memory.types import EpisodicEntry


class Writer:
    """Writes the items of a memory."""

    def __init__(self, memory: EpisodicMemory) -> None:
        self._memory = memory
        self._reader = Reader(memory)
        self._clock = Clock()
        self._lock = threading.Lock()

    def write(self, drafts: Mapping[tuple[tuple[str, ...], str], Draft | None]) -> None:
        """Store drafts, all or none, then delete the items that are None."""
        kept = [one for one in drafts.values() if one is not None]
        if kept:
            self._put(kept)
        for (namespace, key), draft in drafts.items():
            if draft is None:
                self._memory.delete(_whole(namespace, id_of(key), expired=None))

    def _put(self, drafts: list[Draft]) -> None:
        names = {(one.namespace, id_of(one.key)): one for one in drafts}
        known = self._reader.named(names, expired=None)
        now = datetime.now(UTC)
        live = {name: one for name, one in known.items() if one.expires_at is None or one.expires_at > now}
        for namespace, name in known.keys() - live.keys():
            self._memory.delete(_whole(namespace, name, expired=True))  # what follows is another, made now
        created = {name: entry.ingestion_time for name, entry in live.items()}
        with self._lock:
            moments = [self._clock.now() for _ in drafts]
        self._add(list(zip(names.items(), moments, strict=True)), created)
        for namespace, name in known:
            if has_parts(known[namespace, name]):
                self._drop_former_parts(namespace, name)

    def _add(
        self,
        drafts: list[tuple[tuple[tuple[tuple[str, ...], str], Draft], datetime]],
        created: Mapping[tuple[tuple[str, ...], str], datetime],
    ) -> None:
        while True:
            service = self._memory.service
            entries = [
                entry
                for (name, draft), now in drafts
                for entry in entries_of(draft, created=created.get(name, now), now=now, dimensions=service.dimensions)
            ]
            try:
                self._memory.add_many(entries)
            except SpaceChangedError:
                if self._memory.service is service:
                    raise
            else:
                return

    def _drop_former_parts(self, namespace: tuple[str, ...], name: str) -> None:
        """Delete the parts that are not of the item as it is now, whoever wrote it last."""
        entries = list(self._memory.scan(_whole(namespace, name, expired=None)))
        own = next((one for one in entries if is_item(one)), None)
        former = [one.id for one in entries if one.role == PART and (own is None or not of_one_write(own, one))]
        if former:
            self._memory.delete(Filter(ids=frozenset(former), namespace=namespace, below=False, expired=None))

    def refresh(self, entries: Iterable[EpisodicEntry]) -> None:
        """Have items that live for a time live for that time from now on; whoever writes them meanwhile has the say."""
        now = datetime.now(UTC)
        together: dict[tuple[tuple[str, ...], float], set[str]] = defaultdict(set)
        for entry in entries:
            ttl = entry.metadata.get(TTL)
            if isinstance(ttl, float | int) and not has_parts(entry):
                together[entry.namespace, ttl].add(entry.id)
            elif isinstance(ttl, float | int):
                where = Filter(session_id=entry.id, namespace=entry.namespace, below=False, metadata={TTL: ttl})
                self._memory.set_expiry(where, expiry(ttl, now))
        for (namespace, ttl), ids in together.items():
            where = Filter(ids=frozenset(ids), role=ITEM, namespace=namespace, below=False, metadata={TTL: ttl})
            self._memory.set_expiry(where, expiry(ttl, now))

    def sweep(self) -> int:
        """Delete what has expired, and return how many items that were."""
        self._memory.delete(Filter(role=PART, expired=True))
        return self._memory.delete(Filter(role=ITEM, expired=True))


def _whole(namespace: tuple[str, ...], name: str, *, expired: bool | None) -> Filter:
    """Return what lets pass an item with its parts."""
    return Filter(session_id=name, namespace=namespace, below=False, expired=expired)
