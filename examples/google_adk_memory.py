"""An agent of Google's Agent Development Kit that remembers its user from one session to the next.

It needs no network and no key; the model is a scripted one, so put your own in its place.

    pip install "llmspell-memory[google-adk]"
    python examples/google_adk_memory.py
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator  # noqa: TC003 (pydantic may look at types)
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest  # noqa: TC002 (the same)
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.adk.tools.load_memory_tool import load_memory_tool
from google.genai import types

from llmspell_memory import DefaultMemoryManager, EmbeddingService, MemoryConfig
from llmspell_memory.adapters.google_adk import EpisodicMemoryService
from llmspell_memory.embeddings import HashingProvider


class Scripted(BaseLlm):
    """Asks the memory for what the user says, and says what it was told."""

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: FBT001, FBT002 (the kit's signature)
    ) -> AsyncGenerator[LlmResponse, None]:
        """Yield one answer."""
        del stream
        last: Any = (llm_request.contents[-1].parts or [])[-1]
        if last.function_response is None:
            part = types.Part(function_call=types.FunctionCall(name="load_memory", args={"query": last.text}))
        else:
            memories = last.function_response.response["result"].memories
            part = types.Part(text=f"I remember: {memories[0].content.parts[0].text}" if memories else "Noted.")
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


async def talk(memory: EpisodicMemoryService, text: str) -> None:
    """Say something in a session of its own, and have the session remembered."""
    sessions = InMemorySessionService()
    agent = LlmAgent(name="baker", model=Scripted(model="scripted"), tools=[load_memory_tool])
    runner = Runner(app_name="bakery", agent=agent, session_service=sessions, memory_service=memory)
    session = await sessions.create_session(app_name="bakery", user_id="erik")
    message = types.Content(role="user", parts=[types.Part(text=text)])
    async for event in runner.run_async(user_id="erik", session_id=session.id, new_message=message):
        for part in (event.content.parts if event.content else None) or []:
            if part.text:
                print("baker:", part.text)
    done = await sessions.get_session(app_name="bakery", user_id="erik", session_id=session.id)
    if done is not None:
        await memory.add_session_to_memory(done)


async def main() -> None:
    """Tell something on one day, and ask for it on another."""
    config = MemoryConfig.for_production(EmbeddingService(HashingProvider()), path="adk.db")
    with DefaultMemoryManager.with_config(config) as memory:
        service = EpisodicMemoryService(memory)
        await talk(service, "My dog is called Ada.")
        await talk(service, "what is my dog called")


if __name__ == "__main__":
    asyncio.run(main())
