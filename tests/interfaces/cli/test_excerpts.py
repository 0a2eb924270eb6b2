"""Of a long content, the passage is shown that a query asks for, and the words that they share are marked."""

from __future__ import annotations

import pytest

from llmspell_memory.cli.excerpts import Excerpts
from llmspell_memory.cli.render import SHOWN

FILLER = "and so on it went for quite a while with nothing of interest "


def marked(query: str, content: str, language: str | None = "english") -> list[str]:
    text = Excerpts(query, language).of(content)
    return [text.plain[span.start : span.end] for span in text.spans]


def test_shared_words_are_marked_by_their_stems() -> None:
    """Words of one stem are the same, in any case and with what stands at them; function words count alone."""
    assert marked("what did the bakeries cost?", "The Bakery, she said, costs the earth.") == ["Bakery,", "costs"]
    assert marked("bakeries", "The bakery", language=None) == []
    assert marked("Häuser", "Ein Haus am See", language="german") == ["Haus"]
    assert marked("what is it?", "what it was") == ["what", "it"]
    assert marked("what is the rent?", "what it was") == []


def test_a_short_content_is_shown_whole() -> None:
    """What fits is not cut, whatever is found in it; lines become one."""
    assert Excerpts("ferry", "english").of("The\n ferry\tleaves. ").plain == "The ferry leaves."


def test_the_passage_with_most_of_the_words_is_shown() -> None:
    """Of a long content the part is taken where most of the words stand; its beginning, where none has more."""
    content = f"The rent was named. {FILLER * 20}The rent of the old mill is due on Friday. {FILLER * 20}"
    text = Excerpts("when is the rent of the mill due", "english").of(content)
    assert text.plain.startswith("…")
    assert text.plain.endswith("…")
    assert "The rent of the old mill is due on Friday." in text.plain
    assert len(text.plain) <= SHOWN
    assert {text.plain[span.start : span.end] for span in text.spans} == {"rent", "mill", "due"}
    assert Excerpts("rent", "english").of(content).plain.startswith("The rent was named.")
    assert Excerpts("nothing alike", None).of(FILLER * 20).plain == f"{(FILLER * 20)[: SHOWN - 1].rstrip()}…"


@pytest.mark.parametrize(
    "content", ["", " ", "x" * 10_000, "漢字" * 5_000, "\x1b[31mred\x1b[0m " * 500, "word " * 99_999]
)
def test_any_content_gives_one_line_of_the_length(content: str) -> None:
    """No content breaks the line, drives the terminal or is longer than what is shown."""
    text = Excerpts("red word 漢字", "english").of(content)
    assert len(text.plain) <= SHOWN
    assert text.plain.isprintable()
