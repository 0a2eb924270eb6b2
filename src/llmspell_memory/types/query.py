"""What a search by words asks a backend for, and how a hit's score came about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, get_args

from llmspell_memory.errors import InputError

if TYPE_CHECKING:
    from llmspell_memory.types.arrays import Vector

SearchMode: TypeAlias = Literal["semantic", "keyword", "hybrid"]
"""How entries are ranked: by the cosine of their vectors, by the words they share with the query, or by both, together
with their neighbours in the session."""


DEFAULT_MODE: Final[SearchMode] = "hybrid"
"""How a text is looked for where nothing else is said."""


def checked_mode(value: object) -> SearchMode:
    """Return `value` if it is a search mode, else raise an InputError."""
    if value not in get_args(SearchMode):
        raise InputError(f'mode must be "semantic", "keyword" or "hybrid", got {value!r}')
    return value  # type: ignore[return-value]  # checked


class NamedDate(NamedTuple):
    """A day that a query names, or a month, by UTC.

    Attributes:
        year: 0 for any.
        month: from 1 to 12.
        day: from 1 to 31; 0 for all days of the month.
    """

    year: int
    month: int
    day: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A search of a backend.

    Attributes:
        text: the query's words, without the roles it names; "" where a vector alone is given, which leaves "semantic".
        roles: roles of entries that the query names, as in "what did Ada say about …", or means by "I" and "you";
            "hybrid" prefers their entries.
        dates: what the query names; "hybrid" prefers entries that happened then.
        vector: the query's, of the backend's space; None for "keyword", which needs none.
        mode: how entries are ranked.
        around: how many entries of its session each hit brings, before it and after it.
        parts: whether each hit tells how its score came about.
        exact: score every entry that matches instead of the candidates alone: the answer that others are judged by.
    """

    text: str
    roles: tuple[str, ...] = ()
    dates: tuple[NamedDate, ...] = ()
    vector: Vector | None = field(default=None, compare=False)
    mode: SearchMode = "hybrid"
    around: int = 0
    parts: bool = False
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """What one arm of a search gives to a hit's score.

    Attributes:
        score: the arm's own: a cosine, a BM25 score.
        share: how much of the hit's score it is; the shares of all parts add up to the score.
        rank: the hit's place in the arm's own ranking of what was scored, from 1 up; None where the arm has not found
            it.
    """

    score: float
    share: float
    rank: int | None = None
