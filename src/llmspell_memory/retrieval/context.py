"""Entries as a text to put before a language model, within a budget of tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final, TypeAlias

from llmspell_memory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

    from llmspell_memory.types import EpisodicEntry
    from llmspell_memory.types.changes import Identity

_INDENT: Final = "\n    "

TokenCounter: TypeAlias = Callable[[str], int]
"""Says how many tokens a text is to a model."""


@dataclass(frozen=True, slots=True)
class Context:
    """What is remembered, as a text.

    Attributes:
        text: turns in the order they happened, under headings of their session and their date (UTC), each after its
            role; "" where there is none. Further lines of a turn are indented, so that nothing that was said passes for
            a heading, or for a turn of somebody else's.
        sources: identities of the entries it holds, in that order.
        tokens: what the text counts, 0 where it is empty.
    """

    text: str
    sources: tuple[Identity, ...]
    tokens: int

    def __str__(self) -> str:
        return self.text


def most_tokens(text: str) -> int:
    """Return how many tokens a text is at most: its bytes in UTF-8, and two for marks that a tokenizer sets before it.

    No tokenizer that falls back on bytes makes more of it (byte-level BPE, and SentencePiece as Llama has it), whatever
    the script. English prose is a fourth of it; a model's own tokenizer uses a budget to the full.
    """
    return len(text.encode()) + 2


def best_within(entries: Iterable[EpisodicEntry], budget: int, count: TokenCounter) -> Context:
    """Return a context of the best entries: each is taken, best first, that the budget has room for."""
    chosen: list[EpisodicEntry] = []
    best = Context("", (), 0)
    for entry in entries:
        tried = written([*chosen, entry], count)
        if tried.tokens <= budget:
            chosen.append(entry)
            best = tried
    return best


def newest_within(entries: Sequence[EpisodicEntry], budget: int | None, count: TokenCounter) -> Context:
    """Return a context of all entries, which come oldest first; with a budget, of the newest that it has room for."""
    if budget is None:
        return written(entries, count)
    sizes = range(1, len(entries) + 1)
    kept = bisect_right(sizes, budget, key=lambda size: written(entries[-size:], count).tokens)
    return written(entries[len(entries) - kept :], count)


def written(entries: Iterable[EpisodicEntry], count: TokenCounter) -> Context:
    """Return entries as one text, sessions by the first entry that each has here."""
    sessions: dict[tuple[tuple[str, ...], str], list[EpisodicEntry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda one: (one.timestamp, one.id)):
        sessions[entry.namespace, entry.session_id].append(entry)
    if not sessions:
        return Context("", (), 0)
    text = "\n\n".join(_session(name, turns) for (_, name), turns in sessions.items())
    return Context(text, tuple(entry.identity for turns in sessions.values() for entry in turns), _counted(text, count))


def checked_budget(value: object) -> int:
    """Return `value` if it is a number of tokens, from 0 up."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"budget_tokens must be an integer from 0 up, got {value!r}")
    return value


def _session(name: str, turns: Iterable[EpisodicEntry]) -> str:
    days = (_day(day, of_day) for day, of_day in groupby(turns, key=lambda one: one.timestamp.date()))
    return "\n\n".join([f"## {_line(name)}", *days])


def _day(day: date, turns: Iterable[EpisodicEntry]) -> str:
    return "\n".join([f"### {day.isoformat()}", *(f"{_line(one.role)}: {_lines(one.content)}" for one in turns)])


def _line(name: str) -> str:
    """Return a name as one line, so that none passes for a heading or a turn of its own."""
    return " ".join(name.split())


def _lines(content: str) -> str:
    """Return a text with all lines but its first indented, wherever a reader might see a line's end."""
    return _INDENT.join(content.splitlines())


def _counted(text: str, count: TokenCounter) -> int:
    tokens = count(text)
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
        raise InputError(f"count_tokens must return an integer from 0 up, got {tokens!r}")
    return tokens
