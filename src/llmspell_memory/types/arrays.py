"""Vectors and matrices of float32, and the one way to make a vector out of what a caller gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmspell_memory.errors import DimensionError, InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Vector: TypeAlias = NDArray[np.float32]
"""float32, shape (dimensions,)."""

Matrix: TypeAlias = NDArray[np.float32]
"""float32, shape (rows, dimensions), C order."""

Labels: TypeAlias = NDArray[np.int64]
"""int64, shape (n,): the numbers by which an index knows its vectors."""


def as_vector(values: ArrayLike, *, dimensions: int | None = None) -> Vector:
    """Return `values` as a contiguous float32 vector.

    Raises:
        InputError: not one-dimensional, empty, not numbers, or not finite in float32.
        DimensionError: `dimensions` is given and the width differs.
    """
    try:
        with np.errstate(over="ignore"):
            vector = np.ascontiguousarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"a vector must be a sequence of numbers, got {type(values).__name__}") from error
    if vector.ndim != 1 or vector.size == 0:
        raise InputError(f"a vector must have the shape (dimensions,), got {vector.shape}")
    if dimensions is not None and vector.size != dimensions:
        raise DimensionError(expected=dimensions, got=vector.size)
    if not np.isfinite(vector).all():
        raise InputError("a vector must hold finite numbers only, got NaN or infinity")
    return vector
