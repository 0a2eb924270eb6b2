"""A search as it was asked for, checked; and how a backend answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from llmspell_memory.errors import InputError
from llmspell_memory.retrieval.dates import named_dates
from llmspell_memory.retrieval.names import meant_roles, named_roles, without_names
from llmspell_memory.retrieval.ranking import Ranking
from llmspell_memory.types import Filter, Query
from llmspell_memory.types.arrays import checked_k
from llmspell_memory.types.query import checked_mode
from llmspell_memory.types.text import checked_text

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace, Hit, NamedDate, SearchMode, Vector

_MOST: Final = 5_000
"""Hits that are looked through for k that are no near duplicates."""


class Asked(NamedTuple):
    """What a search is asked for; a vector in place of a text is checked when its space is known."""

    query: str | ArrayLike
    k: int
    where: Filter
    mode: SearchMode
    around: int
    parts: bool
    ranking: Ranking | None
    sought: str | ArrayLike
    """What is looked for: the query, without the names of those who speak."""
    roles: tuple[str, ...] = ()
    dates: tuple[NamedDate, ...] = ()

    def among(self, backend: EpisodicBackend) -> Asked:
        """Return the same search, that knows which of those who speak in a backend it means, and which dates."""
        if self.mode != "hybrid":
            return self
        named = named_roles(self.text, self.where, backend)
        meant = meant_roles(self.text, self.where, backend)
        sought = without_names(self.text, named) if named else self.text
        dates = named_dates(sought)
        if not (named or meant or dates):
            return self
        return self._replace(sought=sought, roles=tuple(sorted({*named, *meant})), dates=dates)

    @property
    def text(self) -> str:
        """The query's words; "" where it is a vector."""
        return self.query if isinstance(self.query, str) else ""

    @property
    def by_words_alone(self) -> bool:
        """Whether nothing need be embedded."""
        return self.mode == "keyword"

    @property
    def is_plain(self) -> bool:
        """Whether the backend's `search` answers it."""
        return self.mode == "semantic" and not self.around and not self.parts


def asked(
    query: str | ArrayLike,
    k: int,
    where: Filter,
    *,
    mode: SearchMode | None,
    default: SearchMode,
    around: int,
    parts: bool,
    ranking: Ranking | None,
) -> Asked:
    """Return a search, checked; without a mode, a text is looked for by `default` and a vector by its neighbours.

    Raises:
        InputError: an argument is not acceptable, or a vector is given where words are needed.
    """
    if isinstance(query, str):
        query = checked_text(query, name="query")
        mode = default if mode is None else checked_mode(mode)
    elif mode is None or checked_mode(mode) == "semantic":
        mode = "semantic"
        if ranking is not None and ranking.reranker is not None:
            raise InputError("a reranker compares texts with a text; give the query as one")
    else:
        raise InputError(f'mode="{mode}" looks for words; give the query as a text')
    if around:
        _check_around(around)
    if ranking is not None:
        _check_ranking(ranking)
    return Asked(query, checked_k(k), checked_where(where), mode, around, parts, ranking, sought=query)


def answered(one: Asked, vector: Vector | None, backend: EpisodicBackend, space: EmbeddingSpace) -> list[Hit]:
    """Return what a backend answers, weighed by the ranking if there is one.

    Raises:
        SpaceChangedError: the backend is of another space than `space` by now.
    """
    ranking = one.ranking
    if ranking is None or not one.k:
        return _fetched(one, one.k, vector, backend, space)
    from llmspell_memory.retrieval.refine import refined  # noqa: PLC0415 (only where it is asked for)

    count = max(ranking.pool, 2 * one.k)
    while True:
        hits = _fetched(one, count, vector, backend, space)
        best = refined(hits, one.k, ranking, text=one.text, known_by=one.where.known_by, parts=one.parts)
        if ranking.near_duplicates is None or len(best) == one.k or len(hits) < count or count >= _MOST:
            return best
        count = min(4 * count, _MOST)


def _fetched(
    one: Asked, count: int, vector: Vector | None, backend: EpisodicBackend, space: EmbeddingSpace
) -> list[Hit]:
    if one.is_plain and vector is not None:
        return backend.search(vector, count, one.where, space=space)
    text = one.sought if isinstance(one.sought, str) else ""
    query = Query(
        text=text,
        roles=one.roles,
        dates=one.dates,
        vector=vector,
        mode=one.mode,
        around=one.around,
        parts=one.parts,
    )
    return backend.retrieve(query, count, one.where, space=space)


def checked_where(where: object) -> Filter:
    """Return `where` if it is a Filter."""
    if not isinstance(where, Filter):
        raise InputError(f"where must be a Filter such as Filter(session_id=...), got {type(where).__name__}")
    return where


def _check_around(around: object) -> None:
    if isinstance(around, bool) or not isinstance(around, int) or around < 0:
        raise InputError(f"around must be an integer from 0 up, got {around!r}")


def _check_ranking(ranking: object) -> None:
    if not isinstance(ranking, Ranking):
        raise InputError(f"ranking must be a Ranking, got {type(ranking).__name__}")
