"""What happened to a store's rows, told in the order of its sequence numbers to whoever follows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from llmspell_memory.types.entry import EpisodicEntry

Identity: TypeAlias = tuple[tuple[str, ...], str]
"""What an entry is known by: its namespace and its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChanges:
    """A batch of what happened after a sequence number.

    An identity may be among both: it was deleted and added again. So what is gone comes first.

    Attributes:
        reached: the number up to which this tells of everything; the one asked from where nothing happened. A lower one
            where the store has not come that far: it is an older state of it, such as a backup that was put back.
        put: rows that were added or changed, as they are now, with their vectors; expired ones, too.
        gone: identities that were deleted.
        forgotten: whether something was erased that nothing names any more. Who follows finds it by comparing
            identities.
    """

    reached: int
    put: tuple[EpisodicEntry, ...]
    gone: tuple[Identity, ...]
    forgotten: bool
