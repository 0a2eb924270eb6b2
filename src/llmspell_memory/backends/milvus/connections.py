"""Calls to the server: tried again where that may help, and the one border where the driver's errors become ours."""

from __future__ import annotations

import logging
import random
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from llmspell_memory.backends.checks import Birthplace
from llmspell_memory.errors import (
    ClosedError,
    EpisodicError,
    InputError,
    MissingDependencyError,
    SchemaError,
    StorageError,
    UnavailableError,
)

try:
    import grpc
    from pymilvus import MilvusClient, MilvusException
except ImportError as error:
    raise MissingDependencyError("pymilvus", extra="milvus") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from llmspell_memory.backends.milvus.settings import MilvusConfig
    from llmspell_memory.types import Vector

logger = logging.getLogger(__name__)

logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs whole tracebacks of what it raises as well

T = TypeVar("T")
Row: TypeAlias = "dict[str, Any]"

MOST_ROWS: Final = 16_384
"""That a query or a search returns at most."""

_AT_ONCE: Final = 256
"""Rows that are read whole by one call: an answer must not be above 64 MB."""

_KEYS_AT_ONCE: Final = 4_096
_BYTES_AT_ONCE: Final = 8_000_000
"""Of the rows that are written by one call, about."""

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5


_CHANNEL: Final = {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.initial_reconnect_backoff_ms": 50,
    "grpc.min_reconnect_backoff_ms": 50,
    "grpc.max_reconnect_backoff_ms": 500,
}
"""So that a server that is back is reached at once, and not after the seconds that gRPC waits since it was gone."""


class MissingCollectionError(SchemaError):
    """A collection is not there (any more)."""


class NotLoadedError(UnavailableError):
    """A collection is there, and not loaded, as all are that a server finds when it starts, if it is Milvus Lite."""


class TooLargeError(StorageError):
    """A message is larger than the server or the driver takes."""


class Turns:
    """Reads side by side, or one change alone: who waits for a change comes before reads that begin later."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._reading = 0
        self._waiting = 0
        self._changing = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Beside other reads, while nothing changes."""
        with self._free:
            self._free.wait_for(lambda: not self._changing and not self._waiting)
            self._reading += 1
        try:
            yield
        finally:
            with self._free:
                self._reading -= 1
                self._free.notify_all()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Alone."""
        with self._free:
            self._waiting += 1
            try:
                self._free.wait_for(lambda: not self._changing and not self._reading)
                self._changing = True
            finally:
                self._waiting -= 1
        try:
            yield
        finally:
            with self._free:
                self._changing = False
                self._free.notify_all()


class Shared:
    """What all backends of one store in one process share.

    Attributes:
        writing: held by whoever writes, from the first thing it reads on.
        building: held by whoever builds an index, from before it writes.
        turns: of reads, which are of one moment, and of the changes that writers make in the end.
        broken: whether a write was broken off, so that it is to be seen to before anything is read.
    """

    def __init__(self) -> None:
        self.writing = threading.Lock()
        self.building = threading.Lock()
        self.turns = Turns()
        self.broken = False


_stores: Final[dict[tuple[str, str, str], Shared]] = {}
_making: Final = threading.Lock()


def shared_of(config: MilvusConfig) -> Shared:
    """Return what this process shares of a store."""
    with _making:
        return _stores.setdefault((config.uri, config.database, config.prefix), Shared())


class Connection:
    """A connection to the server; may be used by several threads at once.

    Args:
        config: how the server is reached.

    Raises:
        UnavailableError: it cannot be reached.
    """

    def __init__(self, config: MilvusConfig) -> None:
        self.config = config
        self.name = f"Milvus store {config.prefix}"
        self._born = Birthplace()
        self._closed = False
        try:
            self._client = MilvusClient(
                uri=config.uri,
                token=config.token,
                db_name=config.database,
                timeout=max(1.0, config.retry_seconds),
                dedicated=True,
                grpc_options=_CHANNEL,
            )
        except (MilvusException, grpc.RpcError) as error:
            raise told(error, self.name) from error

    def check_open(self) -> None:
        """Raise where it was closed, or belongs to another process."""
        self._born.check(self.name)
        if self._closed:
            raise ClosedError(f"{self.name} was closed")

    def run(self, work: Callable[[MilvusClient], T]) -> T:
        """Return what `work` does by the client; again where the server could not be reached, so it must be repeatable.

        Raises:
            StorageError: the server could not do it; UnavailableError where trying again may help.
        """
        until = time.monotonic() + self.config.retry_seconds
        pause = _FIRST_PAUSE
        while True:
            self.check_open()
            try:
                return work(self._client)
            except EpisodicError:
                raise
            except (MilvusException, grpc.RpcError, ValueError) as error:  # ValueError: a channel that was closed
                ours = told(error, self.name)
                if not isinstance(ours, UnavailableError) or time.monotonic() + pause > until:
                    raise ours from error
                logger.info("%s: tried again after %s", self.name, ours)
                if isinstance(ours, NotLoadedError):
                    self._load()
                    continue
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (so that two do not meet again)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _load(self) -> None:
        """Have the server load all collections of the store."""
        options = self._options
        try:
            for name in self._client.list_collections(**options):
                if name.startswith(f"{self.config.prefix}_"):
                    self._client.load_collection(name, **options)
        except (MilvusException, grpc.RpcError, ValueError) as error:
            raise told(error, self.name) from error

    @property
    def _options(self) -> dict[str, Any]:
        return {"timeout": self.config.call_seconds}

    # --- reading ----------------------------------------------------------------------------------------------------

    def count(self, collection: str, where: str = "") -> int:
        """Return how many rows match."""
        fields, options = ["count(*)"], self._options
        found = self.run(lambda client: client.query(collection, filter=where, output_fields=fields, **options))
        return int(found[0]["count(*)"])

    def select(self, collection: str, where: str, fields: Sequence[str], *, limit: int | None = None) -> list[Row]:
        """Return some fields of all rows that match, in no order; fields that are short, for all come at once.

        Args:
            collection: its name.
            where: an expression.
            fields: of each row.
            limit: rows at most, be they whichever; up to MOST_ROWS.
        """
        asked = MOST_ROWS if limit is None else min(limit, MOST_ROWS)
        names, options = list(fields), self._options
        rows = self.run(
            lambda client: list(client.query(collection, filter=where, output_fields=names, limit=asked, **options))
        )
        if limit is not None or len(rows) < asked:
            return rows
        return self.run(lambda client: _all_of(client, collection, where, names, options))

    def fetch(self, collection: str, keys: Sequence[str], fields: Sequence[str]) -> dict[str, Row]:
        """Return rows by their primary keys; those that are not there are left out."""
        found: dict[str, Row] = {}
        for at in range(0, len(keys), _AT_ONCE):
            found.update(self._fetched(collection, list(keys[at : at + _AT_ONCE]), ["pk", *fields]))
        return found

    def _fetched(self, collection: str, keys: list[str], fields: list[str]) -> dict[str, Row]:
        options = self._options
        try:
            rows = self.run(lambda client: client.get(collection, ids=keys, output_fields=fields, **options))
        except TooLargeError:
            if len(keys) == 1:
                raise
            half = len(keys) // 2
            return {
                **self._fetched(collection, keys[:half], fields),
                **self._fetched(collection, keys[half:], fields),
            }
        return {row["pk"]: row for row in rows}

    def search(
        self,
        collection: str,
        vectors: Sequence[Vector | Mapping[int, float]],
        count: int,
        where: str,
        fields: Sequence[str],
        *,
        of: str = "vector",
        ef: int | None = None,
    ) -> list[list[Row]]:
        """Return fields of the rows that match nearest to each vector, best first.

        Args:
            collection: its name.
            vectors: to which rows are near.
            count: rows for each, up to MOST_ROWS.
            where: an expression.
            fields: of each row.
            of: the field that holds the rows' vectors.
            ef: how many an HNSW index looks at.
        """
        names, options = list(fields), self._options
        parameters = {"params": {} if ef is None else {"ef": ef}}
        found = self.run(
            lambda client: client.search(
                collection,
                list(vectors),
                anns_field=of,
                filter=where,
                limit=count,
                output_fields=names,
                search_params=parameters,
                **options,
            )
        )
        return [[{"pk": hit["pk"], **hit["entity"]} for hit in hits] for hits in found]

    # --- writing ----------------------------------------------------------------------------------------------------

    def upsert(self, collection: str, rows: Sequence[Row]) -> None:
        """Put rows, each in place of the one that has its key; those of one call at once, as many as it takes."""
        options = self._options
        for part in _in_parts(rows):
            self.run(lambda client, part=part: client.upsert(collection, part, **options))  # type: ignore[misc]

    def drop(self, collection: str, keys: Sequence[str]) -> None:
        """Drop rows by their keys; those that are not there are ignored."""
        options = self._options
        for at in range(0, len(keys), _KEYS_AT_ONCE):
            part = list(keys[at : at + _KEYS_AT_ONCE])
            self.run(lambda client, part=part: client.delete(collection, ids=part, **options))  # type: ignore[misc]

    def drop_where(self, collection: str, where: str) -> None:
        """Drop rows that match."""
        self.run(lambda client: client.delete(collection, filter=where, **self._options))

    def close(self) -> None:
        """Close the connection; in a forked process, it is left alone."""
        was, self._closed = not self._closed, True
        if was and self._born.is_here:
            self._client.close()


def _all_of(
    client: MilvusClient, collection: str, where: str, fields: list[str], options: Mapping[str, Any]
) -> list[Row]:
    """Return more rows than one query may, page by page."""
    iterator = client.query_iterator(collection, filter=where, output_fields=fields, batch_size=8192, **options)
    rows: list[Row] = []
    try:
        while page := iterator.next():
            rows.extend(page)
    finally:
        iterator.close()
    return rows


def _in_parts(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield rows in parts that a message can hold."""
    part: list[Row] = []
    size = 0
    for row in rows:
        weight = 600 + 4 * len(row["vector"]) + row.get("size", 0) + 100 * len(row.get("terms", ()))
        if part and size + weight > _BYTES_AT_ONCE:
            yield part
            part, size = [], 0
        part.append(row)
        size += weight
    if part:
        yield part


_TOLD: Final[tuple[tuple[frozenset[object], tuple[str, ...], type[EpisodicError], str], ...]] = (
    (frozenset({4, 100}), (), MissingCollectionError, "a collection is not there; it was dropped"),
    (frozenset({101}), ("not loaded",), NotLoadedError, "a collection is not loaded yet"),
    (
        frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED}),
        ("larger than max", "message too large"),
        TooLargeError,
        "more at once than the server takes",
    ),
    (
        frozenset({grpc.StatusCode.DEADLINE_EXCEEDED}),
        ("timeout", "deadline"),
        UnavailableError,
        "it took too long; what was to be written may be there or not",
    ),
    (
        frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}),
        ("unauthenticated", "auth check failure", "permission"),
        StorageError,
        "this user may not do that",
    ),
    (
        frozenset({2, 8, 9, 10, 13, 503})
        | {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED},
        ("connect", "closed channel"),
        UnavailableError,
        "the server cannot be reached, or is not ready",
    ),
    (frozenset(), ("exceeds max", "length exceeds"), InputError, "the server does not take so much"),
)
"""Codes of the server or of the connection, what else may be said, what it is of ours, and what to say; the first."""


def told(error: Exception, name: str) -> EpisodicError:
    """Return an error of the driver as one of ours, which says what to do."""
    code = getattr(error, "code", None)
    code = code() if callable(code) else code
    said = " ".join(str(getattr(error, "message", "") or error).split())[:500] or type(error).__name__
    for codes, words, ours, what in _TOLD:
        if code in codes or any(word in said.lower() for word in words):
            return ours(f"{name}: {what}: {said}")
    return StorageError(f"{name}: {said}")
