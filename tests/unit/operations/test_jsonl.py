"""Reading the library's own lines: what is accepted, what is refused, and how that is said."""

from __future__ import annotations

import base64
import gzip
import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory import EmbeddingSpace, EpisodicEntry, InputError, SchemaError
from llmspell_memory.operations import open_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Lines = Callable[..., Path]

FULL: dict[str, Any] = {
    "id": "e1",
    "session_id": "s",
    "role": "user",
    "content": "My dog is called Ada.",
    "namespace": ["acme", "alice"],
    "timestamp": "2025-01-05T20:12:48+01:00",
    "ingestion_time": "2025-01-06T00:00:00Z",
    "metadata": {"topic": "dog", "n": 1},
    "processed": True,
}
BARE = {"session_id": "s", "role": "user", "content": "hello"}


def read(path: Path) -> list[EpisodicEntry]:
    with open_source(path) as source:
        return list(source.entries)


def test_every_field_is_read(lines: Lines) -> None:
    """A line with every key gives an entry with every field."""
    (entry,) = read(lines(FULL))
    assert entry == EpisodicEntry(
        "s",
        "user",
        "My dog is called Ada.",
        id="e1",
        namespace=("acme", "alice"),
        timestamp=datetime(2025, 1, 5, 19, 12, 48, tzinfo=UTC),
        ingestion_time=datetime(2025, 1, 6, tzinfo=UTC),
        metadata={"topic": "dog", "n": 1},
        processed=True,
    )


@pytest.mark.parametrize(
    "embedding",
    [
        [0.5, -1.0, 3],
        {"dtype": "float32", "data": base64.b64encode(np.array([0.5, -1, 3], "<f4").tobytes()).decode()},
    ],
)
def test_both_ways_to_write_a_vector(lines: Lines, embedding: object) -> None:
    """A vector may be a list of numbers or base64 of little-endian float32."""
    (entry,) = read(lines(BARE | {"embedding": embedding}))
    assert entry.embedding is not None
    assert entry.embedding.tolist() == [0.5, -1.0, 3.0]


def test_null_is_the_same_as_absent(lines: Lines) -> None:
    """A key that need not be there may be null."""
    given = read(lines(BARE | dict.fromkeys(("id", "namespace", "timestamp", "metadata", "processed", "embedding"))))
    assert given[0].metadata == {}
    assert given[0].embedding is None


def test_ids_come_from_the_words(lines: Lines) -> None:
    """Lines without an id get ids that depend on their words and their number only, in whatever file they stand."""
    other = BARE | {"content": "other"}
    first = [entry.id for entry in read(lines(BARE, other, BARE))]
    again = [entry.id for entry in read(lines(other, BARE, BARE, name="again.jsonl"))]
    assert len(set(first)) == 3
    assert first == [again[1], again[0], again[2]]


def test_missing_times_keep_the_order_of_lines(lines: Lines) -> None:
    """Lines without a timestamp get the file's own time, growing from line to line, the same at every reading."""
    path = lines(BARE, BARE | {"content": "b"}, BARE | {"content": "a"})
    os.utime(path, (1_700_000_000, 1_700_000_000))
    times = [entry.timestamp for entry in read(path)]
    assert times == sorted(set(times))
    assert times == [entry.timestamp for entry in read(path)]
    assert times[0].replace(microsecond=0) == datetime.fromtimestamp(1_700_000_000, UTC)


def test_a_header_names_the_space(lines: Lines) -> None:
    """The header's space is known before any entry is read; without a header there is none."""
    space = {"provider": "p", "model": None, "dimensions": 3, "metric": "cosine"}
    with open_source(lines({"llmspell_memory": 1, "space": space}, BARE)) as source:
        assert source.space == EmbeddingSpace(provider="p", model=None, dimensions=3)
        assert len(list(source.entries)) == 1
    with open_source(lines(BARE)) as source:
        assert source.space is None


def test_gzip_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    """A gzipped file, blank lines and the mark that some editors write first are all read, whatever the file's name."""
    path = tmp_path / "entries"
    path.write_bytes(
        gzip.compress(b"\xef\xbb\xbf" + json.dumps(BARE).encode() + b"\n\n  \r\n" + json.dumps(BARE).encode())
    )
    assert len(read(path)) == 2


def test_lines_are_read_as_they_are_needed(lines: Lines) -> None:
    """A broken line further down is met only when reading gets there."""
    with open_source(lines(*[BARE] * 100, "{broken")) as source:
        entries = iter(source.entries)
        for _ in range(100):
            next(entries)
        with pytest.raises(InputError, match="line 101"):
            next(entries)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "not JSON"),
        ("[1]x", "not JSON"),
        ("7", "must be a JSON object"),
        ('{"a": 1, "a": 2}', "key twice"),
        ("[" * 100_000, "nests too deep|not JSON"),
        ({"role": "user", "content": "x"}, "no session_id"),
        (BARE | {"contents": "x"}, "unknown key 'contents'.*metadata"),
        (BARE | {"content": ""}, "content must not be empty"),
        (BARE | {"content": None}, "content must be a str"),
        (BARE | {"timestamp": "yesterday"}, "ISO 8601 with an offset.*'yesterday'"),
        (BARE | {"timestamp": "2025-01-05T19:12:48"}, "ISO 8601 with an offset"),
        (BARE | {"timestamp": 1736104368}, "ISO 8601 with an offset"),
        (BARE | {"namespace": "acme"}, "namespace must be a tuple"),
        (BARE | {"processed": 1}, "processed must be a bool"),
        (BARE | {"metadata": []}, "metadata must be a mapping"),
        (BARE | {"embedding": ["1"]}, "numbers only"),
        (BARE | {"embedding": [True]}, "numbers only"),
        (BARE | {"embedding": []}, "shape"),
        (BARE | {"embedding": {"dtype": "float64", "data": ""}}, "float32"),
        (BARE | {"embedding": {"dtype": "float32", "data": "?"}}, "base64"),
        (BARE | {"embedding": {"dtype": "float32", "data": "AAA="}}, "base64"),
        (BARE | {"embedding": {"dtype": "float32", "data": 5}}, "base64"),
        ('{"session_id": "s", "role": "u", "content": "\\ud800"}', "lone surrogates"),
        ('{"session_id": "s", "role": "u", "content": "x", "embedding": [NaN]}', "finite"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(lines: Lines, line: object, message: str) -> None:
    """Every fault is an InputError that names the file's line."""
    path = lines(BARE, line)
    with pytest.raises(InputError, match=f"entries.jsonl, line 2.*({message})"):
        read(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """A line that is not UTF-8 is an InputError too."""
    path = tmp_path / "latin.jsonl"
    path.write_bytes('{"session_id": "s", "role": "u", "content": "café"}'.encode("latin-1"))
    with pytest.raises(InputError, match="line 1 is not JSON in UTF-8"):
        read(path)


def test_a_newer_version_is_refused(lines: Lines) -> None:
    """A file of a later format says that this library is to be upgraded."""
    with pytest.raises(SchemaError, match=r"line 1.*upgrade"):
        read(lines({"llmspell_memory": 2}, BARE))


@pytest.mark.parametrize("version", [0, "1", True, None])
def test_a_header_without_a_version(lines: Lines, version: object) -> None:
    """A header with a version that is none is an InputError."""
    with pytest.raises(InputError, match=r"line 1.*header"):
        read(lines({"llmspell_memory": version}))


@pytest.mark.parametrize(
    "space", [[], {"provider": "p"}, {"provider": "p", "model": None, "dimensions": 0, "metric": "cosine"}]
)
def test_a_header_with_a_broken_space(lines: Lines, space: object) -> None:
    """A space in the header that is none is an InputError."""
    with pytest.raises(InputError, match="line 1"):
        read(lines({"llmspell_memory": 1, "space": space}))
