"""The memory as the storage of CrewAI's `Memory`; the extra is `crewai`."""

from llmspell_memory.adapters.missing import missing

try:
    from llmspell_memory.adapters.crewai.storage import EpisodicStorage
except ModuleNotFoundError as error:
    raise missing(error, extra="crewai") from error

__all__ = ["EpisodicStorage"]
