"""Vectors of WordLlama's static token embeddings: a model in a 16 MB file, no server, no torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from llmspell_memory.embeddings.pieces import cut
from llmspell_memory.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmspell_memory.protocols import EmbeddingKind
    from llmspell_memory.types import Matrix, Vector

_MODEL: Final = "l2_supercat_256"
_TOKENIZER: Final = "l2_supercat_tokenizer_config.json"
_TENSOR: Final = "embedding.weight"

_PIECE: Final = 10_000
"""Characters tokenised at once. The tokenizer sees a text as one word and slows down as n log n: a megabyte takes
1.4 s whole and 0.6 s in such pieces, and its memory stays bounded."""


class LocalProvider:
    """Meaning in microseconds, offline: the mean of WordLlama's vectors of a text's tokens, 256 dimensions.

    Reads the two files that the `wordllama` package carries without importing it: the import takes 0.6 s and configures
    logging. A text of any length works; its vector is the mean over all its tokens.

    Attributes:
        name: "wordllama".
        model: "l2_supercat_256".
        dimensions: 256.

    Raises:
        MissingDependencyError: the extra `local` is not installed, or its `wordllama` carries no such model.
    """

    name: str = "wordllama"
    model: str | None = _MODEL
    dimensions: int = 256

    def __init__(self) -> None:
        spec = find_spec("wordllama")
        if spec is None or not spec.submodule_search_locations:
            raise MissingDependencyError("wordllama", extra="local")
        folder = Path(spec.submodule_search_locations[0])
        try:
            from safetensors.numpy import load_file  # noqa: PLC0415 (optional)
            from tokenizers import Tokenizer  # noqa: PLC0415 (optional)
        except ImportError as error:
            raise MissingDependencyError(error.name or "tokenizers", extra="local") from error
        weights, tokenizer = folder / "weights" / f"{_MODEL}.safetensors", folder / "tokenizers" / _TOKENIZER
        for path in (weights, tokenizer):
            if not path.exists():
                raise MissingDependencyError(f"wordllama with {path.name}", extra="local")
        self._rows = np.ascontiguousarray(load_file(weights)[_TENSOR], dtype=np.float32)
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def __repr__(self) -> str:
        return "LocalProvider()"

    def embed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Return one row per text, in order, not of unit length; queries and documents are embedded alike."""
        del kind
        if len(texts) == 1:
            return self._vector(texts[0]).reshape(1, -1)
        rows = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            rows[row] = self._vector(text)
        return rows

    async def aembed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Do what `embed` does, inline: a short text takes less than a thread hop."""
        return self.embed(texts, kind=kind)

    def _vector(self, text: str) -> Vector:
        # One text at a time: the tokenizer's batch call was measured at 65 µs a text against 33 on two cores, and marks
        # its thread pool as used, after which every fork prints a warning.
        if len(text) <= _PIECE:
            total, tokens = self._total(text)
        else:
            total, tokens = np.zeros(self.dimensions, dtype=np.float32), 0
            for part in cut(text, _PIECE):
                one, count = self._total(part)
                total, tokens = total + one, tokens + count
        return total / np.float32(max(tokens, 1))

    def _total(self, text: str) -> tuple[Vector, int]:
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return np.add.reduce(self._rows.take(ids, 0), 0), len(ids)
