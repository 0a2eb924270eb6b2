"""The two ends of a migration, opened from their names."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from llmspell_memory.cli.opening import service_if_possible
from llmspell_memory.cli.providers import provider_for, provider_for_new
from llmspell_memory.cli.stores import file_of
from llmspell_memory.embeddings import EmbeddingService
from llmspell_memory.errors import InputError, StorageError
from llmspell_memory.operations import open_source
from llmspell_memory.operations.migration.plan import Place, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmspell_memory.cli.settings import Settings
    from llmspell_memory.cli.stores import Store
    from llmspell_memory.operations import MigrationPlan, MigrationReport
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace, HNSWConfig

_Told = TypeVar("_Told", "MigrationReport", "MigrationPlan")

_FILES: Final = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What is moved where, the global options, whether the target is indexed, and whether texts are embedded anew."""

    source: Store
    target: Store
    settings: Settings
    indexed: bool
    reembed: bool

    @property
    def to_file(self) -> Path | None:
        """The target where its name is that of a file of entries; None where it is a store."""
        path = self.target.path
        return path if path is not None and path.name.lower().endswith(_FILES) else None

    @property
    def from_file(self) -> Path:
        """The source where it is a file of entries."""
        return file_of(self.source, "migrate")

    @property
    def hnsw(self) -> HNSWConfig | None:
        """Parameters of the index that the target is opened with; a server keeps those that its index has."""
        return self.target.parameters(hnsw=self.indexed)

    def named(self, report: _Told) -> _Told:
        """Return a report or a plan that calls servers' stores as they were named here."""
        return replace(
            report,
            source=report.source if self.source.path is not None else str(self.source),
            target=report.target if self.target.path is not None else str(self.target),
        )


class Target(NamedTuple):
    """What a migration takes for a manager: opening a real one would warn that the target is not yet complete."""

    backend: EpisodicBackend
    service: EmbeddingService


@contextmanager
def open_pair(moved: Moved, *, target: bool = True) -> Iterator[tuple[Any, Any]]:
    """Open source and target, and close them; None for an end that is a file of entries, or not wanted.

    Raises:
        InputError: there is nothing to read at the source, or something else than a store at the target.
        StorageError: a store cannot be opened.
    """
    with ExitStack() as stack:
        source = None
        if moved.source.is_store():
            source = moved.source.open()
            stack.callback(source.close)
        elif moved.source.path is None:
            raise InputError(f"there is no store at {moved.source}")
        elif not moved.source.path.exists():
            raise InputError(f"there is neither a store nor a file at {moved.source}")
        if not target or moved.to_file is not None:
            yield source, None
            return
        service = _service(moved, _space_of(moved, source))
        opened = moved.target.open(service.space, hnsw=moved.hnsw)
        stack.callback(opened.close)
        yield source, Target(opened, service)


def place_for(moved: Moved) -> tuple[Place, EmbeddingService]:
    """Return where the target, a file, would be, and what would embed for it; nothing is made."""
    with open_pair(moved, target=False) as (source, _):
        service = _service(moved, _space_of(moved, source))
    if moved.target.is_store():
        target = moved.target.open(hnsw=moved.hnsw)
        try:
            return place_of(target), service
        finally:
            target.close()
    path = file_of(moved.target, "migrate --dry-run").absolute()
    if not path.parent.is_dir():
        raise StorageError(f"there is no folder {path.parent}")
    return Place(name=str(path), folder=path.parent, space=service.space, hnsw=moved.hnsw), service


def _space_of(moved: Moved, source: EpisodicBackend | None) -> EmbeddingSpace | None:
    """Return the space of the source's vectors, None where it has none or they are left out."""
    if moved.reembed:
        return None
    if source is not None:
        return source.space
    with open_source(moved.from_file) as file:
        return file.space


def _service(moved: Moved, space: EmbeddingSpace | None) -> EmbeddingService:
    """Return what makes vectors of the target's space: what it records, that of the source, or what options name."""
    settings = replace(moved.settings, db=moved.target)
    if moved.target.is_store():
        backend = moved.target.open()
        recorded = backend.space
        backend.close()
        if moved.reembed:
            return EmbeddingService(provider_for(recorded, settings), metric=recorded.metric)
        return service_if_possible(recorded, settings)
    if moved.target.is_other():
        raise InputError(f"{moved.target} is no store; name another file")
    if space is not None:
        return service_if_possible(space, settings)
    return EmbeddingService(provider_for_new(settings))
