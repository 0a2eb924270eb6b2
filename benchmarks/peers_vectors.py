"""Vector stores of others, each as its own documentation shows: Chroma, LanceDB, sqlite-vec."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from peers_base import DIMENSIONS, Flat, extensible
from peers_data import SHARES, K

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from peers_data import Material, Question, Row, Where


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


class SqliteVec(Flat):
    """sqlite-vec: a virtual table that is searched by a scan."""

    name = "sqlite-vec"
    packages = ("sqlite-vec",)
    modules = ("sqlite_vec",)
    how = "vec0, cosine, metadata columns, WAL with synchronous=NORMAL; a scan"

    def __init__(self, folder: Path, material: Material) -> None:
        del material
        db = extensible(folder / "memory.db")
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
