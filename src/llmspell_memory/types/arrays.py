"""Vectors and matrices of float32, and the one way to make a vector out of what a caller gives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmspell_memory.errors import DimensionError, InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from llmspell_memory.types.space import Metric

Vector: TypeAlias = NDArray[np.float32]
"""float32, shape (dimensions,)."""

Matrix: TypeAlias = NDArray[np.float32]
"""float32, shape (rows, dimensions), C order."""

Labels: TypeAlias = NDArray[np.int64]
"""int64, shape (n,): the numbers by which an index knows its vectors."""

LabelMatrix: TypeAlias = NDArray[np.int64]
"""int64, shape (rows, k), C order."""

_MAX_LABEL = 2**63 - 1
_LONGEST: Final = 1e18
"""Two vectors this long are at most 4e36 apart, squared; float32 ends at 3.4e38."""


def as_vector(values: ArrayLike, *, dimensions: int | None = None) -> Vector:
    """Return `values` as a contiguous float32 vector.

    Raises:
        InputError: not one-dimensional, empty, not numbers, or not finite in float32.
        DimensionError: `dimensions` is given and the width differs.
    """
    try:
        vector = _as_float32(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"a vector must be a sequence of numbers, got {type(values).__name__}") from error
    if vector.ndim != 1 or vector.size == 0:
        raise InputError(f"a vector must have the shape (dimensions,), got {vector.shape}")
    if dimensions is not None and vector.size != dimensions:
        raise DimensionError(expected=dimensions, got=vector.size)
    # The sum of squares is finite only if they all are, and tells so at a third of the cost; but it may overflow.
    if not math.isfinite(np.vdot(vector, vector)) and not np.isfinite(vector).all():
        raise InputError("a vector must hold finite numbers only, got NaN or infinity")
    return vector


def _as_float32(values: ArrayLike) -> NDArray[np.float32]:
    if isinstance(values, np.ndarray) and values.dtype == np.float32:
        return np.ascontiguousarray(values)
    with np.errstate(over="ignore"):  # costs a microsecond; too large for float32 becomes infinity, refused afterwards
        return np.ascontiguousarray(values, dtype=np.float32)


def as_labels(values: ArrayLike) -> Labels:
    """Return `values` as contiguous int64 labels.

    Raises:
        InputError: not one-dimensional, not integers, or negative.
    """
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(f"labels must be integers of shape (n,), got {array.dtype} of shape {array.shape}")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) <= _MAX_LABEL:
        raise InputError("labels must lie in 0..2**63-1")
    return np.ascontiguousarray(array, dtype=np.int64)


def as_matrix(values: ArrayLike, *, dimensions: int, rows: int | None = None) -> Matrix:
    """Return `values` as a contiguous float32 matrix.

    Raises:
        InputError: the wrong number of rows, not numbers, or not finite in float32.
        DimensionError: the rows have another width.
    """
    try:
        matrix = _as_float32(values)
    except (TypeError, ValueError) as error:
        raise InputError("vectors must be numbers of shape (n, dimensions)") from error
    if matrix.ndim != 2 or rows not in (None, matrix.shape[0]):  # noqa: PLR2004 (a matrix has two axes)
        shape = f"({'n' if rows is None else rows}, {dimensions})"
        raise InputError(f"vectors must have the shape {shape}, got {matrix.shape}")
    if matrix.shape[1] != dimensions:
        raise DimensionError(expected=dimensions, got=matrix.shape[1])
    if not np.isfinite(matrix).all():
        raise InputError("vectors must hold finite numbers only, got NaN or infinity")
    return matrix


def check_magnitude(vectors: Matrix, *, metric: Metric) -> None:
    """Refuse vectors, shape (n, dimensions), too long for float32 to compare: squares and products would overflow.

    The cosine metric scales them to length 1 and takes any.

    Raises:
        InputError: a Euclidean norm is above 1e18.
    """
    if metric == "cosine":
        return
    with np.errstate(over="ignore"):
        if np.vdot(vectors, vectors) <= _LONGEST**2:  # all of them together: cheaper, and mostly enough
            return
    longest = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64).max(initial=0))
    if longest > _LONGEST:
        raise InputError(f"a vector's length must be at most {_LONGEST:g} under the metric {metric}, got {longest:.3g}")


def checked_k(k: object) -> int:
    """Return `k`, how many results are wanted: an integer from 0 up."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 0:
        raise InputError(f"k must be an integer from 0 up, got {k!r}")
    return int(k)
