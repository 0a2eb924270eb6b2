"""Search by words: the native BM25 core behind an analyzer, checked arguments and typed errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llmspell_memory import _core
from llmspell_memory.errors import InputError, SchemaError
from llmspell_memory.index.analysis import Analyzer, rules_of
from llmspell_memory.index.base import as_label_set
from llmspell_memory.index.snapshots import checked_tag, damaged, translated
from llmspell_memory.types import KeywordConfig, KeywordStats
from llmspell_memory.types.arrays import as_labels, checked_k

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from typing import Self

    from numpy.typing import ArrayLike

    from llmspell_memory.index.base import Among
    from llmspell_memory.types import Vector
    from llmspell_memory.types.arrays import Labels

_AT_ONCE: Final = 256
"""Texts that are analyzed before their terms are added."""

_WORD_BYTES: Final = 8
"""Of a number in the note of a snapshot."""


class KeywordIndex:
    """Texts under int64 labels, found by the words they share with a query and ranked by BM25.

    Args:
        config: the language of the stemmer, and BM25's k1 and b.

    What is added is found at once, and what is removed leaves nothing: a word that no text has left is wiped from the
    index. May be used from several threads; a search waits for a writer for some microseconds at most.

    A search among some labels answers as an index of these texts alone would, to the bit: how rare a word is, and how
    long a text, is judged by them. A word counts up to 255 times in a text, and a text as up to 65,535 words.
    """

    def __init__(self, config: KeywordConfig | None = None) -> None:
        self._config = config or KeywordConfig()
        self._analyzer = Analyzer(self._config.language)
        self.core = _core.Words(self._config.k1, self._config.b)
        self.tag = 0

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Return the index that was saved at `path`; all of it is read, and compared with its checksums.

        Raises:
            CorruptDataError: it is not a snapshot of such an index, or not what was written.
            SchemaError: it was written by a newer version, or its words were made by other rules than this one's.
            StorageError: it cannot be read.
        """
        with translated(path, source="texts"):
            core, k1, b, note = _core.open_words(path)
        if not note:
            raise damaged(path, "its note is missing", source="texts")
        tag, *packed = note
        rules = _unpacked(packed)
        language = rules.partition("/")[0] or None
        if rules != rules_of(language):
            raise SchemaError(
                f"the words of the index snapshot {path} were made by other rules ({rules} instead of "
                f"{rules_of(language)}); build the index anew from its texts"
            )
        index = cls(KeywordConfig(language=language, k1=k1, b=b))
        index.core, index.tag = core, tag
        return index

    def save(self, path: str | os.PathLike[str], *, tag: int = 0) -> None:
        """Write the index to `path`, in place of what is there once all is on the disk; searches go on meanwhile.

        Args:
            path: of the file.
            tag: a number of the caller's, from 0 to 2**64 - 1; `open` returns an index with it as its `tag`.

        Raises:
            InputError: `tag` is out of range.
            StorageError: it cannot be written; what was there is still there.
        """
        note = [checked_tag(tag), *_packed(rules_of(self._config.language))]
        with translated(path, source="texts"):
            self.core.save(path, note)

    @property
    def config(self) -> KeywordConfig:
        """The parameters in force."""
        return self._config

    def __len__(self) -> int:
        return len(self.core)

    def add(self, labels: ArrayLike, texts: Sequence[str]) -> None:
        """Add `texts` under `labels`, shape (n,); a known label gets the new text.

        Raises:
            InputError: not integers from 0 up, not as many texts, or not texts. Nothing is added.
        """
        numbers = as_labels(labels)
        if isinstance(texts, str) or len(texts) != len(numbers):
            raise InputError(f"as many texts as labels are needed, got {len(texts)} for {len(numbers)}")
        for text in texts:
            _check_text(text)
        terms = self._analyzer.terms
        for start in range(0, len(texts), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            self.core.add(numbers[some], [terms(text) for text in texts[some]])

    def remove(self, labels: ArrayLike) -> None:
        """Remove `labels`, shape (n,); unknown ones are ignored."""
        self.core.remove(as_labels(labels))

    def search(self, text: str, k: int, *, among: Among = None) -> tuple[Labels, Vector]:
        """Return labels and scores of the k best of the texts that share a word with `text`, best first.

        Args:
            text: the query.
            k: how many, from 0 up; fewer are returned where fewer share a word.
            among: labels that may be returned, as a LabelSet or of shape (n,); all when None, unknown ones are ignored.

        Equal scores are ordered by label.

        Raises:
            InputError: `text`, `k` or `among` is not acceptable.
        """
        terms = self.terms(text)
        found = self.core.search(terms, k, among)
        if found is None:
            found = self.core.search(terms, min(checked_k(k), len(self)), as_label_set(among))
            assert found is not None  # noqa: S101 (for the type checker: all was converted)
        return found

    def scores(self, text: str, labels: ArrayLike, *, among: Among = None) -> Vector:
        """Return the scores of `labels`, shape (n,): 0 for texts that share no word with `text`, and for unknown ones.

        Args:
            text: the query.
            labels: whose scores are wanted.
            among: labels by whose texts rarity and length are judged; all when None.

        Raises:
            InputError: `text`, `labels` or `among` is not acceptable.
        """
        return self.core.scores(self.terms(text), as_labels(labels), as_label_set(among))

    def covering(self, terms: list[str], k: int) -> Labels:
        """Return the labels of the k texts that come soonest to most of some terms, as the blend looks for them."""
        found = self.core.search(terms, k, None, coverage=True)
        assert found is not None  # noqa: S101 (for the type checker: `k` is a count)
        return found[0]

    def stand_for(self, rows: int, length: int, counts: Mapping[str, int]) -> None:
        """Judge rarity and length from now on as if the texts were some of many; nothing may be added any more.

        Args:
            rows: how many texts there are.
            length: how many terms they have in all.
            counts: in how many of them each term is that will be looked for.
        """
        self.core.stand_for(rows, length, list(counts), list(counts.values()))

    def stats(self) -> KeywordStats:
        """Return how many texts and words there are, the parameters, and bytes in memory."""
        return KeywordStats(
            size=len(self), terms=self.core.terms(), config=self._config, memory_bytes=self.core.memory_bytes()
        )

    def check(self) -> str:
        """Return what is wrong with the index, "" when every invariant holds; visits everything."""
        return self.core.check()

    def terms(self, text: str) -> list[str]:
        """Return the terms that a text is looked for by."""
        _check_text(text)
        return self._analyzer.terms(text)


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise InputError(f"a text must be a str, got {type(text).__name__}")


def _packed(text: str) -> list[int]:
    """Return a text as numbers of 64 bits."""
    data = text.encode()
    return [int.from_bytes(data[i : i + _WORD_BYTES], "little") for i in range(0, len(data), _WORD_BYTES)]


def _unpacked(numbers: list[int]) -> str:
    """Return the text that `_packed` made these numbers of."""
    return b"".join(number.to_bytes(_WORD_BYTES, "little") for number in numbers).rstrip(b"\0").decode()
