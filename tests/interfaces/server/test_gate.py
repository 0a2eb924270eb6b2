"""Who is let in, to what, and how often."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llmspell_memory import ConfigError, DefaultMemoryManager, EpisodicEntry, InputError, NotFoundError
from llmspell_memory.operations.keys import NOTE, Keys, add_key, read_keys, revoke_key
from llmspell_memory.server import Server, ServerConfig
from tests.interfaces.server.conftest import SMALL, Place, manager_at
from tests.serving import served

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = {"session_id": "s", "role": "user", "content": "a text", "id": "x"}


def test_a_key_is_told_once_and_kept_as_a_hash() -> None:
    """Nothing in the store gives the secret back; it is found by it, and by no other of its form."""
    with DefaultMemoryManager.new_in_memory() as memory:
        key, secret = add_key(memory.backend, "ops", namespace=("acme",), access="write")
        kept = memory.backend.read_note(NOTE) or ""
        assert secret.rpartition("_")[2] not in kept
        assert key.digest in kept
        there = Keys(read_keys(memory.backend))
        assert there.find(secret) == key
        other = secret[:-1] + ("a" if secret[-1] != "a" else "b")
        for wrong in (other, secret[:-1], secret + "a", "", "lsm__", key.id, key.digest, f"lsm_{'0' * 12}_{'a' * 43}"):
            assert there.find(wrong) is None


def test_names_are_known_once_and_revoked_by_name_or_id() -> None:
    """Two keys of one name would be revoked together; what is not there cannot be revoked."""
    with DefaultMemoryManager.new_in_memory() as memory:
        one, _ = add_key(memory.backend, "one")
        two, _ = add_key(memory.backend, "two")
        with pytest.raises(InputError, match="there is a key named 'one'"):
            add_key(memory.backend, "one")
        for bad in ({"access": "all"}, {"namespace": ("",)}):
            options: Any = bad
            with pytest.raises(InputError):
                add_key(memory.backend, "three", **options)
        with pytest.raises(ConfigError, match="whole store"):
            add_key(memory.scoped("acme").backend, "four")
        assert revoke_key(memory.backend, "one") == one
        assert revoke_key(memory.backend, two.id) == two
        with pytest.raises(NotFoundError):
            revoke_key(memory.backend, "one")
        assert read_keys(memory.backend) == []


def test_without_a_key_nothing_is_answered_but_that_it_lives(place: Place) -> None:
    """No key, a wrong one and another scheme are a 401 that says how; health, readiness, the description are open."""
    for headers in ({}, {"Authorization": "Bearer lsm_0"}, {"Authorization": f"Basic {place.keys['all']}"}):
        with httpx.Client(base_url=place.url, headers=headers) as http:
            for method, path in (
                ("GET", "/v1/entries"),
                ("POST", "/v1/search"),
                ("GET", "/metrics"),
                ("DELETE", "/v1/entries/x"),
            ):
                answer = http.request(method, path)
                assert answer.status_code == 401, path
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert answer.headers["content-type"] == "application/problem+json"
            for path in ("/healthz", "/readyz", "/openapi.json"):
                assert http.get(path).status_code == 200, path


def test_a_reading_key_changes_nothing(place: Place) -> None:
    """Every operation that writes is a 403 to it, and it reads."""
    with place.http() as http:
        document = http.get("/openapi.json").json()
    assert place.post("/v1/entries", {"entries": [ENTRY]}).status_code == 201
    refused = []
    with place.http("read") as http:
        for path, methods in document["paths"].items():
            for method, told in methods.items():
                answer = http.request(method, path.replace("{id}", "x"), json={})
                if answer.status_code == 403:
                    refused.append(told["operationId"])
        assert http.get("/v1/entries/x").json()["content"] == "a text"
        assert http.get("/metrics").status_code == 200
    assert sorted(refused) == [
        *("addEntries", "backendAdd", "backendConfigure", "backendDelete", "backendForget", "backendMarkProcessed"),
        "backendSetExpiry",
        *("backendWriteNote", "deleteEntries", "deleteEntry", "forgetEntries", "importEntries", "markProcessed"),
        *("measureCurve", "setEfSearch", "setExpiry"),
    ]


@pytest.mark.parametrize(("key", "rights"), [("read", {"read", "whole"}), ("alice", {"read", "write"})])
def test_the_description_tells_what_a_key_must_be_allowed(place: Place, key: str, rights: set[str]) -> None:
    """A key is refused by the operations, and by no others, that name a right which it does not have."""
    with place.http() as http:
        document = http.get("/openapi.json").json()
    needed, refused = {}, []
    with place.http(key) as http:
        for path, methods in document["paths"].items():
            for method, told in methods.items():
                needed[told["operationId"]] = {one for key in told["security"] for one in key["key"]}
                if http.request(method, path.replace("{id}", "x"), json={}).status_code == 403:
                    refused.append(told["operationId"])
    assert set().union(*needed.values()) == {"read", "write", "whole"}
    assert sorted(refused) == sorted(name for name, names in needed.items() if names - rights)
    assert refused


def test_two_namespaces_never_meet(place: Place) -> None:
    """Each sees its own as the root, with the same id and session; neither can name the other's, or the store's."""
    for key in ("alice", "bob"):
        mine = {**ENTRY, "content": f"of {key}", "metadata": {"who": key}}
        assert place.post("/v1/entries", {"entries": [mine]}, key).status_code == 201
    for key, other in (("alice", "bob"), ("bob", "alice")):
        with place.http(key) as http:
            told = http.get("/v1/entries").json()["entries"]
            assert [(one["content"], one["namespace"]) for one in told] == [(f"of {key}", [])]
            paths = ("entries", "sessions", "stats", "export", "entries/x", "sessions/s", "map", "caller")
            for path in (f"/v1/{one}" for one in paths):
                text = http.get(path).text
                assert other not in text, path
                assert "acme" not in text, path
            for namespace in (["acme", other], [other], ["acme"], ["..", other]):
                where = {"namespace": namespace}
                assert http.post("/v1/search", json={"query": "of", "where": where}).json() == {"hits": []}
                assert http.post("/v1/delete", json={"where": where}).json() == {"deleted": 0}
                assert http.get("/v1/entries", params={"namespace": namespace}).json() == {"entries": []}
            assert http.get("/metrics").status_code == 403
            assert http.post("/v1/backend/write-note", json={"name": "n", "text": "t"}).status_code == 403
            assert http.post("/v1/backend/configure", json={"hnsw": None}).status_code == 403
            assert http.post("/v1/backend/read-note", json={"name": "n"}).json() == {"text": None}
            hits = http.post("/v1/search", json={"query": "of", "k": 9}).json()["hits"]
            assert [hit["entry"]["metadata"] for hit in hits] == [{"who": key}]
    stored = {(one.namespace, one.content) for one in place.manager.episodic.scan()}
    assert stored == {(("acme", "alice"), "of alice"), (("acme", "bob"), "of bob")}


def test_keys_are_not_shown_to_clients(place: Place) -> None:
    """Not even to a key of the whole store: the note they are in is the server's own."""
    for path, body in (("read-note", {"name": NOTE}), ("write-note", {"name": NOTE, "text": None})):
        answer = place.post(f"/v1/backend/{path}", body)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:llmspell-memory:ConfigError")
    assert len(read_keys(place.manager.backend)) == 4


def test_keys_are_known_and_refused_within_seconds(tmp_path: Path) -> None:
    """A key that is made while the server runs opens it; revoked, it does not; and the last one gone, all is shut."""
    manager = manager_at(tmp_path / "memory.db")
    with served(manager, dataclasses.replace(SMALL, refresh_seconds=0.05)) as server:
        assert httpx.get(f"{server.url}/v1/entries").status_code == 200, "without keys it is open to this machine"
        _, secret = add_key(manager.backend, "late")
        headers = {"Authorization": f"Bearer {secret}"}

        def becomes(status: int, headers: dict[str, str]) -> bool:
            until = time.monotonic() + 20
            while httpx.get(f"{server.url}/v1/entries", headers=headers).status_code != status:
                if time.monotonic() > until:
                    return False
            return True

        assert becomes(401, {})
        assert httpx.get(f"{server.url}/v1/entries", headers=headers).status_code == 200
        revoke_key(manager.backend, "late")
        assert becomes(401, headers)
        assert httpx.get(f"{server.url}/v1/entries").status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104 (it is refused)
def test_others_are_served_with_keys_alone(tmp_path: Path, host: str) -> None:
    """An address that is not of this machine alone is refused before anything listens."""
    with manager_at(tmp_path / "memory.db") as manager, pytest.raises(ConfigError, match="keys add"):
        Server(manager, ServerConfig(host=host, port=0))


def test_with_keys_another_address_is_served(tmp_path: Path) -> None:
    manager = manager_at(tmp_path / "memory.db")
    _, secret = add_key(manager.backend, "one")
    with served(manager, ServerConfig(host="0.0.0.0", port=0)) as server:  # noqa: S104 (with a key)
        url = f"http://127.0.0.1:{server.port}/v1/entries"
        assert httpx.get(url).status_code == 401
        assert (
            httpx.get(url, headers={"Authorization": f"Bearer {secret}", "Host": "memory.example"}).status_code == 200
        )


def test_a_page_from_elsewhere_cannot_ask_an_open_server(tmp_path: Path) -> None:
    """Without keys, another Host header (a name that was pointed here) and a form's content type are refused."""
    with served(manager_at(tmp_path / "memory.db")) as server:
        assert httpx.get(f"{server.url}/v1/entries", headers={"Host": f"localhost:{server.port}"}).status_code == 200
        assert httpx.get(f"{server.url}/v1/entries", headers={"Host": "evil.example"}).status_code == 403
        body = json.dumps({"entries": [ENTRY]})
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            answer = httpx.post(f"{server.url}/v1/entries", content=body, headers={"Content-Type": kind})
            assert answer.status_code == 415, kind


def test_the_rate_is_each_keys_own(tmp_path: Path) -> None:
    """Beyond twice the rate at once it is a 429 that says when to come again; another key goes on."""
    manager = manager_at(tmp_path / "memory.db")
    keys = [add_key(manager.backend, name)[1] for name in ("one", "two")]
    with (
        served(manager, dataclasses.replace(SMALL, rate=0.01 + 2)) as server,
        httpx.Client(base_url=server.url) as http,
    ):
        asked = [http.get("/v1/stats", headers={"Authorization": f"Bearer {keys[0]}"}) for _ in range(40)]
        assert {one.status_code for one in asked} == {200, 429}
        late = next(one for one in asked if one.status_code == 429)
        assert int(late.headers["retry-after"]) >= 1
        assert late.json()["type"] == "urn:llmspell-memory:UnavailableError"
        assert http.get("/v1/stats", headers={"Authorization": f"Bearer {keys[1]}"}).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [{"port": -1}, {"port": 70_000}, {"host": ""}, {"batch": 0}, {"k": True}, {"rate": 0}, {"body_seconds": -1.0}],
)
def test_wrong_settings_are_told_when_they_are_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ServerConfig(**wrong)


def test_a_port_that_is_taken_is_told(place: Place, tmp_path: Path) -> None:
    with manager_at(tmp_path / "other.db") as manager:
        manager.episodic.add(EpisodicEntry("s", "user", "x"))
        with pytest.raises(ConfigError, match="cannot listen"):
            Server(manager, ServerConfig(port=place.port))
        assert manager.episodic.count() == 1, "the memory stays its owner's"
