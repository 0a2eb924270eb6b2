"""A memory compares words in the language it was given, and a durable one remembers which."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from llmspell_memory import ConfigError, DefaultMemoryManager, EpisodicEntry, MemoryConfig
from llmspell_memory.types import KeywordConfig

if TYPE_CHECKING:
    from pathlib import Path

GERMAN = KeywordConfig(language="german")


def opened(path: Path | None, keywords: KeywordConfig | None = None) -> DefaultMemoryManager:
    return DefaultMemoryManager.with_config(MemoryConfig.for_testing().with_path(path).with_keywords(keywords))


def finds(memory: DefaultMemoryManager, query: str) -> bool:
    return bool(memory.episodic.search(query, 1, mode="keyword"))


HOUSES = EpisodicEntry("s", "user", "Die Häuser am Fluss")


def test_words_are_stemmed_in_the_language_given() -> None:
    """A plural finds its singular where the stemmer is that of the texts, and not where it is another's."""
    for keywords, found in ((GERMAN, True), (None, False), (KeywordConfig(language=None), False)):
        with opened(None, keywords) as memory:
            memory.episodic.add(HOUSES)
            assert finds(memory, "Haus") is found
            assert finds(memory, "Fluss")


def test_a_store_remembers_its_language(tmp_path: Path) -> None:
    """Opened without one it takes that of before; with another one that, from then on."""
    path = tmp_path / "memory.db"
    with opened(path, GERMAN) as memory:
        memory.episodic.add(HOUSES)
    with opened(path) as memory:
        assert finds(memory, "Haus")
    with opened(path, KeywordConfig()) as memory:
        assert not finds(memory, "Haus")
    with opened(path) as memory:
        assert not finds(memory, "Haus")
        assert memory.episodic.count() == 1


def test_a_language_without_a_stemmer_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """The error names the languages there are, and no file is there."""
    with pytest.raises(ConfigError, match="german"):
        opened(tmp_path / "memory.db", KeywordConfig(language="klingon"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="klingon"):
        opened(None, KeywordConfig(language="klingon"))
    with pytest.raises(ConfigError, match="must be a KeywordConfig"):
        MemoryConfig(keywords="german")  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize("note", ["{", "[]", '{"language": 3}', '{"stemmer": "german"}', '{"k1": "much"}'])
def test_a_record_that_cannot_be_read_is_passed_over(
    tmp_path: Path, note: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Words are then compared as by default, and every entry is there."""
    path = tmp_path / "memory.db"
    with opened(path, GERMAN) as memory:
        memory.episodic.add(HOUSES)
        memory.backend.write_note("keywords", note)
    with caplog.at_level(logging.WARNING, "llmspell_memory"), opened(path) as memory:
        assert finds(memory, "Fluss")
        assert not finds(memory, "Haus")
