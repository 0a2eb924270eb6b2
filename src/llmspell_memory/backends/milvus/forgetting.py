"""What a store still names of entries that are gone, and that nothing of it is left once they are forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llmspell_memory.backends.milvus.rows import digest, joined, key
from llmspell_memory.backends.milvus.schema import meta_row, note_key
from llmspell_memory.backends.milvus.where import both
from llmspell_memory.backends.notes import KEPT, ROLLBACK, with_names

if TYPE_CHECKING:
    from llmspell_memory.backends.milvus.connections import Connection
    from llmspell_memory.backends.milvus.schema import Collections
    from llmspell_memory.types import Identity

_PAGE: Final = 4_096


def erased_names(connection: Connection, collections: Collections, rows: str) -> None:
    """Take the names of entries that are gone out of tombstones, notes and roles; who calls is the one writer."""
    meta = collections.meta
    graves = [
        row
        for row in connection.select(meta, 'kind == "gone"', ["pk", "seq", "name", "text"])
        if row["name"] or row["text"]
    ]
    for at in range(0, len(graves), _PAGE):
        part = graves[at : at + _PAGE]
        connection.upsert(meta, [meta_row(row["pk"], "gone", None, seq=row["seq"]) for row in part])

    def there(identity: Identity) -> bool:
        return bool(connection.fetch(rows, [key(*identity)], ["pk"]))

    for name in (KEPT, ROLLBACK):
        for row in connection.fetch(meta, [note_key(name)], ["text"]).values():
            text = with_names(name, joined(row["text"]), there)
            connection.upsert(meta, [meta_row(note_key(name), "note", text)])
    roles = connection.select(meta, 'kind == "role"', ["pk", "name", "text"])
    gone = [
        row["pk"]
        for row in roles
        if not connection.select(rows, _of(row["name"], joined(row["text"])), ["pk"], limit=1)
    ]
    connection.drop(meta, gone)


def _of(of_root: str, role: str) -> str:
    return both(f'root == "{of_root}"', f'role_key == "{digest(role)}"')
