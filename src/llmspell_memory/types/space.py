"""What makes two vectors comparable: who made them, how wide they are, and how they are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from llmspell_memory.errors import ConfigError

Metric: TypeAlias = Literal["cosine", "inner_product", "euclidean"]
METRICS: tuple[Metric, ...] = get_args(Metric)
MAX_DIMENSIONS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSpace:
    """The space a store's vectors live in; a store holds vectors of one space.

    Attributes:
        provider: the provider's name, such as "openai".
        model: the provider's model, None where it has no name.
        dimensions: width of every vector.
        metric: how two vectors are compared.
    """

    provider: str
    model: str | None
    dimensions: int
    metric: Metric = "cosine"

    def __post_init__(self) -> None:
        if isinstance(self.dimensions, bool) or not isinstance(self.dimensions, int):
            raise ConfigError(f"dimensions must be an int, got {self.dimensions!r}")
        if not 1 <= self.dimensions <= MAX_DIMENSIONS:
            raise ConfigError(f"dimensions must lie in 1..{MAX_DIMENSIONS}, got {self.dimensions}")
        if self.metric not in METRICS:
            raise ConfigError(f"metric must be one of {', '.join(METRICS)}, got {self.metric!r}")

    def __str__(self) -> str:
        model = f"/{self.model}" if self.model else ""
        return f"{self.provider}{model} ({self.dimensions} dimensions, {self.metric})"
