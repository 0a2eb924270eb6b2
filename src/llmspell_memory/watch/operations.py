"""What was done through one memory: how often, how long it took, and how often it failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llmspell_memory.types.histogram import Both, Histogram

if TYPE_CHECKING:
    from llmspell_memory.types import LatencyStats

_EMBEDDINGS: Final = ("add.embed", "search.embed")
"""What "embed" is the sum of; the first is not told of on its own."""


class Operations(dict[str, Histogram]):
    """Histograms by the name of the operation, each made when it is first asked for.

    Args:
        outer: counts all of it, too: a scope's operations are also those of the memory it was made from.
    """

    def __init__(self, outer: Operations | None = None) -> None:
        super().__init__()
        self._outer: Operations | None = outer
        self._failures: dict[str, int] = {}

    def __missing__(self, name: str) -> Histogram:
        made = Histogram() if self._outer is None else Both(self._outer[name])
        return self.setdefault(name, made)  # another thread may have been quicker

    def failed(self, name: str) -> None:
        """Count a call that raised an error."""
        self._failures[name] = self._failures.get(name, 0) + 1
        if self._outer is not None:
            self._outer.failed(name)

    def timings(self) -> dict[str, LatencyStats]:
        """Return what was timed so far."""
        told = {name: one.snapshot() for name, one in list(self.items()) if name != _EMBEDDINGS[0]}
        embedded = [self[name] for name in _EMBEDDINGS if name in self]
        if embedded:
            both = Histogram()
            for one in embedded:
                both.merge(one)
            told["embed"] = both.snapshot()
        return told

    def failures(self) -> dict[str, int]:
        """Return how many calls failed, by operation."""
        return self._failures.copy()
