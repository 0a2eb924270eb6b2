"""The memory as LangGraph's long-term store; the extra is `langgraph`."""

from llmspell_memory.adapters.missing import missing

try:
    from llmspell_memory.adapters.embeddings import LangChainEmbeddings, embedding_service
    from llmspell_memory.adapters.langgraph.store import EpisodicStore
except ModuleNotFoundError as error:
    raise missing(error, extra="langgraph") from error

__all__ = ["EpisodicStore", "LangChainEmbeddings", "embedding_service"]
