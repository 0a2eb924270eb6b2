"""Vectors of several embedding spaces for the same rows; one space is in use.

Each space has a collection with the rows and its vectors. A vector that is not in use is valid where its row has the
number of the row in use: so nothing need be followed, and what was broken off is missing, and is made again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from llmspell_memory.backends.milvus.connections import MissingCollectionError
from llmspell_memory.backends.milvus.rows import joined
from llmspell_memory.backends.milvus.schema import Kept, index_of
from llmspell_memory.backends.milvus.vectors import Vectors
from llmspell_memory.backends.overlap import FEW
from llmspell_memory.errors import ConfigError
from llmspell_memory.types import BesideCounts, SpaceCount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from llmspell_memory.backends.milvus.connections import Connection, Shared
    from llmspell_memory.backends.milvus.schema import Collections, State
    from llmspell_memory.backends.milvus.writing import Writer
    from llmspell_memory.types import EmbeddingSpace, Matrix, RowText

_WINDOW: Final = 4_096
"""Labels that are looked at at a time."""

_ASKED_AT_ONCE: Final = 32


class VectorsBeside:
    """Vectors of a space that is not in use; its methods are those of the protocol `VectorsBeside`.

    Args:
        connection: to the server.
        collections: of the store.
        shared: with others of this process.
        writer: of rows.
        space: of the vectors; a collection is made for it when the first ones are put.
        using: returns the vectors in use.
        writing: gives the record to one writer at a time.
        adopt: makes other vectors those in use.

    Raises:
        ConfigError: the space is the one in use.
    """

    def __init__(
        self,
        connection: Connection,
        collections: Collections,
        shared: Shared,
        writer: Writer,
        space: EmbeddingSpace,
        *,
        using: Callable[[], Vectors],
        writing: Callable[[], AbstractContextManager[State]],
        adopt: Callable[[Vectors], None],
    ) -> None:
        self.space = space
        self._connection = connection
        self._collections = collections
        self._shared = shared
        self._writer = writer
        self._using = using
        self._writing = writing
        self._adopt = adopt
        if using().space == space:
            raise ConfigError(f"the store holds vectors of {space} already")

    def _state(self) -> State:
        self._connection.check_open()
        return self._collections.state()

    def _numbers(self, number: int | None, where: str = "") -> dict[str, int]:
        """Return the numbers of the last changes of a collection's rows, by key."""
        if number is None:
            return {}
        rows = self._connection.select(self._collections.rows(number), where, ["pk", "seq"])
        return {row["pk"]: row["seq"] for row in rows}

    def counts(self) -> BesideCounts:
        """Return how many rows there are, how many lack a vector, and how long the texts of these are."""
        self._connection.check_open()
        with self._shared.turns.reading():
            state = self._collections.state()
            used = self._collections.rows(state.used)
            rows = self._connection.select(used, "", ["pk", "seq", "characters", "size"])
            there = self._numbers(state.number_of(self.space))
        missing = [row for row in rows if there.get(row["pk"]) != row["seq"]]
        return BesideCounts(
            rows=len(rows),
            missing=len(missing),
            characters=sum(row["characters"] for row in missing),
            bytes=sum(row["size"] for row in missing),
        )

    def missing(self, limit: int, *, after: int = -1) -> list[RowText]:
        """Return up to `limit` rows that have no vector, in the order of their labels."""
        self._connection.check_open()
        with self._shared.turns.reading():
            state = self._collections.state()
            return self._missing(state, limit, after=after)

    def _missing(self, state: State, limit: int, *, after: int = -1) -> list[RowText]:
        used, number = self._collections.rows(state.used), state.number_of(self.space)
        found: list[tuple[int, int, str]] = []
        for labels in _windows(after, state.label):
            rows = self._connection.select(used, labels, ["pk", "label", "seq"])
            there = self._numbers(number, labels)
            lacking = (row for row in rows if there.get(row["pk"]) != row["seq"])
            found.extend(sorted((row["label"], row["seq"], row["pk"]) for row in lacking))
            if len(found) >= limit:
                break
        del found[limit:]
        texts = self._connection.fetch(used, [name for _, _, name in found], ["content"])
        return [(label, seq, joined(texts[name]["content"])) for label, seq, name in found if name in texts]

    def put(self, rows: Sequence[RowText], vectors: Matrix) -> int:
        """Store vectors, and return how many; a row that has changed meanwhile gets none."""
        with self._writing() as state:
            return self._put(self._begun(state), rows, vectors)

    def _begun(self, state: State) -> State:
        if state.number_of(self.space) is not None:
            return state
        state, _ = self._collections.begun(state, self.space, index_of(self._using().hnsw, self.space))
        self._collections.record(state)
        return state

    def _put(self, state: State, rows: Sequence[RowText], vectors: Matrix) -> int:
        number = state.number_of(self.space)
        if number is None or number == state.used or not rows:  # by another who has made them all
            return 0
        given = {(label, seq): (text, vector) for (label, seq, text), vector in zip(rows, vectors, strict=True)}
        labels = ", ".join(str(label) for label, _ in given)
        light = self._connection.select(
            self._collections.rows(state.used), f"label in [{labels}]", ["pk", "label", "seq"]
        )
        current = [row["pk"] for row in light if (row["label"], row["seq"]) in given]
        ready = []
        for row in self._writer.whole(state.used, current):
            text, vector = given[row["label"], row["seq"]]
            if joined(row["content"]) == text:
                ready.append({**row, "vector": vector.tolist()})
        self._connection.upsert(self._collections.rows(number), ready)
        return len(ready)

    def overlap(self, sample: int, k: int) -> Iterator[float]:
        """Yield what share of an entry's k nearest is the same in both spaces, for about `sample` entries.

        By what the server finds: where it has an index, the nearest are those that a search finds.
        """
        state = self._state()
        number = state.number_of(self.space)
        there = sorted(self._numbers(number))
        if number is None or not there:
            return iter(())
        keys = there[:: max(1, len(there) // max(1, sample))][:sample]
        try:  # not as one read, which would keep writers waiting
            found = [self._nearest(one, state, keys, k) for one in (state.used, number)]
        except MissingCollectionError:  # another index was built meanwhile
            return self.overlap(sample, k)
        shares = []
        for one in keys:
            near, other = (nearest.get(one, set()) for nearest in found)
            if most := min(len(near), len(other)):
                shares.append(len(near & other) / most)
        return iter(shares)

    def _nearest(self, number: int, state: State, keys: Sequence[str], k: int) -> dict[str, set[str]]:
        """Return the keys of the rows nearest to some, without themselves."""
        name, ef = self._collections.rows(number), None if state.kept[number].index is None else max(200, 4 * k)
        vectors = self._connection.fetch(name, keys, ["vector"])
        asked = [one for one in keys if one in vectors]
        nearest: dict[str, set[str]] = {}
        for at in range(0, len(asked), _ASKED_AT_ONCE):
            part = asked[at : at + _ASKED_AT_ONCE]
            hits = self._connection.search(name, [vectors[one]["vector"] for one in part], k + 1, "", ["pk"], ef=ef)
            for one, rows in zip(part, hits, strict=True):
                nearest[one] = set([row["pk"] for row in rows if row["pk"] != one][:k])
        return nearest

    def take_over(self, embed: Callable[[Sequence[str]], Matrix] | None = None) -> bool:
        """Make this space the one in use, at once for all; False, and nothing changes, where a row has no vector.

        Who has the store open in another process is told by a SpaceChangedError.

        Args:
            embed: makes the vectors of the last few rows, while writers wait.
        """
        if embed is None and self.counts().missing:
            return False
        with self._writing() as before:
            if self._using().space == self.space:
                return True
            state = self._begun(before)
            few = self._missing(state, FEW + 1)
            if few and (embed is None or len(few) > FEW):
                return False
            if few and embed is not None:
                self._put(state, few, embed([text for _, _, text in few]))
                if self._missing(state, 1):
                    return False
            self._switch(state)
        return True

    def _switch(self, state: State) -> None:
        number, using = state.number_of(self.space), self._using()
        assert number is not None  # noqa: S101 (for the type checker: it has been begun)
        stale = self._numbers(number).keys() - self._numbers(state.used).keys()
        self._connection.drop(self._collections.rows(number), sorted(stale))
        kept = Kept(self.space, index_of(using.hnsw, self.space))
        if using.hnsw and state.kept[number].index != kept.index:  # made when the index in use was another
            fresh = self._writer.rebuilt(number, kept, state)
            former, left = number, {one: other for one, other in state.kept.items() if one != number}
            state, number = replace(state, latest=fresh, kept={**left, fresh: kept}), fresh
        else:
            former = 0
        with self._shared.turns.changing():
            self._collections.record(replace(state, used=number))
            self._adopt(Vectors(number, state.kept[number], using.hnsw))
        if former:
            self._collections.drop(former)

    def drop(self) -> None:
        """Drop the vectors.

        Raises:
            ConfigError: they are in use.
        """
        with self._writing() as state:
            number = state.number_of(self.space)
            if number is None:
                return
            if number == state.used:
                raise ConfigError(f"the vectors of {self.space} are in use; move the store to another space first")
            kept = {one: other for one, other in state.kept.items() if one != number}
            with self._shared.turns.changing():
                self._collections.record(replace(state, kept=kept))
            self._collections.drop(number)


def _windows(after: int, last: int) -> Iterator[str]:
    """Yield expressions for the labels above one, a stretch of them at a time."""
    for low in range(after, last, _WINDOW):
        yield f"label > {low} and label <= {low + _WINDOW}"


def counts_beside(connection: Connection, collections: Collections, state: State) -> tuple[SpaceCount, ...]:
    """Return the spaces that are not in use, with how many vectors there are of each."""
    return tuple(
        SpaceCount(space=kept.space, vectors=connection.count(collections.rows(number)))
        for number, kept in state.beside().items()
    )
