"""The memory that an adapter is given."""

from __future__ import annotations

from llmspell_memory.errors import ConfigError
from llmspell_memory.manager import DefaultMemoryManager
from llmspell_memory.memory import EpisodicMemory


def memory_of(given: object) -> EpisodicMemory:
    """Return the words of what was given: a manager, or these words themselves.

    Raises:
        ConfigError: it is neither; an `AsyncMemoryManager` is not, either, for frameworks also call without awaiting.
    """
    if isinstance(given, DefaultMemoryManager):
        return given.episodic
    if not isinstance(given, EpisodicMemory):
        raise ConfigError(f"memory must be a DefaultMemoryManager or an EpisodicMemory, got {type(given).__name__}")
    return given
