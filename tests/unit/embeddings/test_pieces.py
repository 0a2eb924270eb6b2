"""Cutting texts to what a provider takes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmspell_memory.embeddings.pieces import batches, cut, pieces
from llmspell_memory.types import BatchLimits


@given(st.text(alphabet="ab \n字", min_size=1), st.integers(1, 12))
def test_pieces_are_the_text(text: Any, limit: Any) -> None:
    """The pieces of a text, put together, are the text; none is empty or too long."""
    found = list(cut(text, limit))
    assert "".join(found) == text
    assert all(0 < len(piece) <= limit for piece in found)


def test_cut_after_whitespace() -> None:
    """A cut stands after whitespace where there is some in the second half of what fits."""
    assert list(cut("alpha beta gamma", 12)) == ["alpha beta ", "gamma"]
    assert list(cut("a bcdefghijkl", 8)) == ["a bcdefg", "hijkl"]


def test_weights_are_shares_of_the_text() -> None:
    """The weights of a text's pieces are their shares of its length, and only the last is marked so."""
    found = list(pieces(["abcdefgh", "xy"], BatchLimits(text_bytes=6)))
    assert [(piece.owner, piece.text, piece.weight, piece.last) for piece in found] == [
        (0, "abcdef", 0.75, False),
        (0, "gh", 0.25, True),
        (1, "xy", 1.0, True),
    ]


@given(
    st.lists(st.text(alphabet="ab éਊ🦀", min_size=1, max_size=30), max_size=20),
    st.integers(1, 5),
    st.integers(4, 40),
    st.one_of(st.none(), st.integers(4, 40)),
)
def test_batches_keep_to_every_limit(texts: Any, most: Any, total_bytes: Any, text_bytes: Any) -> None:
    """No call holds more texts or bytes than the limits say, and the calls hold all pieces in order."""
    limits = BatchLimits(texts=most, total_bytes=total_bytes, text_bytes=text_bytes)
    found = list(batches(pieces(texts, limits), limits))
    assert "".join(piece.text for batch in found for piece in batch) == "".join(texts)
    for batch in found:
        assert 1 <= len(batch) <= most
        assert sum(len(piece.text.encode()) for piece in batch) <= total_bytes
