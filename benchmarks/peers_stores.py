"""Memories and vector stores of others, and ours, behind one small interface: each as its own documentation says.

Every store gets the same vectors. Those that take texts alone and embed them look the vector up instead.
"""

from __future__ import annotations

import os
import sqlite3
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from peers_data import SHARES, K

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from peers_data import Material, Question, Row, Where

    from llmspell_memory.types import Vector

DIMENSIONS: Final = 384


class Store:
    """A store in a folder, opened by the constructor, which makes it where there is none.

    Args:
        folder: where it keeps its files.
        material: what it is to look vectors up in, where it embeds.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    """What one installs for it."""

    modules: ClassVar[tuple[str, ...]]
    """What one imports for it."""

    how: ClassVar[str]
    """What was chosen, in a few words."""

    durable: ClassVar[bool] = True
    """Whether it keeps anything beyond its process."""

    largest: ClassVar[int] = 100_000
    """Rows beyond which it is not measured: filling it would take an hour."""

    def __init__(self, folder: Path, material: Material) -> None:
        raise NotImplementedError

    def fill(self, rows: Sequence[Row]) -> None:
        """Store many rows in the quickest way, and build the index if there is one."""
        raise NotImplementedError

    def add(self, row: Row) -> None:
        """Store one row."""
        self.fill([row])

    def search(self, question: Question, where: Where | None) -> list[str]:
        """Return the ids of the K nearest that match, with their texts read."""
        raise NotImplementedError

    def has(self, row: Row) -> bool:
        """Say whether a row is there."""
        raise NotImplementedError

    def of_tenant(self, tenant: str) -> Store:
        """Return the store as one tenant is to see it."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of it, as its documentation says."""


class Ours(Store):
    """This library."""

    name = "llmspell-memory"
    packages = ("llmspell-memory",)
    modules = ("llmspell_memory",)
    how = "a file, HNSW with its defaults"

    def __init__(self, folder: Path, material: Material) -> None:
        from llmspell_memory import DefaultMemoryManager, EmbeddingService, MemoryConfig  # noqa: PLC0415 (import is timed)
        from llmspell_memory.embeddings import CallableProvider  # noqa: PLC0415 (import is timed)

        known = material.vector_of()
        provider = CallableProvider(
            lambda texts: np.stack([known[text] for text in texts]), name="known", dimensions=DIMENSIONS
        )
        config = MemoryConfig.for_production(EmbeddingService(provider), path=folder / "memory.db")
        self._memory = DefaultMemoryManager.with_config(config)

    def fill(self, rows: Sequence[Row]) -> None:
        from llmspell_memory import EpisodicEntry  # noqa: PLC0415 (import is timed)

        self._memory.episodic.add_many(
            EpisodicEntry(row.session, "user", row.text, id=row.id, metadata=row.marks, embedding=row.vector)
            for row in rows
        )

    def search(self, question: Question, where: Where | None) -> list[str]:
        from llmspell_memory import Filter  # noqa: PLC0415 (import is timed)

        if where is None:
            asked = Filter()
        elif where.key == "session":
            asked = Filter(session_id=str(where.value))
        else:
            asked = Filter(metadata={where.key: where.value})
        return [hit.entry.id for hit in self._memory.episodic.search(question.vector, K, where=asked)]

    def has(self, row: Row) -> bool:
        from llmspell_memory import Filter  # noqa: PLC0415 (import is timed)

        return self._memory.episodic.count(Filter(ids=frozenset([row.id]))) == 1

    def of_tenant(self, tenant: str) -> Store:
        scope = object.__new__(Ours)
        scope._memory = self._memory.scoped(tenant)
        return scope

    def close(self) -> None:
        self._memory.close()


class Flat(Store):
    """A store without tenants: whoever separates them does it by a condition, as for sessions."""

    def of_tenant(self, tenant: str) -> Store:
        return _Tenant(self, tenant)


class _Tenant(Store):
    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._tenant = store, tenant

    def fill(self, rows: Sequence[Row]) -> None:
        self._store.fill([row._replace(session=self._tenant) for row in rows])

    def search(self, question: Question, where: Where | None) -> list[str]:
        from peers_data import Where  # noqa: PLC0415 (a type elsewhere in this file)

        return self._store.search(question, where or Where("session", self._tenant))


class Chroma(Flat):
    """Chroma, as a library: `PersistentClient`."""

    name = "Chroma"
    packages = ("chromadb",)
    modules = ("chromadb",)
    how = "PersistentClient, cosine, HNSW with its defaults"

    def __init__(self, folder: Path, material: Material) -> None:
        del material
        self._client: Any = import_module("chromadb").PersistentClient(path=str(folder))
        self._rows = self._client.get_or_create_collection(
            "memory", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )

    def fill(self, rows: Sequence[Row]) -> None:
        size = self._client.get_max_batch_size()
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            self._rows.add(
                ids=[row.id for row in some],
                embeddings=np.stack([row.vector for row in some]),
                documents=[row.text for row in some],
                metadatas=[{"session": row.session, **row.marks} for row in some],
            )

    def search(self, question: Question, where: Where | None) -> list[str]:
        found = self._rows.query(
            query_embeddings=[question.vector],
            n_results=K,
            where=None if where is None else {where.key: where.value},
            include=["documents", "distances"],
        )
        return list(found["ids"][0])

    def has(self, row: Row) -> bool:
        return bool(self._rows.get(ids=[row.id], include=[])["ids"])


class Lance(Flat):
    """LanceDB in a folder, without a vector index: its documentation advises one from about 100,000 rows on."""

    name = "LanceDB, scan"
    packages = ("lancedb",)
    modules = ("lancedb", "pyarrow")
    how = "a table, cosine, no vector index, scalar indexes for the filters"
    kind: ClassVar[str | None] = None

    def __init__(self, folder: Path, material: Material) -> None:
        del material
        self._arrow: Any = import_module("pyarrow")
        self._base: Any = import_module("lancedb").connect(str(folder))
        texts = [self._arrow.field(name, self._arrow.string()) for name in ("id", "session", "text")]
        numbers = [self._arrow.field(name, self._arrow.int64()) for name in SHARES]
        vector = self._arrow.field("vector", self._arrow.list_(self._arrow.float32(), DIMENSIONS))
        self._schema = self._arrow.schema([*texts, *numbers, vector])
        self._rows = self._base.create_table("memory", schema=self._schema, exist_ok=True)

    def fill(self, rows: Sequence[Row]) -> None:
        first = self._rows.count_rows() == 0 and len(rows) > 1
        self._rows.add(
            self._arrow.Table.from_pylist(
                [
                    {"id": row.id, "session": row.session, "text": row.text, **row.marks, "vector": row.vector}
                    for row in rows
                ],
                schema=self._schema,
            )
        )
        if first:
            for name in SHARES:
                self._rows.create_scalar_index(name, index_type="BITMAP")
            for name in ("session", "id"):
                self._rows.create_scalar_index(name, index_type="BTREE")
            if self.kind is not None:
                self._rows.create_index(metric="cosine", vector_column_name="vector", index_type=self.kind)

    def search(self, question: Question, where: Where | None) -> list[str]:
        asked = self._rows.search(question.vector).distance_type("cosine").limit(K).select(["id", "text"])
        if where is not None:
            asked = asked.where(f"{where.key} = {_literal(where.value)}", prefilter=True)
        return [row["id"] for row in asked.to_list()]

    def has(self, row: Row) -> bool:
        return bool(self._rows.count_rows(f"id = {_literal(row.id)}"))


class LanceIndexed(Lance):
    """LanceDB with an index over the vectors."""

    name = "LanceDB, IVF_HNSW_SQ"
    how = "a table, cosine, IVF_HNSW_SQ with its defaults, scalar indexes for the filters"
    kind = "IVF_HNSW_SQ"


def _literal(value: str | int) -> str:
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _extensible(path: Path) -> Any:
    """Return a connection that can load extensions: that of another build of SQLite where Python's own cannot."""
    kind: Any = sqlite3 if hasattr(sqlite3.Connection, "enable_load_extension") else import_module("pysqlite3")
    return kind.connect(str(path), check_same_thread=False, isolation_level=None)


class SqliteVec(Flat):
    """sqlite-vec: a virtual table that is searched by a scan."""

    name = "sqlite-vec"
    packages = ("sqlite-vec",)
    modules = ("sqlite_vec",)
    how = "vec0, cosine, metadata columns, WAL with synchronous=NORMAL; a scan"

    def __init__(self, folder: Path, material: Material) -> None:
        del material
        db = _extensible(folder / "memory.db")
        db.enable_load_extension(True)  # noqa: FBT003 (sqlite3's own)
        import_module("sqlite_vec").load(db)
        db.enable_load_extension(False)  # noqa: FBT003 (sqlite3's own)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        columns = ", ".join(f"{name} integer" for name in SHARES)
        db.execute(
            "CREATE VIRTUAL TABLE IF NOT EXISTS memory USING vec0(id text primary key,"
            f" vector float[{DIMENSIONS}] distance_metric=cosine, session text, {columns}, +text text)"
        )
        self._db = db

    def fill(self, rows: Sequence[Row]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(
            f"INSERT INTO memory (id, vector, session, text, {', '.join(SHARES)}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 (names of ours)
            [(row.id, row.vector.tobytes(), row.session, row.text, *row.marks.values()) for row in rows],
        )
        self._db.execute("COMMIT")

    def search(self, question: Question, where: Where | None) -> list[str]:
        condition = "" if where is None else f" AND {where.key} = ?"
        given = [question.vector.tobytes(), K, *([] if where is None else [where.value])]
        told = self._db.execute(
            f"SELECT id, text, distance FROM memory WHERE vector MATCH ? AND k = ?{condition} ORDER BY distance",  # noqa: S608 (a name of ours)
            given,
        )
        return [row[0] for row in told]

    def has(self, row: Row) -> bool:
        return bool(self._db.execute("SELECT count(*) FROM memory WHERE id = ?", (row.id,)).fetchone()[0])

    def close(self) -> None:
        self._db.close()


class GraphInMemory(Store):
    """LangGraph's store in RAM."""

    name = "LangGraph InMemoryStore"
    packages: ClassVar[tuple[str, ...]] = ("langgraph",)
    modules = ("langgraph.store.memory",)
    how = "a namespace for each session; a scan in RAM, nothing on disk"
    durable = False

    def __init__(self, folder: Path, material: Material) -> None:
        del folder
        module = import_module("langgraph.store.memory")
        self._store: Any = module.InMemoryStore(index=self._index(material))
        self._root: tuple[str, ...] = ("memory",)

    @staticmethod
    def _index(material: Material) -> dict[str, Any]:
        known = material.vector_of()

        def embed(texts: Sequence[str]) -> list[list[float]]:
            return [known[text].tolist() for text in texts]

        # The one reads "fields", as both document, the other (3.1.2) "text_fields".
        return {"dims": DIMENSIONS, "embed": embed, "fields": ["text"], "text_fields": ["text"]}

    def fill(self, rows: Sequence[Row]) -> None:
        put = import_module("langgraph.store.base").PutOp
        for start in range(0, len(rows), 1_000):
            self._store.batch(
                [
                    put((*self._root, row.session), row.id, {"text": row.text, **row.marks})
                    for row in rows[start : start + 1_000]
                ]
            )

    def search(self, question: Question, where: Where | None) -> list[str]:
        place, condition = self._root, None
        if where is not None and where.key == "session":
            place = (*self._root, str(where.value))
        elif where is not None:
            condition = {where.key: where.value}
        found = self._store.search(place, query=question.text, filter=condition, limit=K)
        return [item.key for item in found]

    def has(self, row: Row) -> bool:
        return self._store.get((*self._root, row.session), row.id) is not None

    def of_tenant(self, tenant: str) -> Store:
        one = object.__new__(type(self))
        one._store, one._root = self._store, (*self._root, tenant)
        return one


class GraphInSqlite(GraphInMemory):
    """LangGraph's store in a SQLite file."""

    name = "LangGraph SqliteStore"
    packages: ClassVar[tuple[str, ...]] = ("langgraph", "langgraph-checkpoint-sqlite")
    modules = ("langgraph.store.sqlite",)
    how = "a namespace for each session, SQLite's defaults; a scan"
    durable = True

    def __init__(self, folder: Path, material: Material) -> None:
        module = import_module("langgraph.store.sqlite")
        self._store = module.SqliteStore(_extensible(folder / "memory.db"), index=self._index(material))
        self._store.setup()
        self._root = ("memory",)


class Mem0(Flat):
    """mem0 over its default engine (Qdrant as a library), `infer=False`; its embedder looks vectors up."""

    name = "mem0"
    packages = ("mem0ai",)
    modules = ("mem0",)
    how = "Qdrant in a folder, its default; infer=False, a run_id for each session"
    largest = 10_000

    def __init__(self, folder: Path, material: Material) -> None:
        os.environ["MEM0_DIR"] = str(folder / "home")
        kind: Any = import_module("mem0").Memory
        engine = {"path": str(folder / "qdrant"), "on_disk": True, "embedding_model_dims": DIMENSIONS}
        self._memory = kind.from_config(
            {
                "vector_store": {"provider": "qdrant", "config": engine},
                "llm": {"provider": "openai", "config": {"api_key": "none"}},
                "embedder": {"provider": "openai", "config": {"api_key": "none", "embedding_dims": DIMENSIONS}},
                "history_db_path": str(folder / "history.db"),
            }
        )
        self._memory.embedding_model = Known(material.vector_of())

    def fill(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._memory.add(
                [{"role": "user", "content": row.text}],
                user_id="user",
                run_id=row.session,
                metadata={"row": row.id, **row.marks},
                infer=False,
            )

    def search(self, question: Question, where: Where | None) -> list[str]:
        conditions: dict[str, Any] = {"user_id": "user"}
        if where is not None:
            conditions["run_id" if where.key == "session" else where.key] = where.value
        found = self._memory.search(question.text, filters=conditions, top_k=K, threshold=0.0)
        return [one["metadata"]["row"] for one in found["results"]]

    def has(self, row: Row) -> bool:
        found = self._memory.get_all(filters={"user_id": "user", "row": row.id}, top_k=1)
        return bool(found["results"])

    def close(self) -> None:
        self._memory.close()


class Known:
    """An embedder that knows its texts."""

    def __init__(self, known: dict[str, Vector]) -> None:
        self._known = known

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        """Return a text's vector."""
        del memory_action
        vector: list[float] = self._known[text].tolist()
        return vector

    def embed_batch(self, texts: Sequence[str], memory_action: str | None = None) -> list[list[float]]:
        """Return the vectors of texts."""
        return [self.embed(text, memory_action) for text in texts]


STORES: Final[tuple[type[Store], ...]] = (
    *(Ours, Chroma, LanceIndexed, Lance, SqliteVec),
    *(GraphInSqlite, GraphInMemory, Mem0),
)


def store_named(name: str) -> type[Store]:
    """Return a kind of store by its name."""
    return next(kind for kind in STORES if kind.name == name)
