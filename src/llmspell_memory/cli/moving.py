"""The two ends of a migration, opened from their paths."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.cli.opening import service_if_possible
from llmspell_memory.cli.providers import provider_for, provider_for_new
from llmspell_memory.embeddings import EmbeddingService
from llmspell_memory.errors import InputError, StorageError
from llmspell_memory.operations import open_source
from llmspell_memory.operations.migration.plan import Place, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmspell_memory.cli.settings import Settings
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace, HNSWConfig

_SQLITE: Final = b"SQLite format 3\0"
_FILES: Final = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What is moved where: paths, the global options, the target's index, and whether texts may be embedded anew."""

    source: Path
    target: Path
    settings: Settings
    hnsw: HNSWConfig | None
    reembed: bool


class Target(NamedTuple):
    """What a migration takes for a manager: opening a real one would warn that the target is not yet complete."""

    backend: EpisodicBackend
    service: EmbeddingService


def is_store(path: Path) -> bool:
    """Say whether there is a store at `path`, by its first bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def is_file_name(path: Path) -> bool:
    """Say whether a path names a file of entries, not a store."""
    return path.name.lower().endswith(_FILES)


@contextmanager
def open_pair(moved: Moved, *, target: bool = True) -> Iterator[tuple[Any, Any]]:
    """Open source and target, and close them; None for an end that is a file of entries, or not wanted.

    Raises:
        InputError: there is nothing to read at the source, or something else than a store at the target.
        StorageError: a store cannot be opened.
    """
    with ExitStack() as stack:
        source = None
        if is_store(moved.source):
            source = SQLiteBackend(moved.source, warm=False)
            stack.callback(source.close)
        elif not moved.source.exists():
            raise InputError(f"there is neither a store nor a file at {moved.source}")
        if not target or is_file_name(moved.target):
            yield source, None
            return
        service = _service(moved, _space_of(moved, source))
        opened = SQLiteBackend(moved.target, service.space, hnsw=moved.hnsw, warm=False)
        stack.callback(opened.close)
        yield source, Target(opened, service)


def place_for(moved: Moved) -> tuple[Place, EmbeddingService]:
    """Return where the target would be, and what would embed for it; nothing is made."""
    with open_pair(moved, target=False) as (source, _):
        service = _service(moved, _space_of(moved, source))
    if is_store(moved.target):
        target = SQLiteBackend(moved.target, hnsw=moved.hnsw, warm=False)
        try:
            return place_of(target), service
        finally:
            target.close()
    folder = moved.target.absolute().parent
    if not folder.is_dir():
        raise StorageError(f"there is no folder {folder}")
    return Place(name=str(moved.target.absolute()), folder=folder, space=service.space, hnsw=moved.hnsw), service


def _space_of(moved: Moved, source: SQLiteBackend | None) -> EmbeddingSpace | None:
    """Return the space of the source's vectors, None where it has none or they are left out."""
    if moved.reembed:
        return None
    if source is not None:
        return source.space
    with open_source(moved.source) as file:
        return file.space


def _service(moved: Moved, space: EmbeddingSpace | None) -> EmbeddingService:
    """Return what makes vectors of the target's space: what it records, that of the source, or what options name."""
    settings = replace(moved.settings, db=moved.target)
    if is_store(moved.target):
        backend = SQLiteBackend(moved.target, warm=False)
        recorded = backend.space
        backend.close()
        if moved.reembed:
            return EmbeddingService(provider_for(recorded, settings), metric=recorded.metric)
        return service_if_possible(recorded, settings)
    if moved.target.exists() and moved.target.stat().st_size:
        raise InputError(f"{moved.target} is no store; name another file")
    if space is not None:
        return service_if_possible(space, settings)
    return EmbeddingService(provider_for_new(settings))
