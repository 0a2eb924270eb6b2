"""Text to terms: what two texts must share for one to be found by the other. Queries and rows go the same way.

A text is taken apart at spaces, and each piece into terms, which are remembered: most pieces come again.

- Words are compared by their stems (Snowball), without regard to case and width (Unicode NFKC and case folding).
- A compound gives its parts and the whole, written together: `e-mail` gives `e`, `mail` and `email`; `user_id`,
  `userId` and `user.id` give `user`, `id` and `userid`. Between digits what joins them stays: `3.14`,
  `2024-05-07`, `10:30`.
- Scripts without spaces, and Korean, give each two neighbouring characters, or the one that stands alone.
- Endings after an apostrophe are dropped where they are English (`Anna's`, `we'll`), and `n't` is written `nt`. The v
  before a number is dropped, too: `v1.2` is `1.2`.
- An emoji is a term: in a conversation it may be all that was said. Its variants count as one.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Final

import Stemmer

from llmspell_memory.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION: Final = 1
"""Of these rules; a change by which any text gets other terms takes a new one."""

_LONGEST: Final = 128
"""Letters that count of a word, and that a compound may have to be a term itself."""

_MOST_HUMPS: Final = 8
"""A word of more humps is no name but data."""

_KEPT: Final = 1 << 15
"""Pieces remembered at most: some 8 MB, 15 at worst."""

_LONGEST_KEPT: Final = 32
_MOST_TERMS_KEPT: Final = 4
"""Letters and terms of a piece that is remembered; longer ones seldom come again."""

_NUMBERS_COMMA: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_ENDING: Final = re.compile(r"(?<=\w)'(?:s|m|d|ll|re|ve)\b", re.IGNORECASE)
_NOT: Final = re.compile(r"(?<=n)'(?=t\b)", re.IGNORECASE)

_WORD: Final = re.compile(r"(?:[aA0]m*)+")
_TOKEN: Final = re.compile(
    rf"(?P<compound>{_WORD.pattern}(?:(?:_{{1,2}}|:{{1,2}}|://|[-./@\\'+&#=~]){_WORD.pattern})*(?:\+\+|\#)?)|u+|e"
)
_VERSION: Final = re.compile("[aA]0+")
_UNSTEMMED: Final = re.compile(r"[0-9+#]")
_HUMPED: Final = re.compile(r"am*A|Am*Am*a")
_HUMP: Final = re.compile(r"(?:Am*)+(?!m*a)|(?:Am*)?(?:am*)+|(?:0m*)+")

_UNSPACED: Final = (
    *((0x0E00, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3040, 0x318F), (0x31A0, 0x31FF)),
    *((0x3400, 0x9FFF), (0xA960, 0xA97F), (0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0x1B000, 0x1B16F), (0x20000, 0x3FFFF)),
)
"""Thai, Lao, Tibetan, Myanmar, Khmer; Hangul; Chinese characters, kana, bopomofo."""

_FOLDED: Final = frozenset({"english", "porter"})
"""Languages whose words have accents in names and loans alone, where many leave them out."""


class _Cleaned(dict[int, str | None]):
    """What `str.translate` makes of a character before anything else: None where it says nothing about a word."""

    def __missing__(self, code: int) -> str | None:
        self[code] = cleaned = self._cleaned(code)
        return cleaned

    def _cleaned(self, code: int) -> str | None:
        letter = chr(code)
        category = unicodedata.category(letter)
        if letter in "\u2019\u02bc":
            return "'"
        if letter in "\u2010\u2011":
            return "-"
        if letter == "\u200b" or category == "Cs":
            return " "
        if category == "Nd":
            return str(unicodedata.decimal(letter))
        # Joiners and other marks of format; variants, colours of skin, and the frame of a key.
        if category == "Cf" or 0xFE00 <= code <= 0xFE0F or 0x1F3FB <= code <= 0x1F3FF or code == 0x20E3:  # noqa: PLR2004
            return None
        return letter


class _Kinds(dict[int, str]):
    """The kind of a character: a letter of the signature that the rules above are written in."""

    def __missing__(self, code: int) -> str:
        self[code] = kind = self._kind(code)
        return kind

    def _kind(self, code: int) -> str:
        letter = chr(code)
        major, minor = tuple(unicodedata.category(letter))
        if major in "LM" and any(low <= code <= high for low, high in _UNSPACED):
            return "u"
        if major == "L":
            return "A" if minor in "ut" else "a"
        if major == "N":
            return "0"
        if major == "M":
            return "m"
        if letter in "-./@\\'+&#=~_:":
            return letter
        return "e" if (major, minor) == ("S", "o") and code >= 0x2600 else " "  # noqa: PLR2004 (where symbols become pictures)


_CLEANED: Final = _Cleaned()
_KINDS: Final = _Kinds()


class Analyzer:
    """Makes terms of texts; may be used from several threads.

    Args:
        language: whose Snowball stemmer is used; None leaves words as they are.

    Raises:
        ConfigError: there is no such stemmer.
    """

    def __init__(self, language: str | None = "english") -> None:
        self.language = checked_language(language)
        self._known = _Known(language)

    def terms(self, text: str) -> list[str]:
        """Return the terms of `text`, each as often as it occurs."""
        return list(chain.from_iterable(map(self._known.__getitem__, text.split())))


def rules_of(language: str | None) -> str:
    """Return what terms depend on: those of other rules are not to be compared with these."""
    return f"{language or ''}/{VERSION}/{Stemmer.version()}/{unicodedata.unidata_version}"


def checked_language(language: object) -> str | None:
    """Return the name of a Snowball stemmer, or None, else raise a ConfigError."""
    if language is None or (isinstance(language, str) and language in Stemmer.algorithms()):
        return language
    raise ConfigError(f"language must be one of {', '.join(Stemmer.algorithms())}, or None; got {language!r}")


class _Known(dict[str, tuple[str, ...]]):
    """The terms of each piece that came lately; others are made when they are asked for."""

    def __init__(self, language: str | None) -> None:
        super().__init__()
        self._folded = language in _FOLDED
        self._stem = (lambda word: word) if language is None else _stemmer(language).stemWord

    def __missing__(self, piece: str) -> tuple[str, ...]:
        terms = tuple(self._terms(piece))
        if len(piece) <= _LONGEST_KEPT and len(terms) <= _MOST_TERMS_KEPT:
            if len(self) >= _KEPT:
                self.clear()
            self[piece] = terms
        return terms

    def _terms(self, piece: str) -> Iterator[str]:
        text = piece if piece.isascii() else unicodedata.normalize("NFKC", piece).translate(_CLEANED)
        if "," in text:
            text = _NUMBERS_COMMA.sub("", text)
        if "'" in text:
            text = _NOT.sub("", _ENDING.sub("", text))
        kinds = text.translate(_KINDS)
        for token in _TOKEN.finditer(kinds):
            if token["compound"]:
                yield from self._compound(text[token.start() : token.end()], token[0])
            elif len(token[0]) > 1:
                yield from map("".join, pairwise(text[token.start() : token.end()]))
            else:
                yield text[token.start()]

    def _compound(self, text: str, kinds: str) -> Iterator[str]:
        """Yield the terms of a word, or of several that are joined: its parts, and the whole if there is more to it."""
        parts: list[str] = []
        whole: list[str] = []
        end = 0
        for word in _WORD.finditer(kinds):
            start = word.start()
            if _VERSION.fullmatch(word[0]) and text[start] in "vV":
                start += 1
            if end and kinds[end - 1] == kinds[start] == "0":
                whole.append(text[end:start])
            end = word.end()
            whole.append(text[start:end])
            parts += _humps(text[start:end][:_LONGEST], kinds[start:end][:_LONGEST])
        whole.append(text[end:])  # of C++ and C#
        yield from map(self._term, parts)
        if (len(parts) > 1 or end < len(text)) and sum(map(len, whole)) <= _LONGEST:
            yield self._term("".join(whole))

    def _term(self, word: str) -> str:
        word = word.casefold()
        if self._folded and not word.isascii():
            word = "".join(map(_folded, word))
        return word if _UNSTEMMED.search(word) else self._stem(word)


def _stemmer(language: str) -> Stemmer.Stemmer:
    """Return a stemmer that remembers nothing: pieces are remembered here. It works under the interpreter's lock."""
    return Stemmer.Stemmer(language, 0)


def _humps(word: str, kinds: str) -> list[str]:
    """Return the parts of a word in camel case; of any other word, the word."""
    if not _HUMPED.search(kinds):
        return [word]
    humps = [word[hump.start() : hump.end()] for hump in _HUMP.finditer(kinds)]
    return humps if len(humps) <= _MOST_HUMPS else [word]


def _folded(letter: str) -> str:
    """Return a Latin letter without its accent, any other as it is."""
    base = unicodedata.normalize("NFD", letter)[0]
    return base if base.isascii() and base.isalpha() else letter
