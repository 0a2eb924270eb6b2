"""Vectors kept so that a text is not embedded twice: what a cache is, and the one in memory.

A cache holds what the provider gave (not normalised), under a key that names everything it depends on. It may forget
anything at any time; it may never give back another vector than was put.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from llmspell_memory.errors import ConfigError
from llmspell_memory.types.locks import ForkLock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from llmspell_memory.protocols import EmbeddingKind
    from llmspell_memory.types import EmbeddingSpace, Matrix, Vector


@runtime_checkable
class EmbeddingCache(Protocol):
    """Keeps vectors by key. May be used by several threads at once."""

    def get_many(self, keys: Sequence[bytes]) -> Sequence[Vector | None]:
        """Return one vector per key, in order, None where there is none. The vectors are not to be written to."""
        ...

    def put_many(self, keys: Sequence[bytes], vectors: Matrix) -> None:
        """Keep one row of `vectors` per key, as a copy; a known key gets the new one."""
        ...

    def discard(self, keys: Iterable[bytes]) -> None:
        """Forget these keys; unknown ones are ignored."""
        ...


def cache_key(space: EmbeddingSpace, kind: EmbeddingKind, text: str, *, variant: str = "") -> bytes:
    """Return 32 bytes that stand for a text embedded as `kind` by the provider of `space`.

    The metric is no part of it: vectors are cached as they were given, and compared later. `variant` is what else the
    provider's vectors depend on, such as the prefixes it puts before texts.
    """
    return key_of(key_prefix(space, kind, variant), text.encode())


def key_prefix(space: EmbeddingSpace, kind: EmbeddingKind, variant: str) -> blake2b:
    """Return the hash of everything but the text, to be copied and continued: one service uses two of them."""
    digest = blake2b(digest_size=32)
    for field in (space.provider, space.model, str(space.dimensions), kind, variant):
        data = b"" if field is None else field.encode()
        # Lengths first, so that no two lists of fields run into the same bytes; -1 tells None from "".
        digest.update((-1 if field is None else len(data)).to_bytes(8, "big", signed=True))
        digest.update(data)
    return digest


def key_of(prefix: blake2b, data: bytes) -> bytes:
    """Return the key of a text, given as UTF-8."""
    digest = prefix.copy()
    digest.update(data)  # the last field needs no length before it
    return digest.digest()


class MemoryCache:
    """The vectors used last, in memory: `max_entries` of them, 4 bytes a dimension each.

    Raises:
        ConfigError: `max_entries` is not a positive integer.
    """

    def __init__(self, max_entries: int = 4096) -> None:
        self.max_entries = checked_max(max_entries, name="MemoryCache.max_entries")
        self._lock = ForkLock()
        self._vectors: OrderedDict[bytes, Vector] = OrderedDict()

    def __repr__(self) -> str:
        return f"MemoryCache({self.max_entries})"

    def __len__(self) -> int:
        return len(self._vectors)

    def get_many(self, keys: Sequence[bytes]) -> list[Vector | None]:
        """Return one vector per key, read-only, None where there is none; what is found counts as used."""
        vectors = self._vectors
        found = []
        with self._lock:
            for key in keys:
                vector = vectors.get(key)
                if vector is not None:
                    vectors.move_to_end(key)
                found.append(vector)
        return found

    def put_many(self, keys: Sequence[bytes], vectors: Matrix) -> None:
        """Keep one row per key, as a copy; the ones used longest ago make room."""
        copies = [row.copy() for row in vectors]  # a view would keep its whole matrix alive
        for copy in copies:
            copy.setflags(write=False)
        with self._lock:
            for key, copy in zip(keys, copies, strict=True):
                self._vectors[key] = copy
                self._vectors.move_to_end(key)
            while len(self._vectors) > self.max_entries:
                self._vectors.popitem(last=False)

    def discard(self, keys: Iterable[bytes]) -> None:
        """Forget these keys; unknown ones are ignored."""
        with self._lock:
            for key in keys:
                self._vectors.pop(key, None)


def checked_max(value: object, *, name: str) -> int:
    """Return a positive number of entries.

    Raises:
        ConfigError: it is not one.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be a positive integer, got {value!r}")
    return value
