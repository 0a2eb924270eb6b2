"""When a failed call to a provider is tried again, and after how long."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from llmspell_memory.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter: each wait is random between 0 and a ceiling that doubles.

    Full jitter spreads clients that failed together; it needs the fewest calls of the usual schemes (Brooker 2015,
    "Exponential Backoff And Jitter", AWS Architecture Blog).

    Attributes:
        attempts: calls in all, the first included; 1 for no retries.
        base_delay: ceiling of the first wait, in seconds.
        max_delay: ceiling of every wait, in seconds. A server that asks for more is not waited for.
        total: seconds after which no further try begins.

    Raises:
        ConfigError: a value is not a number in its range.
    """

    attempts: int = 5
    base_delay: float = 0.5
    max_delay: float = 30.0
    total: float = 120.0

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise ConfigError(f"RetryPolicy.attempts must be a positive integer, got {self.attempts!r}")
        for name in ("base_delay", "max_delay", "total"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ConfigError(f"RetryPolicy.{name} must be a number of seconds, 0 or more, got {value!r}")

    def delay(self, failures: int, *, at_least: float | None = None) -> float:
        """Return how long to wait after `failures` failed calls (1 or more), and no less than the server asked."""
        ceiling = min(self.max_delay, self.base_delay * 2.0 ** min(failures - 1, 64))
        wait = random.uniform(0, ceiling)  # noqa: S311 (jitter, not a secret)
        return max(wait, at_least or 0.0)

    def why_stop(self, failures: int, wait: float, *, elapsed: float) -> str:
        """Return why no further call is to be made after `failures` and a wait of so many seconds, "" when one is."""
        if failures >= self.attempts:
            return f"gave up after {failures} calls"
        if wait > self.max_delay:
            return f"the server asks to wait {wait:g} s, more than RetryPolicy.max_delay of {self.max_delay:g} s"
        if elapsed + wait > self.total:
            return f"gave up after {elapsed:.1f} s, RetryPolicy.total is {self.total:g} s"
        return ""
