"""The tables, made and changed by numbered steps; and the embedding space that a file records.

state       one row: the sequence number of the last change, the space in use, whether erasing was begun, the store's id
spaces      embedding spaces; the vectors of space N are in table vectors_N
entries     the rows; `label` is their number for life, `seq` the number of the row's last change
vectors_N   a vector per label; `seq` is the number of the vector's last change
tombstones  labels of deleted entries, with the number of the delete; and their identities, until something is forgotten
notes       what the store keeps about itself
snapshots   index files that were written from these rows, by their tags, and the number each of them shows
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from llmspell_memory.backends.sqlite.feed import take_seqs
from llmspell_memory.backends.sqlite.pages import CHECKSUMMED, unavailable
from llmspell_memory.backends.sqlite.statements import table_of
from llmspell_memory.errors import SchemaError, StorageError
from llmspell_memory.types import EmbeddingSpace

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

_PLAIN: Final = 0x4C4D_454D  # "LMEM": tells our files from other SQLite files
OURS: Final = {_PLAIN, CHECKSUMMED}


def m001_entries(db: sqlite3.Connection) -> None:
    """Make the first tables."""
    db.execute("CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, space INTEGER)")
    db.execute("INSERT INTO state VALUES (1, 0, NULL)")
    db.execute(
        "CREATE TABLE spaces (id INTEGER PRIMARY KEY, provider TEXT NOT NULL, model TEXT,"
        " dimensions INTEGER NOT NULL, metric TEXT NOT NULL)"
    )
    db.execute(
        "CREATE TABLE entries (label INTEGER PRIMARY KEY AUTOINCREMENT,"
        " namespace BLOB NOT NULL, id TEXT NOT NULL, session_id TEXT NOT NULL, role TEXT NOT NULL,"
        " content TEXT NOT NULL, timestamp INTEGER NOT NULL, ingestion_time INTEGER NOT NULL,"
        " metadata TEXT NOT NULL, processed INTEGER NOT NULL, UNIQUE (id, namespace))"
    )
    db.execute("CREATE INDEX entries_by_time ON entries (timestamp, id)")
    db.execute("CREATE INDEX entries_by_session ON entries (session_id, timestamp)")
    db.execute("CREATE INDEX entries_by_namespace ON entries (namespace, timestamp)")
    db.execute("CREATE INDEX entries_unprocessed ON entries (timestamp) WHERE processed = 0")
    db.execute("CREATE TABLE tombstones (seq INTEGER PRIMARY KEY, label INTEGER NOT NULL)")


def m002_expiry_and_snapshots(db: sqlite3.Connection) -> None:
    """Let entries expire and be erased, and remember which index files belong to these rows."""
    db.execute("ALTER TABLE entries ADD COLUMN expires_at INTEGER")
    db.execute("CREATE INDEX entries_by_expiry ON entries (expires_at) WHERE expires_at IS NOT NULL")
    db.execute("CREATE TABLE snapshots (tag INTEGER PRIMARY KEY, seq INTEGER NOT NULL, space INTEGER NOT NULL)")
    db.execute("ALTER TABLE state ADD COLUMN erasing INTEGER NOT NULL DEFAULT 0")


def m003_changes_and_notes(db: sqlite3.Connection) -> None:
    """Number the rows' own changes, keep the names of what was deleted, and notes."""
    db.execute("ALTER TABLE entries ADD COLUMN seq INTEGER NOT NULL DEFAULT 0")
    recorded = recorded_space(db)
    if recorded is not None:
        vectors = table_of(recorded[0])
        db.execute(
            f"UPDATE entries SET seq = ifnull((SELECT seq FROM {vectors} AS one"  # noqa: S608 (a number is written in)
            " WHERE one.label = entries.label), 0)"
        )
    db.execute("CREATE INDEX entries_by_seq ON entries (seq)")
    db.execute("ALTER TABLE tombstones ADD COLUMN namespace BLOB")
    db.execute("ALTER TABLE tombstones ADD COLUMN id TEXT")
    db.execute("CREATE TABLE notes (name TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID")
    db.execute("ALTER TABLE state ADD COLUMN store TEXT NOT NULL DEFAULT ''")
    db.execute("UPDATE state SET store = ?", (secrets.token_hex(16),))


MIGRATIONS: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = (
    m001_entries,
    m002_expiry_and_snapshots,
    m003_changes_and_notes,
)


def check_ours(db: sqlite3.Connection, *, name: str) -> int:
    """Return the file's schema version, 0 for an empty file, without changing anything.

    Raises:
        SchemaError: another application's file, or one written by a newer version of this library.
        StorageError: its pages have checksums, which are not to be had here.
    """
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    application = db.execute("PRAGMA application_id").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application not in OURS and tables:
        raise SchemaError(f"{name} is a SQLite file of another application; choose another path")
    if application == CHECKSUMMED and (reason := unavailable()):
        raise StorageError(
            f"{name} has checksums, which this Python would neither compare nor make ({reason}); open it by one whose "
            "SQLite is a shared library"
        )
    if version > len(MIGRATIONS):
        raise SchemaError(
            f"{name} has schema version {version}, this version of llmspell-memory knows {len(MIGRATIONS)}; upgrade it"
        )
    return version


def settled_space(
    db: sqlite3.Connection, wanted: EmbeddingSpace | None, *, name: str
) -> tuple[int, EmbeddingSpace] | None:
    """Return the number and value of the file's space; None where the file has yet to be written to.

    Raises:
        SchemaError: the file holds vectors of another space than `wanted`, or has none and none is given.
    """
    recorded = recorded_space(db) if check_ours(db, name=name) == len(MIGRATIONS) else None
    if recorded is not None and wanted not in (None, recorded[1]):
        raise SchemaError(
            f"{name} holds vectors of {recorded[1]}, not of {wanted}, and the two cannot be compared. Open it with "
            "the provider and model it was made with, and move it by `manager.reembed(service)` or `llmspell-memory "
            "reembed`"
        )
    return recorded


def settle(db: sqlite3.Connection, wanted: EmbeddingSpace | None, *, name: str) -> tuple[int, EmbeddingSpace]:
    """Bring the file up to this version's tables and record its space, inside the caller's transaction.

    Raises:
        SchemaError: as `check_ours` and `settled_space`; or no space is recorded and none is given.
    """
    version = check_ours(db, name=name)
    for number, step in enumerate(MIGRATIONS[version:], start=version + 1):
        step(db)
        db.execute(f"PRAGMA user_version = {number}")
    if db.execute("PRAGMA application_id").fetchone()[0] not in OURS:
        db.execute(f"PRAGMA application_id = {_PLAIN}")
    settled = settled_space(db, wanted, name=name)
    if settled is None:
        if wanted is None:
            raise SchemaError(f"{name} records no embedding space yet; open it with an embedding service")
        settled = record_space(db, wanted), wanted
        db.execute("UPDATE state SET space = ?", (settled[0],))
    return settled


def recorded_space(db: sqlite3.Connection) -> tuple[int, EmbeddingSpace] | None:
    """Return the number and value of the space in use; None in a file that has none yet."""
    row = db.execute(
        "SELECT id, provider, model, dimensions, metric FROM spaces JOIN state ON spaces.id = state.space"
    ).fetchone()
    if row is None:
        return None
    number, provider, model, dimensions, metric = row
    return number, EmbeddingSpace(provider=provider, model=model, dimensions=dimensions, metric=metric)


def record_space(db: sqlite3.Connection, space: EmbeddingSpace) -> int:
    """Make a table for the vectors of a space that the file has none of yet, and return the space's number.

    Never a number that a dropped space had: who has the store open in that one would take the new one for it. Sequence
    numbers do not come twice, so they tell.
    """
    (last,) = db.execute("SELECT max(id) FROM spaces").fetchone()
    number = 1 if last is None else max(last, take_seqs(db, 1)) + 1
    db.execute(
        "INSERT INTO spaces (id, provider, model, dimensions, metric) VALUES (?, ?, ?, ?, ?)",
        (number, space.provider, space.model, space.dimensions, space.metric),
    )
    table = table_of(number)
    db.execute(f"CREATE TABLE {table} (label INTEGER PRIMARY KEY, seq INTEGER NOT NULL, vector BLOB NOT NULL)")
    db.execute(f"CREATE INDEX {table}_by_seq ON {table} (seq)")
    return number


def recorded_spaces(db: sqlite3.Connection) -> dict[int, EmbeddingSpace]:
    """Return all spaces that the file has vectors of, by their numbers."""
    rows = db.execute("SELECT id, provider, model, dimensions, metric FROM spaces ORDER BY id")
    return {
        number: EmbeddingSpace(provider=provider, model=model, dimensions=dimensions, metric=metric)
        for number, provider, model, dimensions, metric in rows
    }
