"""Texts to vectors: the service, what it keeps vectors in, and who makes them.

Nothing here imports an optional package before a provider that needs it is constructed.
"""

from llmspell_memory.embeddings.cache import EmbeddingCache, MemoryCache
from llmspell_memory.embeddings.disk_cache import DiskCache
from llmspell_memory.embeddings.providers.callable import CallableProvider
from llmspell_memory.embeddings.providers.hashing import HashingProvider
from llmspell_memory.embeddings.providers.local import LocalProvider
from llmspell_memory.embeddings.providers.ollama import OllamaProvider
from llmspell_memory.embeddings.providers.openai import OpenAIProvider
from llmspell_memory.embeddings.providers.sentence_transformers import SentenceTransformersProvider
from llmspell_memory.embeddings.retry import RetryPolicy
from llmspell_memory.embeddings.service import EmbeddingService

__all__ = [
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
