"""The memory as LangChain's vector store and retriever; the extra is `langchain`, which is langchain-core alone."""

from llmspell_memory.adapters.missing import missing

try:
    from llmspell_memory.adapters.embeddings import LangChainEmbeddings, embedding_service
    from llmspell_memory.adapters.langchain.retriever import EpisodicRetriever
    from llmspell_memory.adapters.langchain.vectorstore import EpisodicVectorStore
except ModuleNotFoundError as error:
    raise missing(error, extra="langchain") from error

__all__ = ["EpisodicRetriever", "EpisodicVectorStore", "LangChainEmbeddings", "embedding_service"]
