"""Writes in an order that loses nothing: what is to be done is recorded, done, and finished by whoever comes next.

One writer of a process at a time. Where several processes write to a store at once, every row is whole and none is
lost; but what is decided by reading first (which of equal entries is left out, which number comes next) is one
process's.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from llmspell_memory.backends.milvus.rows import EVERY, joined, names_of
from llmspell_memory.backends.milvus.schema import Pending, gone_key, meta_row, owner
from llmspell_memory.backends.milvus.where import both

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmspell_memory.backends.milvus.connections import Connection, Row, Shared
    from llmspell_memory.backends.milvus.schema import Collections, Kept, State

_PAGE: Final = 512
"""Rows that are copied at a time."""


class Writer:
    """Changes of rows; who calls holds the lock that writers share.

    Args:
        connection: to the server.
        collections: of the store.
        shared: with others of this process.
    """

    def __init__(self, connection: Connection, collections: Collections, shared: Shared) -> None:
        self._connection = connection
        self._collections = collections
        self._shared = shared

    @contextmanager
    def _change(self, state: State) -> Iterator[None]:
        """Record what is about to be done, and keep reads waiting while it is."""
        try:
            with self._shared.turns.changing():
                self._collections.record(state)
                yield
        except BaseException:
            self._shared.broken = True
            raise

    def put(self, state: State, rows: Sequence[Row]) -> State:
        """Put rows, each with a new number; a row that is there keeps its label, and when it was learned."""
        used = self._collections.rows(state.used)
        there = self._connection.fetch(used, [row["pk"] for row in rows], ["label", "learned"])
        first = state.label + 1
        state = replace(
            state,
            seq=state.seq + len(rows),
            label=state.label + len(rows) - len(there),
            pending=_pending("put", state.seq + 1, state.seq + len(rows), first),
        )
        label, ready = first, []
        for seq, row in enumerate(rows, start=state.seq - len(rows) + 1):
            known = there.get(row["pk"])
            if known is None:
                ready.append({**row, "seq": seq, "label": label})
                label += 1
            else:
                ready.append({**row, "seq": seq, "label": known["label"], "learned": known["learned"]})
        with self._change(state):
            self._connection.upsert(used, ready)
            for number in state.beside():
                self._put_beside(number, [row for row in ready if row["pk"] in there])
        return state

    def _put_beside(self, number: int, rows: Sequence[Row]) -> None:
        """Do the same where another space's vectors are; a row whose text is another now has none there any more."""
        if not rows:
            return
        name = self._collections.rows(number)
        there = self._connection.fetch(name, [row["pk"] for row in rows], ["content_key", "vector"])
        kept = [
            {**row, "vector": there[row["pk"]]["vector"]}
            for row in rows
            if row["pk"] in there and there[row["pk"]]["content_key"] == row["content_key"]
        ]
        self._connection.upsert(name, kept)
        self._connection.drop(name, [one for one in there if one not in {row["pk"] for row in kept}])

    def drop(self, state: State, rows: Sequence[Row]) -> State:
        """Drop rows, given with their names, and remember what they were called."""
        first = state.seq + 1
        state = replace(
            state, seq=state.seq + len(rows), pending=_pending("drop", first, state.seq + len(rows), state.label + 1)
        )
        with self._change(state):
            self._bury(rows, first)
            self._drop(state, [row["pk"] for row in rows])
        return state

    def _bury(self, rows: Sequence[Row], first: int) -> None:
        told = (json.dumps(names_of(row)[:2], ensure_ascii=False) for row in rows)
        graves = zip(rows, told, range(first, first + len(rows)), strict=True)
        self._connection.upsert(
            self._collections.meta,
            [meta_row(gone_key(seq), "gone", text, seq=seq, name=row["pk"]) for row, text, seq in graves],
        )

    def _drop(self, state: State, keys: Sequence[str]) -> None:
        for number in (*state.beside(), state.used):
            self._connection.drop(self._collections.rows(number), keys)

    def mended(self, state: State) -> State:
        """Finish, or take back, what a writer was broken off in: a batch is whole or absent.

        An entry that had been there before stays as the batch would have it.
        """
        pending = state.pending
        if pending is None or not pending.is_abandoned or not state.used:
            return state
        numbers = f"seq >= {pending.first} and seq <= {pending.last}"
        if pending.kind == "drop":
            graves = self._connection.select(self._collections.meta, both('kind == "gone"', numbers), ["name"])
            if graves:
                with self._shared.turns.changing():
                    self._drop(state, [row["name"] for row in graves])
        elif self._connection.count(self._collections.rows(state.used), numbers) <= pending.last - pending.first:
            used = self._collections.rows(state.used)
            fresh = self._connection.select(used, both(numbers, f"label >= {pending.label}"), ["pk", "names"])
            if fresh:
                return self.drop(state, fresh)
        return state

    def reached(self, state: State) -> int:
        """Return the number up to which all changes can be read: another process may be in the midst of the last."""
        pending = state.pending
        if pending is None or pending.owner == owner():
            return state.seq
        where, rows = f"seq >= {pending.first} and seq <= {pending.last}", self._collections.rows(state.used)
        if pending.kind == "drop":
            where, rows = both('kind == "gone"', where), self._collections.meta
        whole = self._connection.count(rows, where) > pending.last - pending.first
        return state.seq if whole or pending.is_abandoned else pending.first - 1

    # --- from one collection to another -----------------------------------------------------------------------------

    def copy(self, source: int, target: int) -> int:
        """Bring a collection with vectors of the same space level with another, and return how many rows that took."""
        before, after = (
            {row["pk"]: row["seq"] for row in self._connection.select(self._collections.rows(one), "", ["pk", "seq"])}
            for one in (source, target)
        )
        behind = [one for one, seq in before.items() if after.get(one) != seq]
        gone = [one for one in after if one not in before]
        self._connection.drop(self._collections.rows(target), gone)
        for at in range(0, len(behind), _PAGE):
            rows = self.whole(source, behind[at : at + _PAGE])
            self._connection.upsert(self._collections.rows(target), rows)
        return len(behind) + len(gone)

    def whole(self, number: int, keys: Sequence[str]) -> list[Row]:
        """Return rows with all their fields, as they are put."""
        found = self._connection.fetch(self._collections.rows(number), keys, [*EVERY, "vector"])
        return [as_put(row) for row in found.values()]

    def rebuilt(self, source: int, kept: Kept, used: State) -> int:
        """Make a collection with another index over the same rows, while others use the first; return its number."""
        number = used.latest + 1
        self._collections.make_rows(number, kept)
        self.copy(source, number)
        return number


def as_put(row: Row) -> Row:
    """Return a row that was read as one that can be written."""
    arrays = {name: list(row[name] or []) for name in ("names", "content", "metadata", "facts", "terms")}
    return {**row, **arrays, "words": dict(row["words"]), "vector": list(row["vector"])}


def _pending(kind: str, first: int, last: int, label: int) -> Pending:
    return Pending(kind, first, last, label, owner(), time.time())  # type: ignore[arg-type]  # one of two texts


def told_names(row: Row) -> tuple[tuple[str, ...], str] | None:
    """Return the identity that a tombstone names; None where that was forgotten."""
    if not row["text"]:
        return None
    namespace, name = json.loads(joined(row["text"]))
    return tuple(namespace), name
