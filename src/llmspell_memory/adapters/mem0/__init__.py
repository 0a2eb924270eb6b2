"""The memory under the names of mem0's `Memory`, for code written for that; needs neither mem0 nor a language model."""

from llmspell_memory.adapters.mem0.memory import Memory

__all__ = ["Memory"]
