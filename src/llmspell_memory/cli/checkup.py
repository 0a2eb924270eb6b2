"""What a machine has for this library, and how quick it is here: each figure in a second or so."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import tempfile
import time
from collections import defaultdict
from contextlib import closing, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, get_args

import numpy as np

import llmspell_memory
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.embeddings import EmbeddingService, HashingProvider, LocalProvider
from llmspell_memory.errors import MissingDependencyError
from llmspell_memory.index import ExactIndex, HNSWIndex
from llmspell_memory.index.kernels import kernel, kernels
from llmspell_memory.types import Durability, EpisodicEntry, HNSWConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmspell_memory.protocols import EmbeddingProvider

_VECTORS: Final = 10_000
_DIMENSIONS: Final = 384
_QUERIES: Final = 200
_K: Final = 10
_TIMES: Final = 50
_TEXT: Final = "The lease of the bakery in Sable Street ends in September, and Ros wants to renew it."
_REQUIREMENT: Final = re.compile(r"([\w.-]+)[^;]*;.*extra\s*==\s*['\"]([\w-]+)['\"]")


class Speed(NamedTuple):
    """A figure: what was measured, how long it took at the median in microseconds, and what else is to say of it."""

    what: str
    microseconds: float
    detail: str = ""


def environment() -> dict[str, str]:
    """Return what the library runs on."""
    return {
        "llmspell-memory": llmspell_memory.__version__,
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "SQLite": sqlite3.sqlite_version,
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processors": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "kernels": f"{kernel()} (of {', '.join(kernels())})",
    }


def extras() -> dict[str, dict[str, str | None]]:
    """Return the extras with their packages, and the version of each that is installed; None where it is not."""
    found: defaultdict[str, dict[str, str | None]] = defaultdict(dict)
    for line in metadata.requires("llmspell-memory") or ():
        match = _REQUIREMENT.match(line)
        if match and match[2] != "all":
            found[match[2]][match[1]] = _version(match[1])
    return dict(sorted(found.items()))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def speeds(folder: Path) -> list[Speed]:
    """Return figures of this machine; what is written goes to a folder of its own in `folder`, which is removed.

    Raises:
        OSError: nothing can be written there.
    """
    providers: list[EmbeddingProvider] = [HashingProvider()]
    with suppress(MissingDependencyError):
        providers.append(LocalProvider())
    return [
        *_searches(),
        *(_embedding(one) for one in providers),
        *(_write(folder, one) for one in get_args(Durability)),
    ]


def _median(work: Callable[[int], object], times: int) -> float:
    """Return the median in microseconds of so many calls, after one to warm up."""
    work(0)
    spent = np.empty(times)
    for number in range(times):
        began = time.perf_counter_ns()
        work(number)
        spent[number] = time.perf_counter_ns() - began
    return float(np.median(spent)) / 1e3


def _searches() -> list[Speed]:
    """Search made vectors, clustered as embeddings are, exactly and through an index."""
    chance = np.random.default_rng(0)
    topics = chance.standard_normal((_VECTORS // 50, _DIMENSIONS))
    near = topics[chance.integers(len(topics), size=_VECTORS + _QUERIES)]
    rows = (near + chance.standard_normal(near.shape)).astype(np.float32)
    stored, queries = rows[:_VECTORS], rows[_VECTORS:]
    exact, graph = ExactIndex(dimensions=_DIMENSIONS), HNSWIndex(dimensions=_DIMENSIONS, config=HNSWConfig())
    exact.add(np.arange(_VECTORS), stored)
    began = time.perf_counter()
    graph.add(np.arange(_VECTORS), stored)
    built = time.perf_counter() - began
    found = sum(
        len(np.intersect1d(graph.search(one, _K)[0], exact.search(one, _K)[0], assume_unique=True)) for one in queries
    )
    detail = f"recall {found / (_K * _QUERIES):.3f}, built in {built:.1f} s"
    return [
        Speed(f"exact search among {_VECTORS:,}", _median(lambda n: exact.search(queries[n], _K), _QUERIES)),
        Speed(f"HNSW search among {_VECTORS:,}", _median(lambda n: graph.search(queries[n], _K), _QUERIES), detail),
    ]


def _embedding(provider: EmbeddingProvider) -> Speed:
    return Speed(f"one text by {provider.name}", _median(lambda n: provider.embed([f"{_TEXT} {n}"]), _TIMES))


def _write(folder: Path, durability: Durability) -> Speed:
    service = EmbeddingService(HashingProvider())
    with (
        tempfile.TemporaryDirectory(prefix=".llmspell-doctor-", dir=folder) as place,
        closing(SQLiteBackend(Path(place) / "memory.db", service.space, durability=durability)) as backend,
    ):
        vector = service.embed_one(_TEXT)
        add = lambda n: backend.add([EpisodicEntry("s", "user", _TEXT, id=f"{n}", embedding=vector)])  # noqa: E731
        return Speed(f"one durable write, {durability}", _median(add, _TIMES), f"in {folder}")
