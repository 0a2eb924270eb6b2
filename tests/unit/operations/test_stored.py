"""What backends show to those who measure: their index, and entries by the labels it goes by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmspell_memory import ClosedError, EmbeddingService, EpisodicEntry, Filter, HNSWConfig
from llmspell_memory.backends import LocalBackend, ScopedBackend, SQLiteBackend
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.operations.tuning.stored import ALL, Scanned, ShowsIndex, built, live_index, stored

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmspell_memory.types import EmbeddingSpace

    Backend = LocalBackend | SQLiteBackend

SPACE: EmbeddingSpace = EmbeddingService(HashingProvider(8)).space
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["ram", "sqlite", "cold"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    made: Backend = (
        LocalBackend(SPACE, hnsw=HNSWConfig())
        if request.param == "ram"
        else SQLiteBackend(tmp_path / "m.db", SPACE, hnsw=HNSWConfig(), warm=request.param == "sqlite")
    )
    vectors = np.random.default_rng(0).standard_normal((600, 8)).astype(np.float32)
    made.add(
        [
            EpisodicEntry(
                f"s{n % 3}",
                "user",
                f"text {n}",
                id=f"{n}",
                embedding=vectors[n],
                timestamp=LONG_AGO + timedelta(days=n),
                expires_at=LONG_AGO if n % 10 == 0 else None,
            )
            for n in range(600)
        ]
    )
    made.delete(Filter(ids=frozenset(["1", "2"])))
    yield made
    made.close()


def test_labels_and_vectors_are_those_of_the_entries(backend: Backend) -> None:
    """The index finds each entry's vector under the label that the filter for this entry gives."""
    index = live_index(backend)
    assert index is not None
    assert len(index) == len(backend.labels(ALL)) == 598
    for where in (Filter(session_id="s1"), Filter(ids=frozenset(["7"])), Filter(expired=True), Filter(), ALL):
        labels = backend.labels(where)
        assert labels.tolist() == sorted(labels.tolist())
        there, vectors = backend.vectors(labels)
        assert sorted(there.tolist()) == labels.tolist()
        entries = list(backend.scan(where))
        assert len(entries) == len(labels)
        known = {entry.embedding.tobytes() for entry in entries if entry.embedding is not None}
        assert {vector.tobytes() for vector in vectors} == known
        for label, vector in list(zip(there.tolist(), vectors, strict=True))[:20]:
            assert index.search(vector, 1)[0].tolist() == [label]


def test_labels_that_are_gone_are_left_out(backend: Backend) -> None:
    """Who asks for labels that were deleted since gets the others."""
    labels = backend.labels(ALL)
    backend.delete(Filter(session_id="s0"))
    there, vectors = backend.vectors(labels)
    assert set(there.tolist()) == set(backend.labels(ALL).tolist()) < set(labels.tolist())
    assert vectors.shape == (len(there), 8)
    assert backend.vectors(labels[:0])[1].shape == (0, 8)


def test_the_index_is_up_to_date(backend: Backend) -> None:
    """What was written before is in the index that is shown, also where it waited for a first search."""
    backend.add([EpisodicEntry("new", "user", "new", embedding=np.full(8, 3.0, np.float32))])
    index = live_index(backend)
    assert index is not None
    assert len(index) == 599
    assert index.search(np.full(8, 3.0), 1)[0].tolist() == backend.labels(Filter(session_id="new")).tolist()


def test_a_closed_backend_shows_nothing(backend: Backend) -> None:
    """After close, asking is a ClosedError."""
    backend.close()
    for use in (backend.index, lambda: backend.labels(ALL), lambda: backend.vectors(np.arange(3))):
        with pytest.raises(ClosedError):
            use()


def test_what_shows_no_index_is_read_by_its_scan(backend: Backend) -> None:
    """Labels of one's own numbering serve as well: an index of these vectors finds them all."""
    scope = ScopedBackend(backend, ("nobody",))
    assert not isinstance(scope, ShowsIndex)
    assert live_index(scope) is None
    assert len(stored(scope).labels(ALL)) == 0
    rows = Scanned(backend)
    labels = rows.labels(ALL)
    assert len(labels) == 598
    assert len(rows.labels(Filter(session_id="s1"))) == backend.count(Filter(session_id="s1"))
    told: list[tuple[int, int]] = []
    index = built(backend, rows, labels, HNSWConfig(m=8), on_progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (598, 598)
    assert all(index.search(vector, 1)[0][0] == label for label, vector in zip(*rows.vectors(labels), strict=True))
