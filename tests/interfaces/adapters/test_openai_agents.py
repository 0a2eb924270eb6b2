"""The session of the OpenAI Agents SDK: what its own promises, over more items, tasks and processes."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import typing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from agents.items import TResponseInputItem
from agents.memory import Session, SessionSettings, SQLiteSession

from llmspell_memory import (
    ConfigError,
    CorruptDataError,
    DefaultMemoryManager,
    EmbeddingError,
    EmbeddingService,
    EpisodicEntry,
    Filter,
    InputError,
    MemoryConfig,
)
from llmspell_memory.adapters.openai_agents import EpisodicSession
from llmspell_memory.adapters.openai_agents.items import entries_of
from llmspell_memory.embeddings import CallableProvider, HashingProvider

if TYPE_CHECKING:
    from pathlib import Path

WORKER = """
import asyncio, json, sys
from llmspell_memory import DefaultMemoryManager, EmbeddingService, MemoryConfig
from llmspell_memory.adapters.openai_agents import EpisodicSession
from llmspell_memory.embeddings import HashingProvider

async def main(path, name):
    config = MemoryConfig.for_production(EmbeddingService(HashingProvider()), path=path)
    with DefaultMemoryManager.with_config(config) as memory:
        session = EpisodicSession("shared", memory)
        print("open", flush=True)
        sys.stdin.readline()
        for batch in range(10):
            await session.add_items([{"role": "user", "content": f"{name} {batch} {n}"} for n in range(3)])
        print("added", flush=True)
        sys.stdin.readline()
        print(json.dumps([(await session.pop_item())["content"] for _ in range(10)]))

asyncio.run(main(*sys.argv[1:]))
"""


def said(text: str, role: str = "user") -> Any:
    return {"role": role, "content": text}


def kinds() -> list[str]:
    """Every `type` that an input item of the SDK may have."""
    found: set[str] = set()
    for member in typing.get_args(TResponseInputItem):
        hint = typing.get_type_hints(member).get("type")
        found |= {value for value in literals(hint) if isinstance(value, str)}
    return sorted(found)


def literals(hint: Any) -> list[Any]:
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    return [value for inner in typing.get_args(hint) for value in literals(inner)]


async def test_items_of_every_kind_come_back(manager: DefaultMemoryManager) -> None:
    """Whatever `type` the SDK knows, and whatever JSON can hold, comes back as it was, in its order."""
    assert {"message", "function_call", "function_call_output", "reasoning", "web_search_call"} < set(kinds())
    items: list[Any] = [
        {"type": kind, "id": f"{kind}_1", "call_id": f"c{n}", "payload": {"b": [n, None, True, 0.5], "a": "ä"}}
        for n, kind in enumerate(kinds())
    ]
    items += [
        said("plain"),
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi", "annotations": []}]},
        {"type": "function_call_output", "call_id": "9", "output": "NUL \0 and a lone \ud800 surrogate"},
        said("NUL \0 and a lone \ud800 surrogate"),
        said(""),
        said(" \n"),
        {"content": "no role"},
        {"type": None, "role": None, "content": None},
        {},
    ]
    session = EpisodicSession("s", manager)
    await session.add_items(items)
    assert json.dumps(await session.get_items()) == json.dumps(items)  # to the order of keys


async def test_it_does_what_the_sdks_own_session_does(manager: DefaultMemoryManager) -> None:
    """The same calls on both, in random order on two sessions, return the same."""
    rng = random.Random(5)
    ours = {name: EpisodicSession(name, manager, session_settings=SessionSettings(limit=7)) for name in ("a", "A")}
    theirs = {name: SQLiteSession(name, session_settings=SessionSettings(limit=7)) for name in ours}
    for step in range(120):
        name = rng.choice(["a", "A"])
        verb = rng.choices(["add_items", "pop_item", "get_items", "clear_session"], [4, 3, 4, 0.3])[0]
        arguments: list[Any] = []
        if verb == "add_items":
            arguments = [[said(f"{step} {n}") for n in range(rng.randrange(4))]]
        elif verb == "get_items":
            arguments = [rng.choice([None, -1, 0, 1, 3, 50])]
        mine, expected = [await getattr(one[name], verb)(*arguments) for one in (ours, theirs)]
        assert mine == expected, (step, verb)
    for one in theirs.values():
        one.close()


def test_it_is_a_session_of_the_sdk(manager: DefaultMemoryManager) -> None:
    """The SDK's protocol takes it for one."""
    assert isinstance(EpisodicSession("s", manager), Session)


async def test_sessions_are_apart(manager: DefaultMemoryManager) -> None:
    """Sessions of other ids, namespaces and scopes, and other entries of the memory, are not touched."""
    manager.episodic.add(EpisodicEntry("s", "user", "an entry of another's"))
    sessions = [
        EpisodicSession("s", manager),
        EpisodicSession("s", manager, namespace=("ada",)),
        EpisodicSession("s", manager, namespace=("ada", "deeper")),
        EpisodicSession("s", manager.scoped("acme"), namespace=("ada",)),
        EpisodicSession("s ", manager),
    ]
    for n, one in enumerate(sessions):
        await one.add_items([said(str(n))])
    assert [await one.get_items() for one in sessions] == [[said(str(n))] for n in range(5)]
    await sessions[0].clear_session()
    assert await sessions[0].pop_item() is None
    assert [len(await one.get_items()) for one in sessions] == [0, 1, 1, 1, 1]
    assert manager.episodic.count() == 5
    assert manager.episodic.count(Filter(namespace=("acme", "ada"))) == 1


async def test_what_is_added_later_comes_later(manager: DefaultMemoryManager) -> None:
    """Neither a clock that was set back nor one that is ahead elsewhere changes the order."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    manager.episodic.add_many(entries_of([said("1"), said("2")], "s", namespace=(), now=tomorrow))
    session = EpisodicSession("s", manager)
    await session.add_items([said("3"), said("4")])
    await session.add_items([said("5")])
    assert await texts(session) == list("12345")
    assert await session.pop_item() == said("5")


async def test_tasks_share_a_session(manager: DefaultMemoryManager) -> None:
    """What tasks add at once is all there, each batch together; what they pop is popped once."""
    session = EpisodicSession("s", manager)
    await asyncio.gather(*[session.add_items([said(f"{t} {n}") for n in range(5)]) for t in range(20)])
    together = await texts(session)
    assert [together[at : at + 5] for at in range(0, 100, 5)] == [
        [f"{first.split()[0]} {n}" for n in range(5)] for first in together[::5]
    ]
    popped: list[Any] = await asyncio.gather(*[session.pop_item() for _ in range(110)])
    assert sorted(one["content"] for one in popped if one) == sorted(together)


def test_processes_share_a_session(tmp_path: Path) -> None:
    """Processes that add to one session lose nothing and keep batches together; none pops what another has popped."""
    path = tmp_path / "memory.db"
    workers = [Worker(path, str(n)) for n in range(3)]
    assert [one.told() for one in workers] == ["open"] * 3
    for one in workers:
        one.go_on()
    assert [one.told() for one in workers] == ["added"] * 3
    config = MemoryConfig.for_production(EmbeddingService(HashingProvider()), path=path)
    with DefaultMemoryManager.with_config(config) as memory:
        session = EpisodicSession("shared", memory)
        items = asyncio.run(texts(session))
        assert items == [f"{' '.join(first.split()[:2])} {n}" for first in items[::3] for n in range(3)]
        for name in "012":
            assert [one.split()[1] for one in items[::3] if one.startswith(name)] == [str(n) for n in range(10)]
        assert len(items) == 90
        for one in workers:
            one.go_on()
        popped = [item for one in workers for item in json.loads(one.told())]
        assert sorted(popped) == sorted(items[60:])
        assert asyncio.run(texts(session)) == items[:60]
    assert [one.ended() for one in workers] == [0, 0, 0]


async def texts(session: EpisodicSession) -> list[str]:
    items: list[Any] = await session.get_items()
    return [one["content"] for one in items]


class Worker:
    """A process that does the next thing when it is told to."""

    def __init__(self, path: Path, name: str) -> None:
        command = [sys.executable, "-c", WORKER, str(path), name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def told(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def ended(self) -> int:
        self.process.communicate()
        return self.process.returncode


async def test_a_write_once_begun_is_finished(tmp_path: Path) -> None:
    """Cancelled while it embeds, nothing is stored; while the store writes, all is, before the cancellation arrives."""
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def embed(texts: list[str]) -> list[list[float]]:
        begun.set()
        await goes_on.wait()
        return [[1.0, 0.0] for _ in texts]

    service = EmbeddingService(CallableProvider(embed, 2))
    config = MemoryConfig.for_production(service, path=tmp_path / "memory.db")
    with DefaultMemoryManager.with_config(config) as memory:
        session = EpisodicSession("s", memory)
        adding = asyncio.create_task(session.add_items([said("one")]))
        await begun.wait()
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        assert await session.get_items() == []
        goes_on.set()
        items = [said("two"), said("three")]
        for seen in range(1, 40):  # cancelled at ever later moments
            adding = asyncio.create_task(session.add_items(items))
            for _ in range(seen):
                await asyncio.sleep(0)
            adding.cancel()
            await asyncio.wait([adding])
            assert len(await session.get_items()) in (0, 2)
            await session.clear_session()


async def test_bad_input_is_refused(manager: DefaultMemoryManager) -> None:
    """What cannot be kept is told by its name, and nothing of its batch is stored."""
    session = EpisodicSession("s", manager)
    for bad, told in [("text", "an item must be a dict"), ({"a": object()}, "an item must be JSON")]:
        with pytest.raises(InputError, match=told):
            await session.add_items([said("good"), bad])  # type: ignore[list-item]
    assert await session.get_items() == []
    with pytest.raises(ConfigError, match="memory must be a DefaultMemoryManager"):
        EpisodicSession("s", "memory.db")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="session_id must not be empty"):
        EpisodicSession("", manager)
    with pytest.raises(InputError, match="namespace must be a tuple"):
        EpisodicSession("s", manager, namespace="ada")  # type: ignore[arg-type]
    manager.episodic.add(EpisodicEntry("s", "user", "damaged", metadata={"of": "openai-agents", "item": "{"}))
    with pytest.raises(CorruptDataError, match="holds no item"):
        await session.get_items()


async def test_a_failing_embedding_stores_nothing() -> None:
    """Items whose texts cannot be embedded are not stored, and the error says so."""

    def fail(texts: list[str]) -> list[list[float]]:
        raise EmbeddingError(f"no vectors for {len(texts)}")

    with DefaultMemoryManager.new_in_memory_with_embeddings(EmbeddingService(CallableProvider(fail, 2))) as memory:
        session = EpisodicSession("s", memory)
        with pytest.raises(EmbeddingError, match="no vectors"):
            await session.add_items([said("one")])
        assert await session.get_items() == []


async def test_what_was_said_is_an_entry(manager: DefaultMemoryManager) -> None:
    """Messages are entries with role and text, left for consolidation; calls and their outputs are not."""
    session = EpisodicSession("s", manager, namespace=("ada",))
    items: list[Any] = [
        said("My dog is called Ada."),
        {"type": "function_call", "name": "look", "call_id": "1", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "a dog"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Good dog."}]},
    ]
    await session.add_items(items)
    told = [(one.role, one.content, one.processed) for one in manager.episodic.get_session("s")]
    assert told == [
        ("user", "My dog is called Ada.", False),
        ("assistant", "function_call look 1", True),
        ("tool", "function_call_output 1", True),
        ("assistant", "Good dog.", False),
    ]
    assert {one.namespace for one in manager.episodic.scan()} == {("ada",)}
