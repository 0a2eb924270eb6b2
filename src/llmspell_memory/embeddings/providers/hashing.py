"""Vectors from hashed words and letters: no model, no download, the same on every machine."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from llmspell_memory.embeddings.pieces import cut
from llmspell_memory.types import EmbeddingSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from llmspell_memory.protocols import EmbeddingKind
    from llmspell_memory.types import Matrix, Vector

_TOKENS: Final = re.compile(r"\w+|[^\w\s]+")
_SPACE: Final = 0x20
_GRAMS: Final = (3, 4, 5)
_CHUNK: Final = 1 << 15
"""Characters hashed at once; what keeps the memory of a long text bounded."""

_FEATURES: Final = 1 << 20
"""Distinct features told apart: a text of a thousand of them has one chance in two of one collision."""

_WORD: Final = _FEATURES >> 1
"""Set in a feature that is a whole word; those count more than the letters they are made of."""

_WORD_WEIGHT: Final = 2.0
_NOTHING: Final = 1e-6
_SHIFTS: Final = tuple(map(np.uint64, (30, 27, 31)))
_FACTORS: Final = tuple(map(np.uint64, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)))


class HashingProvider:
    """For tests and first steps, not for production: it knows which letters texts share, not what they mean.

    Signed feature hashing (Weinberger et al. 2009, section 2) of words and of the 3 to 5 letters within them, folded by
    NFKC and case, each counted as 1 + log(tf). Deterministic, across processes and platforms; offline; needs numpy
    alone. Every text gets a vector of unit length, blanks and emoji too. Letters that a newer Unicode adds may fold
    otherwise under another Python.

    Attributes:
        name: "hashing".
        model: None.
        dimensions: width of the vectors; the fewer, the more unrelated words share a place.

    Raises:
        ConfigError: `dimensions` is out of range.
    """

    name: str = "hashing"
    model: str | None = None

    def __init__(self, dimensions: int = 256) -> None:
        self.dimensions = EmbeddingSpace(provider=self.name, model=None, dimensions=dimensions).dimensions

    def __repr__(self) -> str:
        return f"HashingProvider({self.dimensions})"

    def embed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Return one row of unit length per text, in order; queries and documents are embedded alike."""
        del kind
        rows = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            rows[row] = self._vector(text)
        return rows

    async def aembed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Do what `embed` does, inline: a short text takes less than a thread hop."""
        return self.embed(texts, kind=kind)

    def _vector(self, text: str) -> Vector:
        features, counts = _counted(text)
        weights = 1.0 + np.log(counts)
        weights[features >= _WORD] *= _WORD_WEIGHT
        weights[features & 1 == 0] *= -1.0
        sums = np.bincount((features >> 1) % self.dimensions, weights, self.dimensions)
        norm = np.sqrt(sums.dot(sums))
        if norm < _NOTHING:  # all cancelled out, as happens in few dimensions: the whole text is then the one feature
            sums[:] = 0.0
            sums[_whole(text) % self.dimensions] = norm = 1.0
        vector: Vector = (sums / norm).astype(np.float32)
        return vector


def _counted(text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct features of `text`, ascending, and how often each occurs."""
    if len(text) <= _CHUNK:
        features = np.sort(_features(text))  # and what follows is np.unique, at a third of its cost for a short text
        (first,) = np.concatenate(([True], features[1:] != features[:-1], [True])).nonzero()
        return features[first[:-1]], np.diff(first)
    table = np.zeros(_FEATURES, dtype=np.int64)
    for part in cut(text, _CHUNK):
        table += np.bincount(_features(part), minlength=_FEATURES)
    features = np.flatnonzero(table)
    return features, table[features]


def _features(text: str) -> NDArray[np.int64]:
    """Return the features of one chunk: every word, and every 3 to 5 characters of " word "."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    line = f" {' '.join(_TOKENS.findall(folded))} "
    codes = np.frombuffer(line.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    spaces = codes == _SPACE
    (edges,) = spaces.nonzero()
    starts, ends = _grams(spaces)
    starts.append(edges[:-1] + 1)
    ends.append(edges[1:])
    features = _hashed(codes, np.concatenate(starts), np.concatenate(ends)) & (_WORD - 1)
    features[len(features) - len(edges) + 1 :] |= _WORD
    return features


def _grams(spaces: NDArray[np.bool_]) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Return where the 3 to 5 characters start and end that have a space at an end or nowhere, one array a size."""
    before = np.zeros(len(spaces) + 1, dtype=np.int32)
    spaces.cumsum(out=before[1:])
    starts, ends = [], []
    for size in _GRAMS:
        count = max(0, len(spaces) - size + 1)
        (start,) = (before[size - 1 : size - 1 + count] == before[1 : 1 + count]).nonzero()
        starts.append(start)
        ends.append(start + size)
    return starts, ends


def _hashed(codes: NDArray[np.uint32], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a hash of each codes[start:end].

    The prefix sum at end less that at start is the polynomial of the characters times the power of start. Dividing
    that out leaves a hash of the characters alone, so every substring costs one subtraction and one product.
    """
    powers, inverses = _powers(1 << len(codes).bit_length())
    prefix = np.zeros(len(codes) + 1, dtype=np.uint64)
    (codes * powers[: len(codes)]).cumsum(out=prefix[1:])
    return _mixed((prefix[ends] - prefix[starts]) * inverses[starts])


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Spread every input bit over the lower output bits (the finaliser of splitmix64, Steele et al. 2014)."""
    mixed = (hashes ^ (hashes >> _SHIFTS[0])) * _FACTORS[0]
    mixed = (mixed ^ (mixed >> _SHIFTS[1])) * _FACTORS[1]
    return (mixed >> _SHIFTS[2]).view(np.int64)


def _whole(text: str) -> int:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    powers, _ = _powers(1 << len(codes).bit_length())
    return int(_mixed(np.sum(codes * powers[: len(codes)], keepdims=True))[0])


@cache
def _powers(size: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the powers of an odd number modulo 2**64, and their inverses, which odd numbers have."""
    base = 0x9E3779B97F4A7C15
    inverse = pow(base, -1, 1 << 64)
    both = []
    for factor in (base, inverse):
        row = np.full(size, factor, dtype=np.uint64)
        row[0] = 1
        both.append(np.multiply.accumulate(row))
    return both[0], both[1]
