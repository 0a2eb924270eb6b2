"""The memory as a session of the OpenAI Agents SDK, and as a tool that searches all of them; extra `openai-agents`."""

from llmspell_memory.adapters.missing import missing

try:
    from llmspell_memory.adapters.openai_agents.session import EpisodicSession
    from llmspell_memory.adapters.openai_agents.tool import search_tool
except ModuleNotFoundError as error:
    raise missing(error, extra="openai-agents") from error

__all__ = ["EpisodicSession", "search_tool"]
