"""What adapters do for callers that await: vectors made ahead, and blocking work finished in a thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from llmspell_memory.embeddings import MemoryCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmspell_memory.embeddings import EmbeddingService

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def embed_ahead(service: EmbeddingService, documents: Iterable[str], queries: Iterable[str]) -> None:
    """Have the service's cache hold the vectors of texts, awaited, so that a thread which needs them has them at once.

    Without a cache, or with one that cannot hold so many, this does nothing, and the thread embeds.
    """
    texts, cache = list(dict.fromkeys(documents)), service.cache
    if cache is None or (isinstance(cache, MemoryCache) and len(texts) > cache.max_entries):
        return
    await service.aembed(texts)
    for query in dict.fromkeys(queries):
        await service.aembed_one(query, kind="query")


async def finished(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Return what `work` does in a thread; once begun it is waited for, even where the caller is cancelled meanwhile.

    So what the caller does next, on its way out or after it, finds the work done.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None and task.exception() is None:
        raise cancelled
    return task.result()
