"""The memory as LlamaIndex's vector store and memory block; the extra is `llama-index`, which is its core alone."""

from llmspell_memory.adapters.missing import missing

try:
    from llmspell_memory.adapters.llama_index.block import EpisodicMemoryBlock
    from llmspell_memory.adapters.llama_index.embeddings import LlamaIndexEmbeddings
    from llmspell_memory.adapters.llama_index.vectorstore import EpisodicVectorStore
except ModuleNotFoundError as error:
    raise missing(error, extra="llama-index") from error

__all__ = ["EpisodicMemoryBlock", "EpisodicVectorStore", "LlamaIndexEmbeddings"]
