"""An agent of LangGraph that remembers its user from one conversation to the next, in a file of its own.

Run it twice: the second time it knows what was said the first time. It needs no network and no key; the chat model is
LangChain's fake one, so put your own in its place.

    pip install "llmspell-memory[langgraph]"
    python examples/langgraph_memory.py memory.db
"""

from __future__ import annotations

import sys

from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig  # noqa: TC002 (LangGraph looks at a node's types)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.base import BaseStore  # noqa: TC002 (likewise)

from llmspell_memory.adapters.langgraph import EpisodicStore
from llmspell_memory.embeddings import HashingProvider

model = FakeListChatModel(responses=["I will remember that.", "Your dog is called Ada."])


def answer(state: MessagesState, config: RunnableConfig, *, store: BaseStore) -> MessagesState:
    """Answer with what is remembered of the user, and remember what they say."""
    namespace = ("users", config["configurable"]["user_id"], "memories")
    said = str(state["messages"][-1].content)
    memories = store.search(namespace, query=said, limit=3)
    for one in memories:
        print(f"  remembered ({one.score:.2f}): {one.value['text']}")
    known = SystemMessage("You know of the user: " + " ".join(one.value["text"] for one in memories))
    if not said.endswith("?"):
        store.put(namespace, said, {"text": said})  # its own key: said twice, it is kept once
    return {"messages": [model.invoke([known, *state["messages"]])]}


def main(path: str) -> None:
    """Hold two conversations with one user."""
    # HashingProvider finds equal words, offline; LocalProvider or your model's embeddings find equal meanings.
    with EpisodicStore.open(path, index={"embed": HashingProvider(), "fields": ["text"]}) as store:
        builder = StateGraph(MessagesState)
        builder.add_node(answer)
        builder.add_edge(START, "answer")
        graph = builder.compile(checkpointer=InMemorySaver(), store=store)
        for thread, said in (("monday", "My dog is called Ada."), ("tuesday", "What is my dog called?")):
            print(f"user: {said}")
            config: RunnableConfig = {"configurable": {"thread_id": thread, "user_id": "erik"}}
            result = graph.invoke({"messages": [HumanMessage(said)]}, config)
            print(f"agent: {result['messages'][-1].content}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory.db")
