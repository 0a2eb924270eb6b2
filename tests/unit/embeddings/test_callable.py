"""A function of the user's own as provider."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from llmspell_memory.embeddings import CallableProvider, EmbeddingService
from llmspell_memory.errors import ConfigError, EmbeddingError


def plain(texts: Any) -> Any:
    return [[len(text), 1.0] for text in texts]


async def awaited(texts: Any) -> Any:
    await asyncio.sleep(0)
    return plain(texts)


def later(texts: Any) -> Any:
    """Give back something to await without being an async function."""
    return awaited(texts)


class Both:
    """An object that is called like an async function."""

    async def __call__(self, texts: Any) -> Any:
        return await awaited(texts)


@pytest.mark.parametrize("fn", [plain, awaited, Both(), later])
def test_any_kind_of_function_from_anywhere(fn: Any) -> None:
    """Functions, async or not, work from plain code, from inside a running loop, and awaited."""
    provider = CallableProvider(fn, 2)
    expected = [[1, 1], [2, 1]]
    assert_array_equal(provider.embed(["a", "bb"]), expected)

    async def main() -> Any:
        return provider.embed(["a", "bb"]), await provider.aembed(["a", "bb"])

    for rows in asyncio.run(main()):
        assert rows.dtype == np.float32
        assert_array_equal(rows, expected)


def test_kind_is_passed_where_it_is_wanted() -> None:
    """A function with a parameter `kind` is told it."""
    provider = CallableProvider(lambda texts, kind: [[1.0 if kind == "query" else 2.0]] * len(texts), 1)
    service = EmbeddingService(provider, metric="inner_product")
    assert service.embed_one("a")[0] == 1
    assert service.embed_one("a", kind="document")[0] == 2


def test_a_blocking_function_is_awaited_in_a_thread() -> None:
    """A function that is not async does not run in the event loop's thread when awaited."""
    threads = []

    def blocking(texts: Any) -> Any:
        threads.append(threading.get_ident())
        return plain(texts)

    asyncio.run(CallableProvider(blocking, 2).aembed(["a"]))
    assert threads != [threading.get_ident()]


def test_wrong_arguments_and_answers() -> None:
    """What cannot be called is refused at once; what is no matrix when it comes, without a retry."""
    with pytest.raises(ConfigError, match="callable"):
        CallableProvider("text", 2)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="dimensions"):
        CallableProvider(plain, 0)
    for wrong in ("nonsense", [[1.0], [1.0, 2.0]], [{"a": 1}]):
        with pytest.raises(EmbeddingError, match="mine"):
            EmbeddingService(CallableProvider(lambda _, wrong=wrong: wrong, 2, name="mine")).embed(["a", "b"])


def test_name_and_model_are_the_space() -> None:
    """Name and model become part of the embedding space."""
    space = EmbeddingService(CallableProvider(plain, 2, name="mine", model="v2")).space
    assert str(space) == "mine/v2 (2 dimensions, cosine)"
