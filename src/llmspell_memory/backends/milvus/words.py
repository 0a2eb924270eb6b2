"""Texts as Milvus finds them by words: by our own terms, so that words mean the same in every backend.

Of a text that has more different terms than an array holds, those that come first are found.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.backends.milvus.rows import MOST_PLACES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ALWAYS: Final = 0
"""A place that every sparse vector has, since none may be empty, and that nobody asks for."""

_K1: Final = 1.2
_USUAL_LENGTH: Final = 20.0
"""Terms of a text as it is thought to be while it is stored: what is found so is scored anew by what there is."""


def number_of(term: str) -> int:
    """Return what stands for a term in the array that is counted by."""
    return int.from_bytes(blake2b(term.encode(), digest_size=8).digest(), "big") >> 1


def _place_of(number: int) -> int:
    """Return the place of a term in a sparse vector; two may share one, which costs a candidate at most."""
    return max(1, number % (2**32 - 1))


def written(terms: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a text's terms."""
    counts = dict(list(Counter(terms).items())[:MOST_PLACES])
    norm = _K1 * (0.5 + 0.5 * len(terms) / _USUAL_LENGTH)
    words: dict[int, float] = {_ALWAYS: 1.0}
    for term, count in counts.items():
        place = _place_of(number_of(term))
        words[place] = max(words.get(place, 0.0), count * (_K1 + 1.0) / (count + norm))
    return {"terms": [number_of(term) for term in counts], "words": words, "length": len(terms)}


def asked(weights: Mapping[str, float]) -> dict[int, float]:
    """Return the sparse vector that finds texts with terms, by how rare each is."""
    return {_place_of(number_of(term)): max(weight, 1e-6) for term, weight in weights.items()}
