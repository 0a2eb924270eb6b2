"""Settings: of the HNSW index, of search by words, and of what an embedding provider takes in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeAlias, get_args

from llmspell_memory.errors import ConfigError

_RANGES: Final = {
    "m": (2, 256),
    "ef_construction": (1, 100_000),
    "ef_search": (1, 100_000),
    "seed": (0, 2**64 - 1),
}


def checked_parameter(name: str, value: int) -> int:
    """Return the value of a parameter of HNSWConfig if it is an integer in its range, else raise a ConfigError."""
    low, high = _RANGES[name]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"HNSWConfig.{name} must be an integer in {low}..{high}, got {value!r}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class HNSWConfig:
    """Parameters of Hierarchical Navigable Small World graphs (Malkov & Yashunin 2018).

    Attributes:
        m: links a new node makes on each layer; the lowest layer keeps up to twice as many. 2 to 256, 16 to 32 usual.
        ef_construction: candidates weighed while a node is linked. More build time, better recall. 200 to 400 usual.
        ef_search: candidates kept while searching; raised to k where k is larger. More time, better recall.
        seed: of the layers' random numbers. The same seed and the same calls give the same graph.
        dtype: what the index keeps vectors as. "float16" takes half the memory; scores are then those of the rounded
            vectors, off by some thousandths.

    Raises:
        ConfigError: a value is not an integer in its range.
    """

    m: int = 16
    ef_construction: int = 200
    ef_search: int = 50
    seed: int = 42
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        for name in _RANGES:
            checked_parameter(name, getattr(self, name))
        if self.dtype not in ("float32", "float16"):
            raise ConfigError(f'HNSWConfig.dtype must be "float32" or "float16", got {self.dtype!r}')

    @classmethod
    def balanced(cls) -> Self:
        """Return the default: m 16, ef_construction 200, ef_search 50."""
        return cls()

    @classmethod
    def high_recall(cls) -> Self:
        """Return m 32, ef_construction 400, ef_search 100: slower to build and search, finds more."""
        return cls(m=32, ef_construction=400, ef_search=100)

    @classmethod
    def fast(cls) -> Self:
        """Return m 8, ef_construction 100, ef_search 30: quicker and smaller, finds less."""
        return cls(m=8, ef_construction=100, ef_search=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordConfig:
    """Parameters of the search by words (BM25; Robertson & Zaragoza 2009).

    Attributes:
        language: whose Snowball stemmer makes words comparable, "english" or "german" for instance; None compares them
            as they are.
        k1: how much more a word counts that occurs more often. 0 to 100; at 0 it counts the same.
        b: how much less a word counts in a longer text. 0 to 1; at 0 as much in each. None for as much as suits the
            texts: half where they have 20 words in the mean, nearly all where they are long.

    Raises:
        ConfigError: a value is not a number in its range. Whether there is such a stemmer, the index finds out.
    """

    language: str | None = "english"
    k1: float = 1.2
    b: float | None = None

    def __post_init__(self) -> None:
        if self.language is not None and not isinstance(self.language, str):
            raise ConfigError(f"KeywordConfig.language must be a str or None, got {self.language!r}")
        for name, most in (("k1", 100), ("b", 1)):
            value = getattr(self, name)
            if value is None and name == "b":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                raise ConfigError(f"KeywordConfig.{name} must be a number in 0..{most}, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """What a provider accepts in one call.

    Attributes:
        texts: the most texts.
        total_bytes: the most bytes of UTF-8 over all texts of the call; None for no limit.
        text_bytes: the most bytes of UTF-8 of one text; None for no limit. A longer one is embedded in pieces.

    Services count tokens, of which a byte is never more than one: as many bytes as tokens are safe in every script.
    """

    texts: int = 256
    total_bytes: int | None = None
    text_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("texts", "total_bytes", "text_bytes"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(f"BatchLimits.{name} must be a positive integer, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How recall is watched while a memory is used: a share of its searches is run again exactly, in the background.

    Attributes:
        share: of the searches through an HNSW index, chosen at random; 0 to 1.
        budget: share of one processor's time that comparing may take; above 0, up to 1. What it does not allow is left
            out.
        floor: recall that is expected, 0 to 1. Where the confidence interval lies below it, the log warns.

    Raises:
        ConfigError: a value is not a number in its range.
    """

    share: float = 0.01
    budget: float = 0.01
    floor: float = 0.90

    def __post_init__(self) -> None:
        for name in ("share", "budget", "floor"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ConfigError(f"Watch.{name} must be a number in 0..1, got {value!r}")
        if not self.budget:
            raise ConfigError("Watch.budget must be above 0; to compare nothing, set watch=None")


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """That OpenTelemetry is told of what a memory does, by spans and metrics.

    Attributes:
        tracer_provider: makes the spans; the application's global one when None.
        meter_provider: makes the metrics; the application's global one when None.
    """

    tracer_provider: Any = None
    meter_provider: Any = None


Durability: TypeAlias = Literal["normal", "full"]
"""Whether a write that returned survives the death of the process alone, or a power cut, too."""


def checked_durability(value: object) -> Durability:
    """Return `value` if it is a durability, else raise a ConfigError."""
    if value not in get_args(Durability):
        raise ConfigError(f'durability must be "normal" or "full", got {value!r}')
    return value  # type: ignore[return-value]  # checked
