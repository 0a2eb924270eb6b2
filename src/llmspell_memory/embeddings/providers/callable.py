"""A function of the user's own as provider."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from llmspell_memory.embeddings.checks import as_matrix
from llmspell_memory.errors import ConfigError
from llmspell_memory.types import EmbeddingSpace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from numpy.typing import ArrayLike

    from llmspell_memory.protocols import EmbeddingKind
    from llmspell_memory.types import Matrix


class CallableProvider:
    """Embeds by calling `fn` with a list of texts; it returns one vector per text, as anything numpy makes an array of.

    `fn` may be async: then `aembed` awaits it, and `embed` runs it in a loop of its own, in a thread where a loop is
    running already. A `fn` that is not async runs in a thread when awaited, as it may block. Where it has a parameter
    `kind`, it is told "document" or "query".

    Args:
        fn: the function.
        dimensions: width of its vectors.
        name: becomes part of the embedding space; give one that tells your function from others where vectors are kept.
        model: likewise.

    Raises:
        ConfigError: `fn` cannot be called, or `dimensions` is out of range.
    """

    def __init__(
        self,
        fn: Callable[..., ArrayLike] | Callable[..., Awaitable[ArrayLike]],
        dimensions: int,
        *,
        name: str = "callable",
        model: str | None = None,
    ) -> None:
        if not callable(fn):
            raise ConfigError(f"fn must be callable, got {type(fn).__name__}")
        self.name = name
        self.model = model
        self.dimensions = EmbeddingSpace(provider=name, model=model, dimensions=dimensions).dimensions
        self._fn = cast("Callable[..., Any]", fn)
        self._is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)
        self._takes_kind = _takes_kind(self._fn)

    def __repr__(self) -> str:
        return f"CallableProvider({getattr(self._fn, '__qualname__', self._fn)}, {self.dimensions}, name={self.name!r})"

    def embed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Return what the function gives, as float32; the service checks its shape."""
        result = self._call(texts, kind)
        if inspect.isawaitable(result):
            result = _finished(_awaiting(result))
        return as_matrix(result, provider=self.name)

    async def aembed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Do what `embed` does, without blocking the event loop."""
        if self._is_async:
            result = self._call(texts, kind)
        else:
            import asyncio  # noqa: PLC0415 (10 ms, and who awaits has it)

            result = await asyncio.to_thread(self._call, texts, kind)
        if inspect.isawaitable(result):
            result = await result
        return as_matrix(result, provider=self.name)

    def _call(self, texts: Sequence[str], kind: EmbeddingKind) -> Any:
        return self._fn(list(texts), kind=kind) if self._takes_kind else self._fn(list(texts))


def _takes_kind(fn: Callable[..., Any]) -> bool:
    try:
        return "kind" in inspect.signature(fn).parameters
    except (TypeError, ValueError):  # some functions written in C do not tell
        return False


async def _awaiting(result: Awaitable[Any]) -> Any:
    return await result


def _finished(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end from code that does not await, inside a running loop or not."""
    import asyncio  # noqa: PLC0415 (10 ms, and only for an async function)
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 (likewise)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
