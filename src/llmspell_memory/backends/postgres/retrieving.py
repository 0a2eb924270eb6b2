"""Searches: what the server finds by vectors and by words, and what stands around it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmspell_memory.backends.postgres.rows import READ, digest, key, root, to_entry, unpacked
from llmspell_memory.backends.postgres.where import condition
from llmspell_memory.backends.postgres.words import any_of, quoted
from llmspell_memory.backends.scene import REACH, Corpus, Scene, Spotted, candidates_for, nearest_of
from llmspell_memory.index.function_words import without_function_words
from llmspell_memory.types import Filter, Hit, Part
from llmspell_memory.types.moments import microseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from llmspell_memory.backends.postgres.connections import Cursor
    from llmspell_memory.backends.postgres.replica import Reads
    from llmspell_memory.backends.postgres.statements import Statements
    from llmspell_memory.backends.postgres.vectors import InUse, Vectors
    from llmspell_memory.index.analysis import Analyzer
    from llmspell_memory.types import EpisodicEntry, KeywordConfig, Query, Vector

_FOR_ONE: Final = 4
"""Rows by words alone that are scored for each one wanted: the server sees which terms they have, not how often."""

_OF_MATCHING: Final = 2
"""Times `index_from`: so many rows that match are rather compared one by one, for an index passes over the others, too.
"""

_ROLES: Final = 1_000
"""Roles of a store that are looked at for names in a question."""

_EVERY: Final = 2**31 - 1
"""Rows, where all are to be scored."""

_TURN: Final = "e.label, e.namespace, e.session_id, e.role, e.happened, e.content, e.root, e.path, e.session_key"


class _Row(NamedTuple):
    """A row of _TURN, and how far its vector is from the query's."""

    label: int
    namespace: bytes
    session_id: str
    role: str
    happened: int
    content: str
    root: bytes
    path: bytes
    session_key: bytes
    distance: float

    def spotted(self) -> Spotted:
        """Return the row as it is scored."""
        namespace = unpacked(bytes(self.namespace))
        return Spotted(self.label, namespace, self.session_id, self.role, self.happened, self.content, self.distance)


class _Asked(NamedTuple):
    """A search, the moment by which entries have expired, and whether vectors have an index."""

    query: Query
    k: int
    where: Filter
    now: datetime
    indexed: bool

    @property
    def vector(self) -> Vector:
        """The query's."""
        assert self.query.vector is not None  # noqa: S101 (for the type checker: without one, the mode is "keyword")
        return self.query.vector

    @property
    def condition(self) -> tuple[str, list[Any]]:
        """What rows must meet, in SQL, with its parameters."""
        return condition(self.where, self.now)


class Retrieval:
    """Searches of one store in one embedding space.

    Args:
        reads: transactions on the server, or on a replica of it.
        vectors: of the space in use.
        statements: over it.
        keywords: how words are told apart and scored.
        analyzer: that tells them apart.
        seen: is told how each search found the vectors.
    """

    def __init__(
        self,
        reads: Reads,
        vectors: Vectors,
        statements: Statements,
        keywords: KeywordConfig,
        analyzer: Analyzer,
        *,
        seen: Callable[[InUse], None],
    ) -> None:
        self._reads = reads
        self._vectors = vectors
        self._sql = statements
        self._keywords = keywords
        self._analyzer = analyzer
        self._seen = seen

    def hits(self, query: Query, k: int, where: Filter) -> list[Hit]:
        """Return the k entries that answer best among those that match, best first, all as they are at one moment."""
        if k == 0 or (where.ids is not None and not where.ids):
            return []
        by = {"semantic": self._by_meaning, "keyword": self._by_words, "hybrid": self._by_everything}[query.mode]
        now = datetime.now(UTC)

        def work(db: Cursor) -> tuple[list[Hit], InUse]:
            in_use = self._vectors.check_in_use(db, self._reads.name)
            asked = _Asked(query, k, where, now, in_use.indexed)
            found = by(db, asked)
            return (self._with_turns_around(db, found, asked) if query.around else found), in_use

        wanted = candidates_for(k) if query.mode == "hybrid" else k
        through_index = query.mode != "keyword" and not query.exact and self._vectors.hnsw is not None
        settings = self._vectors.settings(wanted, filtered=not where.is_everything) if through_index else {}
        found, in_use = self._reads.run(work, settings=settings, isolated=True)
        self._seen(in_use)
        return found

    # --- by meaning -------------------------------------------------------------------------------------------------

    def _by_meaning(self, db: Cursor, asked: _Asked) -> list[Hit]:
        rows = self._nearest(db, asked, f"{READ}, v.vector, e.label", asked.k)
        entries = {row[-1]: to_entry(row[:-1]) for row in rows}
        found = nearest_of(entries, asked.vector, asked.k, metric=self._vectors.space.metric)
        return [
            Hit(entries[label], score, {"semantic": Part(score, score, rank)} if asked.query.parts else None)
            for rank, (label, score) in enumerate(found, start=1)
        ]

    def _nearest(
        self, db: Cursor, asked: _Asked, columns: str, count: int, *, measured: bool = False
    ) -> list[tuple[Any, ...]]:
        """Return the rows nearest to the query; those that the index does not come to are looked for without it.

        Args:
            db: a transaction with the index's settings.
            asked: the search.
            columns: that are read; the distance from the vector is among them where it is `measured`.
            count: how many rows.
            measured: whether the distance is among the columns.
        """
        clause, parameters = asked.condition
        vectors, vector = self._vectors, asked.vector
        rows: list[tuple[Any, ...]] = []
        for exact in (False, True) if self._through_index(db, asked) else (True,):
            given = (*[vector] * measured, *parameters, *vectors.parameters(vector, count, exact=exact))
            db.execute(f"SET LOCAL enable_sort = {'on' if exact else 'off'}")
            rows = db.execute(vectors.nearest(columns, clause, exact=exact), given, binary=True).fetchall()
            if len(rows) >= count:
                break
        db.execute("SET LOCAL enable_sort = on")
        return rows

    def _through_index(self, db: Cursor, asked: _Asked) -> bool:
        """Say whether so many rows match that the index is the quicker way; the server's own guess is often wrong."""
        if asked.query.exact or self._vectors.hnsw is None or not asked.indexed:
            return False
        if asked.where.is_everything:
            return True
        clause, parameters = asked.condition
        some = f"SELECT count(*) FROM (SELECT 1 FROM entries e WHERE {clause} LIMIT %s) s"
        db.execute("SET LOCAL enable_seqscan = off")
        few = _OF_MATCHING * self._reads.config.index_from
        enough = db.execute(some, (*parameters, few)).fetchone() == (few,)
        db.execute("SET LOCAL enable_seqscan = on")
        return enough

    # --- by words ---------------------------------------------------------------------------------------------------

    def _by_words(self, db: Cursor, asked: _Asked) -> list[Hit]:
        corpus = self._corpus(db, asked, self._analyzer.terms(asked.query.text))
        count = _EVERY if asked.query.exact else _FOR_ONE * candidates_for(asked.k)
        rows = self._saying(db, asked, corpus, f"{READ}, v.vector, e.label", count)
        entries = {row[-1]: to_entry(row[:-1]) for row in rows}
        words = corpus.words_of({label: entry.content for label, entry in entries.items()}, self._keywords)
        labels, scores = words.search(asked.query.text, asked.k)
        return [
            Hit(entries[label], score, {"keyword": Part(score, score, rank)} if asked.query.parts else None)
            for rank, (label, score) in enumerate(zip(labels.tolist(), scores.tolist(), strict=True), start=1)
        ]

    def _corpus(self, db: Cursor, asked: _Asked, said: Sequence[str]) -> Corpus:
        """Count what rarity and length are judged by, over all rows that match."""
        clause, parameters = asked.condition
        terms = list(dict.fromkeys(said))
        one = f"(SELECT count(*) FROM entries e WHERE e.words @@ %s::tsquery AND {clause})"
        whole = f"SELECT count(*), coalesce(sum(e.terms), 0)::bigint FROM entries e WHERE {clause}"
        rows, length = db.execute(whole, parameters).fetchone() or (0, 0)
        if not terms or not rows:
            return Corpus([], [], rows, length)
        given = [value for term in terms for value in (quoted(term), *parameters)]
        counts = db.execute(f"SELECT {', '.join([one] * len(terms))}", given).fetchone() or ()
        there = [(term, count) for term, count in zip(terms, counts, strict=True) if count]
        return Corpus([term for term, _ in there], [count for _, count in there], rows, length)

    def _saying(
        self,
        db: Cursor,
        asked: _Asked,
        corpus: Corpus,
        columns: str,
        count: int,
        *,
        of_columns: tuple[Any, ...] = (),
        by_length: bool = True,
    ) -> list[tuple[Any, ...]]:
        """Return rows that say most of what is asked for, the rare before the frequent; `by_length` short before long.

        How often a row says a word counts by `ts_rank`, which rises as BM25 does; all else is exact.
        """
        if not corpus.terms:
            return []
        clause, parameters = asked.condition
        weights = " + ".join(["%s * ts_rank(e.words, %s::tsquery)"] * len(corpus.terms))
        mean = corpus.length / corpus.rows
        k1, b = self._keywords.k1, mean / (mean + 20.0) if self._keywords.b is None else self._keywords.b
        norm = f"(1 + {k1:f} * (1 - {b:f} + {b:f} * e.terms / {mean:f}))" if by_length else "1"
        statement = (
            f"SELECT {columns} FROM entries e JOIN {self._vectors.table} v USING (root, id_key, namespace_key)"
            f" WHERE e.words @@ %s::tsquery AND {clause} ORDER BY ({weights}) / {norm} DESC, e.label LIMIT %s"
        )
        weighed = [value for n, term in enumerate(corpus.terms) for value in (corpus.weight(n), quoted(term))]
        given = (*of_columns, any_of(corpus.terms), *parameters, *weighed, count)
        return db.execute(statement, given, binary=True).fetchall()

    # --- by everything ----------------------------------------------------------------------------------------------

    def _by_everything(self, db: Cursor, asked: _Asked) -> list[Hit]:
        query, metric = asked.query, self._vectors.space.metric
        columns, count = f"{_TURN}, {self._vectors.distance}", _EVERY if query.exact else candidates_for(asked.k)
        near = self._nearest(db, asked, columns, count, measured=True)
        corpus = self._corpus(
            db, asked, self._analyzer.terms(without_function_words(query.text, self._keywords.language))
        )
        said = [] if query.exact else self._covering(db, asked, corpus, columns, count)
        beside = [] if query.exact else self._beside(db, asked, [*near, *said])
        candidates = (_Row._make(row).spotted() for row in (*near, *said))
        scene = Scene(candidates, ((of, _Row._make(row).spotted()) for of, *row in beside))
        labels, scores, parts = scene.ranked(query, asked.k, corpus, metric=metric, keywords=self._keywords)
        clause, parameters = asked.condition
        rows = db.execute(self._sql.by_label.format(where=clause), (*parameters, labels), binary=True).fetchall()
        entries = {row[-1]: to_entry(row[:-1]) for row in rows}
        given: Sequence[Mapping[str, Part] | None] = parts or [None] * len(labels)
        return [Hit(entries[label], score, part) for label, score, part in zip(labels, scores, given, strict=True)]

    def _covering(self, db: Cursor, asked: _Asked, corpus: Corpus, columns: str, count: int) -> list[tuple[Any, ...]]:
        """Return the rows that come soonest to most of what is asked for, of more that the server takes to be such."""
        vector = (asked.vector,)
        rows = self._saying(db, asked, corpus, columns, _FOR_ONE * count, of_columns=vector, by_length=False)
        said = {row[0]: row for row in rows}
        words = corpus.words_of({label: _Row._make(row).content for label, row in said.items()}, self._keywords)
        return [said[label] for label in words.covering(corpus.terms, count).tolist()]

    def _beside(self, db: Cursor, asked: _Asked, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return what stands beside rows in their sessions, of that which matches: whose it is, and the row."""
        of = {row[0]: _Row._make(row) for row in rows}.values()
        clause, parameters = asked.condition
        columns = f"{_TURN}, {self._vectors.distance}"
        side = (
            f"(SELECT {columns} FROM entries e JOIN {self._vectors.table} v USING (root, id_key, namespace_key)"
            " WHERE e.root = c.root AND e.path = c.path AND e.session_key = c.session_key"
            f" AND (e.happened, e.label) {{than}} (c.happened, c.label) AND {clause}"
            " ORDER BY e.happened {down}, e.label {down} LIMIT %s)"
        )
        sides = " UNION ALL ".join(side.format(than=than, down=down) for than, down in (("<", "DESC"), (">", "ASC")))
        statement = (
            "SELECT c.label, s.* FROM unnest(%s::bigint[], %s::bytea[], %s::bytea[], %s::bytea[], %s::bigint[])"
            f" AS c (label, root, path, session_key, happened) CROSS JOIN LATERAL ({sides}) s"
        )
        columns_of = [
            [getattr(row, name) for row in of] for name in ("label", "root", "path", "session_key", "happened")
        ]
        given = (*columns_of, *2 * (asked.vector, *parameters, REACH))
        return db.execute(statement, given, binary=True).fetchall()

    # --- what stands around -----------------------------------------------------------------------------------------

    def _with_turns_around(self, db: Cursor, hits: Sequence[Hit], asked: _Asked) -> list[Hit]:
        """Return the hits with the entries before and after each in its session."""
        found = []
        for hit in hits:
            before, after = (self._side(db, hit.entry, asked, than) for than in ("<", ">"))
            found.append(replace(hit, before=before[::-1], after=after))
        return found

    def _side(self, db: Cursor, entry: EpisodicEntry, asked: _Asked, than: str) -> tuple[EpisodicEntry, ...]:
        """Return the entries before ("<") or after (">") one in its session, the nearest first."""
        session = Filter(namespace=entry.namespace, below=False, session_id=entry.session_id, expired=None)
        around = Filter(known_by=asked.where.known_by)
        (own, of_own), (others, of_others) = condition(session, asked.now), condition(around, asked.now)
        down = "DESC" if than == "<" else "ASC"
        label = "(SELECT label FROM entries WHERE root = %s AND id_key = %s AND namespace_key = %s)"
        statement = (
            f"{self._sql.row} WHERE {own} AND {others} AND (e.happened, e.label) {than} (%s, {label})"
            f" ORDER BY e.happened {down}, e.label {down} LIMIT %s"
        )
        given = (
            *of_own,
            *of_others,
            microseconds(entry.timestamp),
            *key(entry.namespace, entry.id),
            asked.query.around,
        )
        return tuple(map(to_entry, db.execute(statement, given, binary=True).fetchall()))

    # --- who speaks -------------------------------------------------------------------------------------------------

    def named_roles(self, words: Collection[str], where: Filter) -> list[str]:
        """Return which of `words` name the role of some entry that matches."""
        if not words:
            return []
        clause, parameters = condition(where, datetime.now(UTC))
        of_root = "WHERE e.root = %s" if where.namespace else ""
        first = "SELECT e.root, e.role_key, e.role FROM entries e"
        last = "ORDER BY e.root, e.role_key LIMIT 1"
        then = f"(e.root, e.role_key) > (f.root, f.role_key) {of_root.replace('WHERE', 'AND')}"
        every = (
            f"WITH RECURSIVE f AS (({first} {of_root} {last}) UNION ALL"
            f" SELECT n.* FROM f CROSS JOIN LATERAL ({first} WHERE {then} {last}) n)"
            " SELECT DISTINCT role FROM f LIMIT %s"
        )
        roots = [root(where.namespace)] * 2 if where.namespace else []

        def work(db: Cursor) -> list[str]:
            named: dict[str, None] = {}
            for (role,) in db.execute(every, (*roots, _ROLES)).fetchall():
                whole = role.casefold()
                said = {whole, *whole.split()}.intersection(words)
                one = f"SELECT 1 FROM entries e WHERE e.role_key = %s AND {clause} LIMIT 1"
                if said and db.execute(one, (digest(role), *parameters)).fetchone():
                    named.update(dict.fromkeys(said))
            return [word for word in words if word in named]

        return self._reads.run(work)
