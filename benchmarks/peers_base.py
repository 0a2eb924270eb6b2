"""What the stores of `peers.py` are behind: a small interface, the same for ours and for others'."""

from __future__ import annotations

import sqlite3
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final

from peers_data import Where

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from peers_data import Material, Question, Row

DIMENSIONS: Final = 384


class Store:
    """A store in a folder, opened by the constructor, which makes it where there is none.

    Args:
        folder: where it keeps its files.
        material: what it is to look vectors up in, where it embeds.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    """What one installs for it."""

    modules: ClassVar[tuple[str, ...]]
    """What one imports for it."""

    how: ClassVar[str]
    """What was chosen, in a few words."""

    durable: ClassVar[bool] = True
    """Whether it keeps anything beyond its process."""

    largest: ClassVar[int] = 100_000
    """Rows beyond which it is not measured: filling it would take an hour."""

    def __init__(self, folder: Path, material: Material) -> None:
        raise NotImplementedError

    def fill(self, rows: Sequence[Row]) -> None:
        """Store many rows in the quickest way, and build the index if there is one."""
        raise NotImplementedError

    def add(self, row: Row) -> None:
        """Store one row."""
        self.fill([row])

    def search(self, question: Question, where: Where | None) -> list[str]:
        """Return the ids of the K nearest that match, with their texts read."""
        raise NotImplementedError

    def has(self, row: Row) -> bool:
        """Say whether a row is there."""
        raise NotImplementedError

    def of_tenant(self, tenant: str) -> Store:
        """Return the store as one tenant is to see it."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of it, as its documentation says."""


class Flat(Store):
    """A store without tenants: whoever separates them does it by a condition, as for sessions."""

    def of_tenant(self, tenant: str) -> Store:
        """Return the store with a tenant's name as the session of all that is written and asked."""
        return _Tenant(self, tenant)


class _Tenant(Store):
    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._tenant = store, tenant

    def fill(self, rows: Sequence[Row]) -> None:
        self._store.fill([row._replace(session=self._tenant) for row in rows])

    def search(self, question: Question, where: Where | None) -> list[str]:
        return self._store.search(question, where or Where("session", self._tenant))


def extensible(path: Path) -> Any:
    """Return a connection that can load extensions: that of another build of SQLite where Python's own cannot."""
    kind: Any = sqlite3 if hasattr(sqlite3.Connection, "enable_load_extension") else import_module("pysqlite3")
    return kind.connect(str(path), check_same_thread=False, isolation_level=None)
