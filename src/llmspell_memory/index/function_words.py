"""Words that say little of what a text is about, and how much a text tells, by the words it begins with."""

from __future__ import annotations

import re
from typing import Final

_I: Final = "i i'm i've i'd i'll me my mine myself we we're we've we'd we'll us our ours ourselves"
_YOU: Final = "you you're you've you'd you'll your yours yourself yourselves"
_OTHERS: Final = """
    a about above after again against all am an and any are aren't as at be because been before being below
    between both but by can can't could couldn't did didn't do does doesn't doing don't down during each few for
    from further had hadn't has hasn't have haven't having he he's her here here's hers herself him himself his
    how how's if in into is isn't it it's its itself just let's more most mustn't no nor not now of off on once
    only or other ought out over own same she she's should shouldn't so some such than that that's the their
    theirs them themselves then there there's these they they'd they'll they're they've this those through to too
    under until up very was wasn't were weren't what what's when when's where where's which while who who's whom
    why why's will with won't would wouldn't
"""
_TELLING: Final = """
    say says said saying tell tells told telling mention mentions mentioned mentioning remind recall remember
"""
_FIRST: Final = frozenset(_I.split())
_SECOND: Final = frozenset(_YOU.split())
_ENGLISH: Final = _FIRST.union(_SECOND, _OTHERS.split())

_ASKING: Final = _ENGLISH.union(_TELLING.split())
"""What a question about a conversation has besides what it is about."""

_FUNCTION_WORDS: Final = {"english": _ENGLISH, "porter": _ENGLISH}
_WORDS_OF_QUESTIONS: Final = {"english": _ASKING, "porter": _ASKING}

_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_BEGINNING: Final = 50
"""Words that are looked at of a text."""

_MOST_LETTERS: Final = 1_000
"""Letters that are: so many words have fewer."""

_OF_SELF: Final = 2.0
_OF_CONTENT: Final = 4.0
_HALF: Final = 5.0
_OF_ASKING: Final = 0.4


def without_function_words(text: str, language: str | None) -> str:
    """Return a query's words that say what it is about; all, where there are no such, or for other languages."""
    known = _WORDS_OF_QUESTIONS.get(language or "")
    if known is None:
        return text
    kept = [piece for piece in text.split() if _plain(piece) not in known]
    return " ".join(kept) or text


def is_keywords(text: str, language: str | None) -> bool:
    """Say whether a query is no sentence: no question, and without any function word; False for other languages."""
    known = _FUNCTION_WORDS.get(language or "")
    return known is not None and not _asks(text) and known.isdisjoint(map(_plain, text.split()))


def _asks(text: str) -> bool:
    return text.rstrip().endswith(("?", "\uff1f", "\u061f"))


def _plain(piece: str) -> str:
    return piece.strip(".,;:!?\"'()[]…").casefold().replace("\u2019", "'")


def worth(text: str, language: str | None) -> float:
    """Return how much a text tells, whatever it is asked for: -2.4 to 6, mostly 1 to 4.

    More, the more different words it begins with; more, if it speaks of the speaker ("I", "my") and not of the listener
    ("you", "your"), as who tells something does, and who asks or advises does not; less for a question. Where the
    language has no list of such words, its different words count alone.
    """
    words = _WORD.findall(text[:_MOST_LETTERS].casefold().replace("\u2019", "'"))[:_BEGINNING]
    known = _FUNCTION_WORDS.get(language or "", frozenset())
    content = len(set(words) - known)
    value = _OF_CONTENT * content / (content + _HALF)
    if known:
        told, asked = sum(map(_FIRST.__contains__, words)), sum(map(_SECOND.__contains__, words))
        value += _OF_SELF * (told - asked) / (told + asked + 1)
    return value - (_OF_ASKING if _asks(text) else 0.0)
