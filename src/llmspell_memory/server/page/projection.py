"""Vectors as points of a plane: principal component analysis (Pearson 1901), by the smaller of two matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from llmspell_memory.types import Vector


def two_dimensions(vectors: Sequence[Vector]) -> tuple[NDArray[np.float64], float]:
    """Return a place for each vector, within -1 and 1, and the share of their variance that the plane keeps.

    The same vectors get the same places: of each axis, the end that reaches farther is the positive one.
    """
    if not vectors:
        return np.zeros((0, 2)), 1.0
    centred = np.asarray(vectors, np.float64)
    centred = centred - centred.mean(axis=0)
    by_rows = len(centred) <= centred.shape[1]
    values, axes = np.linalg.eigh(centred @ centred.T if by_rows else centred.T @ centred)
    values, axes = np.maximum(values[::-1], 0.0), axes[:, ::-1][:, :2]  # the largest first
    total = float(values.sum())
    places = np.zeros((len(centred), 2))
    if total <= np.finfo(np.float64).tiny:
        return places, 1.0  # all the same
    found = axes * np.sqrt(values[:2]) if by_rows else centred @ axes
    places[:, : found.shape[1]] = found
    ends = places[np.abs(places).argmax(axis=0), np.arange(2)]
    places *= np.where(ends < 0, -1.0, 1.0)
    return places / (np.abs(places).max() or 1.0), float(values[:2].sum() / total)
