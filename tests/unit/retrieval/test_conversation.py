"""What a real conversation is asked is found: by everything at once more than by meaning or words alone."""

from __future__ import annotations

from typing import get_args

import pytest

from llmspell_memory import DefaultMemoryManager, EmbeddingService
from llmspell_memory.cli.demonstration.material import example, example_questions
from llmspell_memory.embeddings import LocalProvider
from llmspell_memory.operations import open_source
from llmspell_memory.types import SearchMode

KS = (5, 10, 25, 50)


@pytest.fixture(scope="module")
def recall() -> dict[str, list[float]]:
    """The mean share of the evidence among the k best, by mode, over the questions that belong to the example."""
    found: dict[str, list[float]] = {}
    questions = example_questions()
    assert len(questions) >= 12
    with DefaultMemoryManager.new_in_memory_with_embeddings(EmbeddingService(LocalProvider())) as memory:
        with open_source(example()) as source:
            memory.episodic.add_many(source.entries)
        for mode in (*get_args(SearchMode), None):
            shares = []
            for asked in questions:
                hits = [hit.entry.id in asked.evidence for hit in memory.episodic.search(asked.text, KS[-1], mode=mode)]
                shares.append([sum(hits[:k]) / len(asked.evidence) for k in KS])
            found[mode or "default"] = [sum(column) / len(questions) for column in zip(*shares, strict=True)]
    return found


def test_everything_at_once_finds_more_than_either_alone(recall: dict[str, list[float]]) -> None:
    """At every k; and half of what answers a question is among the first ten."""
    for at, k in enumerate(KS):
        assert recall["hybrid"][at] >= max(recall["semantic"][at], recall["keyword"][at]), k
    assert recall["hybrid"][1] >= 0.5


def test_the_default_is_the_best(recall: dict[str, list[float]]) -> None:
    """Who says nothing gets it."""
    assert recall["default"] == recall["hybrid"]
