"""Rerankers order what was found; the cross-encoder itself is tested where torch is."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory import ConfigError, DefaultMemoryManager, EpisodicEntry, InputError
from llmspell_memory.protocols import Reranker
from llmspell_memory.retrieval import CallableReranker, CrossEncoderReranker, Ranking

if TYPE_CHECKING:
    from collections.abc import Sequence


def longest(query: str, texts: Sequence[str]) -> list[float]:
    """Prefer long texts to short ones, as a search would not."""
    assert query == "what of the cat?"
    return [float(len(text)) for text in texts]


def test_a_function_orders_the_hits() -> None:
    """What it says is the score, with a part of that name, and only what was found by the search is given to it."""
    with DefaultMemoryManager.new_in_memory() as memory:
        memory.episodic.add_many(EpisodicEntry("s", "user", "cat " * n) for n in range(1, 9))
        ranking = Ranking(reranker=CallableReranker(longest), pool=8)
        hits = memory.episodic.search("what of the cat?", 3, ranking=ranking, parts=True)
        assert [hit.score for hit in hits] == [32.0, 28.0, 24.0]
        assert [hit.parts["reranker"].share for hit in hits if hit.parts] == [32.0, 28.0, 24.0]
        assert isinstance(ranking.reranker, Reranker)


@pytest.mark.parametrize("given", [[1.0], [[1.0, 2.0]], ["a", "b"], [1.0, float("nan")], None, 3])
def test_what_is_no_score_for_each_text_is_refused(given: Any) -> None:
    """Too few, of another shape, not numbers, not finite: an error, and no order made of it."""
    with DefaultMemoryManager.new_in_memory() as memory:
        memory.episodic.add_many(EpisodicEntry("s", "user", text) for text in ("one cat", "two cats"))
        with pytest.raises(InputError, match="a reranker must return"):
            memory.episodic.search("cat", 2, ranking=Ranking(reranker=CallableReranker(lambda _, __: given)))
        failing = Ranking(reranker=CallableReranker(lambda _, __: 1 / 0))  # type: ignore[arg-type, return-value]
        with pytest.raises(ZeroDivisionError):
            memory.episodic.search("cat", 2, ranking=failing)


def test_what_is_no_function_is_refused() -> None:
    """When it is made, and not when it is asked."""
    with pytest.raises(ConfigError, match="callable"):
        CallableReranker("cross-encoder")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="CrossEncoder"):
        CrossEncoderReranker(object())
    with pytest.raises(ConfigError, match="batch_size"):
        CrossEncoderReranker(object(), batch_size=0)


class TwoClasses:
    """A model with the shape of one that scores two classes for each pair."""

    def predict(self, pairs: list[tuple[str, str]], **_: Any) -> np.ndarray[Any, Any]:
        return np.array([[0.0, float(len(text))] for _, text in pairs])


def test_a_model_of_several_classes_is_read_by_its_last() -> None:
    """What says that a text fits comes last, as in models of natural language inference for retrieval."""
    assert CrossEncoderReranker(TwoClasses()).rerank("q", ["a", "bcd"]) == [1.0, 3.0]


def test_without_its_extra_it_says_what_to_install() -> None:
    """A name of a model needs the library; an object does not."""
    code = """
import sys
sys.modules["sentence_transformers"] = None
from llmspell_memory import MissingDependencyError
from llmspell_memory.retrieval import CrossEncoderReranker
try:
    CrossEncoderReranker("some/model")
except MissingDependencyError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "llmspell-memory[sentence-transformers]" in said
