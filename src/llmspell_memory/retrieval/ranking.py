"""How hits are weighed beyond their scores, as one frozen value.

It stands here and not among the other values, for it holds what a protocol describes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from llmspell_memory.errors import ConfigError
from llmspell_memory.protocols import Reranker

if TYPE_CHECKING:
    from llmspell_memory.protocols import TimeReader

_WIDEST: Final = 10_000
"""The largest pool: its hits are compared in pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """How the best hits of a search are weighed again; what is left out is not done.

    A pool of more hits than were asked for is taken from the backend, each of which matches the filter. They are scored
    anew by the reranker, gain by age and by the times that the query names, near duplicates are left out, and the k
    best are taken.

    A gain is a share of the pool's spread: of how far its best score lies above its last. So it means the same for
    cosines, BM25 scores, sums of both and whatever a reranker returns, negative ones too; a hit that is ahead of
    another by more than that share stays ahead.

    Attributes:
        half_life: a hit of this moment gains `recency` of the spread, one as old as this half of that, and so on.
        recency: the most that is gained by being recent, from 0 to 1.
        dates: reads the times that a query names, such as `NamedTimes()`; hits of such a time gain `naming`.
        naming: what is gained by being of a time that is named, from 0 to 1.
        near_duplicates: hits whose vectors have at least this cosine are one, and so are hits of equal words; the best
            of them stays. Above 0, up to 1; 0.95 is usual. Fewer than k come back where the 5,000 best hits hold no
            more.
        mmr: the weight of relevance against variety, from 0 to 1: each hit is chosen by its score and by how little it
            resembles those before it (maximal marginal relevance, Carbonell & Goldstein 1998, with scores brought to
            0..1 over the pool). Hits then come in the order they were chosen in. 0.7 is usual; it costs recall.
        reranker: scores the pool anew. Needs a query that is a text.
        pool: how many hits are weighed at least; twice k where that is more. Up to 10,000.
        now: the moment that ages and words such as "yesterday" are measured from. When None, the filter's `known_by`,
            or the present. Days begin and end in its time zone.

    Raises:
        ConfigError: a value is out of its range, or of the wrong kind.
    """

    half_life: timedelta | None = None
    recency: float = 0.25
    dates: TimeReader | None = None
    naming: float = 0.5
    near_duplicates: float | None = None
    mmr: float | None = None
    reranker: Reranker | None = None
    pool: int = 50
    now: datetime | None = None

    def __post_init__(self) -> None:
        if self.half_life is not None and not (isinstance(self.half_life, timedelta) and self.half_life > timedelta()):
            raise ConfigError(f"half_life must be a positive timedelta, got {self.half_life!r}")
        for name in ("recency", "naming"):
            _check_share(name, getattr(self, name))
        for name in ("near_duplicates", "mmr"):
            if getattr(self, name) is not None:
                _check_share(name, getattr(self, name))
        if self.near_duplicates == 0:
            raise ConfigError("near_duplicates must be above 0; to leave none out, None")
        if self.dates is not None and not callable(self.dates):
            raise ConfigError(f"dates must be callable with a text and a datetime, got {type(self.dates).__name__}")
        if self.reranker is not None and not isinstance(self.reranker, Reranker):
            raise ConfigError(
                f"reranker must have a method rerank(query, texts), got {type(self.reranker).__name__}; a function is "
                "wrapped by CallableReranker(function)"
            )
        if isinstance(self.pool, bool) or not isinstance(self.pool, int) or not 1 <= self.pool <= _WIDEST:
            raise ConfigError(f"pool must be an integer in 1..{_WIDEST}, got {self.pool!r}")
        if self.now is not None and (not isinstance(self.now, datetime) or self.now.utcoffset() is None):
            raise ConfigError(f"now must be a timezone-aware datetime, got {self.now!r}")


def _check_share(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"{name} must be a number in 0..1, got {value!r}")
