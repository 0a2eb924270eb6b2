"""What a backend promises beyond its signatures, met as a user meets it: through the words of `EpisodicMemory`."""

from llmspell_memory.testing.backends.contract import (
    BackendContract,
    DurableBackendContract,
    DurableContract,
    EntriesContract,
)
from llmspell_memory.testing.backends.material import contents, entry, fields_of

__all__ = [
    "BackendContract",
    "DurableBackendContract",
    "DurableContract",
    "EntriesContract",
    "contents",
    "entry",
    "fields_of",
]
