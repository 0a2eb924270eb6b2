"""A backend whose rows are behind a server: the verbs of `EpisodicBackend` over HTTP."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, TypeVar

from llmspell_memory.backends.checks import Birthplace
from llmspell_memory.client.calls import Call
from llmspell_memory.client.transport import Settings, Tries, border, lines_of, refuse, send
from llmspell_memory.errors import ClosedError, ConfigError, SpaceChangedError, UnavailableError
from llmspell_memory.operations.files.jsonl import packed
from llmspell_memory.wire.figures import (
    changes_from,
    erased_from,
    hnsw_from,
    plain,
    session_from,
    stats_from,
)
from llmspell_memory.wire.problems import error_from
from llmspell_memory.wire.searches import hit_from, query_to
from llmspell_memory.wire.values import entry_from, entry_to, filter_to, space_from, space_to

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from llmspell_memory.embeddings.retry import RetryPolicy
    from llmspell_memory.protocols import VectorsBeside
    from llmspell_memory.types import (
        BackendStats,
        EmbeddingSpace,
        EpisodicEntry,
        Erased,
        Filter,
        Hit,
        HNSWConfig,
        Query,
        RowChanges,
        SessionSummary,
        Vector,
    )

_T = TypeVar("_T")
_REFUSED = 400


class HTTPBackend:
    """The memory of a server as a backend: give it to `DefaultMemoryManager` with a service of its space.

    What the key's namespace is to the server, is () here. Texts are embedded in this process; `MemoryClient` leaves
    that to the server. Every call that fails for want of a server is tried again, and a write is done once however
    often it was sent. Threads may share it; a forked process may not use it.

    Args:
        url: of the server, such as "http://127.0.0.1:8080".
        api_key: as `llmspell-memory keys add` told it; None where the server has no keys.
        timeout: seconds that the server may say nothing.
        retry: when a call that failed is tried again.
        client_options: further ones of `httpx.Client`.

    Raises:
        ConfigError: an argument is wrong, or the server does not know the key.
        UnavailableError: the server cannot be reached.
        MissingDependencyError: httpx is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        client_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings = Settings(url, api_key=api_key, timeout=timeout, retry=retry, options=client_options)
        self._birthplace = Birthplace()
        self._client = self._settings.client()
        self._closed = False
        try:
            self._look()
        except BaseException:
            self._client.close()
            raise

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of its vectors, as the server said last."""
        return self._space

    @property
    def namespace(self) -> tuple[str, ...]:
        """(): whatever the key shows begins here."""
        return ()

    @property
    def hnsw(self) -> HNSWConfig | None:
        """Parameters of the server's index, as it said last; None when it searches exactly."""
        return self._hnsw

    @property
    def is_remote(self) -> bool:
        """True: every call waits for the server."""
        return True

    def add(
        self, entries: Sequence[EpisodicEntry], *, space: EmbeddingSpace | None = None, skip_equal: bool = False
    ) -> list[str]:
        """Store all or none, durable on return, and return their ids; a known identity keeps its ingestion_time.

        Raises:
            InputError: they are more, or take more bytes, than the server takes at once. Nothing is stored.
        """
        told = [entry_to(entry) for entry in entries]
        return self._verb(
            "add",
            lambda got: list(got["ids"]),
            entries=told,
            space=_space(space),
            skip_equal=skip_equal,
            writes=True,
        )

    def scan(self, where: Filter, *, limit: int | None = None, newest: bool = False) -> Iterator[EpisodicEntry]:
        """Yield matching entries with their vectors by (timestamp, id), as they were when the scan began."""
        self._check_open()
        return self._lines({"where": filter_to(where), "limit": limit, "newest": newest})

    def search(
        self, vector: Vector, k: int, where: Filter, *, exact: bool = False, space: EmbeddingSpace | None = None
    ) -> list[Hit]:
        """Return the k entries nearest to `vector` among those that match, best first."""
        return self._verb(
            "search", _hits, vector=packed(vector), k=k, where=filter_to(where), exact=exact, space=_space(space)
        )

    def retrieve(self, query: Query, k: int, where: Filter, *, space: EmbeddingSpace | None = None) -> list[Hit]:
        """Return the k entries that answer a query best among those that match, best first."""
        return self._verb("retrieve", _hits, query=query_to(query), k=k, where=filter_to(where), space=_space(space))

    def named_roles(self, words: Collection[str], where: Filter) -> list[str]:
        """Return which of `words` name the role of some entry that matches."""
        return self._verb("named-roles", lambda got: list(got["roles"]), words=list(words), where=filter_to(where))

    def changes(self, since: int, *, limit: int = 512) -> RowChanges:
        """Return what happened to rows after a sequence number."""
        return self._verb("changes", changes_from, since=since, limit=limit)

    def read_note(self, name: str) -> str | None:
        """Return a note about the store; None where there is none, or the key's namespace is not the whole store."""
        return self._verb("read-note", _text, name=name)

    def write_note(self, name: str, text: str | None) -> None:
        """Keep a short text about the store itself; None removes it.

        Raises:
            ConfigError: the key is not of the whole store, or may not write.
        """
        self._verb("write-note", _nothing, name=name, text=text, writes=True)

    def mark_processed(self, where: Filter) -> int:
        """Mark what matches; return how many were not marked before."""
        return self._verb("mark-processed", lambda got: int(got["marked"]), where=filter_to(where), writes=True)

    def set_expiry(self, where: Filter, expires_at: datetime | None) -> int:
        """Have what matches expire at this moment, or never when None; return how many there were."""
        moment = None if expires_at is None else expires_at.isoformat()
        body = {"where": filter_to(where), "expires_at": moment}  # null has a meaning here
        return self._send(Call("POST", "/v1/backend/set-expiry", lambda got: int(got["changed"]), body, writes=True))

    def delete(self, where: Filter) -> int:
        """Delete what matches; return how many there were."""
        return self._verb("delete", lambda got: int(got["deleted"]), where=filter_to(where), writes=True)

    def forget(self, where: Filter) -> list[Erased]:
        """Delete what matches and leave no trace of it on the server; return what was erased."""
        return self._verb(
            "forget",
            lambda got: [erased_from(one) for one in got["erased"]],
            where=filter_to(where),
            writes=True,
            is_long=True,
        )

    def count(self, where: Filter) -> int:
        """Return how many entries match."""
        return self._verb("count", lambda got: int(got["count"]), where=filter_to(where))

    def sessions(self, where: Filter) -> list[SessionSummary]:
        """Return one line per session with matching entries, latest activity first."""
        return self._verb(
            "sessions", lambda got: [session_from(one) for one in got["sessions"]], where=filter_to(where)
        )

    def beside(self, space: EmbeddingSpace) -> VectorsBeside:
        """Refuse: the server embeds for all who use it, and has to move with its store.

        Raises:
            ConfigError: always.
        """
        del space
        self._check_open()
        raise ConfigError(
            "a client cannot move a server's store to another embedding space; run `llmspell-memory reembed` where the "
            "store is, and start the server anew"
        )

    def configure(self, hnsw: HNSWConfig | None, *, rebuild: bool = False) -> None:
        """Change the server's view, for all who use it.

        Raises:
            ConfigError: a parameter is out of range, or the key is not of the whole store, or may not write.
        """
        self._verb("configure", _nothing, hnsw=plain(hnsw), rebuild=rebuild, writes=True, is_long=True)
        self._look()

    def stats(self) -> BackendStats:
        """Return figures about the server's rows and index, as far as the key shows them."""
        stats = self._verb("stats", stats_from)
        self._space, self._hnsw = stats.space, stats.index.config
        return stats

    def close(self) -> None:
        """Close the connections; a second call does nothing, any other call afterwards raises ClosedError."""
        if not self._closed:
            self._closed = True
            if self._birthplace.is_here:  # in a fork, the locks of other threads are held for ever
                self._client.close()

    def _look(self) -> None:
        """Ask the server for what rarely changes."""
        about = self._send(Call("GET", "/v1/backend", dict))
        self._space, self._hnsw = space_from(about["space"]), hnsw_from(about["hnsw"])

    def _verb(
        self, verb: str, read: Callable[[Any], _T], /, *, writes: bool = False, is_long: bool = False, **body: Any
    ) -> _T:
        given = {key: value for key, value in body.items() if value is not None}
        try:
            return self._send(Call("POST", f"/v1/backend/{verb}", read, given, writes=writes, is_long=is_long))
        except SpaceChangedError:
            self._look()  # so that the memory sees which service it needs by now
            raise

    def _send(self, call: Call[_T]) -> _T:
        return send(self._client, self._settings, call, check_open=self._check_open)

    def _lines(self, body: dict[str, Any]) -> Iterator[EpisodicEntry]:
        """Yield the entries of a scan, which is begun again where it fails before the first one came."""
        given = {key: value for key, value in body.items() if value is not None}
        request = self._settings.request_of(Call("POST", "/v1/backend/scan", dict, given))
        tries = Tries(self._settings.retry)
        begun = False
        while True:
            try:
                for entry in self._scanned(request, tries):
                    begun = True
                    yield entry
            except UnavailableError as error:
                if begun:
                    raise
                time.sleep(tries.wait_after(error))
            else:
                return

    def _scanned(self, request: dict[str, Any], tries: Tries) -> Iterator[EpisodicEntry]:
        self._check_open()
        url = self._settings.url
        with border(url), self._client.stream(**request) as response:
            if response.status_code >= _REFUSED:
                tries.heard(response)
                response.read()
                refuse(response, url)
            for count, line in enumerate(lines_of(response)):
                self._check_open()
                told = json.loads(line)
                if told.get("end") == count:
                    return
                if "problem" in told:
                    raise error_from(told["problem"], told["problem"]["status"])
                yield entry_from(told)
        raise UnavailableError(f"{url} ended in the midst of a scan")

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this client is closed")
        self._birthplace.check(self)


def _hits(got: dict[str, Any]) -> list[Hit]:
    return [hit_from(one) for one in got["hits"]]


def _text(got: dict[str, Any]) -> str | None:
    text: str | None = got["text"]
    return text


def _nothing(got: dict[str, Any]) -> None:
    del got


def _space(space: EmbeddingSpace | None) -> dict[str, Any] | None:
    return None if space is None else space_to(space)
