"""`chat` on the command line, with a model behind a real server and without one."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typer.testing import Result


class Model:
    """A server with `/v1/chat/completions` that repeats the last message, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answers: list[tuple[int, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(request)
                outer.keys.append(self.headers["Authorization"])
                said = f"You said: {request['messages'][-1]['content']}"
                usual = {"choices": [{"message": {"role": "assistant", "content": said}}]}
                status, answer = outer.answers.pop(0) if outer.answers else (200, usual)
                body = json.dumps(answer).encode()
                self.send_response(status if self.path == "/v1/chat/completions" else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                del arguments

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def model() -> Iterator[Model]:
    running = Model()
    yield running
    running.close()


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_without_a_model_it_shows_what_is_remembered(filled: Callable[..., Result]) -> None:
    """And keeps what is said, in a new session."""
    (turn,) = lines(filled("chat", "--json", stdin="what is my dog called?\n\n"))
    assert turn["answer"] is None
    assert "My dog is called Ada." in turn["remembered"]
    found = json.loads(filled("search", "what is my dog called?", "-k", "9", "--json").stdout)["hits"]
    (session,) = {one["entry"]["session_id"] for one in found if one["entry"]["content"] == "what is my dog called?"}
    assert session.startswith("chat-")
    assert "nothing is remembered" not in filled("chat", stdin="sourdough").stdout


def test_a_model_is_told_what_is_remembered_and_answers(
    filled: Callable[..., Result], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Question and answer are kept, and stand before the next ones of the session."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    told = ["chat", "--endpoint", model.url, "--chat-model", "m", "--session", "now"]
    turns = lines(filled(*told, "--json", stdin="what is my dog called?\nand the bread?\n"))
    assert [one["answer"] for one in turns] == ["You said: what is my dog called?", "You said: and the bread?"]
    first, second = (one["messages"] for one in model.asked)
    assert first[0]["role"] == "system"
    assert "My dog is called Ada." in first[0]["content"]
    assert [(one["role"], one["content"]) for one in second[1:]] == [
        ("user", "what is my dog called?"),
        ("assistant", "You said: what is my dog called?"),
        ("user", "and the bread?"),
    ]
    assert {one["model"] for one in model.asked} == {"m"}
    assert set(model.keys) == {"Bearer sk-secret"}
    kept = json.loads(filled("recent", "--session", "now", "-n", "9", "--json").stdout)["entries"]
    assert [one["role"] for one in kept] == ["user", "assistant"] * 2
    assert filled(*told, stdin="\x1b[31mred").stdout == "You said: \u241b[31mred\n"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((500, {"error": "down"}), "answered 500"),
        ((200, {"choices": []}), "no answer of the usual shape"),
        ((200, {"choices": [{"message": {"content": " "}}]}), "without a text"),
    ],
)
def test_a_model_that_fails_ends_nothing(
    filled: Callable[..., Result], model: Model, answer: tuple[int, Any], says: str
) -> None:
    """What was said is kept, the complaint is one line, and the next line is answered."""
    model.answers = [answer]
    result = filled("chat", "--endpoint", model.url, "--session", "now", "--json", stdin="one\ntwo\n")
    (turn,) = lines(result)
    assert turn["answer"] == "You said: two"
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    kept = json.loads(filled("recent", "--session", "now", "-n", "9", "--json").stdout)["entries"]
    assert [one["content"] for one in kept] == ["one", "two", "You said: two"]


def test_an_endpoint_that_is_not_there_is_told(filled: Callable[..., Result], model: Model) -> None:
    """In one line."""
    model.close()
    result = filled("chat", "--endpoint", model.url, stdin="one\n")
    assert result.exit_code == 0
    assert "cannot be reached" in result.stderr


def test_a_new_store_begins_with_a_conversation(invoke: Callable[..., Result], db: Path) -> None:
    """It is made where there is none."""
    assert invoke("chat", stdin="My cat is called Tom.\n", new=True).stdout == "nothing is remembered of that\n"
    assert db.exists()
    assert "My cat is called Tom." in invoke("chat", stdin="what is my cat called?\n").stdout
