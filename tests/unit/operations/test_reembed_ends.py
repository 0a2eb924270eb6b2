"""A re-embedding that nobody waits for: the process ends as any other."""

from __future__ import annotations

import subprocess
import sys

UNCLOSED = """
import time
from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, MemoryConfig
from llmspell_memory.embeddings import HashingProvider

memory = DefaultMemoryManager.with_config(MemoryConfig.for_production(EmbeddingService(HashingProvider(16))))
memory.episodic.add_many(EpisodicEntry("s", "user", f"note {number}") for number in range(4_000))
work = memory.reembed(EmbeddingService(HashingProvider(256)), sample=4_000)
while work.progress.done < 4_000:
    time.sleep(0.01)
time.sleep(0.2)  # it builds an index, or compares neighbours
"""


def test_the_interpreter_ends_while_it_is_at_work() -> None:
    """No thread comes back from the index to find no interpreter, which would abort the process."""
    ended = subprocess.run([sys.executable, "-c", UNCLOSED], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
