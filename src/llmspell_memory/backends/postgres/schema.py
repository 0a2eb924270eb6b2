"""The tables, made and changed by numbered steps under a lock; and the embedding space that a store records.

state       one row: the version of the tables, the store's id, the space in use
spaces      embedding spaces; the vectors of space N are in table vectors_N
entries     the rows; `label` is their number for life, `seq` the number of the row's last change
vectors_N   a vector per row
gone        identities of deleted entries with the number of the delete, until something is forgotten
notes       what the store keeps about itself
grants      which roles of the server see which namespaces

Whoever writes rows takes their numbers while holding a lock that writers share. Who wants to know what is there up to a
number waits for that lock alone for a moment: then nobody has a lower number and has not committed.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.backends.postgres import roles
from llmspell_memory.backends.postgres.rows import table_of
from llmspell_memory.errors import ConfigError, SchemaError
from llmspell_memory.types import EmbeddingSpace

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmspell_memory.backends.postgres.connections import Cursor

MOST_DIMENSIONS: Final = 16_000
"""Width of a vector that pgvector keeps at most."""

_MOST_INLINE: Final = 1_900
"""Width of a vector that stands in its row, and is read without looking elsewhere."""

_DISTRIBUTED: Final = ("entries", "gone")
_EVERYWHERE: Final = ("state", "spaces", "notes", "grants")


def lock_of(schema: str) -> int:
    """Return the number of the lock that writers of a store share."""
    return int.from_bytes(schema.encode()[-7:], "big") ^ 0x6C6C6D


def m001_tables(db: Cursor) -> None:
    """Make the first tables."""
    db.execute("CREATE TABLE state (one int PRIMARY KEY CHECK (one = 1), version int, store text NOT NULL, space int)")
    db.execute("INSERT INTO state VALUES (1, 0, %s, NULL)", (secrets.token_hex(16),))
    db.execute(
        "CREATE TABLE spaces (id int PRIMARY KEY, provider text NOT NULL, model text, dimensions int NOT NULL,"
        " metric text NOT NULL)"
    )
    db.execute("CREATE TABLE notes (name text PRIMARY KEY, text text NOT NULL)")
    db.execute("CREATE SEQUENCE seq")
    db.execute("CREATE SEQUENCE labels")
    db.execute(
        "CREATE TABLE entries ("
        " root bytea NOT NULL, id_key bytea NOT NULL, namespace_key bytea NOT NULL,"
        ' path bytea NOT NULL, namespace bytea NOT NULL, id text COLLATE "C" NOT NULL,'
        ' session_key bytea NOT NULL, session_id text COLLATE "C" NOT NULL,'
        ' role_key bytea NOT NULL, role text COLLATE "C" NOT NULL, content text NOT NULL,'
        " happened bigint NOT NULL, learned bigint NOT NULL, metadata text NOT NULL, facts bytea[] NOT NULL,"
        " processed boolean NOT NULL, expires bigint, words tsvector NOT NULL, terms int NOT NULL,"
        " label bigint NOT NULL, seq bigint NOT NULL,"
        " PRIMARY KEY (id_key, namespace_key, root))"
    )
    db.execute("CREATE INDEX entries_by_time ON entries (root, path, happened)")
    db.execute("CREATE INDEX entries_by_session ON entries (root, path, session_key, happened)")
    db.execute("CREATE INDEX entries_by_session_alone ON entries (session_key, happened)")
    db.execute("CREATE INDEX entries_by_role ON entries (root, role_key)")
    db.execute("CREATE INDEX entries_by_label ON entries (label)")
    db.execute("CREATE INDEX entries_by_seq ON entries (seq)")
    db.execute("CREATE INDEX entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL")
    db.execute("CREATE INDEX entries_unprocessed ON entries (root, path, happened) WHERE NOT processed")
    db.execute("CREATE INDEX entries_by_words ON entries USING gin (words)")
    db.execute("CREATE INDEX entries_by_facts ON entries USING gin (facts)")
    db.execute(
        "CREATE TABLE gone (root bytea NOT NULL, seq bigint NOT NULL, namespace bytea, id text,"
        " PRIMARY KEY (root, seq))"
    )
    db.execute("CREATE INDEX gone_by_seq ON gone (seq)")
    roles.protect(db)


MIGRATIONS: Final[tuple[Callable[[Cursor], None], ...]] = (m001_tables,)


def prepare(db: Cursor, schema: str) -> None:
    """Make the schema and its tables, or bring them up to this version; several may do that at once.

    Raises:
        SchemaError: they were made by a newer version.
    """
    db.execute("SELECT pg_advisory_xact_lock(%s)", (lock_of(schema),))
    if not db.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone():
        db.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
    if not db.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone():
        db.execute(f"CREATE SCHEMA {schema}")
    there = db.execute("SELECT to_regclass(%s) IS NOT NULL", (f"{schema}.state",)).fetchone() == (True,)
    version = check_version(db, schema) if there else 0
    for number, step in enumerate(MIGRATIONS[version:], start=version + 1):
        step(db)
        db.execute("UPDATE state SET version = %s", (number,))
    if not there:
        _distribute(db)


def check_version(db: Cursor, schema: str) -> int:
    """Return which steps were taken; raise a SchemaError where a newer version has taken more."""
    version = int(_one(db, "SELECT version FROM state"))
    if version > len(MIGRATIONS):
        raise SchemaError(
            f"the schema {schema} has version {version}, this version of llmspell-memory knows {len(MIGRATIONS)}; "
            "upgrade it"
        )
    return version


def _distribute(db: Cursor) -> None:
    """On a Citus cluster, spread rows over its machines by the root of their namespace."""
    if not has_citus(db):
        return
    for table in _EVERYWHERE:
        db.execute("SELECT create_reference_table(%s)", (table,))
    for table in _DISTRIBUTED:
        db.execute("SELECT create_distributed_table(%s, 'root')", (table,))


def has_citus(db: Cursor) -> bool:
    """Say whether the database is that of a Citus cluster."""
    return db.execute("SELECT 1 FROM pg_extension WHERE extname = 'citus'").fetchone() is not None


def _one(db: Cursor, sql: str, parameters: tuple[Any, ...] = ()) -> Any:
    row = db.execute(sql, parameters).fetchone()
    return None if row is None else row[0]


def settled(db: Cursor, wanted: EmbeddingSpace | None, *, name: str) -> tuple[int, EmbeddingSpace]:
    """Return the number and value of the store's space, recorded now where it had none.

    Raises:
        SchemaError: the store holds vectors of another space than `wanted`; or none is recorded and none is given.
    """
    recorded = recorded_space(db)
    if recorded is None:
        if wanted is None:
            raise SchemaError(f"{name} records no embedding space yet; open it with an embedding service")
        db.execute("SELECT pg_advisory_xact_lock(%s)", (lock_of(name),))
        recorded = recorded_space(db)
    if recorded is None and wanted is not None:
        recorded = record_space(db, wanted), wanted
        db.execute("UPDATE state SET space = %s", (recorded[0],))
    assert recorded is not None  # noqa: S101 (for the type checker)
    if wanted not in (None, recorded[1]):
        raise SchemaError(
            f"{name} holds vectors of {recorded[1]}, not of {wanted}, and the two cannot be compared. Open it with the "
            "provider and model it was made with, and move it by `manager.reembed(service)`"
        )
    return recorded


def recorded_space(db: Cursor) -> tuple[int, EmbeddingSpace] | None:
    """Return the number and value of the space in use; None in a store that has none yet."""
    (used,) = db.execute("SELECT space FROM state").fetchone() or (None,)
    spaces = recorded_spaces(db)
    return (used, spaces[used]) if used in spaces else None


def recorded_spaces(db: Cursor) -> dict[int, EmbeddingSpace]:
    """Return all spaces that the store has vectors of, by their numbers."""
    rows = db.execute("SELECT id, provider, model, dimensions, metric FROM spaces ORDER BY id")
    return {
        number: EmbeddingSpace(provider=provider, model=model, dimensions=dimensions, metric=metric)
        for number, provider, model, dimensions, metric in rows
    }


def record_space(db: Cursor, space: EmbeddingSpace) -> int:
    """Make a table for the vectors of a space, and return the space's number, which no other ever had.

    Raises:
        ConfigError: its vectors are wider than pgvector keeps.
    """
    if space.dimensions > MOST_DIMENSIONS:
        raise ConfigError(f"pgvector keeps vectors of up to {MOST_DIMENSIONS} dimensions, not {space.dimensions}")
    number = int(_one(db, "SELECT nextval('labels')"))
    db.execute(
        "INSERT INTO spaces (id, provider, model, dimensions, metric) VALUES (%s, %s, %s, %s, %s)",
        (number, space.provider, space.model, space.dimensions, space.metric),
    )
    table = table_of(number)
    db.execute(
        f"CREATE TABLE {table} (root bytea NOT NULL, id_key bytea NOT NULL, namespace_key bytea NOT NULL,"
        f" vector vector({space.dimensions}) NOT NULL, PRIMARY KEY (id_key, namespace_key, root))"
    )
    if space.dimensions <= _MOST_INLINE:
        db.execute(f"ALTER TABLE {table} ALTER COLUMN vector SET STORAGE PLAIN")
    if has_citus(db):
        db.execute("SELECT create_distributed_table(%s, 'root', colocate_with => 'entries')", (table,))
    roles.protect_vectors(db, number)
    return number
