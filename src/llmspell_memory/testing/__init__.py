"""Contract suites and doubles for those who write a backend, an index or a provider of their own. Needs pytest."""

from llmspell_memory.testing.backends import BackendContract, DurableBackendContract
from llmspell_memory.testing.indexes import IndexContract

__all__ = ["BackendContract", "DurableBackendContract", "IndexContract"]
