"""Out of a memory and into another: nothing lost, nothing doubled, nothing embedded without need."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmspell_memory import (
    ConfigError,
    DefaultMemoryManager,
    DimensionError,
    EmbeddingService,
    EpisodicEntry,
    Filter,
    InputError,
    MemoryConfig,
    SchemaError,
)
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.operations import ImportReport, export_jsonl, fitting, import_entries, open_source
from llmspell_memory.operations.files.jsonl import Lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOON = datetime(2025, 1, 5, 12, tzinfo=UTC)
BARE = {"session_id": "s", "role": "user", "content": "hello"}


def exported(memory: DefaultMemoryManager, *, vectors: bool = True, where: Filter | None = None) -> str:
    stream = io.StringIO()
    space = memory.service.space if vectors else None
    export_jsonl(memory.episodic, stream, space=space, where=where or Filter())
    return stream.getvalue()


def imported(memory: DefaultMemoryManager, text: str, **options: Any) -> ImportReport:
    lines = Lines(io.BytesIO(text.encode()), name="test", written=NOON)
    return import_entries(memory.episodic, lines, **options)


def rows(memory: DefaultMemoryManager) -> list[tuple[EpisodicEntry, bytes]]:
    return [(entry, entry.embedding.tobytes()) for entry in memory.episodic.scan() if entry.embedding is not None]


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
MOMENTS = st.datetimes(timezones=st.just(UTC))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
ENTRIES = st.builds(
    EpisodicEntry,
    TEXTS,
    TEXTS,
    TEXTS,
    id=TEXTS,
    namespace=st.lists(TEXTS, max_size=2).map(tuple),
    timestamp=MOMENTS,
    ingestion_time=MOMENTS,
    metadata=st.dictionaries(TEXTS, JSON, max_size=3),
    processed=st.booleans(),
    embedding=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=4, max_size=4).filter(any),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ENTRIES, max_size=8))
def test_a_round_trip_keeps_everything(entries: list[EpisodicEntry]) -> None:
    """Exported with vectors and imported into a new store, every field is the same and every vector bit-equal."""
    first, second = (
        DefaultMemoryManager.with_config(MemoryConfig(service=EmbeddingService(HashingProvider(4)))) for _ in range(2)
    )
    with first, second:
        first.episodic.add_many(entries)
        report = imported(second, exported(first))
        assert rows(second) == rows(first)
        assert report.embedded == 0
        assert second.service.misses == 0
        assert exported(second) == exported(first)


def test_a_round_trip_between_files(memory: DefaultMemoryManager, tmp_path: Path, service: EmbeddingService) -> None:
    """The same holds for stores on disk, with entries that were embedded, marked and replaced."""
    ids = memory.episodic.add_many(EpisodicEntry(f"s{n % 3}", "user", f"turn number {n}") for n in range(600))
    memory.episodic.mark_processed(ids[::2])
    memory.episodic.add(EpisodicEntry("s0", "user", "another text", id=ids[5], namespace=("acme",)))
    before = service.misses
    with DefaultMemoryManager.with_config(MemoryConfig(service=service, path=tmp_path / "other.db")) as other:
        assert imported(other, exported(memory)) == ImportReport(read=601, new=601, with_vectors=601)
        assert rows(other) == rows(memory)
        hits = [hit.entry.id for hit in memory.episodic.search("turn number 7", 5)]
        assert [hit.entry.id for hit in other.episodic.search("turn number 7", 5)] == hits
    assert service.misses == before + 1  # the query


def test_without_vectors_texts_are_embedded(memory: DefaultMemoryManager, service: EmbeddingService) -> None:
    """An export without vectors says no space, and its import embeds."""
    memory.episodic.add(EpisodicEntry("s", "user", "hello"))
    text = exported(memory, vectors=False)
    assert "space" not in text.splitlines()[0]
    assert "embedding" not in text
    with DefaultMemoryManager.with_config(MemoryConfig(service=service)) as other:
        assert imported(other, text) == ImportReport(read=1, new=1, embedded=1)


def test_only_what_matches_is_exported(memory: DefaultMemoryManager) -> None:
    """An export keeps to its filter, and counts what it wrote."""
    memory.episodic.add_many([EpisodicEntry("a", "user", "x"), EpisodicEntry("b", "user", "y")])
    stream, seen = io.StringIO(), list[int]()
    count = export_jsonl(memory.episodic, stream, space=None, where=Filter(session_id="b"), on_progress=seen.append)
    assert (count, seen) == (1, [1])
    assert '"session_id":"b"' in stream.getvalue().splitlines()[1]


def test_the_same_import_twice_changes_nothing(
    memory: DefaultMemoryManager, lines: Callable[..., Path], service: EmbeddingService
) -> None:
    """Importing a file again stores and embeds nothing, whether its lines have ids or not."""
    path = lines(BARE, BARE, BARE | {"id": "own", "timestamp": "2025-01-05T19:12:48+00:00"})
    for expected in (ImportReport(read=3, new=3, embedded=3), ImportReport(read=3, unchanged=3)):
        with open_source(path) as source:
            assert import_entries(memory.episodic, source.entries) == expected
    assert memory.episodic.count() == 3
    assert (service.hits, service.misses) == (0, 1)  # equal texts of one batch are one text


def test_changed_lines_replace(memory: DefaultMemoryManager) -> None:
    """A line with a known id and anything else new replaces what is there, and keeps when it was learned."""
    entry = EpisodicEntry("s", "user", "old", id="e", timestamp=NOON, ingestion_time=NOON, metadata={"n": 1})
    memory.episodic.add(entry)
    for change in ({"content": "new"}, {"metadata": {"n": True}}, {"timestamp": NOON + timedelta(1)}):
        later = entry.changed(**change, ingestion_time=NOON + timedelta(9))
        assert import_entries(memory.episodic, [later]).replaced == 1
        assert memory.episodic.get("e") == entry.changed(**change)


def test_a_mark_survives_the_next_import(memory: DefaultMemoryManager) -> None:
    """An entry marked processed stays so when it is imported again, unless its words have changed."""
    entry = EpisodicEntry("s", "user", "old", id="e")
    memory.episodic.add(entry)
    memory.episodic.mark_processed(["e"])
    assert import_entries(memory.episodic, [entry]).unchanged == 1
    assert memory.episodic.get("e").processed
    import_entries(memory.episodic, [entry.changed(content="new")])
    assert not memory.episodic.get("e").processed


def test_a_changed_vector_replaces(memory: DefaultMemoryManager) -> None:
    """A line that brings another vector than the stored one is stored with its own."""
    memory.episodic.add(EpisodicEntry("s", "user", "x", id="e"))
    vector = np.zeros(64, np.float32)
    vector[3] = 1
    changed = memory.episodic.get("e").changed(embedding=vector)
    assert import_entries(memory.episodic, [changed]) == ImportReport(read=1, replaced=1, with_vectors=1)
    assert memory.episodic.get("e").embedding == pytest.approx(vector)


def test_one_id_twice_in_a_file(memory: DefaultMemoryManager) -> None:
    """Of two lines with one id in one namespace the later stays; in two namespaces both do."""
    first = EpisodicEntry("s", "user", "a", id="e")
    report = import_entries(
        memory.episodic, [first, first.changed(content="b"), first.changed(content="c", namespace=("acme",))]
    )
    assert (report.new, report.replaced) == (2, 1)
    assert sorted(entry.content for entry in memory.episodic.scan()) == ["b", "c"]


def test_an_import_stops_before_the_broken_batch(memory: DefaultMemoryManager, lines: Callable[..., Path]) -> None:
    """A broken line stores nothing of its batch, says how many were stored before, and can be mended and repeated."""
    good = [BARE | {"content": f"turn {n}"} for n in range(10)]
    path, seen = lines(*good, "broken"), list[int]()
    with open_source(path) as source, pytest.raises(InputError, match="line 11") as caught:
        import_entries(memory.episodic, source.entries, batch=4, on_progress=seen.append)
    assert caught.value.__notes__ == ["8 entries were stored before that; a repeated import passes over them"]
    assert seen == [4, 8]
    assert memory.episodic.count() == 8
    mended = [BARE | {"content": f"turn {n}", "timestamp": NOON.isoformat()} for n in range(10)]
    with open_source(lines(*good)) as source:
        import_entries(memory.episodic, source.entries)
    assert memory.episodic.count() == 10
    with open_source(lines(*mended)) as source:
        assert import_entries(memory.episodic, source.entries).new == 10  # a timestamp makes it another entry


def test_vectors_of_another_space(memory: DefaultMemoryManager, tmp_path: Path) -> None:
    """A file with vectors of another space is refused, with the way out; embedded anew it is stored."""
    with DefaultMemoryManager.with_config(MemoryConfig(service=EmbeddingService(HashingProvider(32)))) as other:
        other.episodic.add(EpisodicEntry("s", "user", "hello"))
        path = tmp_path / "other.jsonl"
        path.write_text(exported(other), encoding="utf-8")
    space = memory.service.space
    with open_source(path) as source, pytest.raises(SchemaError, match="--reembed"):
        fitting(source, space)
    with open_source(path) as source:
        assert import_entries(memory.episodic, fitting(source, space, reembed=True)).embedded == 1


def test_vectors_of_another_width(memory: DefaultMemoryManager) -> None:
    """A vector that does not fit is refused even where the file does not name its space, and nothing is stored."""
    with pytest.raises(DimensionError):
        imported(memory, '{"session_id": "s", "role": "user", "content": "x", "embedding": [1.0]}')
    assert memory.episodic.count() == 0


@pytest.mark.parametrize("batch", [0, True, 1.5])
def test_a_batch_is_a_positive_number(memory: DefaultMemoryManager, batch: Any) -> None:
    """A batch of no size is a ConfigError."""
    with pytest.raises(ConfigError, match="batch"):
        import_entries(memory.episodic, [], batch=batch)


def test_an_import_into_a_scope_stays_there_and_can_be_repeated(memory: DefaultMemoryManager) -> None:
    """Entries without a namespace get the scope's; a second import finds them unchanged, and marks are kept."""
    alice = memory.scoped("acme", "alice")
    lines = exported_of([EpisodicEntry("s", "user", f"text {n}", id=f"{n}", timestamp=NOON) for n in range(3)])
    assert imported(alice, lines).new == 3
    alice.episodic.mark_processed(["1"])
    again = imported(alice, lines)
    assert (again.unchanged, again.stored) == (3, 0)
    assert [one.namespace for one in memory.episodic.scan(Filter(processed=True))] == [("acme", "alice")]
    with pytest.raises(InputError, match="outside"):
        imported(memory.scoped("acme", "bob"), exported(alice))
    assert memory.episodic.count() == 3


def exported_of(entries: list[EpisodicEntry]) -> str:
    with DefaultMemoryManager.new_in_memory() as other:
        other.episodic.add_many(entries)
        return exported(other, vectors=False)
