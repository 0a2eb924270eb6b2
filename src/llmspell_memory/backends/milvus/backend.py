"""Entries in Milvus: what a call returned is what all later reads see, and nothing acknowledged is lost.

Milvus has no transactions. In one process, writers take turns, and each read is of one moment; what holds where several
processes write at once, and what does not, is in the docs (scaling).
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.backends.checks import check_space, checked_vector
from llmspell_memory.backends.milvus import words
from llmspell_memory.backends.milvus.beside import VectorsBeside, counts_beside
from llmspell_memory.backends.milvus.connections import Connection, shared_of
from llmspell_memory.backends.milvus.figures import row_figures, sessions
from llmspell_memory.backends.milvus.forgetting import erased_names
from llmspell_memory.backends.milvus.retrieving import Retrieval
from llmspell_memory.backends.milvus.rows import NEVER, READ, digest, joined, key, names_of, root, to_entry, to_row
from llmspell_memory.backends.milvus.schema import Collections, Kept, State, index_of, meta_row, note_key, owner
from llmspell_memory.backends.milvus.settings import MilvusConfig
from llmspell_memory.backends.milvus.vectors import Vectors
from llmspell_memory.backends.milvus.where import both, condition, listed
from llmspell_memory.backends.milvus.writing import Writer, told_names
from llmspell_memory.backends.notes import ERAS, KEYWORDS, keywords_note, noted_keywords, with_era
from llmspell_memory.backends.repeats import Repeats
from llmspell_memory.errors import SpaceChangedError
from llmspell_memory.index.analysis import Analyzer
from llmspell_memory.types import (
    BackendStats,
    EpisodicEntry,
    Erased,
    Filter,
    IndexStats,
    KeywordConfig,
    Query,
    RowChanges,
    SessionSummary,
)
from llmspell_memory.types.histogram import SearchParts
from llmspell_memory.types.moments import microseconds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from llmspell_memory.backends.milvus.connections import Row
    from llmspell_memory.types import EmbeddingSpace, Hit, HNSWConfig, Identity, Vector

logger = logging.getLogger(__name__)

PAGE: Final = 512
"""Rows read at a time."""

_AT_ONCE: Final = 4_096
"""Rows that a scan reads before it yields the first, so that they are of one moment; more are read page by page."""

_NUMBERS: Final = 1_024
_MOST_NUMBERS: Final = 1_048_576
"""Numbers of changes that are looked at at a time for somebody who follows."""

_ROW_BYTES: Final = 200
"""That a row takes in an index beside its vector, about."""


class MilvusBackend:
    """Entries in collections of a Milvus server, durable when a call returns.

    Searches by meaning go through Milvus' HNSW index under filters that it applies, and are asked again without it
    where fewer came back than match. Words are found by sparse vectors of the terms that the other backends have, too,
    and scored as they score them.

    Args:
        config: how the server is reached; or its URI.
        space: of the vectors; recorded in a new store, compared with the record of an old one. None: as recorded.
        hnsw: parameters of an HNSW index, built while others use the store; None for exact search.
        keywords: how words are told apart and scored, recorded in the store from now on; None for as recorded.

    Raises:
        MissingDependencyError: the extra `milvus` is not installed.
        SchemaError: the store holds another embedding space, or was made by a newer version.
        UnavailableError: the server cannot be reached.
        ConfigError: Milvus has no index with these parameters, or keeps no vectors so wide.
    """

    def __init__(
        self,
        config: MilvusConfig | str,
        space: EmbeddingSpace | None = None,
        *,
        hnsw: HNSWConfig | None = None,
        keywords: KeywordConfig | None = None,
    ) -> None:
        self._config = MilvusConfig(uri=config) if isinstance(config, str) else config
        self._shared = shared_of(self._config)
        self._has_written = False
        self._roles: set[tuple[str, str]] = set()
        self._parts = SearchParts()
        self._connection = Connection(self._config)
        self._collections = Collections(self._connection)
        self._writer = Writer(self._connection, self._collections, self._shared)
        try:
            self._open(space, hnsw, keywords)
        except BaseException:
            self._connection.close()
            raise

    def _open(self, space: EmbeddingSpace | None, hnsw: HNSWConfig | None, keywords: KeywordConfig | None) -> None:
        with self._shared.writing:
            state = self._writer.mended(self._collections.settled(space, hnsw))
            self._shared.broken = False
        noted = noted_keywords(self._note(KEYWORDS))
        self._keywords = keywords or noted
        self._analyzer = Analyzer(self._keywords.language)
        self._use(Vectors(state.used, state.kept[state.used], hnsw))
        if hnsw:
            index_of(hnsw, self.space)
        if keywords is not None and keywords != noted:
            self._choose_keywords(keywords, anew=keywords.language != noted.language)
        if not self._using.fits:
            self._build(hnsw)

    def _use(self, vectors: Vectors) -> None:
        self._using = vectors
        self._rows = self._collections.rows(vectors.number)
        self._retrieval = Retrieval(self._connection, self._collections, vectors, self._keywords, self._analyzer)

    def _choose_keywords(self, keywords: KeywordConfig, *, anew: bool) -> None:
        """Record another way to tell words apart, and make the words of all rows anew by it."""
        with self._shared.writing:
            state = self._collections.state(strong=True)
            for number in state.kept if anew else ():
                name = self._collections.rows(number)
                keys = [row["pk"] for row in self._connection.select(name, "", ["pk"])]
                for at in range(0, len(keys), PAGE):
                    rows = self._writer.whole(number, keys[at : at + PAGE])
                    self._connection.upsert(name, [row | self._words(joined(row["content"])) for row in rows])
            self._put_note(KEYWORDS, keywords_note(keywords))

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of the store."""
        return self._using.space

    @property
    def namespace(self) -> tuple[str, ...]:
        """(): it shows every namespace; a `ScopedBackend` over it shows one."""
        return ()

    @property
    def hnsw(self) -> HNSWConfig | None:
        """Parameters of the index; None when it is exact."""
        return self._using.hnsw

    @property
    def is_remote(self) -> bool:
        """True: its rows are a server's."""
        return True

    # --- the record -------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[State]:
        """Give the record to one writer of this process at a time."""
        self._connection.check_open()
        with self._shared.writing:
            yield self._mended()

    def _mended(self) -> State:
        """Return the record, once what was broken off is seen to; who calls is the one writer."""
        state = self._collections.state(strong=True)
        pending = state.pending
        if self._shared.broken or (pending is not None and pending.owner != owner() and pending.is_abandoned):
            state = self._writer.mended(state)
            self._shared.broken = False
        return state

    @contextmanager
    def _reading(self) -> Iterator[State]:
        """The record, while in this process nothing changes."""
        self._connection.check_open()
        if self._shared.broken:
            with self._writing():
                pass
        with self._shared.turns.reading():
            state = self._collections.state()
            self._check_in_use(state)
            yield state

    def _check_in_use(self, state: State) -> None:
        """See that this is the collection in use; by now it may be another, with another index over the same."""
        using = self._using
        if state.used == using.number:
            return
        kept = state.kept[state.used]
        if kept.space != using.space:
            raise SpaceChangedError(
                f"{self._connection.name} holds vectors of another embedding space than {using.space} by now; open it "
                "anew with the embedding service that it was moved to"
            )
        self._use(Vectors(state.used, kept, using.hnsw))

    def _wrote(self, before: State, after: State) -> None:
        """Note in which of its openings a store was first written to at which number."""
        if self._has_written or after.seq == before.seq:
            return
        self._put_note(ERAS, with_era(self._note(ERAS), before.seq + 1))
        self._has_written = True

    # --- writing ----------------------------------------------------------------------------------------------------

    def add(
        self, entries: Sequence[EpisodicEntry], *, space: EmbeddingSpace | None = None, skip_equal: bool = False
    ) -> list[str]:
        """Store all or none, durable on return, and return their ids; a known identity keeps its ingestion_time."""
        self._connection.check_open()
        using = self._using
        check_space(using.space, space)
        for entry in entries:
            checked_vector(entry, using.space, using.hnsw)
        if not entries:
            return []
        with self._writing() as state:
            self._check_in_use(state)
            check_space(self._using.space, using.space)
            ids, put = self._new(entries) if skip_equal else ([one.id for one in entries], entries)
            if put:
                rows = [self._row(one) for one in _last_of_each(put)]
                self._put_roles(put)
                self._wrote(state, self._writer.put(state, rows))
        return ids

    def _row(self, entry: EpisodicEntry) -> Row:
        assert entry.embedding is not None  # noqa: S101 (for the type checker: it was checked)
        return {**to_row(entry), **self._words(entry.content), "vector": entry.embedding.tolist()}

    def _words(self, text: str) -> Row:
        return words.written(self._analyzer.terms(text))

    def _put_roles(self, entries: Sequence[EpisodicEntry]) -> None:
        """Keep a list of who speaks, by the root of the namespace, for a search to look at."""
        new = {(root(one.namespace), one.role) for one in entries} - self._roles
        rows = [meta_row(f"role:{of}:{digest(role)}", "role", role, name=of) for of, role in sorted(new)]
        self._connection.upsert(self._collections.meta, rows)
        self._roles |= new

    def _new(self, entries: Sequence[EpisodicEntry]) -> tuple[list[str], list[EpisodicEntry]]:
        """Return the id of each entry or of the one that it repeats, and those that repeat nothing in their session."""
        there = self._connection.fetch(self._rows, [key(*one.identity) for one in entries], ["label"])
        put: list[EpisodicEntry] = []
        now = datetime.now(UTC)

        def known(identity: Identity) -> bool:
            return key(*identity) in there or any(one.identity == identity for one in put)

        def saying(namespace: tuple[str, ...], session: str, contents: set[str]) -> list[tuple[str, str, str]]:
            found = self._saying(namespace, session, contents, now)
            for number, one in enumerate(put):
                name = key(*one.identity)
                label = there[name]["label"] if name in there else found.pop(name, (2**62 + number,))[0]
                found.pop(name, None)
                lives = one.expires_at is None or one.expires_at > now
                if lives and (one.namespace, one.session_id) == (namespace, session) and one.content in contents:
                    found[name] = (label, one.role, one.content, one.id)
            return [(role, content, name) for _, role, content, name in sorted(found.values())]

        repeats, ids = Repeats(entries, known=known, read=saying), []
        for entry in entries:
            other = repeats.instead_of(entry)
            ids.append(entry.id if other is None else other)
            if other is None:
                put.append(entry)
        return ids, put

    def _saying(
        self, namespace: tuple[str, ...], session: str, contents: set[str], now: datetime
    ) -> dict[str, tuple[int, str, str, str]]:
        """Return label, role, content and id of a session's entries that have one of the contents, by key."""
        own = condition(Filter(namespace=namespace, below=False, session_id=session), now)
        digests = {digest(one): one for one in contents}
        found: dict[str, tuple[int, str, str, str]] = {}
        ordered = sorted(digests)
        for at in range(0, len(ordered), PAGE):
            part = both(own, f"content_key in {listed(ordered[at : at + PAGE])}")
            for row in self._connection.select(self._rows, part, ["pk", "label", "names", "content_key"]):
                _, entry_id, _, role = names_of(row)
                found[row["pk"]] = (row["label"], role, digests[row["content_key"]], entry_id)
        return found

    def mark_processed(self, where: Filter) -> int:
        """Mark what matches; return how many were not marked before."""
        return self._change(where, both(condition(where, datetime.now(UTC)), "processed == false"), {"processed": True})

    def set_expiry(self, where: Filter, expires_at: datetime | None) -> int:
        """Have what matches expire at this moment, or never when None; return how many there were."""
        expires = NEVER if expires_at is None else microseconds(expires_at)
        return self._change(where, condition(where, datetime.now(UTC)), {"expires": expires})

    def _change(self, where: Filter, matching: str, values: Row) -> int:
        """Give rows that match other values in some fields; return how many there were."""
        with self._writing() as state:
            self._check_in_use(state)
            changed = 0
            keys, latest = self._matching(where, matching), state
            for at in range(0, len(keys), PAGE):
                rows = [row | values for row in self._writer.whole(state.used, keys[at : at + PAGE])]
                latest = self._writer.put(latest, rows)
                changed += len(rows)
            self._wrote(state, latest)
        return changed

    def _matching(self, where: Filter, matching: str) -> list[str]:
        """Return the keys of the rows that match, in the order in which they were added."""
        if where.ids is not None and not where.ids:
            return []
        rows = self._connection.select(self._rows, matching, ["pk", "label"])
        return [row["pk"] for row in sorted(rows, key=lambda row: (row["label"], row["pk"]))]

    def delete(self, where: Filter) -> int:
        """Delete what matches; return how many there were."""
        with self._writing() as state:
            return len(self._drop(state, where, ("names",)))

    def _drop(self, state: State, where: Filter, fields: Sequence[str]) -> list[Row]:
        """Delete what matches in every space, and return these fields of it, in the order in which it was added."""
        self._check_in_use(state)
        keys = self._matching(where, condition(where, datetime.now(UTC)))
        found = self._connection.fetch(self._rows, keys, fields)
        rows = [found[one] for one in keys if one in found]
        if rows:
            self._wrote(state, self._writer.drop(state, rows))
        return rows

    def forget(self, where: Filter) -> list[Erased]:
        """Delete what matches, have the server drop it for good, and return what it was.

        The server is asked to compact its segments; when it does, and what it keeps besides, is its administrator's.
        """
        with self._writing() as state:
            rows = self._drop(state, where, ("names", "content"))
            erased_names(self._connection, self._collections, self._rows)
            self._roles.clear()
        late: dict[str, Any] = {"timeout": self._config.call_seconds}
        for name in (self._collections.meta, *map(self._collections.rows, state.kept)):
            self._connection.run(lambda client, name=name: (client.flush(name, **late), client.compact(name, **late)))  # type: ignore[misc]
        erased = []
        for row in rows:
            namespace, entry_id, session_id, _ = names_of(row)
            erased.append(Erased(namespace, entry_id, session_id, joined(row["content"])))
        return erased

    # --- reading ----------------------------------------------------------------------------------------------------

    def scan(self, where: Filter, *, limit: int | None = None, newest: bool = False) -> Iterator[EpisodicEntry]:
        """Yield matching entries ordered by (timestamp, id), or the newest first.

        They are as they were when the scan began where they are few thousand; of more, each page is as it is when it is
        read, and what was deleted by then is left out.
        """
        with self._reading():
            keys = self._in_time(where, limit, newest=newest)
            page = self._entries(keys[:_AT_ONCE])
        yield from page
        for at in range(_AT_ONCE, len(keys), PAGE):
            with self._reading():
                page = self._entries(keys[at : at + PAGE])
            yield from page

    def _entries(self, keys: Sequence[str]) -> list[EpisodicEntry]:
        found = self._connection.fetch(self._rows, keys, [*READ, "vector"])
        return [to_entry(found[one]) for one in keys if one in found]

    def _in_time(self, where: Filter, limit: int | None, *, newest: bool) -> list[str]:
        """Return the keys of what matches, by (timestamp, id, label)."""
        if limit == 0 or (where.ids is not None and not where.ids):
            return []
        rows = self._connection.select(self._rows, condition(where, datetime.now(UTC)), ["pk", "happened", "label"])
        rows.sort(key=lambda row: row["happened"], reverse=newest)
        if limit is not None and len(rows) > limit:
            last = rows[limit - 1]["happened"]
            rows = [row for row in rows if (row["happened"] >= last if newest else row["happened"] <= last)]
        moments: dict[int, int] = {}
        for row in rows:
            moments[row["happened"]] = moments.get(row["happened"], 0) + 1
        tied = [row["pk"] for row in rows if moments[row["happened"]] > 1]
        ids = {one: names_of(row)[1] for one, row in self._connection.fetch(self._rows, tied, ["names"]).items()}
        rows.sort(key=lambda row: (row["happened"], ids.get(row["pk"], ""), row["label"], row["pk"]), reverse=newest)
        return [row["pk"] for row in rows[:limit]]

    def search(
        self, vector: Vector, k: int, where: Filter, *, exact: bool = False, space: EmbeddingSpace | None = None
    ) -> list[Hit]:
        """Return the k entries nearest to `vector` among those that match, best first."""
        query = Query(text="", vector=vector, mode="semantic", exact=exact)
        return self.retrieve(query, k, where, space=space)

    def retrieve(self, query: Query, k: int, where: Filter, *, space: EmbeddingSpace | None = None) -> list[Hit]:
        """Return the k entries that answer a query best among those that match, best first."""
        began = perf_counter_ns()
        self._connection.check_open()
        using = self._using
        check_space(using.space, space)
        try:
            with self._reading():
                check_space(self._using.space, using.space)
                return self._retrieval.hits(query, k, where)
        finally:
            self._parts.whole_took(perf_counter_ns() - began)

    def named_roles(self, words: Collection[str], where: Filter) -> list[str]:
        """Return which of `words` name the role of some entry that matches."""
        with self._reading():
            return self._retrieval.named_roles(words, where)

    def changes(self, since: int, *, limit: int = PAGE) -> RowChanges:
        """Return what happened to rows after a sequence number."""
        with self._reading() as state:
            put, gone, reached = self._changed(since, self._writer.reached(state), limit)
            entries = tuple(self._entries([row["pk"] for row in put]))
        names = [told_names(row) for row in gone]
        known = tuple(name for name in names if name is not None)
        return RowChanges(reached=reached, put=entries, gone=known, forgotten=len(known) < len(names))

    def _changed(self, since: int, last: int, limit: int) -> tuple[list[Row], list[Row], int]:
        """Return rows put and tombstones, up to a number that is reached, of the next numbers that have any."""
        at, width = since, max(limit, _NUMBERS)
        while at < last:
            until = min(last, at + width)
            numbers = f"seq > {at} and seq <= {until}"
            rows = sorted(self._connection.select(self._rows, numbers, ["pk", "seq"]), key=lambda row: row["seq"])
            graves = both('kind == "gone"', numbers)
            gone = self._connection.select(self._collections.meta, graves, ["seq", "text"]) if since else []
            if len(rows) > limit:
                until = rows[limit - 1]["seq"]
            if rows or gone or until == last:
                gone = sorted((row for row in gone if row["seq"] <= until), key=lambda row: row["seq"])
                return rows[:limit], gone, until
            at, width = until, min(2 * width, _MOST_NUMBERS)
        return [], [], last

    def read_note(self, name: str) -> str | None:
        """Return a text that the store keeps about itself; None where there is none of that name."""
        self._connection.check_open()
        return self._note(name)

    def _note(self, name: str) -> str | None:
        rows = self._connection.fetch(self._collections.meta, [note_key(name)], ["text"])
        return next((joined(row["text"]) for row in rows.values()), None)

    def write_note(self, name: str, text: str | None) -> None:
        """Keep a text about the store itself, durable on return; None removes it."""
        self._connection.check_open()
        self._put_note(name, text)

    def _put_note(self, name: str, text: str | None) -> None:
        if text is None:
            self._connection.drop(self._collections.meta, [note_key(name)])
        else:
            self._connection.upsert(self._collections.meta, [meta_row(note_key(name), "note", text)])

    def count(self, where: Filter) -> int:
        """Return how many entries match."""
        with self._reading():
            if where.ids is not None and not where.ids:
                return 0
            return self._connection.count(self._rows, condition(where, datetime.now(UTC)))

    def sessions(self, where: Filter) -> list[SessionSummary]:
        """Return one line per session, counting the entries that match, latest activity first."""
        with self._reading():
            if where.ids is not None and not where.ids:
                return []
            return sessions(self._connection, self._rows, where, datetime.now(UTC))

    # --- the view ---------------------------------------------------------------------------------------------------

    def beside(self, space: EmbeddingSpace) -> VectorsBeside:
        """Return vectors of another space for the same rows, begun if there are none yet."""
        self._connection.check_open()
        return VectorsBeside(
            self._connection,
            self._collections,
            self._shared,
            self._writer,
            space,
            using=lambda: self._using,
            writing=self._writing,
            adopt=self._use,
        )

    def configure(self, hnsw: HNSWConfig | None, *, rebuild: bool = False) -> None:
        """Change the index's parameters or kind; reads go on meanwhile, in the collection that is left.

        Exact search leaves the index where it is, for others may search through it.
        """
        self._connection.check_open()
        using = self._using
        if hnsw is None:
            self._use(Vectors(using.number, using.kept, None))
            return
        index_of(hnsw, self.space)
        if not rebuild and using.hnsw and replace(using.hnsw, ef_search=hnsw.ef_search) == hnsw:
            self._use(Vectors(using.number, using.kept, hnsw))
            return
        self._build(hnsw, rebuild=rebuild)

    def _build(self, hnsw: HNSWConfig | None, *, rebuild: bool = False) -> None:
        """Copy the rows to a collection with the index of these parameters, switch to it, and drop the former."""
        with self._shared.building:
            asked = self.hnsw
            with self._writing() as state:
                self._check_in_use(state)
                kept = Kept(self.space, index_of(hnsw, self.space))
                former = state.used
                if kept == state.kept[former] and not rebuild:
                    self._use(Vectors(former, kept, hnsw))
                    return
                self._collections.drop_leftovers(state)
                number = state.latest + 1
                self._collections.record(replace(state, latest=number))
            self._collections.make_rows(number, kept)
            self._writer.copy(former, number)
            with self._writing() as state:
                if state.used != former:  # moved to another space, or built by another process, meanwhile
                    self._collections.drop(number)
                    self._check_in_use(state)
                    return
                self._writer.copy(former, number)
                others = {one: other for one, other in state.kept.items() if one != former}
                with self._shared.turns.changing():
                    self._collections.record(replace(state, used=number, kept={**others, number: kept}))
                    latest = self.hnsw
                    fresh = Vectors(number, kept, hnsw)
                    if hnsw and latest and latest != asked:  # by an ef_search set meanwhile
                        fresh = fresh.with_ef_search(latest.ef_search)
                    self._use(fresh)
            self._collections.drop(former)
        logger.info("Built the HNSW index of %s: %s", self._connection.name, hnsw)

    def stats(self) -> BackendStats:
        """Return figures about rows and index; what it takes in the server's memory is estimated."""
        with self._reading() as state:
            entries, unprocessed, spread = row_figures(self._connection, self._rows, datetime.now(UTC))
            beside = counts_beside(self._connection, self._collections, state)
            using = self._using
        links = 8 * using.hnsw.m if using.hnsw else 0
        taken = entries * (4 * using.space.dimensions + links + _ROW_BYTES)
        index = IndexStats(
            kind="exact" if using.hnsw is None else "hnsw", size=entries, config=using.hnsw, memory_bytes=taken
        )
        figures: dict[str, Any] = dict(spread)
        return BackendStats(
            rows="milvus",
            path=None,
            entries=entries,
            unprocessed=unprocessed,
            space=using.space,
            index=index,
            memory_bytes=taken,
            disk_bytes=0,
            id=state.store,
            seq=state.seq,
            lag=0,
            beside=beside,
            timings=self._parts.snapshot(),
            **figures,
        )

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._connection.close()


def _last_of_each(entries: Sequence[EpisodicEntry]) -> list[EpisodicEntry]:
    """Return the last entry of each identity, with the ingestion_time of the first."""
    found: dict[Identity, EpisodicEntry] = {}
    for entry in entries:
        first = found.get(entry.identity)
        found[entry.identity] = entry if first is None else entry.changed(ingestion_time=first.ingestion_time)
    return list(found.values())
