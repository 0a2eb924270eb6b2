"""An agent of the OpenAI Agents SDK whose conversations lie in one memory, and who looks up what was said in others.

It needs no network and no key; the model is the SDK's scripted one, so put your own in its place.

    pip install "llmspell-memory[openai-agents]"
    python examples/openai_agents_session.py
"""

from __future__ import annotations

import asyncio

from agents import Agent, Runner, set_tracing_disabled
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call

from llmspell_memory import DefaultMemoryManager, EmbeddingService, MemoryConfig
from llmspell_memory.adapters.openai_agents import EpisodicSession, search_tool
from llmspell_memory.embeddings import HashingProvider

ADA = ("users", "ada")


def reply(call: object) -> list[object]:
    """Answer with what the tool has found: the last item of the input."""
    found = call.input[-1]["output"]  # type: ignore[attr-defined]
    return [assistant_message(next(line for line in found.splitlines() if "loaf" in line))]


async def main() -> None:
    """Talk on Monday, and ask about it on Friday."""
    set_tracing_disabled(disabled=True)  # tracing would send to OpenAI
    config = MemoryConfig.for_production(EmbeddingService(HashingProvider()), path="agents.db")
    with DefaultMemoryManager.with_config(config) as memory:
        monday = EpisodicSession("monday", memory, namespace=ADA)
        await monday.clear_session()  # so that each run of this example is the first
        model = ScriptedModel([[assistant_message("Noted: a loaf keeps for three days.")]])
        baker = Agent(name="Baker", model=model)
        await Runner.run(baker, "My rye loaf keeps for three days.", session=monday)
        print(f"monday holds {len(await monday.get_items())} items")

        friday = EpisodicSession("friday", memory, namespace=ADA)
        await friday.clear_session()
        asks = function_call("search_memory", {"query": "how long does a loaf keep?"}, call_id="1")
        model = ScriptedModel([[asks], ModelStep.respond(reply)])
        baker = Agent(name="Baker", model=model, tools=[search_tool(memory, namespace=ADA)])
        result = await Runner.run(baker, "What did I tell you about bread?", session=friday)
        print(result.final_output)


if __name__ == "__main__":
    asyncio.run(main())
