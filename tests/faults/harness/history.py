"""What a store must hold: the rows that follow from the operations a writer told of, and how a store is compared."""

from __future__ import annotations

import random
import re
import shutil
import tempfile
import zlib
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np

from llmspell_memory import (
    DefaultMemoryManager,
    EmbeddingService,
    EpisodicBackendType,
    EpisodicEntry,
    Filter,
    HNSWConfig,
    MemoryConfig,
)
from llmspell_memory.backends.sqlite.connection import connect, connect_to_look
from llmspell_memory.backends.sqlite.schema import recorded_space

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Sequence

    from llmspell_memory.types import Matrix, Vector

DIMENSIONS: Final = 32
LONG_AGO: Final = datetime(2001, 1, 1, tzinfo=UTC)
ALL: Final = Filter(expired=None)
SEARCHES: Final = 20
TEXT: Final = re.compile(rb"<(\S{1,20}) in version (\d{1,20})>")


class Row(NamedTuple):
    """What may change of an entry; the rest follows from its id and version."""

    version: int
    processed: bool = False
    expired: bool = False


State: TypeAlias = dict[str, Row]
Version: TypeAlias = tuple[str, int]


class Drawn:
    """A provider whose vectors follow from an entry's id and version: another for each of its models."""

    name = "drawn"
    dimensions = DIMENSIONS

    def __init__(self, model: int) -> None:
        self.model = f"model {model}"
        self._seed = model

    def embed(self, texts: Sequence[str], *, kind: str = "document") -> Matrix:
        del kind
        seeds = [(zlib.crc32(name), int(version)) for text in texts for name, version in TEXT.findall(text.encode())]
        rows = [np.random.default_rng([*seed, self._seed]).standard_normal(DIMENSIONS) for seed in seeds]
        return np.array(rows, np.float32)


SERVICES: Final = [EmbeddingService(Drawn(model), cache=None) for model in range(2)]
"""Of the two spaces that a store moves between; it begins in the first."""
Said: TypeAlias = dict[str, Any]
"""A line of a writer: an operation it begins, or has done."""


def config(path: Path, **settings: Any) -> MemoryConfig:
    hnsw = HNSWConfig(m=8, ef_construction=64, ef_search=64)
    service = service_of(path)
    return MemoryConfig(backend=EpisodicBackendType.HNSW, hnsw=hnsw, service=service, path=path, **settings)


def service_of(path: Path) -> EmbeddingService:
    """Return the service of the space that a store says it is in."""
    if not path.exists():
        return SERVICES[0]
    with closing(connect_to_look(path)) as db:
        if not db.execute("PRAGMA user_version").fetchone()[0]:
            return SERVICES[0]
        recorded = recorded_space(db)
    return next(one for one in SERVICES if recorded is None or one.space == recorded[1])


def number_in_use(path: Path) -> int:
    """Return the number of the space that a store is in."""
    with closing(connect_to_look(path)) as db:
        number: int = db.execute("SELECT space FROM state").fetchone()[0]
    return number


def vector_of(name: str, version: int, service: EmbeddingService) -> Vector:
    vector: Vector = service.embed([text_of(name, version)])[0]
    return vector


def text_of(name: str, version: int) -> str:
    return f"<{name} in version {version}>"


def made(name: str, row: Row) -> EpisodicEntry:
    return EpisodicEntry(
        "session",
        "user",
        text_of(name, row.version),
        id=name,
        timestamp=LONG_AGO,
        metadata={"version": row.version},
        processed=row.processed,
        expires_at=LONG_AGO if row.expired else None,
    )


def after(state: State, said: Said) -> State:
    """Return the rows after an operation, all of it."""
    match said["begin"]:
        case "add":
            return state | {name: Row(said["version"], expired=said["expired"]) for name in said["ids"]}
        case "mark":
            return state | {name: state[name]._replace(processed=True) for name in said["ids"]}
        case "delete" | "forget":
            return {name: row for name, row in state.items() if name not in set(said["ids"])}
        case "sweep":
            return {name: row for name, row in state.items() if not row.expired}
        case "open" | "reopen" | "rebuild" | "switch" | "backup" | "reembed" | "drop_space":
            return state
    raise ValueError(said)


class History:
    """What one store must hold, from the lines of one writer after the other.

    Attributes:
        state: the rows after what was acknowledged.
        under_way: an operation that was begun and not acknowledged.
        backups: what the backup beside the store holds; empty where there is none.
        erased: texts and vectors, by id and version, of which no file may hold a trace.
    """

    def __init__(self, state: State | None = None) -> None:
        self.state: State = state or {}
        self.under_way: Said | None = None
        self.backups: list[State] = []
        self.erased: set[Version] = set()
        self._ever: set[Version] = {(name, row.version) for name, row in self.state.items()}

    def hear(self, lines: Iterable[Said]) -> bool:
        """Follow a writer; return whether it was told that something is forgotten."""
        forgot = False
        for line in lines:
            if "begin" in line:
                self.under_way = line
            elif "done" in line:
                assert self.under_way is not None
                self._do(self.under_way)
                forgot |= self.under_way["begin"] == "forget"
                self.under_way = None
        return forgot

    def _do(self, said: Said) -> None:
        self.state = after(self.state, said)
        if said["begin"] == "backup":
            self.backups = [self.state]
        self._ever |= {(name, said["version"]) for name in said["ids"]} if said["begin"] == "add" else set()
        if said["begin"] == "forget":
            self.erased = self._ever - {(name, row.version) for name, row in self.state.items()}

    @property
    def allowed(self) -> list[State]:
        """What the store may hold."""
        return [self.state] + ([after(self.state, self.under_way)] if self.under_way else [])

    def settle(self, found: State) -> bool:
        """Go on with what was found; return whether all of the operation under way was."""
        begun, self.under_way = self.under_way, None
        if begun is None or found == self.state:
            return False
        self._do(begun)
        return True


def compared(path: Path, allowed: Sequence[State]) -> State:
    """Open a store, compare it with what is allowed, close it, and return its rows."""
    with DefaultMemoryManager.with_config(config(path)) as manager:
        found = shown(manager, allowed)
    with closing(connect(path, mode="rw")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("SELECT erasing FROM state").fetchone() == (0,), "what was forgotten is yet to be erased"
    return found


def shown(manager: DefaultMemoryManager, allowed: Sequence[State]) -> State:
    """Return the rows that a manager shows, which must be one of those allowed, and be found by its index."""
    entries = list(manager.episodic.scan(ALL))
    found = {one.id: Row(one.metadata["version"], one.processed, one.expires_at is not None) for one in entries}  # type: ignore[arg-type]
    assert len(entries) == len(found), "entries are doubled"
    assert found in allowed, difference(found, allowed)
    for one in entries:
        expected = made(one.id, found[one.id])
        assert one == expected.changed(ingestion_time=one.ingestion_time), "an entry is half of one version"
        vector = vector_of(one.id, found[one.id].version, manager.service)
        assert np.array_equal(one.embedding, vector), "a vector is of another version"  # type: ignore[arg-type]
    visible = [one for one in entries if one.expires_at is None]
    for one in random.Random(0).sample(visible, min(SEARCHES, len(visible))):
        assert one.embedding is not None
        (hit,) = manager.episodic.search(one.embedding, 1)
        assert hit.entry == one
        assert hit.score > 0.9999
    manager.episodic.search(np.ones(DIMENSIONS), 1)
    assert manager.stats().index.size == len(found), "the index and the rows differ"
    return found


def backup_of(store: Path) -> Path:
    return store.with_name("backup.db")


def compared_backup(store: Path, history: History) -> list[State]:
    """Open the backup beside a store, which must be as the store was, and there if that was acknowledged."""
    made, under_way = backup_of(store), history.under_way and history.under_way["begin"] == "backup"
    if not made.exists():
        assert under_way or not history.backups, "the backup is gone"
        return []
    with tempfile.TemporaryDirectory() as folder:
        allowed = history.backups + ([history.state] if under_way else [])
        return [compared(Path(shutil.copy(made, folder)), allowed)]


def no_trace(folder: Path, erased: set[Version]) -> None:
    """Look for texts and vectors in every byte of every file."""
    for path in folder.iterdir():
        if "backup.db" in path.name:
            continue
        content = path.read_bytes()
        texts = {(name.decode(), int(version)) for name, version in TEXT.findall(content)}
        assert not texts & erased, f"{path.name} holds forgotten texts"
        for name, version in random.Random(0).sample(sorted(erased), min(SEARCHES, len(erased))):
            for service in SERVICES:
                vector = vector_of(name, version, service).tobytes()
                assert vector not in content, f"{path.name} holds a forgotten vector"


def difference(found: State, allowed: Sequence[State]) -> str:
    """Say how what was found differs from the nearest of what was allowed."""
    by = [
        (
            sorted(set(one) - set(found)),
            sorted(set(found) - set(one)),
            sorted(name for name in set(found) & set(one) if found[name] != one[name]),
        )
        for one in allowed
    ]
    lost, surplus, changed = min(by, key=lambda parts: sum(map(len, parts)))
    return f"lost {lost}, not acknowledged {surplus}, changed {changed}"


def told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
