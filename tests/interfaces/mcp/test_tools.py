"""The tools and resources, as the SDK's own client meets them over each transport and in each era of the protocol."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from mcp import Client, MCPError
from mcp.types import TextResourceContents

from llmspell_memory import EpisodicEntry
from tests.speaking import answer, opened, refusal, served, started, text_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from llmspell_memory import DefaultMemoryManager

NOON = "2025-01-05T12:00:00Z"


@pytest.fixture(params=[("stdio", "legacy"), ("stdio", "auto"), ("http", "legacy"), ("http", "auto")], ids="-".join)
def connected(request: pytest.FixtureRequest, tmp_path: Path) -> AbstractAsyncContextManager[Client]:
    """A client of a server with an empty store of its own."""
    transport, mode = request.param

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[Client]:
        if transport == "stdio":
            async with Client(started(tmp_path / "memory.db"), mode=mode) as client:
                yield client
        else:
            with opened(tmp_path / "memory.db") as manager, served(manager.episodic) as server:
                async with Client(server.url, mode=mode) as client:
                    yield client

    return connect()


@pytest.fixture
def manager(tmp_path: Path) -> DefaultMemoryManager:
    return opened(tmp_path / "memory.db")


@contextlib.asynccontextmanager
async def client_of(manager: DefaultMemoryManager) -> AsyncIterator[Client]:
    """Yield a client of a memory over HTTP, which is closed with it."""
    with manager, served(manager.episodic) as server:
        async with Client(server.url) as client:
            yield client


async def test_a_memory_is_added_found_read_and_deleted(connected: AbstractAsyncContextManager[Client]) -> None:
    """All six tools and the resources do what they say, over each transport."""
    async with connected as client:
        assert client.instructions
        dog = await answer(
            client, "add_memory",
            content="My dog is called Ada.", session_id="dogs / 1", timestamp=NOON, metadata={"topic": "dog"},
        )  # fmt: skip
        again = await answer(client, "add_memory", content="My dog is called Ada.", session_id="dogs / 1")
        assert again == dog
        bread = await answer(client, "add_memory", content="Rye bread keeps.", session_id="bread", role="assistant")

        found = await answer(client, "search_memories", query="what is my dog called?", limit=1)
        (hit,) = found["memories"]
        assert hit["id"] == dog["id"]
        assert (hit["content"], hit["session_id"], hit["role"]) == ("My dog is called Ada.", "dogs / 1", "user")
        assert (hit["timestamp"], hit["metadata"], hit["namespace"]) == (NOON, {"topic": "dog"}, [])

        context = text_of(await client.call_tool("get_context", {"query": "my dog", "role": "user"}))
        assert context == "## dogs / 1\n\n### 2025-01-05\nuser: My dog is called Ada."

        listed = await answer(client, "list_sessions")
        assert [(one["session_id"], one["memories"]) for one in listed["sessions"]] == [("bread", 1), ("dogs / 1", 1)]
        session = await answer(client, "get_session", session_id="bread")
        assert [one["id"] for one in session["memories"]] == [bread["id"]]

        uris = [one.uri for one in (await client.list_resources()).resources]
        assert uris == ["memory://sessions", "memory://sessions/bread", "memory://sessions/dogs%20%2F%201"]
        assert (await read(client, uris[2])) == context
        (template,) = (await client.list_resource_templates()).resource_templates
        assert template.uri_template == "memory://sessions/{session_id}"

        assert await answer(client, "delete_memories", ids=[dog["id"], "unknown"]) == {"deleted": 1}
        assert await answer(client, "delete_memories", session_id="bread", role="user") == {"deleted": 0}
        assert await answer(client, "delete_memories", session_id="bread") == {"deleted": 1}
        assert await answer(client, "list_sessions") == {"sessions": [], "total": 0}


async def read(client: Client, uri: str) -> str:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    return content.text


async def test_tools_say_what_they_do(manager: DefaultMemoryManager) -> None:
    """Each tool has a title, a description, schemas of objects with described arguments, and its annotations."""
    async with client_of(manager) as client:
        tools = {one.name: one for one in (await client.list_tools()).tools}
    hints = {}
    for name, tool in tools.items():
        assert tool.title
        assert len(tool.description or "") > 60
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        assert tool.input_schema["additionalProperties"] is False
        assert "$defs" not in tool.input_schema, "not every client follows references"
        assert all(one.get("description") for one in tool.input_schema["properties"].values()), name
        notes = tool.annotations
        assert notes is not None
        assert notes.open_world_hint is False
        hints[name] = (notes.read_only_hint, notes.destructive_hint, notes.idempotent_hint)
    assert hints == {
        "add_memory": (False, False, True),
        "search_memories": (True, False, True),
        "get_context": (True, False, True),
        "list_sessions": (True, False, True),
        "get_session": (True, False, True),
        "delete_memories": (False, True, True),
    }
    assert tools["add_memory"].input_schema["required"] == ["content", "session_id"]
    assert "required" not in tools["delete_memories"].input_schema


async def test_answers_fit_their_schemas(manager: DefaultMemoryManager) -> None:
    """What a tool returns is valid by the output schema it declares, as text and as structure alike."""
    manager.episodic.add(EpisodicEntry("s", "user", "ünïcode \u2028 and tea", metadata={"deep": [{"a": None}]}))
    async with client_of(manager) as client:
        for tool in (await client.list_tools()).tools:
            given = {"query": "tea", "content": "tea", "session_id": "s"}
            result = await client.call_tool(
                tool.name, {name: given[name] for name in tool.input_schema["properties"] if name in given}
            )
            if tool.output_schema is None:
                assert tool.name == "get_context"
            else:
                jsonschema.validate(result.structured_content, tool.output_schema)
                assert json.loads(text_of(result)) == result.structured_content


async def test_conditions_narrow_searches_contexts_and_deletions(manager: DefaultMemoryManager) -> None:
    """Session, role, time and metadata hold for each tool that takes them; a time without offset is UTC."""
    async with client_of(manager) as client:
        for hour, (role, topic) in enumerate([("user", "dog"), ("user", "bread"), ("assistant", "dog")]):
            await answer(
                client, "add_memory", content=f"tea {hour}", session_id="s", role=role,
                timestamp=f"2025-01-05T1{hour}:00:00", metadata={"topic": topic},
            )  # fmt: skip
        for conditions, expected in (
            ({"role": "user"}, {"tea 0", "tea 1"}),
            ({"metadata": {"topic": "dog"}}, {"tea 0", "tea 2"}),
            ({"metadata": '{"topic": "dog"}', "role": "user"}, {"tea 0"}),
            ({"since": "2025-01-05T11:00:00Z"}, {"tea 1", "tea 2"}),
            ({"until": "2025-01-05T12:00:00+01:00"}, {"tea 0"}),
            ({"session_id": "other"}, set()),
            ({"role": None, "since": "2025-01-06"}, set()),
        ):
            for mode in ("hybrid", "semantic", "keyword"):
                found = await answer(client, "search_memories", query="tea", mode=mode, **conditions)
                assert {one["content"] for one in found["memories"]} == expected, (conditions, mode)
            context = text_of(await client.call_tool("get_context", {"query": "tea", **conditions}))
            assert all(content in context for content in expected)
            assert expected or context.startswith("Nothing")
        gone = await answer(client, "delete_memories", session_id="s", role="user", until="2025-01-05T11:00:00Z")
        assert gone == {"deleted": 1}
        assert (await answer(client, "get_session", session_id="s"))["total"] == 2


async def test_a_long_session_is_read_backwards(manager: DefaultMemoryManager) -> None:
    """The newest come first to hand, and `skip` leads back to the first without a gap, equal times or not."""
    manager.episodic.add_many([EpisodicEntry("s", "user", f"turn {number}") for number in range(25)])
    async with client_of(manager) as client:
        pages = [await answer(client, "get_session", session_id="s", limit=10, skip=skip) for skip in (20, 10, 0, 99)]
        assert [one["total"] for one in pages] == [25] * 4
        contents = [one["content"] for page in pages for one in page["memories"]]
        assert contents == [f"turn {number}" for number in range(25)]
        assert (await answer(client, "list_sessions", limit=1))["total"] == 1


async def test_a_budget_holds(manager: DefaultMemoryManager) -> None:
    """A context has no more bytes than tokens were granted."""
    manager.episodic.add_many([EpisodicEntry("s", "user", f"tea number {number} " * 10) for number in range(20)])
    async with client_of(manager) as client:
        text = text_of(await client.call_tool("get_context", {"query": "tea", "budget_tokens": 500}))
        assert 300 < len(text.encode()) <= 500
        assert text_of(await client.call_tool("get_context", {"query": "tea", "budget_tokens": 5})).startswith(
            "Nothing"
        )


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("delete_memories", {}, "name memories by ids"),
        ("delete_memories", {"ids": []}, "name memories by ids"),
        ("delete_memories", {"role": "user"}, "name memories by ids"),
        ("delete_memories", {"until": "2999-01-01"}, "name memories by ids"),
        ("delete_memories", {"ids": None, "session_id": None}, "name memories by ids"),
        ("delete_memories", {"session_id": "s", "rolle": "user"}, "There are: session_id, role, since"),
        ("delete_memories", {"session_id": ""}, "session_id"),
        ("delete_memories", {"ids": "keep"}, "ids"),
        ("delete_memories", {"ids": ["x"] * 1001}, "1000"),
        ("delete_memories", {"ids": ["keep"], "metadata": "{oops"}, "metadata"),
        ("add_memory", {"content": "x"}, "session_id: Field required"),
        ("add_memory", {"content": "", "session_id": "s"}, "content"),
        ("add_memory", {"content": "a\x00b", "session_id": "s"}, "content"),
        ("add_memory", {"content": "x", "session_id": "s", "timestamp": "yesterday"}, "timestamp"),
        ("add_memory", {"content": "x", "session_id": "s", "namespace": ["other"]}, "namespace"),
        ("search_memories", {"query": "x", "limit": 0}, "limit"),
        ("search_memories", {"query": "x", "limit": 101}, "limit"),
        ("search_memories", {"query": "x", "mode": "psychic"}, "mode"),
        ("get_context", {"query": "x", "budget_tokens": 0}, "budget_tokens"),
        ("get_session", {"session_id": "nope"}, "list_sessions names those there are"),
    ],
)
async def test_what_is_wrong_is_said(
    manager: DefaultMemoryManager, tool: str, arguments: dict[str, Any], says: str
) -> None:
    """A tool that cannot do as asked says in one line what to do, as an error, and has changed nothing."""
    manager.episodic.add(EpisodicEntry("s", "user", "kept", id="keep"))
    async with client_of(manager) as client:
        told = await refusal(client, tool, **arguments)
        assert says in told
        assert "Traceback" not in told
        assert "\n" not in told
        assert manager.episodic.count() == 1


async def test_errors_of_the_store_are_told(manager: DefaultMemoryManager) -> None:
    """A store that cannot answer is an error of the tool, for a resource one of the protocol; the server lives on."""
    async with client_of(manager) as client:
        manager.backend.close()
        assert "closed" in await refusal(client, "search_memories", query="tea")
        assert "closed" in await refusal(client, "add_memory", content="x", session_id="s")
        with pytest.raises(MCPError, match="closed"):
            await client.read_resource("memory://sessions")
        assert len((await client.list_tools()).tools) == 6


async def test_what_is_not_there_is_said(manager: DefaultMemoryManager) -> None:
    """Unknown tools and resources are errors of the protocol that name what there is."""
    async with client_of(manager) as client:
        with pytest.raises(MCPError, match="there is no tool 'forget_all'; there are add_memory"):
            await client.call_tool("forget_all", {})
        with pytest.raises(MCPError, match="there is no session 'nope'; memory://sessions"):
            await client.read_resource("memory://sessions/nope")
        for uri in ("memory://sessions/", "memory://else", "file:///etc/passwd", "memory://sessions/a/b"):
            with pytest.raises(MCPError, match="there is no resource"):
                await client.read_resource(uri)


async def test_any_session_is_a_resource(manager: DefaultMemoryManager) -> None:
    """Whatever a session is called, the listed address leads to it; a hundred of many are listed, all are named."""
    names = ["a/b", "..", "/etc", "ü ß", "50%", "%2F", "a?b#c&d,e", "{x}", "\u65e5\u672c", *map(str, range(150))]
    manager.episodic.add_many([EpisodicEntry(name, "user", f"said in {name}") for name in reversed(names)])
    async with client_of(manager) as client:
        listed = (await client.list_resources()).resources
        assert [one.name for one in listed] == ["sessions", *names[:100]]
        for one in listed[1:20]:
            assert f"said in {one.name}" in await read(client, one.uri)
        assert json.loads(await read(client, "memory://sessions"))["total"] == len(names)
