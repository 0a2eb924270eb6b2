"""Any model of the sentence-transformers library, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.embeddings.checks import as_matrix
from llmspell_memory.errors import ConfigError, MissingDependencyError
from llmspell_memory.types import BatchLimits, EmbeddingSpace
from llmspell_memory.types.locks import ForkLock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmspell_memory.protocols import EmbeddingKind
    from llmspell_memory.types import Matrix

_MOST_BYTES: Final = 8_000
"""Of one piece, however long a text the model takes: attention grows with the square of it."""


class SentenceTransformersProvider:
    """A model of sentence-transformers, loaded once, used by one thread at a time.

    Queries and documents are told apart by the model's own prompts where it has some. Models cut off silently what is
    too long for them, so texts are cut into pieces of as many bytes as the model takes tokens, which is safe in
    any script; for English, `limits=BatchLimits(text_bytes=3 * tokens)` keeps more texts whole.

    Args:
        model: a name or folder as `SentenceTransformer(...)` takes it, or such an object.
        device: such as "cpu" or "cuda"; None lets the library choose. Not for an object.
        batch_size: texts the model takes at once.
        name_as: the model's name in the embedding space; by default its name, for an object what it says of itself.
        limits: what one call takes.
        document_prefix: put before every document, for models without prompts of their own.
        query_prefix: put before every query, likewise.

    Attributes:
        name: "sentence-transformers".

    Raises:
        MissingDependencyError: the extra `sentence-transformers` is not installed.
        ConfigError: an argument is not acceptable, or the model has no one width.
    """

    name: str = "sentence-transformers"

    def __init__(
        self,
        model: str | Any = "sentence-transformers/all-MiniLM-L6-v2",
        *,
        device: str | None = None,
        batch_size: int = 32,
        name_as: str | None = None,
        limits: BatchLimits | None = None,
        document_prefix: str = "",
        query_prefix: str = "",
    ) -> None:
        self._model = _load(model, device) if isinstance(model, str) else model
        self.model: str | None = name_as or (model if isinstance(model, str) else _own_name(model))
        self.dimensions = EmbeddingSpace(
            provider=self.name, model=self.model, dimensions=_width(self._model)
        ).dimensions
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"batch_size must be a positive integer, got {batch_size!r}")
        self._batch_size = batch_size
        self._prefixes: dict[EmbeddingKind, str] = {"document": document_prefix, "query": query_prefix}
        self.variant = repr((document_prefix, query_prefix)) if document_prefix or query_prefix else ""
        tokens = getattr(self._model, "max_seq_length", None) or _MOST_BYTES
        room = max(1, min(tokens - 2, _MOST_BYTES) - max(len(document_prefix.encode()), len(query_prefix.encode())))
        self.limits = limits or BatchLimits(texts=max(batch_size, 256), text_bytes=room)
        self._lock = ForkLock(wait=False)  # its tokenizer refuses two threads at once ("Already borrowed")

    def __repr__(self) -> str:
        return f"SentenceTransformersProvider({self.model!r}, dimensions={self.dimensions})"

    def embed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Return one row per text, in order."""
        prefix = self._prefixes[kind]
        given = [prefix + text for text in texts] if prefix else list(texts)
        with self._lock:
            rows = self._encode(given, kind)
        return as_matrix(rows, provider=self.name)

    def _encode(self, texts: list[str], kind: EmbeddingKind) -> Any:
        options: dict[str, Any] = {
            "batch_size": self._batch_size,
            "show_progress_bar": False,
            "convert_to_numpy": True,
        }
        own = getattr(self._model, f"encode_{kind}", None)  # since sentence-transformers 5
        if own is not None:
            return own(texts, **options)
        if kind in (getattr(self._model, "prompts", None) or {}):
            options["prompt_name"] = kind
        return self._model.encode(texts, **options)


def _load(model: str, device: str | None) -> Any:
    try:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 (optional, and seconds to import)
    except ImportError as error:
        raise MissingDependencyError("sentence-transformers", extra="sentence-transformers") from error
    return SentenceTransformer(model, device=device)


def _width(model: Any) -> int:
    for name in ("get_embedding_dimension", "get_sentence_embedding_dimension"):  # renamed in version 5
        if (ask := getattr(model, name, None)) is not None and isinstance(width := ask(), int):
            return width
    raise ConfigError(f"{type(model).__name__} does not say how wide its vectors are; give a SentenceTransformer")


def _own_name(model: Any) -> str | None:
    card = getattr(model, "model_card_data", None)
    return getattr(card, "model_id", None) or getattr(card, "base_model", None)
