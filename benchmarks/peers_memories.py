"""Memories for agents, ours and others', each as its own documentation shows: LangGraph's two stores, mem0.

Those of others take texts, and embed them; here they look the vector up instead.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from peers_base import DIMENSIONS, Flat, Store, extensible
from peers_data import K

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from peers_data import Material, Question, Row, Where

    from llmspell_memory.types import Vector


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
        self._store = module.SqliteStore(extensible(folder / "memory.db"), index=self._index(material))
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
