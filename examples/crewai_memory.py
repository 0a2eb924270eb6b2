"""A crew of CrewAI that remembers what its last run found out.

It needs no network and no key; the model is a scripted one, so put your own in its place. CrewAI needs an environment
without the OpenAI Agents SDK, for the two want different releases of openai.

    pip install "llmspell-memory[crewai]"
    python examples/crewai_memory.py
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

# Before CrewAI is imported: it sends nothing anywhere, and asks for nothing.
os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "true", "CREWAI_TRACING_ENABLED": "false"}

from crewai import Agent, Crew, Memory, Task
from crewai.llms.base_llm import BaseLLM

from llmspell_memory import EmbeddingService
from llmspell_memory.adapters.crewai import EpisodicStorage
from llmspell_memory.embeddings import HashingProvider


class Scripted(BaseLLM):
    """Answers from what the memory says; of a result it remembers one fact, of which it says where it belongs."""

    def call(self, messages: Any, *args: Any, **options: Any) -> str:
        """Return one answer."""
        del args, options
        prompt = messages if isinstance(messages, str) else "\n".join(str(one["content"]) for one in messages)
        if "memory statements" in prompt:
            return json.dumps({"memories": re.findall(r"Final Answer: (?:I remember: )?(.*)", prompt)})
        if "suggested_scope" in prompt:
            return json.dumps({"suggested_scope": "/bread", "categories": ["shelf life"], "importance": 0.8})
        if "existing memories" in prompt:
            return json.dumps({"actions": [], "insert_new": False})
        remembered = re.search(r"\(score=.*?\) (.*)", prompt)
        answer = f"I remember: {remembered[1]}" if remembered else "A rye loaf keeps for three days."
        return f"Thought: I now can give a great answer\nFinal Answer: {answer}"

    def supports_function_calling(self) -> bool:
        """Return False: it answers in text."""
        return False


def ask(question: str) -> str:
    """Let a crew answer, with the memory that is in the file, and return what it says."""
    model = Scripted(model="scripted")
    with EpisodicStorage.open("crew.db", EmbeddingService(HashingProvider())) as storage:
        memory = Memory(storage=storage, embedder=storage.embedder, llm=model)
        baker = Agent(role="baker", goal="answer customers", backstory="bakes since 1987", llm=model)
        task = Task(description=question, expected_output="a sentence", agent=baker)
        answer: str = Crew(agents=[baker], tasks=[task], memory=memory).kickoff().raw
        memory.drain_writes()
        print("the memory holds:", memory.tree().replace("\n", ","))
    return answer


if __name__ == "__main__":
    print("baker:", ask("How long does a rye loaf keep?"))
    print("baker:", ask("Until when can I eat my rye loaf?"))
