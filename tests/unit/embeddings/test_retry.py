"""When a failed call is tried again, and after how long."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from llmspell_memory.embeddings import EmbeddingService, RetryPolicy
from llmspell_memory.errors import ClosedError, ConfigError, EmbeddingError

QUICK = RetryPolicy(base_delay=0.01)


def busy(**options: Any) -> Any:
    return EmbeddingError("busy", retryable=True, **options)


def run(service: Any, awaited: Any) -> Any:
    return asyncio.run(service.aembed_one("secret text")) if awaited else service.embed_one("secret text")


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def awaited(request: Any) -> Any:
    return request.param


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"attempts": True},
        {"base_delay": -1},
        {"max_delay": float("inf")},
        {"total": float("nan")},
        {"total": "1"},
    ],
)
def test_settings_are_checked(wrong: Any) -> None:
    """A wrong setting is refused, and named."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        RetryPolicy(**wrong)


def test_delays_grow_and_are_jittered() -> None:
    """Waits are random between 0 and a ceiling that doubles up to max_delay."""
    policy = RetryPolicy(base_delay=1.0, max_delay=5.0)
    for failures, ceiling in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (2000, 5.0)):
        waits = [policy.delay(failures) for _ in range(400)]
        assert 0 <= min(waits) < ceiling * 0.1
        assert ceiling * 0.9 < max(waits) <= ceiling


def test_what_may_pass_is_retried(provider: Any, awaited: Any) -> None:
    """A retryable error is tried again until it passes."""
    provider.failures = [busy(), busy()]
    assert run(EmbeddingService(provider, retry=QUICK), awaited).shape == (32,)
    assert len(provider.calls) == 3


def test_what_will_not_pass_is_not_retried(provider: Any, awaited: Any) -> None:
    """An error that is not retryable arrives as it was raised, after one call; so does one of another kind."""
    for error in (EmbeddingError("wrong key"), ClosedError("closed")):
        provider.failures = [error]
        provider.calls.clear()
        with pytest.raises(type(error)) as caught:
            run(EmbeddingService(provider, retry=QUICK), awaited)
        assert caught.value is error
        assert len(provider.calls) == 1


def test_attempts_are_all_calls(provider: Any, awaited: Any) -> None:
    """`attempts` calls are made in all; the last error says so and keeps its cause."""
    provider.failures = [busy() for _ in range(9)]
    with pytest.raises(EmbeddingError, match=r"busy \(gave up after 3 calls\)") as caught:
        run(EmbeddingService(provider, retry=RetryPolicy(attempts=3, base_delay=0.01)), awaited)
    assert len(provider.calls) == 3
    assert caught.value.retryable
    assert str(caught.value.__cause__) == "busy"


def test_one_attempt_is_no_retry(provider: Any, awaited: Any) -> None:
    """With one attempt the provider's own error arrives."""
    provider.failures = [error := busy()]
    with pytest.raises(EmbeddingError) as caught:
        run(EmbeddingService(provider, retry=RetryPolicy(attempts=1)), awaited)
    assert caught.value is error


def test_the_server_is_given_the_time_it_asks(provider: Any, awaited: Any) -> None:
    """`retry_after` is the least that is waited."""
    provider.failures = [busy(retry_after=0.2)]
    began = time.monotonic()
    run(EmbeddingService(provider, retry=QUICK), awaited)
    assert time.monotonic() - began >= 0.2


def test_a_server_that_asks_too_much_is_not_waited_for(provider: Any, awaited: Any) -> None:
    """A `retry_after` beyond max_delay is raised at once, and says so."""
    provider.failures = [busy(retry_after=60.0)]
    began = time.monotonic()
    with pytest.raises(EmbeddingError, match=r"asks to wait 60 s, more than RetryPolicy.max_delay of 30 s") as caught:
        run(EmbeddingService(provider), awaited)
    assert time.monotonic() - began < 5
    assert caught.value.retry_after == 60
    assert len(provider.calls) == 1


def test_total_bounds_the_time(provider: Any, awaited: Any) -> None:
    """No further try begins after `total` seconds."""
    provider.failures = [busy(retry_after=0.1) for _ in range(9)]
    with pytest.raises(EmbeddingError, match=r"RetryPolicy.total is 0.25 s"):
        run(EmbeddingService(provider, retry=RetryPolicy(attempts=9, base_delay=0.01, total=0.25)), awaited)
    assert len(provider.calls) == 3


def test_retries_are_logged_without_contents(provider: Any, caplog: Any) -> None:
    """Each retry is a warning that names the provider and holds no text."""
    provider.failures = [busy()]
    with caplog.at_level(logging.WARNING, logger="llmspell_memory.embeddings"):
        EmbeddingService(provider, retry=QUICK).embed_one("secret text")
    (record,) = caplog.records
    assert record.getMessage().startswith("recorder/test: call 1 failed, trying again in 0.0")
    assert "secret" not in record.getMessage()
