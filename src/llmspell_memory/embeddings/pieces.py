"""Cutting texts to what a provider takes: long texts into pieces, pieces into calls."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmspell_memory.types import BatchLimits

_UP_TO_WHITESPACE: Final = re.compile(r".*\s", re.DOTALL)


class Piece(NamedTuple):
    """A part of a text, or all of it.

    Attributes:
        owner: number of the text it belongs to.
        text: its characters.
        weight: its share of the text's vector.
        last: whether the text ends with it.
    """

    owner: int
    text: str
    weight: float = 1.0
    last: bool = True


def cut(text: str, limit: int) -> Iterator[str]:
    """Yield pieces of at most `limit` characters that together are `text`.

    A cut stands after the last whitespace in the second half of what fits; where there is none, at the limit.
    """
    start = 0
    while len(text) - start > limit:
        end = start + limit
        found = _UP_TO_WHITESPACE.match(text, start + limit // 2, end)
        end = found.end() if found else end
        yield text[start:end]
        start = end
    yield text[start:]


def piece_limit(limits: BatchLimits) -> int | None:
    """Return the most bytes one piece may have, None for no limit."""
    return min((limit for limit in (limits.text_bytes, limits.total_bytes) if limit is not None), default=None)


def fits(text: str, limit: int | None) -> bool:
    """Say whether `text` may stay whole under a limit in bytes."""
    return limit is None or len(text) * 4 <= limit or _bytes(text) <= limit


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _widest(text: str) -> int:
    """Bytes of the widest character of `text`."""
    return len(max(text).encode())


def pieces(texts: Iterable[str], limits: BatchLimits) -> Iterator[Piece]:
    """Yield every text whole where it fits, and otherwise in pieces weighted by their length."""
    limit = piece_limit(limits)
    for owner, text in enumerate(texts):
        if limit is None or fits(text, limit):
            yield Piece(owner, text)
            continue
        done = 0
        for part in cut(text, max(1, limit // _widest(text))):
            done += len(part)
            yield Piece(owner, part, len(part) / len(text), done == len(text))


def batches(parts: Iterable[Piece], limits: BatchLimits) -> Iterator[list[Piece]]:
    """Group pieces, in order, into calls that keep to the limits."""
    batch: list[Piece] = []
    total = 0
    for part in parts:
        size = _bytes(part.text)
        too_long = limits.total_bytes is not None and total + size > limits.total_bytes
        if batch and (too_long or len(batch) == limits.texts):
            yield batch
            batch, total = [], 0
        batch.append(part)
        total += size
    if batch:
        yield batch
