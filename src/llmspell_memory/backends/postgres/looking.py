"""What a store in PostgreSQL says of itself, without opening it: where there is none, none is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.backends.looking import Found
from llmspell_memory.backends.postgres.connections import looking, name_of
from llmspell_memory.backends.postgres.schema import check_version, recorded_space
from llmspell_memory.backends.postgres.vectors import Vectors
from llmspell_memory.types import HNSWConfig

if TYPE_CHECKING:
    from llmspell_memory.backends.postgres.connections import Cursor
    from llmspell_memory.backends.postgres.settings import PostgresConfig


def look(config: PostgresConfig) -> Found | None:
    """Return what is there; None where there is no store, or an empty one without a space.

    Raises:
        MissingDependencyError: the extra `postgres` is not installed.
        SchemaError: it was made by a newer version.
        UnavailableError: the server cannot be reached.
    """
    with looking(config, name_of(config)) as db:
        if db.execute("SELECT to_regclass(%s) IS NULL", (f"{config.schema}.state",)).fetchone() == (True,):
            return None
        check_version(db, config.schema)
        recorded = recorded_space(db)
        return None if recorded is None else Found(recorded[1], _index(db, Vectors(*recorded, None)))


def _index(db: Cursor, vectors: Vectors) -> HNSWConfig | None:
    """Return the parameters of the index that is there, and whole."""
    for name, dtype in zip(vectors.names, ("float32", "float16"), strict=True):
        row = db.execute(
            "SELECT c.reloptions FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE i.indexrelid = to_regclass(%s) AND i.indisvalid",
            (name,),
        ).fetchone()
        if row is not None:
            told = dict(one.split("=") for one in row[0] or ())
            numbers = {name: int(told[name]) for name in ("m", "ef_construction") if name in told}
            return HNSWConfig(**numbers, dtype=dtype)  # type: ignore[arg-type]  # one of the two names
    return None
