"""The store in real graphs: given to nodes and tools, blocking and awaited, from several threads of conversation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, cast

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedStore, ToolNode
from langgraph.store.base import BaseStore  # noqa: TC002 (LangGraph looks at a node's types)

if TYPE_CHECKING:
    from llmspell_memory.adapters.langgraph import EpisodicStore

HERE = ("users", "ada")


def remember(state: MessagesState, *, store: BaseStore) -> dict[str, Any]:
    """Say what is remembered, and remember what is said."""
    said = str(state["messages"][-1].content)
    found = store.search(HERE, query=said, limit=1)
    store.put(HERE, said, {"text": said})
    return {"messages": [AIMessage(found[0].value["text"] if found else "nothing")]}


async def aremember(state: MessagesState, *, store: BaseStore) -> dict[str, Any]:
    """Do the same, awaited."""
    said = str(state["messages"][-1].content)
    found = await store.asearch(HERE, query=said, limit=1)
    await store.aput(HERE, said, {"text": said})
    return {"messages": [AIMessage(found[0].value["text"] if found else "nothing")]}


def graph_of(node: Any, store: EpisodicStore) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile(store=store)


def test_a_node_remembers_across_runs(store: EpisodicStore) -> None:
    """What one run has put, the next finds; blocking and awaited nodes share one store."""
    blocking, awaited = graph_of(remember, store), graph_of(aremember, store)

    def ask(text: str) -> str:
        return cast("str", blocking.invoke({"messages": [HumanMessage(text)]})["messages"][-1].content)

    async def aask(text: str) -> str:
        return cast("str", (await awaited.ainvoke({"messages": [HumanMessage(text)]}))["messages"][-1].content)

    async def many() -> list[str]:
        return list(await asyncio.gather(*[aask(f"the ferry number {n}") for n in range(10)]))

    assert ask("the dog is called Ada") == "nothing"
    assert asyncio.run(aask("what is the dog called")) == "the dog is called Ada"
    asyncio.run(many())
    assert ask("the ferry number 7") == "the ferry number 7"
    assert len(store.search(HERE, limit=50)) == 12


def test_a_tool_is_given_the_store(store: EpisodicStore) -> None:
    """A tool that asks for the store gets it."""

    @tool
    def save(text: str, store: Annotated[Any, InjectedStore()]) -> str:
        """Save a text."""
        store.put(HERE, "saved", {"text": text})
        return "saved"

    call = AIMessage("", tool_calls=[{"name": "save", "args": {"text": "tea"}, "id": "1"}])
    graph_of(ToolNode([save]), store).invoke({"messages": [call]})
    item = store.get(HERE, "saved")
    assert item is not None
    assert item.value == {"text": "tea"}
