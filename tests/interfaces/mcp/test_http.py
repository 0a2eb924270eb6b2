"""The server over HTTP: many clients at once, and nobody who was not asked in."""

from __future__ import annotations

import re
import socket
import subprocess
from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from llmspell_memory import EpisodicEntry
from llmspell_memory.errors import ConfigError
from llmspell_memory.mcp import HTTPServer, HTTPSettings
from tests.speaking import answer, command, environment, opened, served

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 60
TOKEN = "a token of thirty-two characters".replace(" ", "-")
ADD = (
    '{"jsonrpc":"2.0","id":1,"method":"tools/call",'
    '"params":{"name":"add_memory","arguments":{"content":"tea","session_id":"s"}}}'
)
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


def posted(url: str, body: str = ADD, **headers: str) -> tuple[int, str]:
    """Return the status and the body of an answer."""
    place = urlsplit(url)
    connection = HTTPConnection(place.hostname or "", place.port, timeout=SECONDS)
    connection.request("POST", place.path, body, HEADERS | headers)
    response = connection.getresponse()
    read = response.read().decode()
    connection.close()
    return response.status, read


async def test_many_clients_at_once(tmp_path: Path) -> None:
    """Eight clients add and search at the same time: each write is there once, each client finds its own."""
    with opened(tmp_path / "memory.db") as manager, served(manager.episodic) as server:

        async def live(name: str) -> None:
            async with Client(server.url) as client:
                for number in range(10):
                    await answer(client, "add_memory", content=f"{name} fact {number}", session_id=name)
                found = await answer(client, "search_memories", query="fact", session_id=name, limit=100)
                assert {one["content"] for one in found["memories"]} == {f"{name} fact {n}" for n in range(10)}

        async with anyio.create_task_group() as clients:
            for number in range(8):
                clients.start_soon(live, f"client-{number}")
        assert manager.episodic.count() == 80


def test_clients_that_die_do_no_harm(tmp_path: Path) -> None:
    """Connections cut amid a request, or before its answer, leave the server as it was, and writes whole or absent."""
    with opened(tmp_path / "memory.db") as manager, served(manager.episodic) as server:
        place = urlsplit(server.url)
        head = f"POST /mcp HTTP/1.1\r\nHost: {place.netloc}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in HEADERS.items())
        whole = f"{head}Content-Length: {len(ADD)}\r\n\r\n{ADD}".encode()
        for size in (10, len(head) + 5, len(whole) - 20, *[len(whole)] * 5):
            with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
                connection.sendall(whole[:size])
        status, body = posted(server.url)
        assert status == 200, body
        assert [one.content for one in manager.episodic.scan()] == ["tea"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8765"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "notes.example:443"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Content-Type": "text/plain"}, 400),
    ],
)
def test_pages_in_a_browser_cannot_ask(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    """A request that calls the server by a name it does not have, or comes from a page, is refused and does nothing."""
    settings = HTTPSettings(port=0, names=("notes.example",))
    with opened(tmp_path / "memory.db") as manager, served(manager.episodic, settings) as server:
        assert posted(server.url, **headers)[0] == status
        assert manager.episodic.count() == (1 if status == 200 else 0)


async def test_a_token_is_asked_for(tmp_path: Path) -> None:
    """With a token, who does not show it is told so and gets nothing; the SDK's client shows it by a header."""
    settings = HTTPSettings(port=0, token=TOKEN)
    with opened(tmp_path / "memory.db") as manager, served(manager.episodic, settings) as server:
        for wrong in (
            {},
            {"Authorization": TOKEN},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": "Bearer "},
        ):
            status, body = posted(server.url, **wrong)
            assert (status, "Authorization: Bearer" in body) == (401, True)
        assert manager.episodic.count() == 0
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as carrier,
            Client(streamable_http_client(server.url, http_client=carrier)) as client,
        ):
            await answer(client, "add_memory", content="tea", session_id="s")
        assert manager.episodic.count() == 1
    assert TOKEN not in repr(settings)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"host": "192.0.2.1"}, "LLMSPELL_MEMORY_MCP_TOKEN"),
        ({"host": "memory.example"}, "LLMSPELL_MEMORY_MCP_TOKEN"),
        ({"host": "0.0.0.0"}, "LLMSPELL_MEMORY_MCP_TOKEN"),  # noqa: S104 (it is refused)
        ({"host": "::", "token": TOKEN}, "--allow-host"),
        ({"host": ""}, "address"),
        ({"port": 65_536}, "port"),
        ({"token": "short"}, "openssl"),
        ({"token": TOKEN + "\n"}, "openssl"),
        ({"names": ("http://x",)}, "name"),
        ({"names": ("x:80",)}, "no port"),
        ({"names": ("*",)}, "name"),
    ],
)
def test_unsafe_settings_are_refused(given: dict[str, object], says: str) -> None:
    """Others cannot reach a server without a token, nor call it by just any name; the message repeats no token."""
    with pytest.raises(ConfigError, match=re.escape(says)) as raised:
        HTTPSettings(**given)  # type: ignore[arg-type]  # some are wrong on purpose
    assert TOKEN not in str(raised.value)


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    """Where another listens already, the error names the address and what to do."""
    with opened(tmp_path / "memory.db") as manager, served(manager.episodic) as server:
        port = urlsplit(server.url).port or 0
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}.*give another port"):
            HTTPServer(manager.episodic, HTTPSettings(port=port))


def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    """`mcp --http` says where it listens, serves a namespace with the token, and ends well when told to."""
    arguments = command(tmp_path / "memory.db", "--http", "--port", "0", "--namespace", "acme", "--namespace", "alice")
    process = subprocess.Popen(
        arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment(LLMSPELL_MEMORY_MCP_TOKEN=TOKEN),
    )  # fmt: skip
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(r"serving on (http://127\.0\.0\.1:\d+/mcp) \(with the token\)\n", line)
        assert found, line
        assert posted(found[1], Authorization=f"Bearer {TOKEN}")[0] == 200
    finally:
        process.terminate()
        out, err = process.communicate(timeout=SECONDS)
    assert (out, err, process.returncode) == ("", "", 0)
    with opened(tmp_path / "memory.db") as manager:
        assert [(one.content, one.namespace) for one in manager.episodic.scan()] == [("tea", ("acme", "alice"))]


async def test_a_namespace_is_a_wall(tmp_path: Path) -> None:
    """A server of one namespace reads, finds, lists and deletes nothing outside, whatever it is asked."""
    with opened(tmp_path / "memory.db") as manager:
        ids = {}
        for place in ((), ("acme",), ("acme", "alice"), ("acme", "alicia")):
            ids[place] = manager.episodic.add(EpisodicEntry("s", "user", f"secret of {place}", namespace=place))
            manager.episodic.add(EpisodicEntry(f"only {place}", "user", "secret", namespace=place))
        before = {one.identity for one in manager.episodic.scan()}
        own = ("acme", "alice")
        with served(manager.scoped(*own).episodic) as server:
            async with Client(server.url) as client:
                found = await answer(client, "search_memories", query="secret", limit=100)
                assert {tuple(one["namespace"]) for one in found["memories"]} == {own}
                sessions = await answer(client, "list_sessions")
                assert {tuple(one["namespace"]) for one in sessions["sessions"]} == {own}
                assert (await answer(client, "get_session", session_id="s"))["total"] == 1
                text = (await client.call_tool("get_context", {"query": "secret"})).model_dump_json()
                assert "alicia" not in text
                assert len((await client.list_resources()).resources) == 3
                assert "alicia" not in (await client.read_resource("memory://sessions")).model_dump_json()
                assert "alicia" not in (await client.read_resource("memory://sessions/s")).model_dump_json()
                others = [one for place, one in ids.items() if place != own]
                assert await answer(client, "delete_memories", ids=others) == {"deleted": 0}
                assert await answer(client, "delete_memories", session_id="only ('acme',)") == {"deleted": 0}
                added = await answer(client, "add_memory", content="new", session_id="s")
                assert await answer(client, "delete_memories", session_id="s") == {"deleted": 2}
        after = {one.identity for one in manager.episodic.scan()}
        assert before - after == {(own, ids[own])}
        assert after <= before
        assert added["id"]
