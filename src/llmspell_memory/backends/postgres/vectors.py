"""Vectors in one embedding space: the index that pgvector has over them, and searches through it and without it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmspell_memory.backends.postgres.rows import KEY, table_of
from llmspell_memory.errors import ConfigError, SpaceChangedError

if TYPE_CHECKING:
    from llmspell_memory.backends.postgres.connections import Cursor
    from llmspell_memory.types import EmbeddingSpace, HNSWConfig, Vector

_OPERATORS: Final = {"cosine": "<=>", "inner_product": "<#>", "euclidean": "<->"}
_CLASSES: Final = {"cosine": "cosine_ops", "inner_product": "ip_ops", "euclidean": "l2_ops"}

_MOST_AS_VECTOR: Final = 2_000
_MOST_AS_HALF: Final = 4_000
"""Dimensions of the vectors that an HNSW index takes, as 32-bit and as 16-bit numbers."""

_RANGES: Final = {"m": (2, 100), "ef_construction": (4, 1_000), "ef_search": (1, 1_000)}
_AGAIN: Final = 4
"""Rows looked at again by their whole vectors, for each that is wanted, where the index has them as 16-bit numbers."""

_FILTERED: Final = 4
"""Times `ef_search` under a filter."""

_SCANNED: Final = 100_000
"""Rows that an index scan passes over at most to find those that match; then all that match are compared."""


class InUse(NamedTuple):
    """How a call found the vectors: whether there is an index, and how many labels have been given so far."""

    indexed: bool
    labels: int


def checked(hnsw: HNSWConfig, space: EmbeddingSpace) -> HNSWConfig:
    """Return parameters if pgvector has an index with them.

    Raises:
        ConfigError: it has none.
    """
    for name, (low, high) in _RANGES.items():
        if not low <= getattr(hnsw, name) <= high:
            raise ConfigError(f"pgvector takes {name} in {low}..{high}, got {getattr(hnsw, name)}")
    if hnsw.ef_construction < 2 * hnsw.m:
        raise ConfigError(f"pgvector takes ef_construction from 2 m = {2 * hnsw.m} up, got {hnsw.ef_construction}")
    if space.dimensions > _MOST_AS_HALF:
        raise ConfigError(
            f"an HNSW index of pgvector takes up to {_MOST_AS_HALF} dimensions, not {space.dimensions}; search exactly "
            "(EpisodicBackendType without HNSW), or choose a model with fewer"
        )
    return hnsw


class Vectors:
    """The vectors of one space.

    Args:
        number: of the space among those of the store.
        space: of the vectors.
        hnsw: parameters of the index; None for exact search.
    """

    def __init__(self, number: int, space: EmbeddingSpace, hnsw: HNSWConfig | None) -> None:
        self.number = number
        self.space = space
        self.hnsw = None if hnsw is None else checked(hnsw, space)
        self.table = table_of(number)
        self.operator = _OPERATORS[space.metric]

    def check_in_use(self, db: Cursor, name: str) -> InUse:
        """Return how the vectors are found.

        Raises:
            SpaceChangedError: the store, of this name, has been moved to another space.
        """
        found = db.execute(
            "SELECT space, to_regclass(%s) IS NOT NULL, (SELECT last_value FROM labels) FROM state", (self.index,)
        ).fetchone()
        if found is None or found[0] != self.number:
            raise SpaceChangedError(
                f"{name} holds vectors of another embedding space than {self.space} by now; open it anew with the "
                "embedding service that it was moved to"
            )
        return InUse(*found[1:])

    # --- the index --------------------------------------------------------------------------------------------------

    @property
    def _half(self) -> bool:
        """Whether the index has them as 16-bit numbers."""
        assert self.hnsw is not None  # noqa: S101 (for the type checker)
        return self.hnsw.dtype == "float16" or self.space.dimensions > _MOST_AS_VECTOR

    @property
    def index(self) -> str:
        """Name of the index; another than that which search by the same numbers goes through it as well."""
        return self.names[1 if self.hnsw and self._half else 0]

    @property
    def names(self) -> tuple[str, str]:
        """Names that an index of 32-bit and one of 16-bit numbers may have."""
        return f"{self.table}_hnsw", f"{self.table}_hnsw_half"

    @property
    def parameters_told(self) -> frozenset[str]:
        """The parameters of the index, as the server writes them."""
        assert self.hnsw is not None  # noqa: S101 (for the type checker)
        return frozenset([f"m={self.hnsw.m}", f"ef_construction={self.hnsw.ef_construction}"])

    @property
    def definition(self) -> str:
        """What the index is made of, and how."""
        kind = "halfvec" if self._half else "vector"
        column = f"(vector::halfvec({self.space.dimensions}))" if self._half else "vector"
        return f"({column} {kind}_{_CLASSES[self.space.metric]}) WITH ({', '.join(sorted(self.parameters_told))})"

    # --- searches ---------------------------------------------------------------------------------------------------

    def settings(self, k: int, *, filtered: bool) -> dict[str, str | int]:
        """Return what holds for a search through the index; more is looked at under a filter."""
        assert self.hnsw is not None  # noqa: S101 (for the type checker)
        wanted = k * _AGAIN if self._half else k
        ef_search = self.hnsw.ef_search * (_FILTERED if filtered else 1)
        return {
            "hnsw.ef_search": min(_RANGES["ef_search"][1], max(ef_search, wanted)),
            "hnsw.iterative_scan": "strict_order",
            "hnsw.max_scan_tuples": _SCANNED,
        }

    @property
    def distance(self) -> str:
        """How far a row's vector is from one that is bound: a column."""
        return f"(v.vector {self.operator} %s)"

    def nearest(self, columns: str, condition: str, *, exact: bool) -> str:
        """Return a statement for columns of the rows that match nearest to a vector.

        Its parameters are those of the columns and of the condition, and then what `parameters` returns. Where the
        index is of 16-bit numbers, more come than are wanted, to be looked at again by their whole vectors.
        """
        joined = f"SELECT {columns} FROM {self.table} v JOIN entries e USING ({KEY}) WHERE {condition}"
        if exact or self.hnsw is None:  # an expression that no index has
            return f"{joined} ORDER BY {self.distance} + 0, e.label LIMIT %s"
        if not self._half:
            return f"{joined} ORDER BY v.vector {self.operator} %s LIMIT %s"
        half = f"halfvec({self.space.dimensions})"
        return f"{joined} ORDER BY v.vector::{half} {self.operator} %s::{half} LIMIT %s"

    def parameters(self, vector: Vector, k: int, *, exact: bool) -> tuple[Any, ...]:
        """Return the parameters of `nearest` after those of the condition."""
        again = not exact and self.hnsw is not None and self._half
        return (vector, k * _AGAIN if again else k)

    def with_ef_search(self, ef_search: int) -> Vectors:
        """Return the same with another `ef_search`."""
        assert self.hnsw is not None  # noqa: S101 (for the type checker)
        return Vectors(self.number, self.space, replace(self.hnsw, ef_search=ef_search))
