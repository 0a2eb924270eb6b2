"""Roles of the server that see a part of a store alone: it is the server that keeps them from the rest.

A role is given namespaces by its name, in a table that it cannot write to. So neither a forgotten condition nor SQL
that a caller has smuggled in leads to another tenant's rows. The owner of the tables sees all of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from llmspell_memory.backends.postgres.rows import packed, table_of
from llmspell_memory.errors import ConfigError

if TYPE_CHECKING:
    from llmspell_memory.backends.postgres.connections import Cursor

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")

_WITHIN: Final = (
    "EXISTS (SELECT 1 FROM grants g WHERE g.role = current_user"
    " AND substring({table}.namespace FROM 1 FOR octet_length(g.namespace)) = g.namespace)"
)


def checked_role(role: str) -> str:
    """Return the name of a role, if it needs no quotes but the usual.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(role, str) or not _NAME.fullmatch(role):
        raise ConfigError(f"a role's name must be of letters, digits and _, got {role!r}")
    return role


def protect(db: Cursor) -> None:
    """Let roles see what they are given alone; the tables' owner is not concerned."""
    db.execute("CREATE TABLE grants (role name NOT NULL, namespace bytea NOT NULL, PRIMARY KEY (role, namespace))")
    _policy(db, "grants", "role = current_user")
    _policy(db, "entries", _WITHIN.format(table="entries"))
    _policy(db, "gone", f"gone.namespace IS NULL OR {_WITHIN.format(table='gone')}")
    _policy(db, "notes", "name IN ('eras', 'keywords')")


def protect_vectors(db: Cursor, number: int) -> None:
    """Let roles see the vectors of the entries that they see, in the table of one space, which is new."""
    table = table_of(number)
    same = " AND ".join(f"e.{name} = {table}.{name}" for name in ("id_key", "namespace_key", "root"))
    _policy(db, table, f"EXISTS (SELECT 1 FROM entries e WHERE {same})")
    for (role,) in db.execute("SELECT DISTINCT role FROM grants").fetchall():
        db.execute(f'GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO "{checked_role(role)}"')


def _policy(db: Cursor, table: str, condition: str) -> None:
    db.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    db.execute(f"CREATE POLICY of_role ON {table} USING ({condition}) WITH CHECK ({condition})")


def grant(db: Cursor, schema: str, role: str, namespace: tuple[str, ...], spaces: list[int]) -> None:
    """Give a role what lies in a namespace and below it."""
    name = f'"{checked_role(role)}"'
    rows = ", ".join(["entries", "gone", "notes", *map(table_of, spaces)])
    db.execute(f"GRANT USAGE ON SCHEMA {schema} TO {name}")
    db.execute(f"GRANT SELECT ON state, spaces, grants TO {name}")
    db.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {rows} TO {name}")
    db.execute(f"GRANT USAGE, SELECT ON SEQUENCE seq, labels TO {name}")
    db.execute("INSERT INTO grants (role, namespace) VALUES (%s, %s) ON CONFLICT DO NOTHING", (role, packed(namespace)))


def revoke(db: Cursor, schema: str, role: str) -> None:
    """Take everything from a role."""
    name = f'"{checked_role(role)}"'
    db.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {name}")
    db.execute(f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {name}")
    db.execute(f"REVOKE ALL ON SCHEMA {schema} FROM {name}")
    db.execute("DELETE FROM grants WHERE role = %s", (role,))
