"""Writes that are sent more than once are done once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.operations.keys import add_key
from llmspell_memory.types import Filter
from tests.interfaces.server.conftest import SMALL, Place, manager_at
from tests.serving import served

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

ADD: dict[str, Any] = {"entries": [{"session_id": "s", "role": "user", "content": f"text {n}"} for n in range(3)]}


def test_an_add_sent_again_is_one_add(place: Place) -> None:
    """The same key and body get the same ids, and nothing is stored twice."""
    first = place.post("/v1/entries", ADD, **{"Idempotency-Key": "k1"})
    again = place.post("/v1/entries", ADD, **{"Idempotency-Key": "k1"})
    assert (first.status_code, first.json()) == (again.status_code, again.json()) == (201, first.json())
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert place.manager.episodic.count() == 3
    assert place.post("/v1/entries", ADD).json() != first.json(), "without a key it is another add"
    assert place.manager.episodic.count() == 6


def test_an_add_sent_again_to_a_new_process_is_one_add(tmp_path: Path) -> None:
    """Even where the answer was lost with the server: ids that the server makes come of the key."""
    ids = []
    secret = ""
    for _ in range(2):
        manager = manager_at(tmp_path / "memory.db")
        secret = secret or add_key(manager.backend, "one", access="write")[1]
        with served(manager, SMALL) as server:
            place = Place(server.url, server.port, manager, {"all": secret})
            ids.append(place.post("/v1/entries", ADD, **{"Idempotency-Key": "k1"}).json()["ids"])
            assert manager.episodic.count() == 3
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 3


def test_counts_are_those_of_the_first_time(place: Place) -> None:
    """A delete or a mark that is sent again tells what it did, not that nothing was left to do."""
    ids = place.post("/v1/entries", ADD).json()["ids"]
    for path, body, told in (
        ("/v1/processed", {"ids": ids}, {"marked": 3}),
        ("/v1/backend/delete", {"where": {"session_id": "s"}}, {"deleted": 3}),
    ):
        answers = [place.post(path, body, **{"Idempotency-Key": f"k-{path}"}).json() for _ in range(3)]
        assert answers == [told] * 3


def test_at_the_same_time_it_is_done_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty at once wait for the one that does it."""
    calls = []
    embed = HashingProvider.embed

    def counted(self: HashingProvider, texts: Any, **options: Any) -> Any:
        calls.append(len(texts))
        return embed(self, texts, **options)

    monkeypatch.setattr(HashingProvider, "embed", counted)
    with ThreadPoolExecutor(20) as threads:
        answers = list(
            threads.map(lambda _: place.post("/v1/entries", ADD, **{"Idempotency-Key": "k"}).json(), range(20))
        )
    assert all(one == answers[0] for one in answers)
    assert place.manager.episodic.count() == 3
    assert calls == [3]


def test_a_key_means_one_request_of_one_caller(place: Place) -> None:
    """Another body, or another operation, is a 422; another API key is somebody else."""
    key = {"Idempotency-Key": "k"}
    assert place.post("/v1/entries", ADD, **key).status_code == 201
    assert place.post("/v1/entries", {"entries": ADD["entries"][:1]}, **key).status_code == 422
    assert place.post("/v1/backend/add", ADD, **key).status_code == 422
    assert place.post("/v1/entries", ADD, "alice", **key).status_code == 201
    assert place.manager.episodic.count(Filter(namespace=("acme", "alice"))) == 3
    for bad in ("", "a b", "k" * 256):
        assert place.post("/v1/entries", ADD, **{"Idempotency-Key": bad}).status_code == 422


def test_what_was_refused_is_not_kept(place: Place) -> None:
    """A refusal is no answer to remember: the same key may be used for what is put right."""
    key = {"Idempotency-Key": "k"}
    assert place.post("/v1/entries", {"entries": [{"session_id": "s"}]}, **key).status_code == 422
    assert place.post("/v1/entries", ADD, **key).status_code == 201
