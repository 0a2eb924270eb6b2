"""Items found: by key, in the order in which they were made, and by meaning."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from llmspell_memory.adapters.filters import DocumentFilter
from llmspell_memory.adapters.finding import best
from llmspell_memory.adapters.langgraph.items import ITEM, PART, SEARCHED, VALUE, id_of, is_item, of_one_write, value_of
from llmspell_memory.adapters.langgraph.namespaces import checked_page
from llmspell_memory.types import Filter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langgraph.store.base import SearchOp

    from llmspell_memory.memory import EpisodicMemory
    from llmspell_memory.types import EpisodicEntry, Hit
    from llmspell_memory.types.json import JSON

Found: TypeAlias = "tuple[EpisodicEntry, float | None]"
"""An item's entry with its score, None where it has none."""

_AHEAD: Final = 4
"""Times as many items as are wanted are read at first, where some may not pass; then all."""

_Name: TypeAlias = tuple[tuple[str, ...], str]


class Reader:
    """Reads the items of a memory; namespaces are those of the entries, with the memory's own before them."""

    def __init__(self, memory: EpisodicMemory) -> None:
        self._memory = memory

    def get(self, namespace: tuple[str, ...], key: str) -> EpisodicEntry | None:
        """Return an item's entry, None where there is none."""
        return next(iter(self.named([(namespace, id_of(key))]).values()), None)

    def named(self, names: Iterable[_Name], *, expired: bool | None = False) -> dict[_Name, EpisodicEntry]:
        """Return the entries of items, by namespace and id; what is not there is left out."""
        wanted: dict[tuple[str, ...], set[str]] = {}
        for namespace, name in names:
            wanted.setdefault(namespace, set()).add(name)
        return {
            entry.identity: entry
            for namespace, ids in wanted.items()
            for entry in self._memory.scan(
                Filter(ids=frozenset(ids), namespace=namespace, below=False, role=ITEM, expired=expired)
            )
            if is_item(entry)
        }

    def namespaces(self, prefix: tuple[str, ...]) -> set[tuple[str, ...]]:
        """Return the namespaces below `prefix` that hold an item."""
        return {line.namespace for line in self._memory.sessions(Filter(namespace=prefix, role=ITEM))}

    def search(self, op: SearchOp, *, by_meaning: bool) -> list[Found]:
        """Return a page of the items that pass a filter.

        By meaning, the best come first; those that are looked for by no text follow. Otherwise they come in the order
        in which they were made.
        """
        offset, limit = checked_page(op.offset, op.limit)
        conditions = DocumentFilter(op.filter)
        namespace = (*self._memory.namespace, *op.namespace_prefix)
        found: list[Found] = []
        if by_meaning:
            found = self._nearest(op.query or "", namespace, conditions, offset + limit)
        more: dict[str, JSON] = {SEARCHED: False} if by_meaning else {}
        found += [(one, None) for one in self._listed(namespace, conditions, more, offset + limit - len(found))]
        return found[offset:]

    def _listed(
        self, namespace: tuple[str, ...], conditions: DocumentFilter, more: dict[str, JSON], wanted: int
    ) -> list[EpisodicEntry]:
        where = Filter(namespace=namespace, role=ITEM, metadata=_pushed(conditions) | more)
        limit = wanted if conditions.is_pushed else _AHEAD * wanted
        entries = list(self._memory.scan(where, limit=limit))
        passing = [one for one in entries if is_item(one) and conditions.matches(value_of(one))]
        if len(passing) < wanted and len(entries) == limit:
            every = self._memory.scan(where)
            passing = list(islice((one for one in every if is_item(one) and conditions.matches(value_of(one))), wanted))
        return passing[:wanted]

    def _nearest(self, query: str, namespace: tuple[str, ...], conditions: DocumentFilter, wanted: int) -> list[Found]:
        where = Filter(namespace=namespace, metadata=_pushed(conditions) | {SEARCHED: True})

        def search(k: int) -> list[Hit]:
            return self._memory.search(query, k, where=where, mode="semantic")

        first = wanted if conditions.is_pushed else 2 * wanted
        return best(search, lambda hits: self._passing(hits, conditions), wanted, first=first)

    def _passing(self, hits: list[Hit], conditions: DocumentFilter) -> list[Found]:
        """Return the items that hits belong to, each once and with its best score, if they pass."""
        hits = [hit for hit in hits if is_item(hit.entry) or hit.entry.role == PART]
        items = {hit.entry.identity: hit.entry for hit in hits if is_item(hit.entry)}
        owners = {(hit.entry.namespace, hit.entry.session_id) for hit in hits}
        items |= self.named(owners - items.keys())
        found: dict[_Name, float] = {}
        for hit in hits:
            name = (hit.entry.namespace, hit.entry.session_id)
            # A part that a process left behind amid a write, or whose item was written anew just now, is of no item.
            if name in items and of_one_write(items[name], hit.entry) and conditions.matches(value_of(items[name])):
                found.setdefault(name, hit.score)
        return [(items[name], score) for name, score in found.items()]


def _pushed(conditions: DocumentFilter) -> dict[str, JSON]:
    return {VALUE + key: value for key, value in conditions.pushed.items()}
