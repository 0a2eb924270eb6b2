"""Values and errors come back from the wire as they went, whatever they hold."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmspell_memory import DefaultMemoryManager, errors
from llmspell_memory.testing.backends import entry, fields_of
from llmspell_memory.types import EmbeddingSpace, EpisodicEntry, Filter, Hit, NamedDate, Part, Query
from llmspell_memory.wire.figures import stats_from, stats_to
from llmspell_memory.wire.problems import error_from, problem_of
from llmspell_memory.wire.searches import hit_from, hit_to, query_from, query_to
from llmspell_memory.wire.values import entry_from, entry_to, filter_from, filter_to, read_object, space_from, space_to

if TYPE_CHECKING:
    from llmspell_memory.errors import EpisodicError

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
MOMENTS = st.datetimes(timezones=st.just(UTC))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXTS, JSON, max_size=4)
NAMESPACES = st.lists(TEXTS, max_size=3).map(tuple)
VECTORS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=5).map(
    lambda numbers: np.array(numbers, np.float32)
)
ENTRIES = st.builds(
    EpisodicEntry,
    TEXTS,
    TEXTS,
    TEXTS,
    id=TEXTS,
    namespace=NAMESPACES,
    timestamp=MOMENTS,
    ingestion_time=MOMENTS,
    metadata=OBJECTS,
    processed=st.booleans(),
    expires_at=st.none() | MOMENTS,
    embedding=st.none() | VECTORS,
)
FILTERS = st.builds(
    Filter,
    session_id=st.none() | TEXTS,
    role=st.none() | TEXTS,
    since=st.none() | MOMENTS,
    until=st.none() | MOMENTS,
    known_by=st.none() | MOMENTS,
    processed=st.none() | st.booleans(),
    metadata=OBJECTS,
    namespace=NAMESPACES,
    below=st.booleans(),
    expired=st.none() | st.booleans(),
    ids=st.none() | st.frozensets(TEXTS, max_size=3),
)


def sent(told: Any) -> Any:
    """Return what the other side reads of it."""
    return read_object(json.dumps(told, ensure_ascii=False).encode(), name="it")


@settings(max_examples=60)
@given(ENTRIES, NAMESPACES)
def test_an_entry_comes_back_below_its_root(one: EpisodicEntry, root: tuple[str, ...]) -> None:
    """Every field, numbers' kinds in the metadata and the vector's bits; the root is put before and taken away."""
    inside = entry_from(sent(entry_to(one)), root)
    assert inside.namespace == root + one.namespace
    back = entry_from(sent(entry_to(inside, root)))
    assert fields_of(back) == fields_of(one)
    assert repr(back.metadata) == repr(one.metadata)


@settings(max_examples=60)
@given(FILTERS, NAMESPACES)
def test_a_filter_comes_back_below_its_root(where: Filter, root: tuple[str, ...]) -> None:
    assert filter_from(sent(filter_to(where))) == where
    assert filter_from(sent(filter_to(where)), root) == replace(where, namespace=root + where.namespace)


def test_no_filter_is_the_root_and_no_more() -> None:
    """Where nothing is given, the root's own is meant; its name is no condition that could be left out."""
    assert filter_from(None, ("acme",)) == Filter(namespace=("acme",))
    assert filter_from({"namespace": None}, ("acme",)) == Filter(namespace=("acme",))
    assert filter_from({"namespace": [], "below": False}, ("acme",)) == Filter(namespace=("acme",), below=False)


def test_hits_and_queries_come_back() -> None:
    vector = np.array([0.1, -0.0, 1e-45], np.float32)
    one = entry("x", embedding=vector)
    hit = Hit(one, 0.1 + 0.2, {"words": Part(1 / 3, 0.0, 7), "meaning": Part(0.5, 1.0)}, (one, one), (entry("y"),))
    back = hit_from(sent(hit_to(hit)))
    assert back == hit
    assert fields_of(back.before[0]) == fields_of(one)
    query = Query(
        text="x", roles=("ada",), dates=(NamedDate(0, 5, 0),), vector=vector, around=2, parts=True, exact=True
    )
    again = query_from(sent(query_to(query)))
    assert again == query
    assert again.vector is not None
    assert again.vector.tobytes() == vector.tobytes()
    space = EmbeddingSpace(provider="p", model=None, dimensions=3, metric="euclidean")
    assert space_from(sent(space_to(space))) == space


def test_figures_come_back() -> None:
    with DefaultMemoryManager.new_in_memory() as memory:
        memory.episodic.add_many([entry("one"), entry("two", "s2", namespace=("acme",))])
        memory.episodic.search("one")
        stats = memory.backend.stats()
    assert stats_from(sent(stats_to(stats))) == stats


@pytest.mark.parametrize(
    "wrong",
    [
        {"ids": "x"},
        {"ids": [1]},
        {"since": 0},
        {"since": "yesterday"},
        {"expired": "no"},
        {"below": None, "unknown": 1},
        {"namespace": "acme"},
        {"metadata": []},
        [],
        "x",
    ],
)
def test_what_is_no_filter_is_refused(wrong: Any) -> None:
    with pytest.raises(errors.InputError):
        filter_from(wrong)


def every_error() -> list[EpisodicError]:
    made: dict[type, EpisodicError] = {
        errors.DimensionError: errors.DimensionError(expected=3, got=4),
        errors.NotReadyError: errors.NotReadyError(["one", "two"]),
        errors.EmbeddingError: errors.EmbeddingError("e", retryable=True, retry_after=2.5),
        errors.MissingDependencyError: errors.MissingDependencyError("package", extra="extra"),
    }
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.EpisodicError)]
    return [made.get(kind) or kind("what went wrong: \ud800") for kind in kinds]


TO_THE_OTHER_SIDE = {
    errors.EpisodicError: errors.StorageError,
    errors.ClosedError: errors.UnavailableError,
    errors.MissingDependencyError: errors.StorageError,
}
"""What an error of the server's own affairs is to its client."""


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_every_error_of_the_library_comes_back(error: EpisodicError) -> None:
    """As the same class with the same words and attributes, but for what concerns the server alone."""
    told = problem_of(error)
    back = error_from(json.loads(json.dumps(told)), told["status"])
    assert type(back) is TO_THE_OTHER_SIDE.get(type(error), type(error))
    assert str(error) in str(back)
    if type(back) is type(error):
        assert vars(back) == vars(error)


@pytest.mark.parametrize(("status", "kind"), [(400, "StorageError"), (502, "UnavailableError"), (401, "ConfigError")])
def test_a_proxys_answer_is_read_by_its_status(status: int, kind: str) -> None:
    """Where no type of ours says what it means."""
    assert type(error_from({"detail": "x"}, status)).__name__ == kind


def test_a_moment_beyond_the_calendar_is_refused() -> None:
    told = entry_to(entry("x")) | {"timestamp": "9999-12-31T23:59:59-10:00"}
    with pytest.raises(errors.InputError, match="9999"):
        entry_from(told)
