"""Texts as PostgreSQL's full-text search sees them: by our own terms, so that words mean the same in every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from llmspell_memory.index.analysis import Analyzer

StoredWords: TypeAlias = tuple[str, int]
"""The terms of a text as they are stored, and how many they are."""

_LAST_PLACE: Final = 16_383
_MOST_PLACES: Final = 255
_MOST_BYTES: Final = 1_000_000
"""What a tsvector holds: places in a text, of one term, and bytes of all."""

_OVERHEAD_BYTES: Final = 8
_PLACE_BYTES: Final = 2


def as_stored(analyzer: Analyzer, text: str) -> StoredWords:
    """Return the words of a text."""
    terms = analyzer.terms(text)
    return as_tsvector(terms), len(terms)


def as_tsvector(terms: Sequence[str]) -> str:
    """Return the terms of a text as a tsvector is written; of a text with more than fits, those that come first."""
    places: dict[str, list[int]] = {}
    size = 0
    for place, term in enumerate(terms, start=1):
        known = places.get(term)
        if known is None:
            size += len(term.encode()) + _OVERHEAD_BYTES + _PLACE_BYTES
            if size > _MOST_BYTES:
                break
            places[term] = [min(place, _LAST_PLACE)]
        elif len(known) < _MOST_PLACES and place <= _LAST_PLACE and size < _MOST_BYTES:
            size += _PLACE_BYTES
            known.append(place)
    return " ".join(f"{quoted(term)}:{','.join(map(str, at))}" for term, at in places.items())


def quoted(term: str) -> str:
    """Return a term as a lexeme is written."""
    escaped = term.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def any_of(terms: Iterable[str]) -> str:
    """Return what matches a text with any of the terms, as a tsquery is written."""
    return " | ".join(map(quoted, terms))
