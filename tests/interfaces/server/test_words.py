"""The words over HTTP, by the client and by plain requests: they do what the memory itself does."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import struct
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory import (
    ClosedError,
    ConfigError,
    DimensionError,
    EpisodicEntry,
    EpisodicMemory,
    Filter,
    InputError,
    NotFoundError,
    Ranking,
)
from llmspell_memory.client import AsyncMemoryClient, HTTPBackend, MemoryClient
from llmspell_memory.testing.backends import contents, entry, fields_of
from tests.interfaces.server.conftest import DIMENSIONS, Place
from tests.stores import ALL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXTREMES = [0.0, -0.0, 1e-45, 3.4028235e38, -1.1754944e-38, 1 / 3, 16_777_217.0]


@pytest.fixture
def client(place: Place) -> Iterator[MemoryClient]:
    with MemoryClient(place.url, api_key=place.keys["all"]) as client:
        yield client


def some(count: int) -> list[EpisodicEntry]:
    return [
        entry(f"text number {n} of ünïcode 🦀", f"s{n % 3}", id=f"n/{n}?#", minute=n, metadata={"n": n, "f": n / 3})
        for n in range(count)
    ]


def test_each_word_does_what_the_memory_does(place: Place, client: MemoryClient) -> None:
    """What goes through the client and what the memory says of it are the same, ids with slashes and all."""
    memory = place.manager.episodic
    assert client.add_many(some(30)) == [one.id for one in some(30)]
    assert client.add(entry("text number 1 of ünïcode 🦀", "s1"), on_duplicate="skip") == "n/1?#"
    where = Filter(session_id="s1", metadata={"n": 4.0}, since=some(5)[4].timestamp, ids=frozenset(["n/4?#", "n/5?#"]))
    assert fields_of(client.get("n/7?#")) == fields_of(memory.get("n/7?#"))
    for mode in ("semantic", "keyword", "hybrid", None):
        for options in ({}, {"around": 1}, {"parts": True}, {"where": where}, {"ranking": Ranking(mmr=0.5, pool=9)}):
            asked: Any = {"mode": mode, **options}
            assert client.search("number 7", 5, **asked) == memory.search("number 7", 5, **asked), asked
    vector = memory.service.embed_one("number 7")
    assert client.search(vector, 3) == memory.search(vector, 3)
    assert client.context("number 7", budget_tokens=300) == memory.context("number 7", budget_tokens=300)
    assert client.recent(4, where=Filter(role="user")) == memory.recent(4)
    assert client.get_session("s1") == memory.get_session("s1")
    assert client.sessions() == memory.sessions()
    assert client.sessions(where) == memory.sessions(where)
    assert client.mark_processed(["n/1?#", "n/2?#", "unknown"]) == 2
    assert memory.count(Filter(processed=True)) == 2
    assert client.set_expiry(Filter(session_id="s2"), datetime.max.replace(tzinfo=UTC)) == 10
    assert memory.get("n/5?#").expires_at == datetime.max.replace(tzinfo=UTC)
    assert client.set_expiry(Filter(session_id="s2"), None) == 10
    assert memory.get("n/5?#").expires_at is None
    assert client.delete(where) == 1
    assert client.forget(Filter(ids=frozenset(["n/2?#"]))) == 1
    assert memory.count() == 28
    stats, own = client.stats(), place.manager.stats()
    assert (stats.entries, stats.sessions, stats.space, stats.index.size) == (28, 3, own.space, 28)
    assert stats.path is None
    with pytest.raises(NotFoundError):
        client.get("n/2?#")


def test_vectors_and_moments_come_back_to_the_bit(client: MemoryClient) -> None:
    """Subnormal numbers, -0.0 and the extremes of float32; microseconds from year 1 to 9999, and other time zones."""
    vector = np.array((EXTREMES * DIMENSIONS)[:DIMENSIONS], np.float32)
    for number, moment in enumerate(
        [
            datetime.min.replace(tzinfo=UTC),
            datetime.max.replace(tzinfo=UTC),
            datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(2025, 6, 1, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=5, minutes=45))),
        ]
    ):
        one = EpisodicEntry("s", "user", "x", id=str(number), timestamp=moment, expires_at=None, embedding=vector)
        client.add(one)
        back = client.get(one.id)
        assert back.embedding is not None
        assert back.embedding.tobytes() == vector.tobytes()
        assert (back.timestamp, back.ingestion_time) == (one.timestamp, one.ingestion_time)


def test_a_list_of_numbers_is_a_vector_too(place: Place) -> None:
    """For other languages: rounded to float32 as everywhere."""
    numbers = [0.1 * (n + 1) for n in range(DIMENSIONS)]
    told = {"session_id": "s", "role": "user", "content": "x", "id": "x", "embedding": numbers}
    assert place.post("/v1/entries", {"entries": [told]}).json() == {"ids": ["x"]}
    stored = place.manager.episodic.get("x").embedding
    assert stored is not None
    assert stored.tolist() == [struct.unpack("f", struct.pack("f", number))[0] for number in numbers]
    assert place.post("/v1/search", {"vector": numbers, "k": 1}).json()["hits"][0]["score"] == pytest.approx(1.0)


def test_errors_come_back_as_they_were_raised(place: Place, client: MemoryClient) -> None:
    """The same class with the same words, and what it holds; who may not, gets a ConfigError."""
    with pytest.raises(DimensionError) as wide:
        client.add(entry("x", embedding=np.ones(3)))
    assert (wide.value.expected, wide.value.got) == (DIMENSIONS, 3)
    with pytest.raises(InputError, match="zeros"):
        client.search(np.zeros(DIMENSIONS))
    with pytest.raises(InputError, match="at most 20"):
        client.search("x", 21)
    with pytest.raises(InputError, match="at most 50"):
        client.add_many(some(51))
    with pytest.raises(InputError, match="20000 bytes"):
        client.add(entry("x" * 30_000))
    with pytest.raises(InputError, match="everything=True"):
        client.delete(Filter())
    with pytest.raises(InputError, match="reranker"):
        client.search("x", ranking=Ranking(dates=lambda _text, _now: []))
    assert place.manager.episodic.count(ALL) == 0
    for key in ("lsm_no", None):
        with MemoryClient(place.url, api_key=key) as other, pytest.raises(ConfigError, match="API key"):
            other.sessions()
    with MemoryClient(place.url, api_key=place.keys["read"]) as other, pytest.raises(ConfigError, match="read alone"):
        other.add(entry("x"))
    client.close()
    client.close()
    with pytest.raises(ClosedError):
        client.sessions()


def test_what_is_exported_can_be_imported(place: Place, client: MemoryClient, tmp_path: Path) -> None:
    """Through files, vectors to the bit; a second import finds everything there; another namespace gets its own."""
    client.add_many(some(40))
    client.mark_processed(["n/3?#"])
    before = [fields_of(one) for one in place.manager.episodic.scan()]
    path = tmp_path / "all.jsonl"
    assert client.export(path, vectors=True) == 40
    client.delete(Filter(), everything=True)
    report = client.import_file(path)
    assert (report.read, report.new, report.embedded, report.with_vectors) == (40, 40, 0, 40)
    assert [fields_of(one) for one in place.manager.episodic.scan()] == before
    assert client.import_file(path).unchanged == 40
    with MemoryClient(place.url, api_key=place.keys["alice"]) as alice:
        assert alice.import_file(path).new == 40
        assert alice.get("n/1?#").namespace == ()
        assert alice.export(tmp_path / "few.jsonl", where=Filter(session_id="s1")) == 13
    assert place.manager.episodic.count(Filter(namespace=("acme", "alice"), below=False)) == 40
    path.write_text(path.read_text(encoding="utf-8").split("\n")[0] + "\n{}\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 2"):
        client.import_file(path)
    with pytest.raises(InputError, match="cannot be read"):
        client.import_file(tmp_path / "none")


def test_nothing_is_missing_of_a_long_export(place: Place, client: MemoryClient, tmp_path: Path) -> None:
    """Thousands of entries, which no buffer holds at once, are all in the file, by a key of the store or of a part."""
    place.manager.episodic.add_many(
        entry(f"text {n} {'x' * 500}", id=f"{n}", namespace=("acme", "alice"), embedding=np.ones(DIMENSIONS))
        for n in range(3_000)
    )
    assert client.export(tmp_path / "all.jsonl", vectors=True) == 3_000
    with MemoryClient(place.url, api_key=place.keys["alice"]) as alice:
        assert alice.export(tmp_path / "own.jsonl") == 3_000
    ids = [json.loads(line)["id"] for line in (tmp_path / "own.jsonl").read_text(encoding="utf-8").splitlines()[1:]]
    assert ids == [one.id for one in place.manager.episodic.scan()]


def test_a_reading_of_the_stream_sees_every_line(place: Place, client: MemoryClient) -> None:
    """Texts with every character that some reader takes for the end of a line come back whole in a scan."""
    odd = "a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i\r\nj\rk"
    client.add(entry(odd, id="odd"))
    with HTTPBackend(place.url, api_key=place.keys["all"]) as backend:
        assert contents(list(backend.scan(Filter()))) == [odd]


def test_a_scan_given_up_leaves_the_client_as_it_was(place: Place, client: MemoryClient) -> None:
    """The connection of a scan that is not read to its end is not used again, and others are."""
    client.add_many(some(50))
    with HTTPBackend(place.url, api_key=place.keys["all"]) as backend:
        for _ in range(8):
            entries = backend.scan(Filter())
            assert next(entries).id == "n/0?#"
            del entries
            gc.collect()
            assert backend.count(Filter()) == 50


def members(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(one)
        for name, one in vars(kind).items()
        if not name.startswith("_") and inspect.isfunction(one)
    }


def test_both_clients_have_the_same_words() -> None:
    """With the same arguments, and where the memory has the word, the same as there."""
    waits, awaited = members(MemoryClient), members(AsyncMemoryClient)
    assert set(waits) - set(awaited) == {"export", "import_file"}
    for name, one in awaited.items():
        assert one.parameters == waits[name].parameters, name
        own = getattr(EpisodicMemory, name, None)
        if own is not None:
            theirs = dict(inspect.signature(own).parameters)
            theirs.pop("count_tokens", None)
            assert dict(one.parameters) == theirs, name


def test_the_awaited_client_answers_the_same(place: Place) -> None:
    async def use() -> list[object]:
        async with AsyncMemoryClient(place.url, api_key=place.keys["all"]) as client:
            ids = await client.add_many(some(9))
            found = await asyncio.gather(*(client.search(f"number {n}", 1) for n in range(9)))
            with pytest.raises(NotFoundError):
                await client.get("unknown")
            return [
                ids,
                contents([one for hits in found for one in hits]),
                await client.delete(Filter(session_id="s1")),
            ]

    ids, found, deleted = asyncio.run(use())
    assert ids == [one.id for one in some(9)]
    assert found == [one.content for one in some(9)]
    assert deleted == 3


def test_every_example_of_the_description_works(place: Place) -> None:
    """Each body that the OpenAPI document shows is accepted as it stands."""
    with place.http() as http:
        document = http.get("/openapi.json").json()
        shown = 0
        for path, methods in document["paths"].items():
            for told in methods.values():
                content = told.get("requestBody", {}).get("content", {}).get("application/json", {})
                if "example" in content:
                    shown += 1
                    assert http.post(path, json=content["example"]).is_success, path
    assert shown == 7


def test_listings_take_conditions_as_parameters(place: Place, client: MemoryClient) -> None:
    """Every condition of a filter, a limit and an order; an unknown or doubled one is refused, not passed over."""
    client.add_many(some(12))
    client.add(
        EpisodicEntry("s9", "assistant", "deep", id="deep", namespace=("a", "b"), expires_at=some(1)[0].timestamp)
    )
    with place.http() as http:

        def ids(**query: Any) -> list[str]:
            answer = http.get("/v1/entries", params=query)
            assert answer.status_code == 200, answer.text
            return [one["id"] for one in answer.json()["entries"]]

        assert len(ids()) == 12
        assert ids(limit=2) == ["n/0?#", "n/1?#"]
        assert ids(limit=1, newest="true") == ["n/11?#"]
        assert ids(session_id="s1", since=some(5)[4].timestamp.isoformat(), until="2025-03-01T12:08:00Z") == [
            "n/4?#",
            "n/7?#",
        ]
        assert ids(metadata=json.dumps({"n": 5})) == ids(id="n/5?#") == ["n/5?#"]
        assert ids(expired="any", namespace=["a", "b"]) == ids(expired="true", namespace="a") == ["deep"]
        assert ids(expired="any", namespace="a", below="false") == []
        assert len(ids(expired="any", role="assistant", processed="false")) == 1
        for wrong in (
            {"session": "s1"},
            {"limit": "-1"},
            {"limit": 51},
            {"processed": "yes"},
            {"since": "2025-03-01T12:00:00"},
            {"metadata": "[]"},
            {"session_id": ["s1", "s2"]},
            {"expired": "maybe"},
        ):
            assert http.get("/v1/entries", params=wrong).status_code == 422, wrong
        assert http.delete("/v1/entries/n%2F5%3F%23").json() == {"deleted": 1}
        assert http.get("/v1/nothing").status_code == 404
        assert set(http.put("/v1/entries").headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
        assert http.head("/v1/stats").content == b""
