"""Values: ids that sort, entries that cannot change, filters that say what they mean."""

from __future__ import annotations

import dataclasses
import pickle
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from llmspell_memory import EmbeddingSpace, EpisodicEntry, Filter, InputError, errors, new_id
from llmspell_memory.errors import ConfigError, EpisodicError, MissingDependencyError


def test_ids_are_uuids_that_sort_by_time() -> None:
    """Ids are UUIDs of version 7, each greater than all before it in this process, and carry the millisecond."""
    before = time.time_ns() // 1_000_000
    ids = [new_id() for _ in range(20_000)]
    assert ids == sorted(set(ids))
    first = uuid.UUID(ids[0])
    assert (first.version, first.variant) == (7, uuid.RFC_4122)
    assert 0 <= (first.int >> 80) - before < 1000


def test_ids_made_by_many_threads_are_distinct() -> None:
    """Eight threads never get the same id."""
    with ThreadPoolExecutor(8) as pool:
        ids = [one for batch in pool.map(lambda _: [new_id() for _ in range(2000)], range(8)) for one in batch]
    assert len(set(ids)) == 16_000


def test_defaults_are_now_and_fresh() -> None:
    """An entry made from three texts has an id, two aware moments of now, and nothing else."""
    one, two = EpisodicEntry("s", "user", "x"), EpisodicEntry("s", "user", "x")
    assert one.id < two.id
    assert one.timestamp <= two.timestamp <= datetime.now(UTC)
    assert (one.namespace, one.metadata, one.processed, one.embedding) == ((), {}, False, None)


def test_an_entry_cannot_be_changed_from_outside() -> None:
    """Fields are frozen, and neither the caller's metadata nor the caller's vector is shared."""
    metadata: dict[str, Any] = {"a": [1]}
    vector = np.ones(3, np.float32)
    one = EpisodicEntry("s", "user", "x", metadata=metadata, embedding=vector)
    metadata["a"].append(2)
    vector[0] = 9
    assert one.metadata == {"a": [1]}
    assert one.embedding is not None
    assert one.embedding[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        one.embedding[0] = 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.content = "y"  # type: ignore[misc]
    assert hash(one) == hash(dataclasses.replace(one))
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301 (its own bytes)


def test_times_are_kept_in_utc() -> None:
    """Any aware moment is accepted and told in UTC; naive ones and those beyond the calendar are errors."""
    east = timezone(timedelta(hours=14))
    moment = datetime(2025, 1, 1, tzinfo=east)
    one = EpisodicEntry("s", "user", "x", timestamp=moment)
    assert one.timestamp == moment
    assert one.timestamp.isoformat() == "2024-12-31T10:00:00+00:00"
    with pytest.raises(InputError, match="timestamp must be timezone-aware"):
        EpisodicEntry("s", "user", "x", timestamp=datetime(2025, 1, 1))  # noqa: DTZ001 (that is the fault)
    with pytest.raises(InputError, match="ingestion_time lies outside the years"):
        EpisodicEntry("s", "user", "x", ingestion_time=datetime(1, 1, 1, tzinfo=east))
    with pytest.raises(InputError, match="since must be timezone-aware"):
        Filter(since=datetime(2025, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    "fields",
    [
        {"session_id": ""},
        {"role": 3},
        {"content": "a\0b"},
        {"content": "\udc80"},
        {"id": ""},
        {"namespace": "acme"},
        {"namespace": ("acme", "")},
        {"namespace": (1,)},
        {"timestamp": "2025-01-01"},
        {"metadata": [1]},
        {"metadata": {1: "x"}},
        {"metadata": {"x": float("nan")}},
        {"metadata": {"x": {"y": float("inf")}}},
        {"metadata": {"x": {1, 2}}},
        {"metadata": {"x": "a\0"}},
        {"metadata": {"x": 10**5000}},
        {"metadata": {"a\ud800": 1}},
        {"processed": 1},
        {"embedding": []},
        {"embedding": [[1.0]]},
        {"embedding": [1.0, float("nan")]},
        {"embedding": ["a"]},
        {"embedding": [1e39]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_bad_fields_are_refused(fields: dict[str, Any]) -> None:
    """Every unacceptable field is an InputError on construction that names it."""
    name = next(iter(fields))
    with pytest.raises(InputError, match=f"(?i){'vector' if name == 'embedding' else name}"):
        EpisodicEntry(**{"session_id": "s", "role": "user", "content": "x", **fields})


def test_metadata_nested_without_end_is_refused() -> None:
    """Metadata that nests too deep, or contains itself, is an error and not a crash."""
    endless: dict[str, Any] = {}
    endless["self"] = endless
    with pytest.raises(InputError, match="deeper than 200"):
        EpisodicEntry("s", "user", "x", metadata=endless)


@pytest.mark.parametrize(
    "conditions", [{"ids": "abc"}, {"ids": [1]}, {"processed": "yes"}, {"metadata": "x"}, {"namespace": "x"}], ids=str
)
def test_bad_conditions_are_refused(conditions: dict[str, Any]) -> None:
    """A condition of the wrong kind is an InputError, never a filter that lets too much pass."""
    with pytest.raises(InputError):
        Filter(**conditions)


def test_a_filter_knows_whether_it_restricts() -> None:
    """Only the filter without conditions is everything; an empty set of ids is a condition."""
    assert Filter().is_everything
    assert not Filter(ids=frozenset()).is_everything
    assert not Filter(processed=False).is_everything
    assert hash(Filter(session_id="s")) == hash(Filter(session_id="s"))


@pytest.mark.parametrize("wrong", [{"dimensions": 0}, {"dimensions": True}, {"dimensions": 3.0}, {"metric": "dot"}])
def test_a_space_is_checked(wrong: dict[str, Any]) -> None:
    """Widths and metrics that cannot be are ConfigErrors."""
    with pytest.raises(ConfigError):
        EmbeddingSpace(**{"provider": "p", "model": None, "dimensions": 3, **wrong})


def test_errors_form_one_tree() -> None:
    """Every error class derives from EpisodicError, and a missing extra names its pip line."""
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)]
    assert all(issubclass(one, EpisodicError) for one in classes)
    assert all(one.__name__ in (errors.__doc__ or "") for one in classes)
    assert not issubclass(EpisodicError, MemoryError)
    assert 'pip install "llmspell-memory[local]"' in str(MissingDependencyError("wordllama", extra="local"))
