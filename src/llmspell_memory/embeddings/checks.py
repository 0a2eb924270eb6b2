"""What a provider must be, and what it must give back; and vectors of unit length."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llmspell_memory.errors import ConfigError, EmbeddingError
from llmspell_memory.types import BatchLimits, EmbeddingSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmspell_memory.types import Matrix, Metric, Vector

_TINY: Final = 1e-12
_HUGE: Final = 1e24
"""Between these a squared length in float32 has lost nothing to overflow or underflow that would show."""


def check_provider(provider: Any, metric: Metric) -> tuple[EmbeddingSpace, BatchLimits]:
    """Return the space and the limits of a provider.

    Raises:
        ConfigError: it lacks a member of `EmbeddingProvider`, or one has a wrong value.
    """
    if isinstance(provider, type):
        raise ConfigError(
            f"provider must be an instance, got the class {provider.__name__}; write {provider.__name__}()"
        )
    missing = [name for name in ("name", "model", "dimensions", "embed") if not hasattr(provider, name)]
    if missing:
        raise ConfigError(f"{type(provider).__name__} is no EmbeddingProvider: it has no {', '.join(missing)}")
    name, model = provider.name, provider.model
    if not isinstance(name, str) or not name:
        raise ConfigError(f"a provider's name must be a str, not empty, got {name!r}")
    if model is not None and not isinstance(model, str):
        raise ConfigError(f"a provider's model must be a str or None, got {model!r}")
    limits = getattr(provider, "limits", BatchLimits())
    if not isinstance(limits, BatchLimits):
        raise ConfigError(f"a provider's limits must be a BatchLimits, got {type(limits).__name__}")
    return EmbeddingSpace(provider=name, model=model, dimensions=provider.dimensions, metric=metric), limits


def who(space: EmbeddingSpace) -> str:
    """Return provider and model for a message."""
    return f"{space.provider}/{space.model}" if space.model else space.provider


def shortened(text: str, limit: int = 40) -> str:
    """Return the start of a text for a message."""
    return repr(text if len(text) <= limit else f"{text[:limit]}…")


def as_matrix(rows: Any, *, provider: str) -> Matrix:
    """Return what a provider gave as a C-ordered float32 array of whatever shape.

    Raises:
        EmbeddingError: it is not numbers, or not of one width.
    """
    if isinstance(rows, np.ndarray) and rows.dtype == np.float32 and rows.flags.c_contiguous:
        return rows
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinity, which is refused afterwards
            return np.ascontiguousarray(rows, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise EmbeddingError(f"{provider} did not give one vector of numbers per text, all of one width") from error


def checked_rows(rows: Any, texts: Sequence[str], space: EmbeddingSpace) -> Matrix:
    """Return what a provider gave for `texts` as a matrix.

    Raises:
        EmbeddingError: not one row per text, of the space's width, of finite numbers.
    """
    matrix = as_matrix(rows, provider=who(space))
    expected = (len(texts), space.dimensions)
    if matrix.shape != expected:
        raise EmbeddingError(
            f"{who(space)} gave vectors of the shape {matrix.shape}, expected {expected} "
            f"for {len(texts)} text(s), the first {shortened(texts[0])}"
        )
    if len(matrix) == 1 and math.isfinite(_square(matrix[0])):
        return matrix
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        text = texts[int(finite.argmin())]
        raise EmbeddingError(f"{who(space)} gave a vector with NaN or infinity for the text {shortened(text)}")
    return matrix


def refuse_zeros(rows: Matrix, texts: Sequence[str], space: EmbeddingSpace) -> None:
    """Raise EmbeddingError where a row is zero, and so has no direction that cosine could compare."""
    directed = rows.any(axis=1)
    if not directed.all():
        text = texts[int(directed.argmin())]
        raise EmbeddingError(
            f"{who(space)} gave a vector of zeros for the text {shortened(text)}; the cosine metric cannot compare it"
        )


def unit_rows(rows: Matrix, texts: Sequence[str], space: EmbeddingSpace) -> Matrix:
    """Return the rows brought to unit length, in float64, where no square of a float32 overflows or vanishes.

    Raises:
        EmbeddingError: a row is zero.
    """
    refuse_zeros(rows, texts, space)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    unit: Matrix = np.divide(rows, lengths[:, None], out=np.empty_like(rows), casting="same_kind")
    return unit


def unit_vector(vector: Vector, text: str, space: EmbeddingSpace) -> Vector:
    """Return one vector as `unit_rows` would, at a tenth of its cost where float32 will do.

    Raises:
        EmbeddingError: it is zero.
    """
    square = _square(vector)
    if _TINY < square < _HUGE:
        unit: Vector = vector / math.sqrt(square)
        return unit
    return unit_rows(vector.reshape(1, -1), (text,), space).reshape(-1)


def _square(vector: Vector) -> float:
    """Return the squared length, in float32: not finite where the vector is not, or where it overflows."""
    return float(np.vdot(vector, vector))  # unlike `dot` it never warns, which to silence would cost a microsecond
