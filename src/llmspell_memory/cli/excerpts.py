"""The passage of a long content that says most of what a query asks for, with the words that they share."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.text import Text

from llmspell_memory.cli.render import SHOWN, visible
from llmspell_memory.index.analysis import Analyzer
from llmspell_memory.index.function_words import without_function_words

if TYPE_CHECKING:
    from collections.abc import Iterator

_READ: Final = 50_000
"""Characters of a content that are looked through."""

_LEAD: Final = 60
"""Characters shown before the first shared word."""

_LONGEST: Final = 40
"""A longer piece is no word, but an address, or a sentence without spaces: it is not marked."""


class Excerpts:
    """Makes excerpts for one query.

    Args:
        query: whose words are looked for; function words are not.
        language: how words are told apart, as in `KeywordConfig`.
        style: of rich, for the words that are shared.
    """

    def __init__(self, query: str, language: str | None, *, style: str = "bold yellow") -> None:
        self._terms = Analyzer(language).terms
        self._sought = frozenset(self._terms(without_function_words(query, language)))
        self._style = style

    def of(self, content: str) -> Text:
        """Return a line of a content: its beginning, unless more of the sought words stand elsewhere."""
        line = " ".join(visible(content[:_READ]).split())
        shared = list(self._shared(line))
        begin = _best_begin(line, shared)
        end = begin + SHOWN
        cut = line[begin:end] if len(line) <= end and len(content) <= _READ else f"{line[begin : end - 1].rstrip()}…"
        text = Text(f"…{cut[1:]}" if begin else cut)
        for at, length, _ in shared:
            if begin <= at and at + length < end:
                text.stylize(self._style, at - begin, at - begin + length)
        return text

    def _shared(self, line: str) -> Iterator[tuple[int, int, frozenset[str]]]:
        """Yield where each word stands that is sought, how long it is, and its terms."""
        at = 0
        for piece in line.split(" "):
            terms = self._sought.intersection(self._terms(piece)) if len(piece) <= _LONGEST else None
            if terms:
                yield at, len(piece), terms
            at += len(piece) + 1


def _best_begin(line: str, shared: list[tuple[int, int, frozenset[str]]]) -> int:
    """Return where the excerpt begins that has most of the sought terms; the first of several."""
    begins = [0, *(line.rfind(" ", 0, max(at - _LEAD, 0)) + 1 for at, _, _ in shared)]
    within: Counter[str] = Counter()
    first = end = most = best = 0
    for begin in begins:  # in order, so that what an excerpt has is the last one's, but for what comes and goes
        while end < len(shared) and sum(shared[end][:2]) < begin + SHOWN:
            within.update(shared[end][2])
            end += 1
        while first < end and shared[first][0] < begin:
            within.subtract(shared[first][2])
            first += 1
        terms = len(+within)
        if terms > most:
            most, best = terms, begin
    return best
