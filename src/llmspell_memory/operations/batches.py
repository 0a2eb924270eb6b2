"""Entries a batch at a time."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from llmspell_memory.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmspell_memory.types import EpisodicEntry


def check_batch(batch: object) -> None:
    """Raise a ConfigError unless `batch` may be the size of a batch."""
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ConfigError(f"batch must be a positive integer, got {batch!r}")


def batched(entries: Iterable[EpisodicEntry], size: int) -> Iterator[list[EpisodicEntry]]:
    """Yield lists of up to `size` entries."""
    left = iter(entries)
    while some := list(itertools.islice(left, size)):
        yield some
