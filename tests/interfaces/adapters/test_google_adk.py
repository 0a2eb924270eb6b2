"""The memory service of the Agent Development Kit, alone and in agents that its own runner runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.events.event import Event
from google.adk.memory.memory_entry import MemoryEntry
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.adk.sessions.session import Session
from google.adk.tools.load_memory_tool import load_memory_tool
from google.genai import types

from llmspell_memory import ConfigError, DefaultMemoryManager, EmbeddingService, InputError, MemoryConfig
from llmspell_memory.adapters.google_adk import EpisodicMemoryService
from llmspell_memory.embeddings import HashingProvider

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from google.adk.models.llm_request import LlmRequest


@pytest.fixture
def service(manager: DefaultMemoryManager) -> EpisodicMemoryService:
    return EpisodicMemoryService(manager)


def event(name: str, *parts: types.Part | str, author: str = "user", at: float = 1_700_000_000.0) -> Event:
    made = [types.Part(text=one) if isinstance(one, str) else one for one in parts]
    return Event(id=name, author=author, timestamp=at, content=types.Content(role="user", parts=made))


def session(*events: Event, name: str = "s", user: str = "ada", app: str = "app") -> Session:
    return Session(id=name, app_name=app, user_id=user, events=list(events))


async def found(service: EpisodicMemoryService, query: str, user: str = "ada", app: str = "app") -> list[str]:
    """Return the texts that a search finds."""
    response = await service.search_memory(app_name=app, user_id=user, query=query)
    return [(one.content.parts or [])[0].text or "" for one in response.memories]


async def test_events_come_back_whole(service: EpisodicMemoryService, manager: DefaultMemoryManager) -> None:
    """Author, moment, all parts and custom metadata come back; events that say nothing are not kept."""
    picture = types.Part(inline_data=types.Blob(data=b"\0\xff", mime_type="image/png"))
    call = types.Part(function_call=types.FunctionCall(name="look", args={"x": 1}))
    whole = event("1", "The dog \0 is called Ada.", picture, call, author="baker")
    thought = event("3", types.Part(text="I wonder.", thought=True))
    events = [whole, event("2", call), thought, event("4", " "), Event(id="5", author="user")]
    await service.add_events_to_memory(
        app_name="app", user_id="ada", events=events, session_id="s", custom_metadata={"k": [1]}
    )
    (memory,) = (await service.search_memory(app_name="app", user_id="ada", query="dog")).memories
    assert memory.content == whole.content
    assert memory.author == "baker"
    assert memory.timestamp == datetime.fromtimestamp(1_700_000_000, UTC).isoformat()
    assert memory.custom_metadata == {"k": [1]}
    (entry,) = manager.episodic.get_session("s")
    assert (entry.role, entry.content, entry.namespace) == ("baker", "The dog   is called Ada.", ("app", "ada"))
    assert await found(service, " ") == []


async def test_a_session_is_added_again(service: EpisodicMemoryService, manager: DefaultMemoryManager) -> None:
    """Each event is kept once, however often and by which verb it is added; ids are their session's."""
    one, two = event("1", "bread one"), event("2", "bread two", at=1_700_000_001.0)
    await service.add_session_to_memory(session(one))
    await service.add_session_to_memory(session(one, two))
    await service.add_events_to_memory(app_name="app", user_id="ada", events=[two], session_id="s")
    assert sorted(await found(service, "bread")) == ["bread one", "bread two"]
    await service.add_session_to_memory(session(event("1", "bread of another session"), name="t"))
    await service.add_events_to_memory(app_name="app", user_id="ada", events=[one])
    assert len(await found(service, "bread")) == 4
    assert [line.session_id for line in manager.episodic.sessions()].count("unknown") == 1


async def test_users_and_apps_are_apart(service: EpisodicMemoryService, manager: DefaultMemoryManager) -> None:
    """Nobody finds or deletes what another user, another app or one whose names look alike has."""
    names = [("app", "ada"), ("app", "Ada"), ("app", "ad"), ("appa", "da"), ("app/ada", "x"), ("ada", "app")]
    for app, user in names:
        await service.add_session_to_memory(session(event("1", f"the secret of {app} {user}"), app=app, user=user))
    for app, user in names:
        assert await found(service, "the secret", user, app) == [f"the secret of {app} {user}"]
    told = await service.search_memory(app_name="app", user_id="ada", query="secret")
    await service.delete_memory(app_name="app", user_id="Ada", memory_id="unknown")
    await service.delete_memory(app_name="app", user_id="ada", memory_id=told.memories[0].id)
    assert [len(await found(service, "the secret", user, app)) for app, user in names] == [0, 1, 1, 1, 1, 1]
    others = EpisodicMemoryService(manager.scoped("tenant"), namespace=("adk",))
    assert await found(others, "the secret", "Ada") == []
    for app, user in (("", "ada"), ("app", "")):
        with pytest.raises(InputError, match="must not be empty"):
            await service.search_memory(app_name=app, user_id=user, query="secret")


async def test_what_was_deleted_stays_so(service: EpisodicMemoryService, manager: DefaultMemoryManager) -> None:
    """A deleted memory is not found, its text is gone, and its session does not bring it back."""
    both = session(event("1", "the walnut secret"), event("2", "bread"))
    await service.add_session_to_memory(both)
    told = await service.search_memory(app_name="app", user_id="ada", query="walnut secret")
    await service.delete_memory(app_name="app", user_id="ada", memory_id=told.memories[0].id)
    await service.delete_memory(app_name="app", user_id="ada")
    await service.add_session_to_memory(both)
    assert await found(service, "walnut secret") == ["bread"]
    assert not any("walnut" in f"{one.content}{one.metadata}" for one in manager.episodic.scan())


async def test_memories_are_added_as_they_are(service: EpisodicMemoryService) -> None:
    """A memory keeps its id, author and moment; a known id is replaced; one that cannot be kept is told."""
    content = types.Content(role="user", parts=[types.Part(text="Erik bakes rye bread.")])
    memory = MemoryEntry(id="m", content=content, author="notes", timestamp="2026-01-02T03:04:05+00:00")
    await service.add_memory(app_name="app", user_id="ada", memories=[memory], custom_metadata={"a": 1})
    (back,) = (await service.search_memory(app_name="app", user_id="ada", query="rye")).memories
    assert back == memory.model_copy(update={"custom_metadata": {"a": 1}})
    await service.add_memory(app_name="app", user_id="ada", memories=[back.model_copy(update={"author": "x"})])
    (back,) = (await service.search_memory(app_name="app", user_id="ada", query="rye")).memories
    assert (back.author, back.custom_metadata) == ("x", {"a": 1})
    silent = MemoryEntry(content=types.Content(parts=[]))
    for bad, told in [(silent, "part with text"), (memory.model_copy(update={"timestamp": "soon"}), "ISO 8601")]:
        with pytest.raises(InputError, match=told):
            await service.add_memory(app_name="app", user_id="eve", memories=[memory, bad])
    with pytest.raises(InputError, match="custom_metadata"):
        await service.add_memory(app_name="app", user_id="eve", memories=[memory], custom_metadata={"a": object()})
    assert await found(service, "rye", "eve") == []
    with pytest.raises(ConfigError, match="memory must be"):
        EpisodicMemoryService("memory.db")  # type: ignore[arg-type]


async def test_no_more_than_asked_for(manager: DefaultMemoryManager) -> None:
    """A search returns k memories at most, the best."""
    service = EpisodicMemoryService(manager, k=3)
    await service.add_session_to_memory(session(*[event(f"{n}", f"bread number {n}") for n in range(30)]))
    texts = await found(service, "bread number 7")
    assert len(texts) == 3
    assert texts[0] == "bread number 7"


class Scripted(BaseLlm):
    """A model that asks the memory, and then says what it was told."""

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,
    ) -> AsyncGenerator[LlmResponse, None]:
        del stream
        last: Any = (llm_request.contents[-1].parts or [])[-1]
        if last.function_response is None:
            part = types.Part(function_call=types.FunctionCall(name="load_memory", args={"query": last.text}))
        else:
            memories = last.function_response.response["result"].memories
            part = types.Part(text=f"told: {memories[0].content.parts[0].text if memories else 'nothing'}")
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


async def ask(service: EpisodicMemoryService, text: str, user: str) -> str:
    """Run an agent in a new session, remember that, and return what it says."""
    sessions = InMemorySessionService()
    agent = LlmAgent(name="baker", model=Scripted(model="scripted"), tools=[load_memory_tool])
    runner = Runner(app_name="app", agent=agent, session_service=sessions, memory_service=service)
    talk = await sessions.create_session(app_name="app", user_id=user)
    message = types.Content(role="user", parts=[types.Part(text=text)])
    said = ""
    async for one in runner.run_async(user_id=user, session_id=talk.id, new_message=message):
        said = next((part.text for part in (one.content.parts if one.content else None) or [] if part.text), said)
    done = await sessions.get_session(app_name="app", user_id=user, session_id=talk.id)
    assert done is not None
    await service.add_session_to_memory(done)
    return said


async def test_an_agent_remembers_across_sessions(tmp_path: Path) -> None:
    """The kit's runner and its own tool find what an earlier process' session said, and nobody else's."""
    for asked, user, said in [
        ("My dog is called Ada.", "erik", "told: nothing"),
        ("my dog is called what", "erik", "told: My dog is called Ada."),
        ("my dog is called what", "eve", "told: nothing"),
    ]:
        config = MemoryConfig.for_production(EmbeddingService(HashingProvider()), path=tmp_path / "memory.db")
        with DefaultMemoryManager.with_config(config) as memory:
            assert await ask(EpisodicMemoryService(memory), asked, user) == said
