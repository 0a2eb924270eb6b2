"""The memory as a memory service of Google's Agent Development Kit; the extra is `google-adk`."""

from llmspell_memory.adapters.missing import missing

try:
    from llmspell_memory.adapters.google_adk.service import EpisodicMemoryService
except ModuleNotFoundError as error:
    raise missing(error, extra="google-adk") from error

__all__ = ["EpisodicMemoryService"]
