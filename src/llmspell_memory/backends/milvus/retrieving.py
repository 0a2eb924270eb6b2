"""Searches: what the server finds by vectors and by words, and what stands around it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from llmspell_memory.backends.milvus import words
from llmspell_memory.backends.milvus.connections import MOST_ROWS
from llmspell_memory.backends.milvus.rows import READ, TURN, digest, joined, key, names_of, root, to_entry
from llmspell_memory.backends.milvus.vectors import Nearest, distances
from llmspell_memory.backends.milvus.where import both, condition, listed
from llmspell_memory.backends.scene import REACH, Corpus, Scene, Spotted, candidates_for, nearest_of
from llmspell_memory.index.function_words import without_function_words
from llmspell_memory.types import Filter, Hit, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from llmspell_memory.backends.milvus.connections import Connection, Row
    from llmspell_memory.backends.milvus.schema import Collections
    from llmspell_memory.backends.milvus.vectors import Vectors
    from llmspell_memory.index.analysis import Analyzer
    from llmspell_memory.types import KeywordConfig, Query, Vector

_FOR_ONE: Final = 4
"""Rows by words alone that are scored for each one wanted: the server has their scores by a usual length only."""

_LIGHT: Final = ("pk", "label", "path", "session_key", "happened")

_ROLES: Final = 1_000
"""Roles of a store that are looked at for names in a question."""


class _Asked(NamedTuple):
    """A search, and the expression of what it is for."""

    query: Query
    k: int
    where: Filter
    matching: str
    now: datetime

    @property
    def vector(self) -> Vector:
        """The query's."""
        assert self.query.vector is not None  # noqa: S101 (for the type checker: without one, the mode is "keyword")
        return self.query.vector


class Retrieval:
    """Searches of one store in one embedding space.

    Args:
        connection: to the server.
        collections: of the store.
        vectors: of the space in use.
        keywords: how words are told apart and scored.
        analyzer: that tells them apart.
    """

    def __init__(
        self,
        connection: Connection,
        collections: Collections,
        vectors: Vectors,
        keywords: KeywordConfig,
        analyzer: Analyzer,
    ) -> None:
        self._connection = connection
        self._collections = collections
        self._vectors = vectors
        self._rows = collections.rows(vectors.number)
        self._near = Nearest(connection, collections, vectors)
        self._keywords = keywords
        self._analyzer = analyzer

    def hits(self, query: Query, k: int, where: Filter) -> list[Hit]:
        """Return the k entries that answer best among those that match, best first."""
        if k == 0 or (where.ids is not None and not where.ids):
            return []
        by: dict[str, Callable[[_Asked], list[Hit]]] = {
            "semantic": self._by_meaning,
            "keyword": self._by_words,
            "hybrid": self._by_everything,
        }
        now = datetime.now(UTC)
        asked = _Asked(query, k, where, condition(where, now), now)
        found = by[query.mode](asked)
        return [self._with_turns_around(hit, asked) for hit in found] if query.around else found

    # --- by meaning -------------------------------------------------------------------------------------------------

    def _by_meaning(self, asked: _Asked) -> list[Hit]:
        fields = (*READ, "label")
        rows = self._near.find(asked.vector, asked.k, asked.matching, fields, exact=asked.query.exact)
        entries = {number: to_entry(row) for number, row in enumerate(in_order(rows))}
        found = nearest_of(entries, asked.vector, asked.k, metric=self._vectors.space.metric)
        return [
            Hit(entries[number], score, {"semantic": Part(score, score, rank)} if asked.query.parts else None)
            for rank, (number, score) in enumerate(found, start=1)
        ]

    # --- by words ---------------------------------------------------------------------------------------------------

    def _by_words(self, asked: _Asked) -> list[Hit]:
        corpus = self._corpus(asked, self._analyzer.terms(asked.query.text))
        rows = self._saying(asked, corpus, (*READ, "label"), _FOR_ONE * candidates_for(asked.k))
        entries = {number: to_entry(row) for number, row in enumerate(in_order(rows))}
        said = corpus.words_of({number: entry.content for number, entry in entries.items()}, self._keywords)
        numbers, scores = said.search(asked.query.text, asked.k)
        return [
            Hit(entries[number], score, {"keyword": Part(score, score, rank)} if asked.query.parts else None)
            for rank, (number, score) in enumerate(zip(numbers.tolist(), scores.tolist(), strict=True), start=1)
        ]

    def _corpus(self, asked: _Asked, said: Sequence[str]) -> Corpus:
        """Count what rarity and length are judged by, over all rows that match.

        How long texts are is judged by some of them where there are very many.
        """
        count = self._connection.count
        terms = list(dict.fromkeys(said))
        if not terms:
            return Corpus([], [], 0, 0)
        sample = None if asked.query.exact else MOST_ROWS
        lengths = [
            row["length"] for row in self._connection.select(self._rows, asked.matching, ["length"], limit=sample)
        ]
        if not lengths:
            return Corpus([], [], 0, 0)
        rows = len(lengths) if len(lengths) != sample else count(self._rows, asked.matching)
        length = round(sum(lengths) / len(lengths) * rows)
        counts = [
            count(self._rows, both(f"array_contains(terms, {words.number_of(term)})", asked.matching)) for term in terms
        ]
        there = [(term, number) for term, number in zip(terms, counts, strict=True) if number]
        return Corpus([term for term, _ in there], [number for _, number in there], rows, length)

    def _saying(self, asked: _Asked, corpus: Corpus, fields: Sequence[str], count: int) -> list[Row]:
        """Return rows that say most of what is asked for, with their vectors; all that say any where it is exact."""
        if not corpus.terms:
            return []
        if asked.query.exact or sum(corpus.counts) <= count or count > MOST_ROWS:
            numbers = ", ".join(str(words.number_of(term)) for term in corpus.terms)
            saying = both(f"array_contains_any(terms, [{numbers}])", asked.matching)
            keys = [row["pk"] for row in self._connection.select(self._rows, saying, ["pk"])]
            return list(self._connection.fetch(self._rows, keys, [*fields, "vector"]).values())
        weights = {term: corpus.weight(number) for number, term in enumerate(corpus.terms)}
        (found,) = self._connection.search(
            self._rows, [words.asked(weights)], count, asked.matching, ["pk", *fields, "vector"], of="words"
        )
        return found

    # --- by everything ----------------------------------------------------------------------------------------------

    def _by_everything(self, asked: _Asked) -> list[Hit]:
        query = asked.query
        count = candidates_for(asked.k)
        near = (
            self._every(asked)
            if query.exact
            else self._near.find(asked.vector, count, asked.matching, TURN, exact=False)
        )
        said_terms = self._analyzer.terms(without_function_words(query.text, self._keywords.language))
        corpus = self._corpus(asked, said_terms)
        said = [] if query.exact else self._covering(asked, corpus, count)
        beside = [] if query.exact else self._beside(asked, [*near, *said])
        known = {row["pk"]: row for row in (*near, *said, *(row for _, row in beside))}
        spotted = self._spotted(asked, list(known.values()))
        scene = Scene(
            (spotted[row["pk"]] for row in (*near, *said)),
            ((spotted[of].label, spotted[row["pk"]]) for of, row in beside),
        )
        numbers, scores, parts = scene.ranked(
            query, asked.k, corpus, metric=self._vectors.space.metric, keywords=self._keywords
        )
        keys = {one.label: name for name, one in spotted.items()}
        found = self._connection.fetch(self._rows, [keys[number] for number in numbers], [*READ, "vector"])
        given: Sequence[Mapping[str, Part] | None] = parts or [None] * len(numbers)
        return [
            Hit(to_entry(found[keys[number]]), score, part)
            for number, score, part in zip(numbers, scores, given, strict=True)
            if keys[number] in found
        ]

    def _every(self, asked: _Asked) -> list[Row]:
        keys = [row["pk"] for row in self._connection.select(self._rows, asked.matching, ["pk"])]
        return list(self._connection.fetch(self._rows, keys, [*TURN, "vector"]).values())

    def _spotted(self, asked: _Asked, rows: Sequence[Row]) -> dict[str, Spotted]:
        """Return rows as they are scored, by their keys; their labels are numbers in the order of those stored."""
        ordered = in_order(rows)
        away = distances([row["vector"] for row in ordered], asked.vector, metric=self._vectors.space.metric)
        found = {}
        for number, (row, distance) in enumerate(zip(ordered, away, strict=True)):
            namespace, _, session_id, role = names_of(row)
            content = joined(row["content"])
            found[row["pk"]] = Spotted(number, namespace, session_id, role, row["happened"], content, distance)
        return found

    def _covering(self, asked: _Asked, corpus: Corpus, count: int) -> list[Row]:
        """Return the rows that come soonest to most of what is asked for, of more that the server takes to be such."""
        rows = in_order(self._saying(asked, corpus, TURN, _FOR_ONE * count))
        said = corpus.words_of({number: joined(row["content"]) for number, row in enumerate(rows)}, self._keywords)
        return [rows[number] for number in said.covering(corpus.terms, count).tolist()]

    def _beside(self, asked: _Asked, rows: Sequence[Row]) -> list[tuple[str, Row]]:
        """Return what stands beside rows in their sessions, of that which matches: whose it is, and the row."""
        of = {row["pk"]: row for row in rows}
        if not of:
            return []
        sessions = listed(dict.fromkeys(row["session_key"] for row in of.values()))
        turns = self._connection.select(self._rows, both(f"session_key in {sessions}", asked.matching), _LIGHT)
        wanted = [(name, near) for name, near in _neighbours(turns, REACH) if name in of]
        missing = list(dict.fromkeys(near for _, near in wanted if near not in of))
        there = of | self._connection.fetch(self._rows, missing, [*TURN, "vector"])
        return [(name, there[near]) for name, near in wanted if near in there]

    # --- what stands around -----------------------------------------------------------------------------------------

    def _with_turns_around(self, hit: Hit, asked: _Asked) -> Hit:
        """Return the hit with the entries before and after it in its session."""
        entry, width = hit.entry, asked.query.around
        session = Filter(namespace=entry.namespace, below=False, session_id=entry.session_id, expired=None)
        around = Filter(known_by=asked.where.known_by)
        both_of_them = both(condition(session, asked.now), condition(around, asked.now))
        turns = self._connection.select(self._rows, both_of_them, _LIGHT)
        own = self._connection.fetch(self._rows, [key(entry.namespace, entry.id)], ["label", "happened"])
        if not own:
            return hit
        (mine,) = own.values()
        turns = sorted((row for row in turns if row["pk"] != mine["pk"]), key=_moment)
        before = [row["pk"] for row in turns if _moment(row) < _moment(mine)][-width:]
        after = [row["pk"] for row in turns if _moment(row) > _moment(mine)][:width]
        found = self._connection.fetch(self._rows, [*before, *after], [*READ, "vector"])
        sides = [tuple(to_entry(found[one]) for one in side if one in found) for side in (before, after)]
        return replace(hit, before=sides[0], after=sides[1])

    # --- who speaks -------------------------------------------------------------------------------------------------

    def named_roles(self, wanted: Collection[str], where: Filter) -> list[str]:
        """Return which of the words name the role of some entry that matches."""
        if not wanted:
            return []
        of_root = f'name == "{root(where.namespace)}"' if where.namespace else ""
        roles = self._connection.select(self._collections.meta, both('kind == "role"', of_root), ["text"], limit=_ROLES)
        matching = condition(where, datetime.now(UTC))
        named: set[str] = set()
        for role in sorted({joined(row["text"]) for row in roles}):
            whole = role.casefold()
            said = {whole, *whole.split()}.intersection(wanted)
            one = both(f'role_key == "{digest(role)}"', matching)
            if said and self._connection.select(self._rows, one, ["pk"], limit=1):
                named.update(said)
        return [word for word in wanted if word in named]


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Return rows in the order in which they were first added."""
    return sorted(rows, key=lambda row: (row["label"], row["pk"]))


def _moment(row: Row) -> tuple[int, int, str]:
    return row["happened"], row["label"], row["pk"]


def _neighbours(turns: Iterable[Row], reach: int) -> Iterator[tuple[str, str]]:
    """Yield pairs of the keys of turns that stand beside each other in their session."""
    sessions: dict[tuple[str, str], list[Row]] = {}
    for row in turns:
        sessions.setdefault((row["path"], row["session_key"]), []).append(row)
    for rows in sessions.values():
        rows.sort(key=_moment)
        for place, row in enumerate(rows):
            near = (*rows[max(0, place - reach) : place], *rows[place + 1 : place + 1 + reach])
            yield from ((row["pk"], other["pk"]) for other in near)
