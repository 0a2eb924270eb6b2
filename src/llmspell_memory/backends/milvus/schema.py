"""The collections of a store, and the record that it keeps of itself.

<prefix>_meta       the record, notes, roles, and identities of deleted entries with the number of the delete
<prefix>_rows_N     the rows, with vectors of one embedding space; the record says which N is in use

Milvus has no transactions. So a writer takes its numbers, and says in the record what it is about to do, before it does
it; and whoever comes after one that was broken off finishes that, or takes it back, before anything else.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import secrets
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from pymilvus import DataType, MilvusException

from llmspell_memory.backends.milvus.connections import MissingCollectionError
from llmspell_memory.backends.milvus.rows import MOST_BYTES, MOST_PLACES, digest, joined, pieces
from llmspell_memory.errors import ConfigError, SchemaError
from llmspell_memory.types import EmbeddingSpace, HNSWConfig

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from llmspell_memory.backends.milvus.connections import Connection, Row

logger = logging.getLogger(__name__)

VERSION: Final = 1
STATE: Final = "state"

MOST_DIMENSIONS: Final = 32_768
"""Width of a vector that Milvus keeps at most."""

_RANGES: Final = {"m": (2, 2_048), "ef_construction": (1, 32_768), "ef_search": (1, 32_768)}
_METRICS: Final = {"cosine": "COSINE", "inner_product": "IP", "euclidean": "L2"}
_INDEXED: Final = ("path", "session_key", "content_key", "happened", "label", "seq")
_INDEXED_ARRAYS: Final = ("facts", "terms")
"""Fields that have an inverted index, the arrays where the server has such: Milvus Lite looks through all rows."""

_ABANDONED_SECONDS: Final = 600
"""After so long, a write of another machine's that is not whole is one that was broken off."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A collection of rows: the space of its vectors, and how its index was built (None: it compares all)."""

    space: EmbeddingSpace
    index: tuple[int, int, str] | None


@dataclass(frozen=True, slots=True)
class Pending:
    """What a writer is about to do, and who it is.

    Attributes:
        kind: put rows with the numbers first to last, or drop those whose tombstones have them.
        first: number of a change.
        last: the same.
        label: the first of the rows that were not there before.
        owner: machine and process.
        at: seconds since 1970.
    """

    kind: Literal["put", "drop"]
    first: int
    last: int
    label: int
    owner: tuple[str, int]
    at: float

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody is doing it any more: it is this process's, whose writers take turns, or a dead one's."""
        machine, process = self.owner
        if machine != platform.node() or os.name == "nt":
            return self.owner == owner() or time.time() - self.at > _ABANDONED_SECONDS
        return process == os.getpid() or not _lives(process)


@dataclass(frozen=True, slots=True)
class State:
    """The record of a store.

    Attributes:
        store: its id.
        used: number of the collection in use; 0 where there is none yet.
        kept: collections by number.
        seq: number of the last change.
        label: number of the last row.
        latest: number of the last collection.
        pending: what the last writer said it would do.
    """

    store: str
    used: int = 0
    kept: dict[int, Kept] = field(default_factory=dict)
    seq: int = 0
    label: int = 0
    latest: int = 0
    pending: Pending | None = None

    def beside(self) -> dict[int, Kept]:
        """Return the collections that are not in use."""
        return {number: one for number, one in self.kept.items() if number != self.used}

    def number_of(self, space: EmbeddingSpace) -> int | None:
        """Return the number of the collection that has vectors of a space; None where there is none."""
        return next((number for number, one in self.kept.items() if one.space == space), None)

    def text(self) -> str:
        """Return it as it is stored."""
        return json.dumps({"version": VERSION, **asdict(self)})


def _parsed(text: str, name: str) -> State:
    fields = json.loads(text)
    if (version := fields.pop("version")) > VERSION:
        raise SchemaError(f"{name} has version {version}, this version of llmspell-memory knows {VERSION}; upgrade it")
    kept = {
        int(number): Kept(EmbeddingSpace(**one["space"]), None if one["index"] is None else tuple(one["index"]))
        for number, one in fields.pop("kept").items()
    }
    pending = fields.pop("pending")
    if pending is not None:
        pending = Pending(**pending | {"owner": tuple(pending["owner"])})
    return State(**fields, kept=kept, pending=pending)


def index_of(hnsw: HNSWConfig | None, space: EmbeddingSpace) -> tuple[int, int, str] | None:
    """Return how an index of these parameters is built; None where there is none.

    Raises:
        ConfigError: Milvus has no such index.
    """
    if hnsw is None:
        return None
    for name, (low, high) in _RANGES.items():
        if not low <= getattr(hnsw, name) <= high:
            raise ConfigError(f"Milvus takes {name} in {low}..{high}, got {getattr(hnsw, name)}")
    if space.dimensions > MOST_DIMENSIONS:
        raise ConfigError(f"Milvus keeps vectors of up to {MOST_DIMENSIONS} dimensions, not {space.dimensions}")
    return hnsw.m, hnsw.ef_construction, hnsw.dtype


def hnsw_of(index: tuple[int, int, str] | None) -> HNSWConfig | None:
    """Return the parameters of an index that was built so."""
    if index is None:
        return None
    m, ef_construction, dtype = index
    return HNSWConfig(m=m, ef_construction=ef_construction, dtype="float16" if dtype == "float16" else "float32")


class Collections:
    """The collections of one store.

    Args:
        connection: to the server.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._config = connection.config
        self.meta = f"{self._config.prefix}_meta"

    def rows(self, number: int) -> str:
        """Return the name of a collection of rows."""
        return f"{self._config.prefix}_rows_{number}"

    # --- the record -------------------------------------------------------------------------------------------------

    def state(self, *, strong: bool = False) -> State:
        """Return the record; what any process has written by now where it is to be `strong`."""
        options: dict[str, Any] = {"consistency_level": "Strong"} if strong else {}
        rows = self._connection.run(
            lambda client: client.get(
                self.meta, ids=[STATE], output_fields=["text"], timeout=self._config.call_seconds, **options
            )
        )
        if not rows:
            raise SchemaError(f"{self._connection.name} has lost its record; a collection was emptied or dropped")
        return _parsed(joined(rows[0]["text"]), self._connection.name)

    def record(self, state: State) -> None:
        """Store the record."""
        self._connection.upsert(self.meta, [meta_row(STATE, "state", state.text())])

    def prepare(self) -> State:
        """Return the record, made if there is none."""
        try:
            return self.state(strong=True)
        except MissingCollectionError:
            self._connection.run(self._make_meta)
        except SchemaError:
            if self._connection.run(lambda client: client.query(self.meta, filter='kind != ""', limit=1)):
                raise
        state = State(store=secrets.token_hex(16))
        self.record(state)
        return state

    def settled(self, wanted: EmbeddingSpace | None, hnsw: HNSWConfig | None) -> State:
        """Return the record of a store whose space is known, recorded now where it had none.

        Raises:
            SchemaError: the store holds vectors of another space than `wanted`; or none is recorded and none is given.
        """
        state, name = self.prepare(), self._connection.name
        if state.used:
            space = state.kept[state.used].space
            if wanted not in (None, space):
                raise SchemaError(
                    f"{name} holds vectors of {space}, not of {wanted}, and the two cannot be compared. Open it with "
                    "the provider and model it was made with, and move it by `manager.reembed(service)`"
                )
            return state
        if wanted is None:
            raise SchemaError(f"{name} records no embedding space yet; open it with an embedding service")
        state, number = self.begun(state, wanted, index_of(hnsw, wanted))
        state = replace(state, used=number)
        self.record(state)
        return state

    def begun(self, state: State, space: EmbeddingSpace, index: tuple[int, int, str] | None) -> tuple[State, int]:
        """Make a collection for rows with vectors of a space; return the new record, not stored yet, and its number."""
        number = state.latest + 1
        self.make_rows(number, Kept(space, index))
        return replace(state, latest=number, kept={**state.kept, number: Kept(space, index)}), number

    # --- making them ------------------------------------------------------------------------------------------------

    def _make_meta(self, client: MilvusClient) -> None:
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=128)
        schema.add_field("kind", DataType.VARCHAR, max_length=16)
        schema.add_field("name", DataType.VARCHAR, max_length=128)
        schema.add_field("seq", DataType.INT64)
        _add_array(schema, "text")
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)  # no collection may be without one
        indexes = client.prepare_index_params()
        indexes.add_index("vector", index_type="FLAT", metric_type="L2")
        indexes.add_index("seq", index_type="INVERTED")
        self._made(client, self.meta, schema, indexes)

    def make_rows(self, number: int, kept: Kept) -> None:
        """Make a collection for rows."""
        if kept.space.dimensions > MOST_DIMENSIONS:
            raise ConfigError(
                f"Milvus keeps vectors of up to {MOST_DIMENSIONS} dimensions, not {kept.space.dimensions}"
            )
        self._connection.run(lambda client: self._make_rows(client, number, kept))

    def _make_rows(self, client: MilvusClient, number: int, kept: Kept) -> None:
        name = self.rows(number)
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("root", DataType.VARCHAR, is_partition_key=True, max_length=64)
        schema.add_field("path", DataType.VARCHAR, max_length=MOST_BYTES)
        for one in ("id_key", "session_key", "role_key", "content_key"):
            schema.add_field(one, DataType.VARCHAR, max_length=64)
        for one in ("names", "content", "metadata"):
            _add_array(schema, one)
        for one in ("happened", "learned", "expires", "label", "seq", "length", "characters", "size"):
            schema.add_field(one, DataType.INT64)
        schema.add_field("processed", DataType.BOOL)
        schema.add_field(
            "facts", DataType.ARRAY, element_type=DataType.VARCHAR, max_length=64, max_capacity=MOST_PLACES
        )
        schema.add_field("terms", DataType.ARRAY, element_type=DataType.INT64, max_capacity=MOST_PLACES)
        schema.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=kept.space.dimensions)
        indexes = client.prepare_index_params()
        kind, parameters = _index(kept.index)
        metric = _METRICS[kept.space.metric]
        indexes.add_index("vector", index_type=kind, metric_type=metric, params=parameters)
        indexes.add_index("words", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
        for one in _INDEXED:
            indexes.add_index(one, index_type="INVERTED")
        arrays = client.prepare_index_params()
        for one in _INDEXED_ARRAYS:
            arrays.add_index(one, index_type="INVERTED")
        if client.has_collection(name):
            if number == 1 and self._connection.count(name):  # another process made the store at the same moment
                return
            client.drop_collection(name)  # of one that was broken off while it made this
        self._made(client, name, schema, indexes, arrays, num_partitions=self._config.partitions)

    def _made(
        self, client: MilvusClient, name: str, schema: Any, indexes: Any, optional: Any = None, **options: Any
    ) -> None:
        seconds = self._config.call_seconds
        if not client.has_collection(name, timeout=seconds):
            client.create_collection(
                name, schema=schema, consistency_level=self._config.consistency, timeout=seconds, **options
            )
        client.create_index(name, indexes, sync=False, timeout=seconds)  # what is empty need not be waited for
        if optional is not None:
            try:
                client.create_index(name, optional, sync=False, timeout=seconds)
            except MilvusException as error:
                if "not support" not in str(error):
                    raise
                logger.info("%s has no index for some fields, and looks through all rows: %s", name, error)
        client.load_collection(name, timeout=seconds)

    def drop(self, number: int) -> None:
        """Drop a collection of rows."""
        self._connection.run(lambda client: client.drop_collection(self.rows(number)))

    def drop_leftovers(self, state: State) -> None:
        """Drop collections that were begun and never used, since who was building them died."""
        name = re.compile(rf"{re.escape(self.rows(0)[:-1])}(\d+)")
        for one in self._connection.run(lambda client: client.list_collections()):
            found = name.fullmatch(one)
            if found and int(found[1]) not in state.kept:
                self.drop(int(found[1]))


def owner() -> tuple[str, int]:
    """Return what tells this process from others."""
    return platform.node(), os.getpid()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def meta_row(key: str, kind: str, text: str | None, *, seq: int = 0, name: str = "") -> Row:
    """Return a row of the collection that the store keeps about itself."""
    parts = [] if text is None else pieces(text, what="a note")
    return {"pk": key, "kind": kind, "name": name, "seq": seq, "text": parts, "vector": [0.0, 0.0]}


def note_key(name: str) -> str:
    """Return the key of a note."""
    return f"note:{digest(name)}"


def gone_key(seq: int) -> str:
    """Return the key of what tells that an entry was deleted."""
    return f"gone:{seq:020}"


def _add_array(schema: Any, name: str) -> None:
    schema.add_field(
        name, DataType.ARRAY, element_type=DataType.VARCHAR, max_length=MOST_BYTES, max_capacity=MOST_PLACES
    )


def _index(index: tuple[int, int, str] | None) -> tuple[str, dict[str, Any]]:
    if index is None:
        return "FLAT", {}
    m, ef_construction, dtype = index
    parameters: dict[str, Any] = {"M": m, "efConstruction": ef_construction}
    return ("HNSW_SQ", parameters | {"sq_type": "FP16"}) if dtype == "float16" else ("HNSW", parameters)
