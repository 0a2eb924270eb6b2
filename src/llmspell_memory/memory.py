"""The words of episodic memory, written once on the few verbs of a backend."""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from datetime import UTC, datetime, timedelta
from time import perf_counter_ns
from typing import TYPE_CHECKING, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar, get_args

from llmspell_memory.embeddings.services import Services
from llmspell_memory.errors import InputError, NotFoundError, SpaceChangedError
from llmspell_memory.retrieval.asking import answered, asked, checked_where
from llmspell_memory.retrieval.consolidation import consolidated
from llmspell_memory.retrieval.context import best_within, checked_budget, most_tokens, newest_within
from llmspell_memory.types import EpisodicEntry, Filter, ForgetReceipt, Removal, SweepReport
from llmspell_memory.types.arrays import checked_k
from llmspell_memory.types.filter import EVERYTHING
from llmspell_memory.types.query import DEFAULT_MODE, checked_mode
from llmspell_memory.types.text import checked_moment, checked_text, shortened
from llmspell_memory.watch.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike

    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.protocols import Consolidator, EpisodicBackend
    from llmspell_memory.retrieval.asking import Asked
    from llmspell_memory.retrieval.consolidation import Consolidation
    from llmspell_memory.retrieval.context import Context, TokenCounter
    from llmspell_memory.retrieval.ranking import Ranking
    from llmspell_memory.types import Hit, Matrix, RetentionRule, SearchMode, SessionSummary, Vector

_FIRST = datetime.min.replace(tzinfo=UTC)

OnDuplicate: TypeAlias = Literal["keep", "skip"]
"""What becomes of an entry that says again what its session holds: it is stored all the same, or left out."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _timed(
    name: str,
) -> Callable[[Callable[Concatenate[EpisodicMemory, _P], _T]], Callable[Concatenate[EpisodicMemory, _P], _T]]:
    """Have a memory's observer time calls of a method as the operation `name`."""

    def timing(method: Callable[Concatenate[EpisodicMemory, _P], _T]) -> Callable[Concatenate[EpisodicMemory, _P], _T]:
        @functools.wraps(method)
        def timed(self: EpisodicMemory, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
            with self._observer.timed(name):
                return method(self, *args, **kwargs)

        return timed

    return timing


class EpisodicMemory:
    """Stores what was said and done, and finds what matters.

    Args:
        backend: keeps the entries.
        service: embeds texts that come without a vector; or several, of which the one of the backend's space does.
        observer: is told what is done and how long it takes; one of its own when None.
        search_mode: how a text is looked for where a search does not say.

    Raises:
        InputError: there is no such mode.
    """

    def __init__(
        self,
        backend: EpisodicBackend,
        service: EmbeddingService | Services,
        *,
        observer: Observer | None = None,
        search_mode: SearchMode = DEFAULT_MODE,
    ) -> None:
        self._backend = backend
        self._search_mode = checked_mode(search_mode)
        self._services = service if isinstance(service, Services) else Services(service)
        self._observer = observer or Observer()

    @property
    def service(self) -> EmbeddingService:
        """What embeds texts: the service of the space that the store is in."""
        return self._services.of(self._backend.space)

    @property
    def namespace(self) -> tuple[str, ...]:
        """The namespace this memory is scoped to, () when it holds the whole store; every call means this at most."""
        return self._backend.namespace

    @property
    def search_mode(self) -> SearchMode:
        """How a text is looked for where a search does not say."""
        return self._search_mode

    def add(self, entry: EpisodicEntry, *, on_duplicate: OnDuplicate = "keep") -> str:
        """Store an entry and return its id; a known id (in its namespace) is replaced, keeping its ingestion_time.

        An entry that carries a vector is not embedded.

        Args:
            entry: what is to be stored.
            on_duplicate: with "skip", an entry of a new id whose session has one of equal role and content is not
                stored, and the id of that one is returned: agents repeat themselves, and try again.

        Raises:
            InputError: the vector is not acceptable; a DimensionError for the wrong width. Or the entry's namespace
                lies outside of this memory's. Nothing is stored.
            EmbeddingError: the text could not be embedded. Nothing is stored.
            StorageError: the store failed. Nothing is stored.
        """
        return self.add_many([entry], on_duplicate=on_duplicate)[0]

    @_timed("add")
    def add_many(self, entries: Iterable[EpisodicEntry], *, on_duplicate: OnDuplicate = "keep") -> list[str]:
        """Store all entries or none and return their ids, in order; texts are embedded together.

        See `add`, also for what it raises; an entry may repeat an earlier one of the same call, too.
        """
        skip = checked_on_duplicate(on_duplicate) == "skip"
        batch = Batch(entries, self.namespace)
        while True:
            service = self.service
            texts, began = batch.texts_for(service), perf_counter_ns()
            vectors = self._observer.told(service).embed(texts)
            if texts:
                self._observer.took("add.embed", began)
            try:
                return self._backend.add(batch.finished(vectors), space=service.space, skip_equal=skip)
            except SpaceChangedError:
                check_moved(service, self.service, given=batch.has_vectors)

    @_timed("get")
    def get(self, entry_id: str, *, namespace: tuple[str, ...] = ()) -> EpisodicEntry:
        """Return the entry with this id, its vector with it: the one of `namespace` itself, or the only one below it.

        Raises:
            NotFoundError: there is none.
            InputError: several namespaces below `namespace` have one, and it has none itself; say which is meant.
        """
        where = Filter(ids=frozenset([checked_text(entry_id, name="entry_id")]), namespace=namespace)
        where = where.within(self.namespace)
        found = list(self._backend.scan(where))
        if not found:
            raise NotFoundError(f"no entry has the id {shortened(entry_id)}")
        exact = [entry for entry in found if entry.namespace == where.namespace]
        if len(found) > 1 and not exact:
            raise InputError(f"several namespaces have an entry {shortened(entry_id)}; pass namespace=")
        return (exact or found)[0]

    def search(
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
        """Return the k entries that answer `query` best among those that match `where`, best first.

        Fewer than k come back only where fewer entries match, or by words alone, fewer have one of them.

        Args:
            query: a text, or a vector of the memory's width.
            k: how many, from 0 up.
            where: conditions, applied before the k best are chosen.
            mode: "semantic" looks for what is nearest in meaning, "keyword" for the words, and embeds nothing, "hybrid"
                for both. When None, a text is looked for as this memory's `search_mode` says, a vector by meaning.
            around: how many entries of its session each hit brings, before it and after it.
            parts: whether each hit tells how its score came about.
            ranking: how hits are weighed beyond that: by age, by dates, for variety, by a reranker.

        Raises:
            InputError: an argument is not acceptable; a DimensionError for a vector of the wrong width. Or a vector is
                given where words are needed.
            EmbeddingError: the text could not be embedded.
        """
        began = perf_counter_ns()
        try:
            one = asked(
                query, k, where, mode=mode, default=self._search_mode, around=around, parts=parts, ranking=ranking
            )
            hits, vector = self._found(one)
        except BaseException:
            self._observer.operations.failed("search")
            raise
        self._observer.searched(began, vector, one.k, one.where)
        return hits

    def _found(self, one: Asked) -> tuple[list[Hit], Vector | None]:
        while True:
            service = self.service
            one = one.among(self._backend)
            vector = None if one.by_words_alone else self._query_vector(one.sought, service)
            try:
                return answered(one, vector, self._backend, service.space), vector
            except SpaceChangedError:
                check_moved(service, self.service, given=not one.text)

    def _query_vector(self, query: str | ArrayLike, service: EmbeddingService) -> Vector:
        if isinstance(query, str):
            began = perf_counter_ns()
            vector = self._observer.told(service).embed_one(query, kind="query")
            self._observer.took("search.embed", began)
            return vector
        return service.check_vector(query)

    def context(
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
        """Return what answers `query` best as a text for a prompt, in the order it happened, with sessions and dates.

        The k best are tried, best first; one is left out where the text would grow over the budget with it. No turn is
        cut, so a small budget may leave an empty text.

        Args:
            query: as in `search`; so are `k`, `where`, `mode` and `ranking`.
            budget_tokens: the most that the text, headings included, may count.
            k: how many are tried.
            where: conditions.
            mode: how they are looked for.
            ranking: how they are weighed.
            count_tokens: counts a text's tokens. When not given, they are estimated so high that no usual tokenizer
                counts more (see `llmspell_memory.retrieval.most_tokens`).

        Raises:
            InputError: an argument is not acceptable, or `count_tokens` returns no number.
            EmbeddingError: the text could not be embedded.
        """
        budget = checked_budget(budget_tokens)
        hits = self.search(query, k, where=where, mode=mode, ranking=ranking)
        return best_within((hit.entry for hit in hits), budget, count_tokens)

    def recall_session(
        self,
        session_id: str,
        *,
        budget_tokens: int | None = None,
        namespace: tuple[str, ...] = (),
        count_tokens: TokenCounter = most_tokens,
    ) -> Context:
        """Return a session as a text for a prompt, empty for an unknown one; with a budget, its newest turns.

        See `context` for the text, the budget and `count_tokens`.
        """
        budget = None if budget_tokens is None else checked_budget(budget_tokens)
        return newest_within(self.get_session(session_id, namespace=namespace), budget, count_tokens)

    def recent(self, n: int, *, where: Filter = EVERYTHING) -> list[EpisodicEntry]:
        """Return the newest n entries that match, oldest first."""
        newest = self._backend.scan(checked_where(where), limit=checked_k(n), newest=True)
        return list(newest)[::-1]

    def get_session(self, session_id: str, *, namespace: tuple[str, ...] = ()) -> list[EpisodicEntry]:
        """Return a session's entries in the order they happened; [] for an unknown session."""
        session_id = checked_text(session_id, name="session_id")
        return list(self._backend.scan(Filter(session_id=session_id, namespace=namespace)))

    def list_unprocessed(
        self, session_id: str | None = None, *, limit: int | None = None, namespace: tuple[str, ...] = ()
    ) -> list[EpisodicEntry]:
        """Return entries not yet marked processed, oldest first, of one session or of all."""
        limit = None if limit is None else checked_k(limit)
        where = Filter(session_id=session_id, processed=False, namespace=namespace)
        return list(self._backend.scan(where, limit=limit))

    @_timed("mark_processed")
    def mark_processed(self, ids: Iterable[str], *, namespace: tuple[str, ...] = ()) -> int:
        """Mark entries as processed and return how many were not before; unknown ids are ignored."""
        if ids is None:
            raise InputError("ids must be a collection of texts, got None")
        return self._backend.mark_processed(Filter(ids=ids, namespace=namespace))  # type: ignore[arg-type]  # checked there

    def consolidate(self, consolidator: Consolidator, *, where: Filter = EVERYTHING, batch: int = 50) -> Consolidation:
        """Have lasting entries made of those not yet processed, and mark those as processed; return what was done.

        Up to `batch` entries of one session are given to the consolidator at once, oldest first. What it returns is
        stored in their namespace, processed, under ids derived from theirs; then they are marked. Who is interrupted
        calls again: at most one batch is read twice, and what is made of it takes the place of what was. One process at
        a time should do this.

        Args:
            consolidator: makes entries of entries.
            where: which entries are read.
            batch: how many at most at once.

        Raises:
            InputError: an argument is not acceptable, or the consolidator returns something else than entries.
        """
        return consolidated(self._backend, consolidator, self.add_many, checked_where(where), batch)

    @_timed("set_expiry")
    def set_expiry(self, where: Filter, expires_at: datetime | None) -> int:
        """Have entries that match expire at `expires_at`, or never when None, and return how many there were.

        In one act: an entry that another writer has replaced meanwhile is judged, and left, as it is by now. So this
        prolongs a life without the risk of putting back an older state, as adding the entry again would.

        Raises:
            InputError: `expires_at` is naive, or no moment.
        """
        moment = None if expires_at is None else checked_moment(expires_at, name="expires_at")
        return self._backend.set_expiry(checked_where(where), moment)

    @_timed("delete")
    def delete_before(self, moment: datetime, *, namespace: tuple[str, ...] = ()) -> int:
        """Delete entries that happened before `moment` and return how many."""
        if moment is None:
            raise InputError("moment must be a datetime, got None")
        return self._backend.delete(Filter(until=moment, namespace=namespace))

    @_timed("delete")
    def delete(self, where: Filter, *, everything: bool = False) -> int:
        """Delete entries that match and return how many; a filter without conditions needs `everything=True`.

        In a memory that is scoped, a namespace that leaves nothing of it out is no condition.
        """
        return self._backend.delete(_deliberate(where, self.namespace, everything=everything))

    @_timed("forget")
    def forget(self, where: Filter, *, everything: bool = False) -> ForgetReceipt:
        """Erase entries that match, expired ones among them, for good, and return a receipt.

        Gone when this returns: rows, vectors, their places in the index and in its file, copies in the store's log and
        free space (of what was deleted or replaced earlier, too), and cached embeddings of the texts. For that the
        store's file is rewritten, which takes as long as copying it.

        Args:
            where: which entries; a filter without conditions needs `everything=True`.
            everything: that all entries are meant.

        Raises:
            UnavailableError: other processes were reading all the time and hold old copies open: of the embedding
                cache, as the message says, with nothing deleted so far; or of the store, with the entries deleted. The
                same call again, or for the store the next opening, finishes the erasing.
            StorageError: the same, where the file cannot be rewritten.
        """
        began = datetime.now(UTC)
        where = _deliberate(where, self.namespace, everything=everything)
        wanted = where if where.expired else dataclasses.replace(where, expired=None)
        # The cache first: cut off in between, it would keep vectors of texts that nobody could name any more.
        texts = {entry.content for entry in self._backend.scan(wanted)}
        self._services.forget(texts)
        erased = self._backend.forget(wanted)
        texts |= {one.content for one in erased}
        self._services.forget(texts)  # again, for some may have been embedded meanwhile
        return ForgetReceipt(
            where=where,
            entries=len(erased),
            ids=tuple(one.identity for one in erased),
            sessions=len({(one.namespace, one.session_id) for one in erased}),
            texts=len(texts),
            began=began,
            finished=datetime.now(UTC),
        )

    @_timed("sweep")
    def sweep(self, *rules: RetentionRule) -> SweepReport:
        """Delete what has expired, and what `rules` no longer keep, and return what that was.

        Nothing is swept by itself. What has expired is invisible at once; what is too old or too many is there until a
        sweep.

        Args:
            rules: limits of age and number, for a namespace each.
        """
        now = datetime.now(UTC)
        removals = [
            Removal(reason="expired", namespace=namespace, entries=self._backend.delete(where))
            for namespace in self._namespaces(Filter(expired=True))
            for where in [Filter(expired=True, namespace=namespace, below=False)]
        ]
        for rule in rules:
            for namespace in self._namespaces(Filter(namespace=rule.namespace)):
                alone = Filter(namespace=namespace, below=False)
                if rule.max_age is not None and rule.max_age < now - _FIRST:
                    gone = self._backend.delete(dataclasses.replace(alone, until=now - rule.max_age))
                    removals.append(Removal(reason="too old", namespace=namespace, entries=gone))
                if rule.max_entries is not None:
                    gone = self._keep_newest(rule.max_entries, alone)
                    removals.append(Removal(reason="too many", namespace=namespace, entries=gone))
        return SweepReport(removals=tuple(one for one in removals if one.entries), at=now)

    def _namespaces(self, where: Filter) -> list[tuple[str, ...]]:
        """Return the namespaces of entries that match, each once."""
        return sorted({line.namespace for line in self._backend.sessions(where)})

    def _keep_newest(self, count: int, where: Filter) -> int:
        if self._backend.count(where) <= count:
            return 0
        # Of one moment, and deleted only if still so old: others may sweep, or add an id again, at the same time.
        newest: deque[tuple[str, datetime]] = deque()
        oldest: list[str] = []
        for entry in self._backend.scan(where):
            newest.append((entry.id, entry.timestamp))
            if len(newest) > count:
                entry_id, last = newest.popleft()
                oldest.append(entry_id)
        if not oldest:
            return 0
        until = last + timedelta(microseconds=1)
        return self._backend.delete(dataclasses.replace(where, ids=frozenset(oldest), until=until))

    def list_sessions_with_unprocessed(self, *, namespace: tuple[str, ...] = ()) -> list[str]:
        """Return ids of sessions that have unprocessed entries, latest activity first, each once."""
        sessions = self._backend.sessions(Filter(namespace=namespace))
        return list(dict.fromkeys(line.session_id for line in sessions if line.unprocessed))

    def sessions(self, where: Filter = EVERYTHING) -> list[SessionSummary]:
        """Return one line per session with matching entries, counting those, latest activity first."""
        return self._backend.sessions(checked_where(where))

    def scan(self, where: Filter = EVERYTHING, *, limit: int | None = None) -> Iterator[EpisodicEntry]:
        """Yield matching entries with their vectors in the order they happened, as they were when the scan began."""
        return self._backend.scan(checked_where(where), limit=None if limit is None else checked_k(limit))

    def count(self, where: Filter = EVERYTHING) -> int:
        """Return how many entries match."""
        return self._backend.count(checked_where(where))


def check_moved(used: EmbeddingService, now: EmbeddingService, *, given: bool) -> None:
    """Raise the SpaceChangedError being handled, unless what went before can be done again in the new space.

    Args:
        used: the service that embedded for it.
        now: the one of the space that the store is in by now.
        given: whether the caller gave a vector, which was of the old space.
    """
    if given or now is used:
        raise  # noqa: PLE0704 (called while it is handled)


class Batch:
    """Entries on their way in: which texts they need embedded, and how they look with their vectors.

    Their namespaces are checked on construction, before anything is embedded or stored.
    """

    def __init__(self, entries: Iterable[EpisodicEntry], namespace: tuple[str, ...]) -> None:
        self._entries = [_checked_entry(entry).within(namespace) for entry in entries]

    @property
    def has_vectors(self) -> bool:
        """Whether some entries came with a vector."""
        return any(entry.embedding is not None for entry in self._entries)

    def texts_for(self, service: EmbeddingService) -> list[str]:
        """Return the contents of the entries that carry no vector, once those that others carry are checked."""
        for entry in self._entries:
            if entry.embedding is not None:
                service.check_vector(entry.embedding)
        return [entry.content for entry in self._entries if entry.embedding is None]

    def finished(self, vectors: Matrix) -> Sequence[EpisodicEntry]:
        """Return the entries, those without a vector with theirs from `vectors`, in the order of `texts_for`."""
        rows = iter(vectors)
        return [
            entry if entry.embedding is not None else entry.changed(embedding=_own(next(rows)))
            for entry in self._entries
        ]


def _checked_entry(entry: object) -> EpisodicEntry:
    if not isinstance(entry, EpisodicEntry):
        raise InputError(f"an entry must be an EpisodicEntry, got {type(entry).__name__}")
    return entry


def _own(row: Vector) -> Vector:
    """A row that keeps no batch alive and that nobody can change."""
    vector = row.copy()
    vector.flags.writeable = False
    return vector


def checked_on_duplicate(value: object) -> OnDuplicate:
    """Return `value` if it says what becomes of a repetition, else raise an InputError."""
    if value not in get_args(OnDuplicate):
        raise InputError(f'on_duplicate must be "keep" or "skip", got {value!r}')
    return value  # type: ignore[return-value]  # checked


def _deliberate(where: Filter, namespace: tuple[str, ...], *, everything: bool) -> Filter:
    """Return `where` within `namespace`, unless it would delete everything there by oversight."""
    where = checked_where(where).within(namespace)
    if where == Filter(namespace=namespace, expired=where.expired) and not where.expired and not everything:
        raise InputError("this filter has no condition and would delete everything; say so with everything=True")
    return where
