"""The command over stdio: pure in what it writes, gone with its client, and sure of what it acknowledged."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client

from tests.speaking import answer, command, environment, opened, started

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 60
"""How long anything may take at most, on a machine that is busy with other things."""

HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}
NOISY = """
import os, subprocess, sys
from llmspell_memory import DefaultMemoryManager, EmbeddingService
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.mcp import serve_stdio

class Noisy(HashingProvider):
    def embed(self, texts, *, kind="document"):
        print("a print")
        os.write(1, b"bytes past Python")
        subprocess.run([sys.executable, "-c", "print('a child')"], check=True)
        return super().embed(texts, kind=kind)

with DefaultMemoryManager.new_in_memory_with_embeddings(EmbeddingService(Noisy())) as manager:
    serve_stdio(manager.episodic)
"""
ADDING = """
import sys
import anyio
from mcp import Client, StdioServerParameters

async def main():
    program, *arguments = sys.argv[1:]
    async with Client(StdioServerParameters(command=program, args=arguments)) as client:
        for number in range(1_000_000):
            added = await client.call_tool("add_memory", {"content": f"fact {number}", "session_id": "s"})
            print(added.structured_content["id"], flush=True)

anyio.run(main)
"""


class Speaker:
    """A client of bytes: sees each line that a server writes."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        )
        self.number = 0

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the next message, which must answer."""
        self.number += 1
        self.send(json.dumps({"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}))
        return self.next()

    def next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        read: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert read["jsonrpc"] == "2.0"
        return read

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        answered = self.ask("tools/call", name=tool, arguments=arguments)
        assert answered["id"] == self.number
        result: dict[str, Any] = answered["result"]
        return result

    def greet(self) -> None:
        assert self.ask("initialize", **HELLO)["result"]["serverInfo"]["name"] == "llmspell-memory"
        self.send('{"jsonrpc": "2.0", "method": "notifications/initialized"}')

    def finish(self) -> tuple[str, str, int]:
        """Close stdin and return what else was written, to stdout and to stderr, and how the server ended."""
        out, err = self.process.communicate(timeout=SECONDS)
        return out.decode(), err.decode(), self.process.returncode


def test_stdout_has_the_protocol_alone(tmp_path: Path) -> None:
    """Every line is a message of the protocol, whatever comes in, and the end is without complaint."""
    program, *others = command(tmp_path / "memory.db")
    speaker = Speaker(program, "--verbose", *others)
    speaker.greet()
    speaker.send("this is no JSON")
    speaker.send('{"neither": "request nor answer"}')
    assert speaker.ask("no/such/method")["error"]["code"] == -32601
    added = speaker.call("add_memory", content="tea", session_id="s")
    assert not added.get("isError")
    assert speaker.call("delete_memories")["isError"] is True
    assert speaker.call("search_memories", query="tea", limit=0)["isError"] is True
    out, err, code = speaker.finish()
    assert (out, code) == ("", 0)
    assert "Traceback" not in err


def test_what_others_print_goes_to_stderr() -> None:
    """Neither a print, nor a write past Python, nor a child's output gets among the messages."""
    speaker = Speaker(sys.executable, "-c", NOISY)
    speaker.greet()
    assert not speaker.call("add_memory", content="tea", session_id="s").get("isError")
    out, err, code = speaker.finish()
    assert (out, code) == ("", 0)
    assert all(noise in err for noise in ("a print", "bytes past Python", "a child"))


def test_a_client_that_is_killed_takes_the_server_along(tmp_path: Path) -> None:
    """When its client is killed amid writes, the server ends, and every write that was acknowledged is stored."""
    with subprocess.Popen(
        [sys.executable, "-c", ADDING, *command(tmp_path / "memory.db")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as client:  # fmt: skip
        assert client.stdout is not None
        assert client.stderr is not None
        acknowledged = [client.stdout.readline().strip() for _ in range(20)]
        client.kill()
        more = client.stdout.read()  # what was read ahead, too
        err = client.stderr.read()  # the server has the other end, too: this returns when both are gone
    acknowledged += [line for line in more.splitlines() if len(line) == len(acknowledged[0])]
    assert "Traceback" not in err
    with opened(tmp_path / "memory.db") as manager:
        stored = {one.id for one in manager.episodic.scan()}
    assert len(acknowledged) >= 20
    assert stored >= set(acknowledged)
    assert len(stored) <= len(acknowledged) + 1, "one at most was under way"


def test_a_client_that_reads_no_more_is_no_failure(tmp_path: Path) -> None:
    """Where an answer cannot be written any more, the server ends without a complaint."""
    speaker = Speaker(*command(tmp_path / "memory.db"))
    speaker.greet()
    assert speaker.process.stdout is not None
    speaker.process.stdout.close()
    speaker.send('{"jsonrpc": "2.0", "id": 9, "method": "ping"}')
    _, err, code = speaker.finish()
    assert (err, code) == ("", 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """While it waits for its client it can be interrupted; what was acknowledged is stored."""
    speaker = Speaker(*command(tmp_path / "memory.db"))
    speaker.greet()
    speaker.call("add_memory", content="tea", session_id="s")
    speaker.process.send_signal(number)
    assert speaker.process.wait(timeout=SECONDS) == -number
    out, err, _ = speaker.finish()
    assert (out, err) == ("", "")
    with opened(tmp_path / "memory.db") as manager:
        assert [one.content for one in manager.episodic.scan()] == ["tea"]


async def test_two_servers_share_a_store(tmp_path: Path) -> None:
    """Clients that start a server each see what the others store, as soon as it is acknowledged."""
    db = tmp_path / "memory.db"
    async with Client(started(db)) as first, Client(started(db)) as second:
        await answer(first, "add_memory", content="My dog is called Ada.", session_id="s")
        found = await answer(second, "search_memories", query="dog")
        assert [one["content"] for one in found["memories"]] == ["My dog is called Ada."]


def test_what_keeps_it_from_starting_is_said_on_stderr(tmp_path: Path) -> None:
    """A file that is no store, or options that contradict each other: a line on stderr, nothing on stdout."""
    (tmp_path / "memory.db").write_bytes(b"no store" * 1_000)
    for arguments, code in ([], 1), (["--port", "1"], 2):
        done = subprocess.run(
            command(tmp_path / "memory.db", *arguments),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment(), timeout=SECONDS, check=False,
        )  # fmt: skip
        assert (done.stdout, done.returncode) == ("", code)
        assert "Traceback" not in done.stderr
        assert ("--http" if code == 2 else "memory.db") in done.stderr
