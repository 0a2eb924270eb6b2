"""The HTTP providers against a real local server, well-behaved and not."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from llmspell_memory.embeddings import (
    EmbeddingService,
    HashingProvider,
    MemoryCache,
    OllamaProvider,
    OpenAIProvider,
    RetryPolicy,
)
from llmspell_memory.embeddings.providers._http import retry_after
from llmspell_memory.errors import ConfigError, EmbeddingError
from llmspell_memory.protocols import AsyncEmbeddingProvider
from llmspell_memory.testing.embedding_server import EmbeddingServer, Fault
from llmspell_memory.types import BatchLimits

KEY = "sk-very-secret"
TEXTS = ["one", "two", "three"]
QUICK = RetryPolicy(attempts=3, base_delay=0.01)


@pytest.fixture
def server() -> Any:
    with EmbeddingServer() as running:
        yield running


def openai(server: Any, **options: Any) -> Any:
    return OpenAIProvider("test", **{"dimensions": 64, "base_url": server.openai_url, "api_key": KEY, **options})


def ollama(server: Any, **options: Any) -> Any:
    return OllamaProvider("test", **{"dimensions": 64, "base_url": server.url, **options})


@pytest.fixture(params=[openai, ollama], ids=["openai", "ollama"])
def make(request: Any, server: Any) -> Any:
    made = []

    def make(**options: Any) -> Any:
        made.append(request.param(server, **options))
        return made[-1]

    yield make
    for provider in made:
        provider.close()


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def embed(request: Any) -> Any:
    def embed(provider: Any, texts: Any = TEXTS, **options: Any) -> Any:
        if not request.param:
            return provider.embed(texts, **options)

        async def main() -> Any:
            async with provider:
                return await provider.aembed(texts, **options)

        return asyncio.run(main())

    return embed


def test_rows_are_the_servers(make: Any, embed: Any) -> None:
    """One row per text, in order, as the server made them; both are async providers."""
    provider = make()
    assert isinstance(provider, AsyncEmbeddingProvider)
    rows = embed(provider)
    assert rows.dtype == np.float32
    assert_allclose(rows, HashingProvider(64).embed(TEXTS), atol=1e-6)
    assert embed(provider, []).shape == (0, 64)


def test_through_the_service_both_ways(make: Any) -> None:
    """A service over an HTTP provider gives the same rows, awaited or not."""
    provider = make()
    service = EmbeddingService(provider, cache=None)

    async def main() -> Any:
        async with provider:
            return await service.aembed(TEXTS)

    assert_array_equal(asyncio.run(main()), service.embed(TEXTS))


def test_what_openai_is_sent(server: Any) -> None:
    """OpenAI is sent model, texts, format and key; dimensions only where they shorten a model of its own."""
    with openai(server, headers={"x-team": "a"}) as provider:
        provider.embed(TEXTS)
    (request,) = server.requests
    assert request.path == "/v1/embeddings"
    assert request.body == {"model": "test", "input": TEXTS, "encoding_format": "float"}
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["x-team"] == "a"
    for options, sent in (
        ({}, None),
        ({"dimensions": 1536}, None),
        ({"dimensions": 64}, 64),
        ({"dimensions": 64, "send_dimensions": False}, None),
        ({"send_dimensions": True}, 1536),
    ):
        provider = OpenAIProvider(**options)
        assert provider._payload(["a"]).get("dimensions") == sent
    assert openai(server, send_dimensions=True)._payload(["a"])["dimensions"] == 64


def test_what_ollama_is_sent(server: Any) -> None:
    """Ollama is sent model and texts, and told to cut nothing off."""
    with ollama(server) as provider:
        provider.embed(TEXTS)
    (request,) = server.requests
    assert (request.path, request.body) == ("/api/embed", {"model": "test", "input": TEXTS, "truncate": False})
    assert OllamaProvider("qwen3-embedding:8b", dimensions=1024)._payload(["a"])["dimensions"] == 1024


def test_widths_are_known_or_needed() -> None:
    """The usual models' widths are known; for others dimensions must be said."""
    assert OpenAIProvider().dimensions == 1536
    assert OpenAIProvider("text-embedding-3-large").dimensions == 3072
    assert OllamaProvider().dimensions == 768
    assert OllamaProvider("nomic-embed-text:latest").dimensions == 768
    for make in (OpenAIProvider, OllamaProvider):
        with pytest.raises(ConfigError, match="dimensions="):
            make("something-else")


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "localhost:80"},
        {"base_url": ""},
        {"timeout": 0},
        {"timeout": "30"},
        {"dimensions": 0.5},
        {"api_key": "sk-with-newline\n"},
        {"api_key": "sk-“quoted”"},
        {"api_key": ""},
        {"headers": {"x": 3}},
    ],
)
def test_arguments_are_checked(wrong: Any) -> None:
    """A wrong argument is refused when the provider is made, a key without being shown."""
    with pytest.raises(ConfigError) as caught:
        OpenAIProvider("test", **{"dimensions": 64, **wrong})
    assert "sk-" not in str(caught.value)


def test_prefixes_stand_before_texts(make: Any, server: Any, embed: Any) -> None:
    """Documents and queries get their own prefixes, and these are part of what caches tell apart."""
    provider = make(document_prefix="passage: ", query_prefix="query: ")
    embed(provider, ["a"])
    embed(provider, ["a"], kind="query")
    assert [request.texts for request in server.requests] == [["passage: a"], ["query: a"]]
    assert provider.variant != make().variant == ""


def test_rows_out_of_order_are_sorted(server: Any, embed: Any) -> None:
    """OpenAI's rows are put in the order of their numbers."""
    server.script(Fault(reverse=True))
    assert_allclose(embed(openai(server)), HashingProvider(64).embed(TEXTS), atol=1e-6)


def test_rows_without_numbers_keep_their_order(server: Any, embed: Any) -> None:
    """Rows of a server that leaves the numbers out are taken in order."""
    data = [{"embedding": [float(number)] * 64} for number in range(3)]
    server.script(Fault(body=json.dumps({"data": data}).encode()))
    assert_array_equal(embed(openai(server))[:, 0], [0, 1, 2])


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, retry_after="7"),
        Fault(status=408),
        Fault(status=500),
        Fault(status=503),
        Fault(cut="before"),
        Fault(cut="during"),
    ],
    ids=repr,
)
def test_what_may_pass_is_retryable(make: Any, server: Any, embed: Any, fault: Any) -> None:
    """Too many requests, a server's faults and cut connections are marked retryable, with the wait asked for."""
    server.script(fault)
    with pytest.raises(EmbeddingError, match=r"test at http://127\.0\.0\.1") as caught:
        embed(make())
    assert caught.value.retryable
    assert caught.value.retry_after == (7 if fault.retry_after else None)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 501, 307])
def test_what_will_not_pass_is_not_retryable(make: Any, server: Any, embed: Any, status: Any) -> None:
    """A refusal says status, the server's message and what to do, and is not retried."""
    server.script(Fault(status=status, message="because"))
    with pytest.raises(EmbeddingError, match=f"answered {status}: because") as caught:
        embed(make())
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "fault",
    [
        Fault(rows=2),
        Fault(width=63),
        Fault(body=b"<html>not what you wanted</html>"),
        Fault(body=b"[]"),
        Fault(body=b"null"),
        Fault(body=b'{"data": 5, "embeddings": 5}'),
        Fault(body=b'{"data": [1, 2, 3], "embeddings": [1, 2, 3]}'),
        Fault(body=b'{"data": [{"embedding": ["x"]}], "embeddings": [["x"]]}'),
        Fault(body=b"\xff\xfe\x00"),
    ],
    ids=repr,
)
def test_unusable_answers(make: Any, server: Any, embed: Any, fault: Any) -> None:
    """Too few rows, wrong widths and anything that is not what was asked for are errors, not retried."""
    server.script(fault)
    with pytest.raises(EmbeddingError) as caught:
        embed(make())
    assert not caught.value.retryable


def test_rows_numbered_wrongly_are_refused(server: Any, embed: Any) -> None:
    """Rows that do not each have a number of their own are not guessed at."""
    server.script(Fault(renumber=True))
    with pytest.raises(EmbeddingError, match="numbered"):
        embed(openai(server))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_numbers_that_are_none_are_refused_by_the_service(make: Any, server: Any, value: Any) -> None:
    """NaN and infinity, which JSON does not know but servers send, are refused and not cached."""
    server.script(Fault(value=value))
    cache = MemoryCache()
    service = EmbeddingService(make(), cache=cache)
    with pytest.raises(EmbeddingError, match="NaN or infinity for the text 'three'"):
        service.embed(TEXTS)
    assert len(cache) == 0
    assert service.embed(TEXTS).shape == (3, 64)


def test_the_service_retries_until_it_passes(make: Any, server: Any) -> None:
    """Different faults one after the other are all retried."""
    server.script(Fault(status=500), Fault(cut="during"))
    assert EmbeddingService(make(), retry=QUICK).embed(TEXTS).shape == (3, 64)
    assert len(server.requests) == 3


def test_retry_after_is_waited_for(make: Any, server: Any) -> None:
    """The service waits as long as the server's Retry-After asks."""
    server.script(Fault(status=429, retry_after="0.3"))
    began = time.monotonic()
    EmbeddingService(make(), retry=QUICK).embed(TEXTS)
    assert time.monotonic() - began >= 0.3


def test_timeouts_are_retryable(make: Any, server: Any, embed: Any) -> None:
    """A server that does not answer in time is an error that says so."""
    server.script(Fault(delay=5))
    with pytest.raises(EmbeddingError, match="did not answer in time") as caught:
        embed(make(timeout=0.2))
    assert caught.value.retryable


def test_nobody_there(make: Any, embed: Any) -> None:
    """A server that cannot be reached is an error that names its address, not the password in it."""
    with pytest.raises(EmbeddingError, match=r"at http://127\.0\.0\.1:1/v1 cannot be reached") as caught:
        embed(make(base_url="http://user:word@127.0.0.1:1/v1"))
    assert caught.value.retryable
    assert "word" not in str(caught.value)


def test_the_key_is_shown_nowhere(server: Any, embed: Any) -> None:
    """Neither repr nor an error shows the key, even where the server quotes it."""
    provider = openai(server, headers={"api-key": "other-secret"})
    server.script(Fault(status=401, message=f"Incorrect API key provided: {KEY} (or other-secret)"))
    with pytest.raises(EmbeddingError, match=r"provided: \*\*\*.*check the API key") as caught:
        embed(provider)
    for shown in (repr(provider), str(caught.value), repr(caught.value.__cause__), repr(EmbeddingService(provider))):
        assert KEY not in shown
        assert "other-secret" not in shown


def test_a_spent_account_is_not_retried(server: Any, embed: Any) -> None:
    """OpenAI's 429 for an account without funds is not retried."""
    server.script(Fault(status=429, code="insufficient_quota", message="You exceeded your quota"))
    with pytest.raises(EmbeddingError, match="quota") as caught:
        embed(openai(server))
    assert not caught.value.retryable


def test_advice_where_the_cause_is_known(server: Any, embed: Any) -> None:
    """Messages that have one usual cause say what to do."""
    cases = [
        (openai, Fault(status=400, message="does not support matryoshka representation"), "send_dimensions=False"),
        (ollama, Fault(status=404, message='model "test" not found, try pulling it first'), "ollama pull test"),
        (ollama, Fault(status=400, message="the input length exceeds the context length"), "text_bytes"),
    ]
    for make, fault, advice in cases:
        server.script(fault)
        with pytest.raises(EmbeddingError, match=advice):
            embed(make(server))


def test_a_long_message_is_shortened(make: Any, server: Any, embed: Any) -> None:
    """A server's endless message does not fill the log."""
    server.script(Fault(status=500, message="x" * 10_000))
    with pytest.raises(EmbeddingError) as caught:
        embed(make())
    assert len(str(caught.value)) < 500


def test_every_httpx_error_is_translated(make: Any) -> None:
    """Each exception class that httpx exports becomes an EmbeddingError with the cause kept."""
    provider = make()
    request = httpx.Request("POST", "http://127.0.0.1")
    classes = [
        found
        for name in httpx.__all__
        if inspect.isclass(found := getattr(httpx, name)) and issubclass(found, Exception)
    ]
    assert len(classes) > 25
    for kind in classes:
        wanted = inspect.signature(kind).parameters
        given = {"request": request, "response": httpx.Response(500, request=request), "message": "failed"}
        error = kind(**{name: given[name] for name in wanted if name in given})
        with pytest.raises(EmbeddingError) as caught, provider._border():
            raise error
        assert caught.value.__cause__ is error
        transport = issubclass(kind, httpx.TransportError | httpx.DecodingError)
        ours = issubclass(kind, httpx.UnsupportedProtocol | httpx.LocalProtocolError)
        assert caught.value.retryable == (transport and not ours)


def test_limits_are_kept(make: Any, server: Any) -> None:
    """A service sends no more texts at once than limits say, and cuts long ones."""
    provider = make(limits=BatchLimits(texts=2, text_bytes=20))
    EmbeddingService(provider).embed(["a", "b", "word " * 10])
    assert [len(request.texts) for request in server.requests] == [2, 2, 1]
    assert max(len(text) for request in server.requests for text in request.texts) <= 20


def test_threads_share_a_provider(make: Any, server: Any) -> None:
    """Threads at once each get their own rows."""
    provider = make()

    def work(number: Any) -> None:
        texts = [f"text {number}", f"more {number}"]
        assert_allclose(provider.embed(texts), HashingProvider(64).embed(texts), atol=1e-6)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert len(server.requests) == 40


def test_every_loop_has_its_own_connections(make: Any, server: Any) -> None:
    """The same provider works in one event loop after another, and in two at once."""
    provider = make()

    async def main() -> Any:
        rows = await asyncio.gather(*(provider.aembed([f"text {number}"]) for number in range(5)))
        await provider.aclose()
        return np.concatenate(rows)

    expected = HashingProvider(64).embed([f"text {number}" for number in range(5)])
    for _ in range(2):
        assert_allclose(asyncio.run(main()), expected, atol=1e-6)
    with ThreadPoolExecutor(2) as pool:
        for work in [pool.submit(asyncio.run, main()) for _ in range(2)]:
            assert_allclose(work.result(), expected, atol=1e-6)
    assert len(server.requests) == 20
    assert provider._clients == {}


def test_a_closed_provider_opens_again(make: Any) -> None:
    """Closing releases connections; closing twice is fine, and a later call opens new ones."""
    provider = make()
    provider.embed(["a"])
    provider.close()
    provider.close()
    assert provider.embed(["a"]).shape == (1, 64)


def test_a_cancelled_request_leaves_the_provider_usable(make: Any, server: Any) -> None:
    """Cancelling an awaited request frees it at once, and the next works."""
    server.script(Fault(delay=5))
    provider = make()
    service = EmbeddingService(provider)

    async def main() -> Any:
        async with provider:
            task = asyncio.create_task(service.aembed(["a"]))
            await asyncio.to_thread(server.received.wait, 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await service.aembed(["a"])

    began = time.monotonic()
    assert asyncio.run(main()).shape == (1, 64)
    assert time.monotonic() - began < 4


def test_the_environment_is_not_read(make: Any, monkeypatch: Any) -> None:
    """Neither a proxy nor a key is taken from the environment."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    assert make().embed(["a"]).shape == (1, 64)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("3", 3),
        ("0.5", 0.5),
        ("-3", 0),
        ("soon", None),
        ("nan", None),
        ("", None),
        (formatdate(1_000_010, usegmt=True), 10),
        (formatdate(999_000, usegmt=True), 0),
    ],
)
def test_retry_after_in_both_forms(value: Any, seconds: Any) -> None:
    """Retry-After is read as seconds or as a date; what is neither says nothing."""
    assert retry_after(value, now=1_000_000) == seconds


def test_no_thread_is_left() -> None:
    """The server double ends with its block, even while a request is being answered slowly."""
    before = threading.active_count()
    with EmbeddingServer() as other:
        other.script(Fault(delay=30))
        with pytest.raises(EmbeddingError), openai(other, timeout=0.05) as provider:
            provider.embed(["a"])
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
