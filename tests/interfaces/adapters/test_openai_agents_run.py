"""Agents of the SDK run with the session and the tool, by the SDK's scripted model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from agents import Agent, Runner, function_tool
from agents.run import RunConfig
from agents.testing import ScriptedModel, assistant_message, function_call

from llmspell_memory import InputError
from llmspell_memory.adapters.openai_agents import EpisodicSession, search_tool

if TYPE_CHECKING:
    from llmspell_memory import DefaultMemoryManager

SILENT = RunConfig(tracing_disabled=True)


@function_tool
def weigh(what: str) -> str:
    """Weigh something."""
    return f"{what} weighs a pound; zeppelin"


async def ask(agent: Agent[Any], text: str, session: EpisodicSession) -> str:
    return str((await Runner.run(agent, text, session=session, run_config=SILENT)).final_output)


async def test_an_agent_remembers_its_session(manager: DefaultMemoryManager) -> None:
    """The model is given what was said, called and returned in earlier runs, in order, through new session objects."""
    model = ScriptedModel(
        [
            [function_call("weigh", {"what": "bread"}, call_id="1")],
            [assistant_message("A pound.")],
            [assistant_message("You asked about bread.")],
        ]
    )
    agent = Agent(name="Baker", model=model, tools=[weigh])
    assert await ask(agent, "How heavy is bread?", EpisodicSession("s", manager)) == "A pound."
    assert await ask(agent, "What did I ask?", EpisodicSession("s", manager)) == "You asked about bread."
    given: Any = model.calls[-1].input
    assert [one.get("type", one.get("role")) for one in given] == [
        "user", "function_call", "function_call_output", "message", "user",
    ]  # fmt: skip
    assert given[2]["output"] == "bread weighs a pound; zeppelin"
    assert len(await EpisodicSession("s", manager).get_items()) == 6
    model.assert_complete()


async def test_a_streamed_run_is_remembered_too(manager: DefaultMemoryManager) -> None:
    """What a streamed run says is in the session when it has ended."""
    agent = Agent(name="Baker", model=ScriptedModel([[assistant_message("Hello.")]]))
    session = EpisodicSession("s", manager)
    run = Runner.run_streamed(agent, "Hi!", session=session, run_config=SILENT)
    assert [event.type async for event in run.stream_events()]
    assert [one.get("role") for one in await session.get_items()] == ["user", "assistant"]


async def search(manager: DefaultMemoryManager, query: str, **options: Any) -> str:
    """Return what an agent is told by the tool."""
    model = ScriptedModel(
        [[function_call("search_memory", {"query": query}, call_id="1")], [assistant_message("Thanks.")]]
    )
    agent = Agent(name="Reader", model=model, tools=[search_tool(manager, **options)])
    await Runner.run(agent, "Look it up.", run_config=SILENT)
    given: Any = model.calls[-1].input
    return str(given[-1]["output"])


async def test_the_tool_searches_all_sessions_of_its_namespace(manager: DefaultMemoryManager) -> None:
    """It finds messages of every session there, says which and when, and shows nobody another's, nor tools' answers."""
    for name, who, text in [
        ("monday", "ada", "The rye bread is for Friday."),
        ("tuesday", "ada", "The oven is hot."),
        ("monday", "eve", "The rye bread of Eve."),
        ("monday", "ada2", "The rye bread of a namesake."),
    ]:
        await EpisodicSession(name, manager, namespace=("users", who)).add_items([{"role": "user", "content": text}])
    agent = Agent(
        name="Baker",
        model=ScriptedModel([[function_call("weigh", {"what": "x"}, call_id="1")], [assistant_message("Done.")]]),
        tools=[weigh],
    )
    await ask(agent, "Weigh it.", EpisodicSession("wednesday", manager, namespace=("users", "ada")))

    told = await search(manager, "when is the rye bread due?", namespace=("users", "ada"))
    assert "user: The rye bread is for Friday." in told
    assert "## monday" in told
    assert "## tuesday" in told
    assert "Eve" not in told
    assert "namesake" not in told
    assert "zeppelin" not in await search(manager, "zeppelin", namespace=("users", "ada"))
    assert "of Eve" in await search(manager, "rye bread")
    assert await search(manager, "rye bread", namespace=("users", "nobody")) == "Nothing was found."
    assert await search(manager.scoped("users", "nobody"), "rye bread") == "Nothing was found."
    assert await search(manager, " ") == "Nothing was found."


async def test_the_tools_answer_keeps_its_budget(manager: DefaultMemoryManager) -> None:
    """No more is told than the budget has room for, and no message is cut."""
    session = EpisodicSession("s", manager)
    await session.add_items([{"role": "user", "content": f"bread number {n} is baked"} for n in range(100)])
    told = await search(manager, "bread", budget_tokens=200, k=50)
    lines = [line for line in told.splitlines() if line.startswith("user: ")]
    assert 1 < len(lines) < 10
    assert all(line.endswith(" is baked") for line in lines)
    assert len(told.encode()) <= 200
    with pytest.raises(InputError, match="budget_tokens"):
        search_tool(manager, budget_tokens=-1)
