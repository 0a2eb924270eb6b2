"""Blocking work for callers that await: finished once begun, whoever is cancelled."""

from __future__ import annotations

import asyncio
import threading

import pytest

from llmspell_memory.adapters.awaiting import embed_ahead, finished
from llmspell_memory.embeddings import EmbeddingService, HashingProvider


class Work:
    """Something that blocks until it is let go."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun, self.let_go, self.done = threading.Event(), threading.Event(), False
        self._error = error

    def __call__(self) -> str:
        self.begun.set()
        assert self.let_go.wait(60)
        self.done = True
        if self._error is not None:
            raise self._error
        return "result"


async def cancelled_twice(work: Work) -> asyncio.Task[str]:
    """Return a task that was cancelled twice amid its work, which then was let go."""
    task = asyncio.create_task(finished(work))
    await asyncio.to_thread(work.begun.wait)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()
    work.let_go.set()
    await asyncio.wait([task])
    return task


async def test_the_result_comes_back() -> None:
    """Without a cancellation the call returns what the work returns, or raises what it raises."""
    for error in (None, ValueError("no")):
        work = Work(error)
        work.let_go.set()
        if error is None:
            assert await finished(work) == "result"
        else:
            with pytest.raises(ValueError, match="no"):
                await finished(work)


async def test_a_cancellation_arrives_when_the_work_is_done() -> None:
    """A caller that is cancelled, even twice, is so once the work has ended, and not before."""
    work = Work()
    task = await cancelled_twice(work)
    assert task.cancelled()
    assert work.done


async def test_an_error_of_the_work_is_not_lost_to_a_cancellation() -> None:
    """Work that fails tells so, although its caller was cancelled meanwhile."""
    task = await cancelled_twice(Work(ValueError("no")))
    assert isinstance(task.exception(), ValueError)


async def test_texts_are_embedded_ahead() -> None:
    """What was embedded ahead is not embedded again by whoever needs it."""
    service = EmbeddingService(HashingProvider())
    await embed_ahead(service, ["a", "b", "a"], ["q"])
    before = service.misses
    service.embed(["a", "b"])
    service.embed_one("q", kind="query")
    assert service.misses == before
