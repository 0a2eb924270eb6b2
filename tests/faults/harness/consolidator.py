"""A process that consolidates a store, to be killed at any moment of it."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, MemoryConfig
from llmspell_memory.embeddings import HashingProvider

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = 4


class Facts:
    """Makes one to three facts of a batch, each of which says of which entries, and how many there are."""

    def consolidate(self, entries: Sequence[EpisodicEntry]) -> list[EpisodicEntry]:
        read = [entry.content for entry in entries]
        count = random.randint(1, 3)
        return [EpisodicEntry(entries[0].session_id, "fact", json.dumps([n, count, read])) for n in range(count)]


def opened(path: Path) -> DefaultMemoryManager:
    return DefaultMemoryManager.with_config(MemoryConfig(service=EmbeddingService(HashingProvider(64)), path=path))


if __name__ == "__main__":
    with opened(Path(sys.argv[1])) as memory:
        print("ready", flush=True)  # noqa: T201 (what the test waits for)
        memory.episodic.consolidate(Facts(), batch=BATCH)
