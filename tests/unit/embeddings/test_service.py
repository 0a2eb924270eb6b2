"""The service: order, batches, cache, checks, unit length; blocking and awaited alike."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from llmspell_memory.embeddings import (
    CallableProvider,
    DiskCache,
    EmbeddingService,
    HashingProvider,
    MemoryCache,
    RetryPolicy,
)
from llmspell_memory.errors import ConfigError, DimensionError, EmbeddingError, InputError
from llmspell_memory.types import BatchLimits, EmbeddingSpace

TEXTS = ["one", "two", "three", "two", "four", "one"]


def call(service: Any, awaited: Any, *args: Any, **kwargs: Any) -> Any:
    """Call `embed`, or await `aembed`."""
    return asyncio.run(service.aembed(*args, **kwargs)) if awaited else service.embed(*args, **kwargs)


def cached(service: EmbeddingService) -> int:
    """Return how many vectors the service keeps."""
    assert isinstance(service.cache, MemoryCache)
    return len(service.cache)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def awaited(request: Any) -> Any:
    return request.param


def test_space_is_the_providers(provider: Any) -> None:
    """The space says provider, model, dimensions and metric."""
    service = EmbeddingService(provider, metric="euclidean")
    assert service.space == EmbeddingSpace(provider="recorder", model="test", dimensions=32, metric="euclidean")
    assert (service.provider, service.dimensions, service.metric) == (provider, 32, "euclidean")


@pytest.mark.parametrize(
    ("name", "value"),
    [("name", ""), ("name", None), ("model", 3), ("dimensions", 0), ("dimensions", "32"), ("limits", 5)],
)
def test_a_providers_members_are_checked(provider: Any, name: Any, value: Any) -> None:
    """A provider with a wrong member is refused when the service is made."""
    setattr(provider, name, value)
    with pytest.raises(ConfigError, match=name):
        EmbeddingService(provider)


def test_what_is_no_provider_is_refused() -> None:
    """A class in place of an object, or an object without the members, is refused with the reason."""
    with pytest.raises(ConfigError, match=r"write HashingProvider\(\)"):
        EmbeddingService(HashingProvider)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has no name, model, dimensions, embed"):
        EmbeddingService(object())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="metric"):
        EmbeddingService(HashingProvider(), metric="manhattan")  # type: ignore[arg-type]


def test_rows_keep_the_order(provider: Any, awaited: Any) -> None:
    """Every text has its row, in order, also where texts repeat."""
    rows = call(EmbeddingService(provider), awaited, TEXTS)
    assert rows.shape == (6, 32)
    assert rows.dtype == np.float32
    assert rows.flags.c_contiguous
    assert_allclose(rows, HashingProvider(32).embed(TEXTS), rtol=1e-5, atol=1e-7)


def test_equal_texts_are_embedded_once(provider: Any, awaited: Any) -> None:
    """Texts that repeat within one call reach the provider once."""
    call(EmbeddingService(provider, cache=None), awaited, TEXTS)
    assert provider.calls == [["one", "two", "three", "four"]]


def test_no_texts_are_no_rows(provider: Any, awaited: Any) -> None:
    """No texts give a matrix of no rows and the right width, and no call."""
    assert call(EmbeddingService(provider), awaited, []).shape == (0, 32)
    assert provider.calls == []


def test_limits_of_texts_and_characters(make_provider: Any, awaited: Any) -> None:
    """Calls keep to the provider's limits."""
    provider = make_provider(limits=BatchLimits(texts=3, total_bytes=9))
    texts = ["aaaa", "bbbb", "cccc", "d", "e", "f", "g"]
    rows = call(EmbeddingService(provider), awaited, texts)
    assert provider.calls == [["aaaa", "bbbb"], ["cccc", "d", "e"], ["f", "g"]]
    assert_allclose(rows, HashingProvider(32).embed(texts), rtol=1e-5, atol=1e-7)


def test_a_long_text_is_the_mean_of_its_pieces(make_provider: Any, awaited: Any) -> None:
    """A text longer than the limit gets the mean of its pieces' vectors, weighted by their lengths."""
    provider = make_provider(limits=BatchLimits(texts=2, text_bytes=10))
    rows = call(EmbeddingService(provider, metric="inner_product"), awaited, ["alpha beta gamma", "short", "x" * 25])
    one, two = HashingProvider(32).embed(["alpha ", "beta gamma"])
    assert provider.calls[0] == ["alpha ", "beta gamma"]
    assert_allclose(rows[0], one * 6 / 16 + two * 10 / 16, atol=1e-6)
    ends = HashingProvider(32).embed(["short", "x" * 10, "x" * 5])
    assert_allclose(rows[1], ends[0], atol=1e-6)
    assert_allclose(rows[2], ends[1] * 0.8 + ends[2] * 0.2, atol=1e-6)


def test_a_long_single_text(make_provider: Any) -> None:
    """`embed_one` cuts a long text just as `embed` does, and caches it whole."""
    provider = make_provider(limits=BatchLimits(text_bytes=10))
    service = EmbeddingService(provider)
    vector = service.embed_one("alpha beta gamma", kind="document")
    assert_allclose(vector, service.embed(["alpha beta gamma"])[0], atol=1e-7)
    assert provider.calls == [["alpha ", "beta gamma"]]


def test_cosine_gives_unit_length(provider: Any, awaited: Any) -> None:
    """Under cosine rows have unit length; under other metrics they stay as the provider made them."""
    provider.spoil = lambda rows: rows * 7
    assert_allclose(np.linalg.norm(call(EmbeddingService(provider), awaited, TEXTS), axis=1), 1, atol=1e-6)
    raw = call(EmbeddingService(provider, metric="inner_product"), awaited, TEXTS)
    assert_allclose(np.linalg.norm(raw, axis=1), 7, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_unit_length_of_extreme_vectors(provider: Any, scale: Any) -> None:
    """Vectors whose squares overflow or vanish in float32 get unit length all the same, one by one and together."""
    provider.spoil = lambda rows: rows * np.float32(scale)
    service = EmbeddingService(provider, cache=None)
    assert_allclose(np.linalg.norm(service.embed(TEXTS), axis=1), 1, atol=1e-6)
    assert_allclose(np.linalg.norm(service.embed_one("one")), 1, atol=1e-6)


def test_kinds_reach_the_provider_and_are_kept_apart(provider: Any) -> None:
    """A text embedded as a document is embedded again as a query."""
    service = EmbeddingService(provider, metric="inner_product")
    document, query = service.embed_one("a", kind="document"), service.embed_one("a")
    assert provider.kinds == ["document", "query"]
    assert_allclose(query, 2 * document)


@pytest.mark.parametrize("text", ["", "a\0b", "\ud800", 3, None, b"a"])
def test_unacceptable_texts(provider: Any, awaited: Any, text: Any) -> None:
    """A text that is empty, no str, or holds NUL or lone surrogates is refused before anything is called."""
    service = EmbeddingService(provider)
    with pytest.raises(InputError):
        call(service, awaited, ["fine", text])
    with pytest.raises(InputError):
        service.embed_one(text)
    assert provider.calls == []


def test_wrong_arguments(provider: Any) -> None:
    """A bare str in place of texts, and an unknown kind, are refused."""
    service = EmbeddingService(provider)
    with pytest.raises(InputError, match="embed_one"):
        service.embed("text")
    with pytest.raises(InputError, match="kind"):
        service.embed(["text"], kind="passage")  # type: ignore[arg-type]


def test_the_cache_answers_the_second_time(provider: Any, awaited: Any) -> None:
    """Texts seen before are not embedded again, and are counted as hits."""
    service = EmbeddingService(provider)
    first = call(service, awaited, TEXTS)
    second = call(service, awaited, [*TEXTS, "five"])
    assert provider.calls == [["one", "two", "three", "four"], ["five"]]
    assert_array_equal(second[:6], first)
    assert (service.hits, service.misses) == (4, 5)


def test_one_from_the_cache(provider: Any) -> None:
    """`embed_one` gives the same vector from the cache, and nobody can write into it."""
    service = EmbeddingService(provider)
    first, second = service.embed_one("a"), service.embed_one("a")
    assert len(provider.calls) == 1
    assert_array_equal(first, second)
    for vector in (first, second):
        with pytest.raises(ValueError, match="read-only"):
            vector[0] = 1
    assert_array_equal(asyncio.run(service.aembed_one("a")), first)


def test_a_result_may_be_written_to(provider: Any) -> None:
    """Writing into what `embed` gave changes nothing that a later call gives."""
    service = EmbeddingService(provider)
    first = service.embed(TEXTS)
    kept = first.copy()
    first[:] = 0
    assert_array_equal(service.embed(TEXTS), kept)


def test_a_providers_own_array_is_not_written_to() -> None:
    """A provider may hand out the same array again: the service neither changes nor keeps it."""
    shared = np.full((1, 4), 2, dtype=np.float32)
    service = EmbeddingService(CallableProvider(lambda _: shared, 4), metric="inner_product")
    vector = service.embed_one("a")
    shared[:] = 9
    assert_array_equal(vector, [2, 2, 2, 2])
    assert_array_equal(service.embed_one("a"), [2, 2, 2, 2])


def test_without_a_cache_every_call_embeds(provider: Any) -> None:
    """`cache=None` keeps nothing."""
    service = EmbeddingService(provider, cache=None)
    service.embed(["a"])
    service.embed_one("a", kind="document")
    assert provider.calls == [["a"], ["a"]]
    assert service.cache is None
    assert (service.hits, service.misses) == (0, 0)


def test_an_empty_cache_given_is_used(provider: Any) -> None:
    """A cache that is given is used though it is still empty; one by default is the service's own."""
    cache = MemoryCache(5)
    assert EmbeddingService(provider, cache=cache).cache is cache
    assert EmbeddingService(provider).cache is not EmbeddingService(provider).cache


def test_a_shared_cache_serves_every_metric(provider: Any) -> None:
    """Vectors are cached as they were given, so one cache serves services of other metrics."""
    cache = MemoryCache()
    raw = EmbeddingService(provider, metric="inner_product", cache=cache).embed_one("a")
    unit = EmbeddingService(provider, cache=cache).embed_one("a")
    assert len(provider.calls) == 1
    assert_allclose(unit, raw / np.linalg.norm(raw), atol=1e-6)


def test_a_variant_of_a_provider_has_its_own_vectors(make_provider: Any) -> None:
    """Providers alike but for their prefixes do not share cached vectors."""
    cache = MemoryCache()
    for variant in ("", "passage: "):
        provider = make_provider()
        provider.variant = variant
        EmbeddingService(provider, cache=cache).embed_one("a")
        assert len(provider.calls) == 1


def test_forget_discards_both_kinds(provider: Any) -> None:
    """What is forgotten is gone from the cache, as document and as query."""
    service = EmbeddingService(provider)
    service.embed_one("a")
    service.embed_one("a", kind="document")
    service.forget(["a", "never seen"])
    assert cached(service) == 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows[:-1], r"shape \(3, 32\), expected \(4, 32\)"),
        (lambda rows: rows[:, :-1], r"shape \(4, 31\), expected \(4, 32\)"),
        (lambda rows: rows[0], r"shape \(32,\)"),
        (lambda rows: np.where(np.arange(4)[:, None] == 2, np.nan, rows), "NaN or infinity for the text 'three'"),
        (lambda rows: np.where(np.arange(4)[:, None] == 3, np.inf, rows), "NaN or infinity for the text 'four'"),
        (lambda rows: np.where(np.arange(4)[:, None] == 0, 1e300, rows.astype(float)), "infinity for the text 'one'"),
        (lambda rows: np.where(np.arange(4)[:, None] == 1, 0, rows), "zeros for the text 'two'"),
        (lambda _: "nonsense", "one vector of numbers per text"),
        (lambda _: [[1.0], [1.0, 2.0]], "one vector of numbers per text"),
        (lambda _: None, "shape"),
    ],
)
def test_unusable_answers(provider: Any, awaited: Any, spoil: Any, message: Any) -> None:
    """A provider's wrong count or width, NaN, infinity and zeros are EmbeddingErrors that name it; none is cached."""
    service = EmbeddingService(provider)
    provider.spoil = spoil
    with pytest.raises(EmbeddingError, match=message) as caught:
        call(service, awaited, TEXTS)
    assert "recorder/test" in str(caught.value)
    assert not caught.value.retryable
    assert cached(service) == 0
    provider.spoil = None
    assert call(service, awaited, TEXTS).shape == (6, 32)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_unusable_answers_for_one_text(provider: Any, value: Any) -> None:
    """`embed_one` refuses the same, names a long text by its start, and caches nothing."""
    service = EmbeddingService(provider)
    provider.spoil = lambda rows: rows * 0 + value
    with pytest.raises(EmbeddingError, match=r"'x{40}…'"):
        service.embed_one("x" * 100)
    assert cached(service) == 0


def test_zeros_are_fine_where_they_can_be_compared(provider: Any) -> None:
    """Under other metrics than cosine a vector of zeros is accepted."""
    provider.spoil = lambda rows: rows * 0
    assert not EmbeddingService(provider, metric="euclidean").embed(["a", "b"]).any()


def test_zeros_from_a_shared_cache(provider: Any) -> None:
    """Zeros that another metric let into a shared cache are refused under cosine all the same."""
    cache = MemoryCache()
    provider.spoil = lambda rows: rows * 0
    EmbeddingService(provider, metric="euclidean", cache=cache).embed_one("a")
    service = EmbeddingService(provider, cache=cache)
    with pytest.raises(EmbeddingError, match="zeros for the text 'a'"):
        service.embed_one("a")
    with pytest.raises(EmbeddingError, match="zeros for the text 'a'"):
        service.embed(["a"], kind="query")


def test_batches_before_a_failure_stay_cached(make_provider: Any) -> None:
    """What calls before a failed one gave is kept; of the failed one nothing is."""
    provider = make_provider(limits=BatchLimits(texts=2))
    service = EmbeddingService(provider)
    provider.spoil = lambda rows: rows if len(provider.calls) < 2 else rows * np.nan
    with pytest.raises(EmbeddingError):
        service.embed(["a", "b", "c", "d", "e"])
    assert cached(service) == 2
    provider.spoil = None
    service.embed(["a", "b", "c", "d", "e"])
    assert provider.calls[2:] == [["c", "d"], ["e"]]


def test_foreign_exceptions_become_embedding_errors(provider: Any, awaited: Any) -> None:
    """Whatever a provider raises of its own arrives as EmbeddingError with the cause kept, and is not retried."""
    for error in (KeyError("weights"), StopIteration("odd"), OSError("gone")):
        provider.failures = [error]
        with pytest.raises(EmbeddingError, match=f"recorder/test failed: {type(error).__name__}") as caught:
            call(EmbeddingService(provider), awaited, ["a"])
        assert caught.value.__cause__ is error or isinstance(caught.value.__cause__, RuntimeError | type(error))
    assert len(provider.calls) == 3


def test_interrupts_pass(provider: Any) -> None:
    """What is no Exception, such as an interrupt, is not translated."""
    provider.failures = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        EmbeddingService(provider).embed(["a"])


def test_check_vector(provider: Any) -> None:
    """A vector given is returned as float32 and otherwise as it is, or refused for width, NaN or zeros."""
    service = EmbeddingService(provider)
    given = [2.0] + [0.0] * 31
    checked = service.check_vector(given)
    assert checked.dtype == np.float32
    assert_array_equal(checked, given)
    with pytest.raises(DimensionError) as caught:
        service.check_vector([1.0])
    assert (caught.value.expected, caught.value.got) == (32, 1)
    for bad in ([0.0] * 32, [np.nan] * 32, [np.inf] * 32, ["a"] * 32):
        with pytest.raises(InputError):
            service.check_vector(bad)
    assert not EmbeddingService(provider, metric="euclidean").check_vector([0.0] * 32).any()


def test_sync_and_async_give_equal_arrays() -> None:
    """Awaited or not, the arrays are equal to the bit."""
    service = EmbeddingService(HashingProvider(), cache=None)
    assert_array_equal(asyncio.run(service.aembed(TEXTS)), service.embed(TEXTS))
    assert_array_equal(asyncio.run(service.aembed_one("one")), service.embed_one("one"))


def test_a_blocking_provider_does_not_block_the_loop() -> None:
    """While a provider that cannot be awaited works in its thread, the event loop goes on."""

    class Slow:
        name = "slow"
        model: str | None = None
        dimensions = 4

        def embed(self, texts: Any, *, kind: Any = "document") -> Any:
            time.sleep(0.2)
            return np.ones((len(texts), 4)) if kind else None

    async def main() -> Any:
        ticks = 0
        work = asyncio.create_task(EmbeddingService(Slow()).aembed(["a"]))
        while not work.done():
            await asyncio.sleep(0.005)
            ticks += 1
        return ticks

    assert asyncio.run(main()) > 5


def test_a_cancelled_call_leaves_the_service_usable() -> None:
    """Cancelling an awaited call raises there, and later calls work."""
    started = asyncio.Event()

    async def slow(texts: Any) -> Any:
        if not started.is_set():
            started.set()
            await asyncio.sleep(30)
        return HashingProvider(32).embed(texts)

    service = EmbeddingService(CallableProvider(slow, 32))

    async def main() -> Any:
        task = asyncio.create_task(service.aembed(["a", "b"]))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await service.aembed(["a", "b"])

    assert_allclose(asyncio.run(main()), HashingProvider(32).embed(["a", "b"]), atol=1e-6)
    assert service.misses == 4


def test_a_cancelled_wait_ends(provider: Any) -> None:
    """A call cancelled while it waits to try again ends at once."""
    provider.failures = [EmbeddingError("busy", retryable=True)] * 5

    async def main() -> None:
        service = EmbeddingService(provider, retry=RetryPolicy(base_delay=30))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await service.aembed(["a"])

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < 5


def test_threads_share_a_service(tmp_path: Any) -> None:
    """Threads that embed overlapping texts at once all get the right rows."""
    texts = [f"text number {number}" for number in range(60)]
    expected = HashingProvider(32).embed(texts)
    with DiskCache(tmp_path / "cache.db") as disk:
        for cache in (MemoryCache(20), disk):
            service = EmbeddingService(HashingProvider(32), cache=cache)
            barrier = threading.Barrier(4)

            def work(shift: Any, service: Any = service, barrier: Any = barrier) -> None:
                barrier.wait()
                for start in range(0, 60, 5):
                    picked = [(start + shift * 7 + step) % 60 for step in range(10)]
                    assert_allclose(service.embed([texts[one] for one in picked]), expected[picked], atol=1e-6)
                    assert_allclose(service.embed_one(texts[shift], kind="document"), expected[shift], atol=1e-6)

            with ThreadPoolExecutor(4) as pool:
                list(pool.map(work, range(4)))
            assert service.hits + service.misses == 4 * 12 * 11
