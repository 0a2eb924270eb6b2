"""What can be read of a store whose file may be damaged: its rows one by one, and what is known of those lost.

Everything is read by `raw`, past SQLite. Rows below a damaged inner page of a table are looked for among the leaf pages
that no tree reaches, but only where it is known which pages are free: on those stands what was deleted.
"""

from __future__ import annotations

import dataclasses
import struct
from contextlib import closing, contextmanager, suppress
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from llmspell_memory.backends.sqlite.connection import connect_to_look, translated
from llmspell_memory.backends.sqlite.raw import MAGIC, DamageError, LostPage, PageFile, Tree, keys, node, rows
from llmspell_memory.backends.sqlite.rows import packed_namespace, to_entry, unpacked_namespace, unpacked_vectors
from llmspell_memory.backends.sqlite.schema import MIGRATIONS, OURS
from llmspell_memory.errors import ConfigError, CorruptDataError, InputError, SchemaError, StorageError
from llmspell_memory.types import EmbeddingSpace
from llmspell_memory.types.arrays import check_magnitude

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from llmspell_memory.backends.sqlite.raw import Node
    from llmspell_memory.types import EpisodicEntry, Vector

_ENTRIES: Final = "entries"
_VECTORS: Final = "vectors_"
_IDENTITIES: Final = "sqlite_autoindex_entries_1"
_NOTES: Final = "notes"
_SHAPES: Final[dict[str, tuple[type | tuple[type, ...], ...]]] = {
    "state": (NoneType, int, (int, NoneType)),
    "spaces": (NoneType, str, (str, NoneType), int, str),
    _ENTRIES: (NoneType, bytes, str, str, str, str, int, int, str, int),
    "sqlite_sequence": (str, int),
    _IDENTITIES: (str, bytes, int),
    _NOTES: (str, str),
    "tombstones": (NoneType, int),
    _VECTORS: (NoneType, int, bytes),
}
"""The first columns of each table; the one that SQLite keeps as a row's number is NULL in the record."""

LAST_ROOT: Final = {False: 13, True: 17}
"""Pages 2 to this are roots in every file, without or with checksums: tables and indexes are made before any row."""

_OURS: Final = {"state", "spaces", _ENTRIES, "tombstones"}
_ENTRY_COLUMNS: Final = 11
_ADDED: Final[dict[str, tuple[tuple[type, ...], ...]]] = {
    "state": ((int,), (str,)),
    _ENTRIES: ((int, NoneType), (int,)),
    "tombstones": ((bytes, NoneType), (str, NoneType)),
}
"""Columns that later versions have added, which rows of earlier ones do not have."""


class EntryRow(NamedTuple):
    """A row of `entries`: its number, and the entry (without its vector) or why there is none."""

    label: int | None
    entry: EpisodicEntry | None
    why: str


class VectorRow(NamedTuple):
    """A row of `vectors_N`: its number, that of its last change, and the vector or why there is none."""

    label: int | None
    seq: int
    vector: Vector | None
    why: str


class Salvage:
    """The rows of a store, read for as long as it is open.

    Args:
        path: of the store. Nobody may write to it meanwhile, unless a read transaction keeps this moment for us.

    Attributes:
        file: its pages.
        schema: the version of its tables, None where that cannot be read.
        seq: the number of the last change, None where that cannot be read.
        space: the embedding space, None where that cannot be read.
        lost_pages: of each table that was read, the pages of its tree that could not be.

    Raises:
        StorageError: there is no store, or it cannot be read; a SchemaError when it is not ours, or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.file = PageFile(path)
        except OSError as error:
            raise StorageError(f"{path}: there is no store that can be read ({error.strerror})") from error
        try:
            roots, self._guessed = _roots(self.file)
            self.schema = _schema(self.file, path, ours=roots.keys() >= _OURS)
            self._roots = roots | self._guessed
            self._orphaned: list[int] | None = None
            self.lost_pages: dict[str, list[LostPage]] = {}
            self.seq, self._number, self.space = self._state()
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    @property
    def has_tables(self) -> bool:
        """Whether anything of a store was found."""
        return any(self._root(name) is not None for name in ("state", "spaces", _ENTRIES, _VECTORS))

    def _state(self) -> tuple[int | None, int | None, EmbeddingSpace | None]:
        seq, number = next(((row[1], row[2]) for _, row in self._whole("state")), (None, None))
        spaces = {label: row for label, row in self._whole("spaces") if number in {None, label}}
        if len(spaces) != 1:
            return seq, number, None
        ((label, (_, provider, model, dimensions, metric)),) = spaces.items()
        try:
            return seq, label, EmbeddingSpace(provider=provider, model=model, dimensions=dimensions, metric=metric)
        except ConfigError:
            return seq, label, None

    def _root(self, name: str) -> int | None:
        if name == _VECTORS and self._number is not None:
            name = next((one for one in self._roots if one == f"{_VECTORS}{self._number}"), _VECTORS)
        return self._roots.get(name)

    def _table(self, name: str) -> Iterator[tuple[int | None, list[Any] | DamageError]]:
        """Yield the rows of a table: those below its root, then those that a damaged page hides from it."""
        root = self._root(name)
        if root is None:
            self.lost_pages[name] = [LostPage(0, 0, 0, None, "the table's first page is lost")]
            return
        tree = Tree(self.file, root)
        for page in tree.nodes():
            if page.has_rows:
                yield from _shaped(self.file, page, name)
        self.lost_pages[name] = tree.lost
        if tree.hides or name in self._guessed:
            met = False
            for page in self._orphans():
                shaped = list(_shaped(self.file, page, name)) if page.has_rows else []
                if any(not isinstance(values, DamageError) for _, values in shaped):
                    met = True
                    yield from shaped
            lost = {page.number for page in tree.lost}
            if met and self.file.checksums and lost.issuperset(self.file.damaged()):
                self.lost_pages[name] = tree.lost_leaves  # no other page is damaged: all below the inner ones was met

    def _whole(self, name: str) -> Iterator[tuple[int, list[Any]]]:
        for label, values in self._table(name):
            if label is not None and not isinstance(values, DamageError):
                yield label, values

    def _orphans(self) -> Iterator[Node]:
        """Yield the pages with rows or keys that belong to no tree and are not free."""
        if self._orphaned is None:
            self._orphaned = []
            taken = self.file.free()
            if taken is not None:
                for root in self._roots.values():
                    taken |= {page.number for page in Tree(self.file, root).nodes()}
                rest = (number for number in range(2, self.file.count + 1) if number not in taken)
                self._orphaned = [number for number in rest if _is_filled(self.file, number)]
        for number in self._orphaned:
            yield node(self.file, number)

    def entries(self) -> Iterator[EntryRow]:
        """Yield all rows of `entries`; a number comes once."""
        seen: set[int | None] = set()
        for label, values in self._table(_ENTRIES):
            if label in seen and label is not None:
                continue
            seen.add(label)
            yield EntryRow(label, None, str(values)) if isinstance(values, DamageError) else _entry_row(label, values)

    def vectors(self) -> Iterator[VectorRow]:
        """Yield all rows of the vectors of the space in use; a number comes once."""
        seen: set[int | None] = set()
        for label, values in self._table(_VECTORS):
            if label in seen and label is not None:
                continue
            seen.add(label)
            if isinstance(values, DamageError):
                yield VectorRow(label, 0, None, str(values))
            else:
                vector, why = _vector(label, values[2], self.space)
                yield VectorRow(label, values[1], vector, why)

    def tombstones(self) -> dict[int, int]:
        """Return the labels of deleted entries, and when they were deleted."""
        return {row[1]: seq for seq, row in self._whole("tombstones")}

    def identities(self) -> dict[int, tuple[str, tuple[str, ...]]]:
        """Return the ids and namespaces by label, from the index that keeps them unique."""
        found = {}
        for key in self._keys(_IDENTITIES):
            with suppress(UnicodeDecodeError):
                found[key[2]] = key[0], unpacked_namespace(key[1])
        return found

    def notes(self) -> dict[str, str]:
        """Return the texts of the notes that can be read, by name."""
        return dict(self._keys(_NOTES))

    def _keys(self, name: str) -> Iterator[list[Any]]:
        for page in self._index(name):
            yield from (key for key in keys(self.file, page) if _has_shape(key, name))

    def _index(self, name: str) -> Iterator[Node]:
        root = self._root(name)
        if root is not None:
            tree = Tree(self.file, root)
            yield from tree.nodes()
            self.lost_pages[name] = tree.lost
            if tree.hides or name in self._guessed:
                yield from (page for page in self._orphans() if page.has_keys)

    def last_label(self) -> int | None:
        """Return the greatest number that an entry was ever given, None where that cannot be read."""
        given = (row[1] for _, row in self._whole("sqlite_sequence") if row[0] == _ENTRIES)
        return next(given, None)


def readable_space(path: Path) -> EmbeddingSpace | None:
    """Return the embedding space of a store that may be damaged, None where nothing tells it; raises as `Salvage`."""
    with Salvage(path.absolute()) as salvage:
        return salvage.space


@contextmanager
def keeping_moment(path: Path) -> Iterator[sqlite3.Connection | StorageError]:
    """Hold a read transaction, so that nothing of this moment is overwritten by others; or give why SQLite cannot."""
    try:
        with translated(path):
            db = connect_to_look(path)
    except StorageError as error:
        yield error
        return
    with closing(db):
        held: sqlite3.Connection | StorageError = db
        try:
            with translated(path):
                db.execute("BEGIN")
                db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except StorageError as error:
            held = error
        yield held


def _schema(file: PageFile, path: Path, *, ours: bool) -> int | None:
    """Return the version of the tables, which may look like `ours`; None where the first page cannot be trusted."""
    try:
        page = file.page(1)
    except DamageError:
        return None
    if page[:16] != MAGIC:
        return None
    version, application = struct.unpack_from(">I4xI", page, 60)
    if application not in OURS and ours and not file.checksums:
        return None
    if application not in OURS:
        raise SchemaError(f"{path} is a SQLite file of another application")
    if version > len(MIGRATIONS):
        raise SchemaError(
            f"{path} has schema version {version}, this version of llmspell-memory knows {len(MIGRATIONS)}; upgrade it"
        )
    return int(version)


def _roots(file: PageFile) -> tuple[dict[str, int], dict[str, int]]:
    """Return where each table and index begins: as the schema says; and, of those it does not, as their rows look."""
    found = {
        values[1]: values[3]
        for page in Tree(file, 1).nodes()
        if page.has_rows
        for _, values in rows(file, page)
        if not isinstance(values, DamageError) and len(values) == 5 and isinstance(values[3], int)  # noqa: PLR2004
    }
    missing = {name for name in _SHAPES if name not in found}
    if any(name.startswith(_VECTORS) for name in found):
        missing.discard(_VECTORS)
    if missing == {_NOTES}:
        missing.clear()  # the schema can be read: a store of an earlier version keeps none
    return found, _guessed(file, missing, set(found.values()))


def _guessed(file: PageFile, names: set[str], taken: set[int]) -> dict[str, int]:
    """Find roots by what stands below them: a root never moves, and is the first page in use that has such rows.

    Where it is not known which pages are in use, it is looked for where every file begins with nothing but roots.
    """
    found: dict[str, int] = {}
    free = file.free()
    last = min(file.count, LAST_ROOT[file.checksums]) if free is None else file.count
    for number in range(2, last + 1):
        if names <= found.keys():
            break
        if number not in taken and number not in (free or ()):
            values = _first_row(file, number)
            wanted = (one for one in _SHAPES if one in names and one not in found)
            name = next((one for one in wanted if values is not None and _has_shape(values, one)), None)
            if name is not None:
                found[name] = number
    return found


def _first_row(file: PageFile, number: int) -> list[Any] | None:
    """Return the first row, or key, at or below a page; None where there is none, or the page is in no tree."""
    for page in Tree(file, number).nodes():
        if page.has_rows:
            found = next((values for _, values in rows(file, page) if not isinstance(values, DamageError)), None)
        else:
            found = next(keys(file, page), None) if page.has_keys else None
        if found is not None:
            return found
    return None


def _is_filled(file: PageFile, number: int) -> bool:
    try:
        page = node(file, number)
    except DamageError:
        return False
    return page.has_rows or page.has_keys


def _has_shape(values: list[Any], name: str) -> bool:
    shape, added = _SHAPES[name], _ADDED.get(name, ())
    return len(shape) <= len(values) <= len(shape) + len(added) and all(
        isinstance(value, kind) for value, kind in zip(values, (*shape, *added), strict=False)
    )


def _shaped(file: PageFile, page: Node, name: str) -> Iterator[tuple[int | None, list[Any] | DamageError]]:
    for label, values in rows(file, page):
        if isinstance(values, DamageError) or _has_shape(values, name):
            yield label, values
        else:
            yield label, DamageError(f"what stands on page {page.number} is no row of its table")


def _entry_row(label: int | None, values: list[Any]) -> EntryRow:
    padded = [*values, None][1:_ENTRY_COLUMNS]
    try:
        entry = to_entry((*padded, bytes(4)), dimensions=1)
        if packed_namespace(entry.namespace) != padded[0]:
            return EntryRow(label, None, f"the namespace of entry {entry.id!r} is cut off")
        return EntryRow(label, dataclasses.replace(entry, embedding=None), "")  # checks what callers are asked for
    except (CorruptDataError, InputError) as error:
        return EntryRow(label, None, str(error))


def _vector(label: int | None, blob: bytes, space: EmbeddingSpace | None) -> tuple[Vector | None, str]:
    dimensions = space.dimensions if space else len(blob) // 4
    try:
        matrix = unpacked_vectors([(label or 0, blob)], dimensions)
        if space:
            check_magnitude(matrix, metric=space.metric)
    except (CorruptDataError, InputError) as error:
        return None, str(error)
    return matrix[0], ""
