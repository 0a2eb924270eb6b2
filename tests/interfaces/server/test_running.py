"""A server as a process of its own: how it begins, what it logs, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from llmspell_memory import DefaultMemoryManager, EmbeddingService, UnavailableError
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.client import MemoryClient
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.embeddings.retry import RetryPolicy
from llmspell_memory.testing.backends import entry
from llmspell_memory.types import Filter
from tests.interfaces.server.conftest import DIMENSIONS, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(sys.executable).with_name("llmspell-memory")


def command(db: Path | str, *arguments: str, dimensions: int = DIMENSIONS) -> list[str]:
    return [str(PROGRAM), "--db", str(db), "--provider", "hashing", "--dimensions", str(dimensions), *arguments]


@contextmanager
def running(db: Path | str, *options: str, dimensions: int = DIMENSIONS) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command, and give the process and the address it says."""
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    with subprocess.Popen(
        command(db, "serve", "--port", "0", *options, dimensions=dimensions),
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"]},
    ) as process:
        signal.signal(signal.SIGINT, ours)
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r"serving on (http://\S+)", line)
            assert found, line + process.stderr.read()
            yield process, found[1]
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], sign: signal.Signals) -> tuple[int, str]:
    """Tell a process to end, and return its code and what it logged since."""
    process.send_signal(sign)
    _, log = process.communicate(timeout=60)
    return process.returncode, log


def test_a_store_is_served_from_the_command_line(tmp_path: Path) -> None:
    """Made where there is none, with keys of the command line; the log has an object a request, and no word of it."""
    db = tmp_path / "memory.db"
    made = subprocess.run(
        command(db, "keys", "add", "ops", "--access", "write"), capture_output=True, text=True, check=True
    )
    secret = made.stdout.strip()
    with running(db) as (process, url):
        with MemoryClient(url, api_key=secret) as client:
            client.add(entry("a secret word", "secret-session", id="secret-id"))
            assert [hit.entry.id for hit in client.search("secret", 1)] == ["secret-id"]
            client.get("secret-id")
            client.sessions(Filter(session_id="secret-session"))
        httpx.get(f"{url}/secret/path?secret=1")
        code, log = ended(process, signal.SIGTERM)
    assert code == -signal.SIGTERM, log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert [(line["route"], line["status"]) for line in lines] == [
        ("/v1/entries", 201),
        ("/v1/search", 200),
        ("/v1/entries/{id}", 200),
        ("/v1/sessions", 200),
        ("(none)", 404),
    ]
    assert set(lines[0]) == {"time", "request", "key", "method", "route", "status", "ms", "bytes"}
    assert len({line["request"] for line in lines}) == 5
    assert "secret" not in log
    assert secret not in log


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_what_was_answered_is_there_after_the_end(tmp_path: Path, sign: signal.Signals) -> None:
    """Told to end amid many writes, it answers those begun; every entry whose add was answered is stored."""
    db = tmp_path / "memory.db"
    stored: list[str] = []
    other: list[BaseException] = []

    def write(url: str, number: int) -> None:
        with MemoryClient(url, retry=RetryPolicy(attempts=1)) as client:
            for turn in range(10_000):
                try:
                    stored.append(client.add(entry(f"text {turn}", f"s{number}")))
                except UnavailableError:
                    return
                except BaseException as error:
                    other.append(error)
                    raise

    with running(db, "--quiet", "--rate", "0") as (process, url):
        writers = [threading.Thread(target=write, args=(url, number)) for number in range(4)]
        for one in writers:
            one.start()
        while len(stored) < 40:
            assert process.poll() is None
        code, log = ended(process, sign)
        for one in writers:
            one.join()
    assert code in {-sign, 130}, log
    assert "Traceback" not in log
    assert other == []
    service = EmbeddingService(HashingProvider(DIMENSIONS))
    with DefaultMemoryManager(SQLiteBackend(db), service) as memory:
        there = {one.id for one in memory.episodic.scan()}
    assert set(stored) <= there
    assert len(there) <= len(stored) + 4, "at most the one of each that was under way"


def test_another_address_needs_keys(tmp_path: Path) -> None:
    """Said in one line, before anything listens."""
    done = subprocess.run(
        command(tmp_path / "memory.db", "serve", "--host", "0.0.0.0"),  # noqa: S104 (it is refused)
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "keys add" in done.stderr
    assert done.stderr.count("\n") == 1


def test_metrics_tell_of_requests_by_route(place: Place) -> None:
    """In Prometheus' format, beside the memory's own, without a word of what was asked."""
    place.post("/v1/search", {"query": "a secret word"})
    place.post("/v1/search", {})
    with place.http() as http:
        http.get("/v1/entries/secret-id")
        answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    told = {one.name: one for one in text_string_to_metric_families(answer.text)}
    assert "llmspell_memory_entries" in told
    counts = {
        (one.labels["route"], one.labels["status"]): one.value for one in told["llmspell_memory_http_requests"].samples
    }
    assert counts == {("/v1/search", "200"): 1, ("/v1/search", "422"): 1, ("/v1/entries/{id}", "404"): 1}
    assert "llmspell_memory_http_request_duration_seconds" in told
    assert "secret" not in answer.text


def test_a_store_that_does_not_answer_is_not_ready(place: Place) -> None:
    """It lives, and says that it is not ready."""
    with place.http(None) as http:
        assert http.get("/readyz").status_code == 200
        place.manager.close()
        assert http.get("/healthz").status_code == 200
        answer = http.get("/readyz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_nobody_finds_fault_with_the_description(place: Place) -> None:
    """Schemathesis asks thousands of things that the OpenAPI document allows or forbids; every answer is as it says."""
    done = subprocess.run(
        [
            *(
                str(PROGRAM.with_name("schemathesis")),
                "--config-file",
                str(Path(__file__).with_name("schemathesis.toml")),
            ),
            *("run", f"{place.url}/openapi.json", "--header", f"Authorization: Bearer {place.keys['all']}"),
            *("--exclude-operation-id", "importEntries"),  # takes lines of JSON, which it cannot make
            *("--max-examples", "2", "--seed", "7", "--warnings", "off", "--no-color"),
        ],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated, done.stdout
    assert int(generated[1]) > 1_000
