"""The two providers that need no server: hashed letters, and WordLlama's static vectors."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from llmspell_memory.embeddings import EmbeddingService, HashingProvider, LocalProvider
from llmspell_memory.errors import ConfigError, MissingDependencyError
from llmspell_memory.protocols import AsyncEmbeddingProvider

HASHING = HashingProvider()
LOCAL = LocalProvider()
SERVICES = [EmbeddingService(provider, cache=None) for provider in (HASHING, LOCAL)]

NEAR = [
    ("My dog is called Ada.", "What is my dog's name?", "The invoice is due on Friday."),
    ("I booked a table at the Italian restaurant.", "the Italian restaurant booking", "Snow fell on the hills."),
    ("The flight to Boston leaves at nine.", "When does my flight to Boston leave?", "He plays the cello badly."),
    ("Please transfer 200 dollars to my savings.", "transfer money to savings", "Cats sleep most of the day."),
]


@pytest.fixture(params=SERVICES, ids=["hashing", "local"])
def service(request: Any) -> Any:
    return request.param


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_text_has_a_direction(text: Any) -> None:
    """Any text at all gets a finite vector of unit length from both, alone or among others."""
    for service in SERVICES:
        one = service.embed_one(text)
        assert one.shape == (256,)
        assert abs(float(np.linalg.norm(one)) - 1) < 1e-5
        assert_allclose(service.embed([text, "another"])[0], one, atol=1e-5)


@pytest.mark.parametrize(
    "text", [" ", "\n\t", "🐕", "字", "日本語のテキスト", "\u200b", "\u0301", "...", "ﬁ", "x" * 50_000]
)
def test_odd_texts(service: Any, text: Any) -> None:
    """Blanks, emoji, marks, scripts without spaces and a single endless word have vectors too."""
    assert abs(float(np.linalg.norm(service.embed_one(text))) - 1) < 1e-5


@pytest.mark.parametrize(("text", "near", "far"), NEAR)
def test_near_texts_are_nearer(service: Any, text: Any, near: Any, far: Any) -> None:
    """A text is nearer to one about the same than to one about something else."""
    one, two, three = service.embed([text, near, far])
    assert one @ two > one @ three + 0.1


def test_both_can_be_awaited(service: Any) -> None:
    """Both are async providers, and give the same awaited."""
    assert isinstance(service.provider, AsyncEmbeddingProvider)
    assert_array_equal(asyncio.run(service.provider.aembed(["a", "b"])), service.provider.embed(["a", "b"]))


def test_megabytes_take_seconds_and_little_memory(service: Any) -> None:
    """Five megabytes of text have a vector within seconds, in memory that does not grow with them."""
    text = "".join(f"the quick brown fox {number} jumps over lazy dogs. " for number in range(120_000))[:5_000_000]
    tracemalloc.start()
    began = time.monotonic()
    vector = service.embed_one(text)
    took = time.monotonic() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-5
    assert took < 60
    assert peak < 60_000_000


def test_hashing_ignores_case_and_compatible_forms() -> None:
    """Case, and forms that NFKC makes one, change nothing."""
    one, two = HASHING.embed(["Straße ﬁne", "STRASSE FINE"])
    assert_array_equal(one, two)


def test_hashing_is_the_same_everywhere() -> None:
    """The vectors of a text are those that every release and platform makes."""
    vector = HashingProvider(8).embed(["The quick brown fox."])[0]
    assert_allclose(vector, GOLDEN_SHORT, atol=1e-6)
    long = HashingProvider(8).embed(["The quick brown fox. " * 4000])[0]
    assert_allclose(long, GOLDEN_LONG, atol=1e-6)


GOLDEN_SHORT = [0.1924501, 0.3849002, 0.1924501, -0.1924501, 0.0, 0.0, -0.7698004, -0.3849002]
GOLDEN_LONG = [0.1924501, 0.3849002, 0.1924501, -0.1924501, 0.0, 0.0, -0.7698004, -0.3849002]


def test_hashing_agrees_whether_or_not_it_cuts() -> None:
    """A text just longer than a chunk has nearly the vector of one just shorter."""
    words = " ".join(f"word{number % 997}" for number in range(5000))
    one, two = HASHING.embed([words[: 1 << 15], words[: (1 << 15) + 50]])
    assert one @ two > 0.999


@pytest.mark.parametrize("dimensions", [1, 2, 3, 7, 65_536])
def test_hashing_into_any_width(dimensions: Any) -> None:
    """Any width works, also one so small that features cancel out."""
    texts = [f"{a} {b}" for a in "abcdefgh" for b in "stuvwxyz"]
    rows = HashingProvider(dimensions).embed(texts)
    assert rows.shape == (64, dimensions)
    assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("dimensions", [0, -1, 65_537, 1.5, "8"])
def test_hashing_refuses_a_wrong_width(dimensions: Any) -> None:
    """A width out of range is refused."""
    with pytest.raises(ConfigError, match="dimensions"):
        HashingProvider(dimensions)


def test_local_equals_wordllama() -> None:
    """The vectors are those of WordLlama's own interface."""
    texts = [
        "what is my dog's name?", "a", " leading and  double  spaces ", "日本語のテキスト", "🐕 emoji",
        "line\nbreaks\tand tabs", "x" * 300, "The quick brown fox jumps over the lazy dog. " * 20,
    ]  # fmt: skip
    script = (
        "import sys, json; from pathlib import Path; import wordllama;"
        "model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True);"
        "json.dump(model.embed(json.load(sys.stdin)).tolist(), sys.stdout)"
    )
    import json  # noqa: PLC0415

    # In a child: importing wordllama configures logging, for every later test too.
    child = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    assert_allclose(LOCAL.embed(texts), json.loads(child.stdout), atol=1e-5)


def test_local_does_not_import_wordllama() -> None:
    """Neither wordllama nor what it does to logging is there after the provider has been made and used."""
    script = (
        "import sys, logging; from llmspell_memory.embeddings import LocalProvider; LocalProvider().embed(['a']);"
        "assert 'wordllama' not in sys.modules; assert not logging.getLogger().handlers"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_long_text_is_the_mean_of_all_its_tokens() -> None:
    """A text that is cut for the tokenizer has nearly the mean over all its tokens, however long."""
    text = " ".join(f"number {number} and more" for number in range(3000))
    ids = LOCAL._tokenizer.encode(text, add_special_tokens=False).ids
    one, two = LOCAL.embed([text])[0], LOCAL._rows[ids].mean(axis=0)
    assert one @ two / np.linalg.norm(one) / np.linalg.norm(two) > 0.9999


def test_a_missing_extra_names_its_cure(monkeypatch: Any) -> None:
    """Without its package the provider says which line installs it."""
    import llmspell_memory.embeddings.providers.local as module  # noqa: PLC0415

    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r'pip install "llmspell-memory\[local\]"'):
        LocalProvider()
