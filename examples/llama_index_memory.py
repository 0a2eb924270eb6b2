"""Two ways into a memory from LlamaIndex: nodes in a vector store, and a block of a conversation's memory.

It needs no network and no key; what embeds needs no model, so put your own in its place.

    pip install "llmspell-memory[llama-index]"
    python examples/llama_index_memory.py
"""

from __future__ import annotations

import asyncio

from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import ChatMessage

from llmspell_memory import DefaultMemoryManager, EmbeddingService
from llmspell_memory.adapters.llama_index import EpisodicMemoryBlock, EpisodicVectorStore, LlamaIndexEmbeddings
from llmspell_memory.embeddings import HashingProvider


class Hashing(BaseEmbedding):
    """A LlamaIndex model that needs none."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return list(map(float, HashingProvider().embed([text])[0]))

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


async def main() -> None:
    """Look something up in documents, and something that was said."""
    model = Hashing()
    service = EmbeddingService(LlamaIndexEmbeddings(model))
    with DefaultMemoryManager.new_in_memory_with_embeddings(service) as memory:
        context = StorageContext.from_defaults(vector_store=EpisodicVectorStore(memory))
        documents = [
            Document(text="A rye loaf keeps for three days."),
            Document(text="The oven is heated to 240 degrees."),
        ]
        index = VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=model)
        for found in index.as_retriever(similarity_top_k=1).retrieve("how long does a loaf keep?"):
            print(found.text)

        block = EpisodicMemoryBlock(memory, namespace=("users", "erik"), k=1)
        turns = ["The order of rye bread is for Friday.", "My dog is called Ada."]
        await block.aput([ChatMessage(content=turn) for turn in turns], session_id="monday")
        print(await block.aget([ChatMessage(content="When is the rye bread due?")], session_id="tuesday"))


if __name__ == "__main__":
    asyncio.run(main())
