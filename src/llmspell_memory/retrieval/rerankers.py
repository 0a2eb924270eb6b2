"""Rerankers: a function of yours, and a cross-encoder that reads query and text together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmspell_memory.errors import ConfigError, MissingDependencyError
from llmspell_memory.types.locks import ForkLock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class CallableReranker:
    """A function as a reranker.

    Args:
        function: of a query and a list of texts; it returns a score for each, higher ones for better answers.

    Raises:
        ConfigError: it is no function.
    """

    def __init__(self, function: Callable[[str, Sequence[str]], Sequence[float]]) -> None:
        if not callable(function):
            raise ConfigError(f"a reranker's function must be callable, got {type(function).__name__}")
        self._function = function

    def __repr__(self) -> str:
        return f"CallableReranker({self._function!r})"

    def rerank(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """Return what the function says."""
        return self._function(query, texts)


class CrossEncoderReranker:
    """A cross-encoder of sentence-transformers, loaded once, used by one thread at a time.

    It reads each text together with the query: more exact than vectors, and some milliseconds for each text. What is
    longer than the model takes is cut off by it.

    Args:
        model: a name or folder as `CrossEncoder(...)` takes it, or such an object.
        device: such as "cpu" or "cuda"; None lets the library choose. Not for an object.
        batch_size: texts the model takes at once.

    Raises:
        MissingDependencyError: the extra `sentence-transformers` is not installed.
        ConfigError: an argument is not acceptable.
    """

    def __init__(
        self,
        model: str | Any = "cross-encoder/ms-marco-MiniLM-L6-v2",
        *,
        device: str | None = None,
        batch_size: int = 32,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"batch_size must be a positive integer, got {batch_size!r}")
        self._model = _load(model, device) if isinstance(model, str) else model
        if not hasattr(self._model, "predict"):
            raise ConfigError(f"model must be a name, a folder or a CrossEncoder, got {type(model).__name__}")
        self._batch_size = batch_size
        self._lock = ForkLock(wait=False)  # its tokenizer refuses two threads at once

    def rerank(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """Return the model's score of each text; where it gives several for a pair, the last, which is that it fits."""
        pairs = [(query, text) for text in texts]
        with self._lock:
            scores = self._model.predict(
                pairs, batch_size=self._batch_size, show_progress_bar=False, convert_to_numpy=True
            )
        return [float(one) for one in (scores if scores.ndim == 1 else scores[:, -1])]


def _load(model: str, device: str | None) -> Any:
    try:
        from sentence_transformers import CrossEncoder  # noqa: PLC0415 (optional, and seconds to import)
    except ImportError as error:
        raise MissingDependencyError("sentence-transformers", extra="sentence-transformers") from error
    return CrossEncoder(model, device=device)
