"""What the package offers, and what importing it does not do."""

from __future__ import annotations

import subprocess
import sys

import llmspell_memory.embeddings


def test_what_is_public() -> None:
    """These names are the interface; adding or removing one is a decision."""
    assert llmspell_memory.embeddings.__all__ == [
        "CallableProvider",
        "DiskCache",
        "EmbeddingCache",
        "EmbeddingService",
        "HashingProvider",
        "LocalProvider",
        "MemoryCache",
        "OllamaProvider",
        "OpenAIProvider",
        "RetryPolicy",
        "SentenceTransformersProvider",
    ]


def test_nothing_optional_is_imported() -> None:
    """Importing the package imports no optional dependency."""
    script = (
        "import sys, llmspell_memory.embeddings.service;"
        "heavy = {'httpx', 'tokenizers', 'safetensors', 'wordllama', 'torch', 'sentence_transformers'};"
        "sys.exit(str(found) if (found := sorted(heavy & set(sys.modules))) else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_asyncio_is_not_imported() -> None:
    """Blocking use of the service never imports asyncio."""
    script = (
        "import sys; from llmspell_memory.embeddings import EmbeddingService, HashingProvider;"
        "EmbeddingService(HashingProvider()).embed(['a']);"
        "sys.exit('asyncio' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
