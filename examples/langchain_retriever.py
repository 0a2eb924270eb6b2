"""Two ways into a memory from LangChain: documents in a vector store, and a conversation by a retriever, in one chain.

It needs no network and no key; the chat model is LangChain's fake one, so put your own in its place.

    pip install "llmspell-memory[langchain]"
    python examples/langchain_retriever.py
"""

from __future__ import annotations

from langchain_core.documents import Document
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from llmspell_memory import DefaultMemoryManager, EpisodicEntry
from llmspell_memory.adapters.langchain import EpisodicRetriever, EpisodicVectorStore

model = FakeListChatModel(responses=["On Friday, and a loaf keeps for three days."])
prompt = ChatPromptTemplate.from_template("Documents:\n{documents}\n\nSaid before:\n{said}\n\nQuestion: {question}")


def joined(documents: list[Document]) -> str:
    """Return the texts of documents, a line each."""
    return "\n".join(one.page_content for one in documents)


def main() -> None:
    """Ask a question whose answer stands half in a document and half in a conversation."""
    with DefaultMemoryManager.new_in_memory() as memory:
        documents = EpisodicVectorStore(memory)
        documents.add_documents(
            [
                Document(page_content="A rye loaf keeps for three days.", metadata={"page": 1}),
                Document(page_content="The oven is heated to 240 degrees.", metadata={"page": 2}),
            ]
        )
        turns = memory.scoped("conversations")
        turns.episodic.add(EpisodicEntry("monday", "user", "The order of rye bread is for Friday."))
        turns.episodic.add(EpisodicEntry("monday", "user", "My dog is called Ada."))

        said = EpisodicRetriever(memory=turns, k=1)
        found = documents.as_retriever(search_kwargs={"k": 1, "filter": {"page": {"$lt": 5}}})
        context = {
            "documents": found | RunnableLambda(joined),
            "said": said | RunnableLambda(joined),
            "question": RunnablePassthrough(),
        }
        question = "When is the rye bread due, and how long does a loaf keep?"
        print((context | prompt).invoke(question).to_string())
        print((context | prompt | model | StrOutputParser()).invoke(question))


if __name__ == "__main__":
    main()
