"""What a backend promises beyond its signatures, met as a user meets it: through the words of `EpisodicMemory`."""

from llmspell_memory.testing.backends.contract import BackendContract, DurableBackendContract
from llmspell_memory.testing.backends.material import contents, entry, fields_of

__all__ = ["BackendContract", "DurableBackendContract", "contents", "entry", "fields_of"]
