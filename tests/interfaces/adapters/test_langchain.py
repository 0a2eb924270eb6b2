"""The LangChain vector store and retriever beyond the standard tests: filters, modes, scores, and what is refused."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, Filter, Ranking
from llmspell_memory.adapters.langchain import EpisodicRetriever, EpisodicVectorStore, LangChainEmbeddings
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROVIDER = HashingProvider()


def ids(documents: list[Document]) -> list[str | None]:
    return [one.id for one in documents]


@pytest.fixture
def filled(vectors: EpisodicVectorStore) -> EpisodicVectorStore:
    vectors.add_documents(
        [
            Document(id=f"d{n:02}", page_content=f"tea number {n}", metadata={"n": n, "even": n % 2 == 0})
            for n in range(60)
        ]
    )
    return vectors


class TestVectorStore:
    @pytest.mark.parametrize(
        "condition",
        [
            {"even": True},
            {"n": {"$lt": 30}},
            {"even": {"$ne": False}, "n": {"$gte": 0}},
            Filter(metadata={"even": True}),
            lambda document: document.metadata["n"] >= 50,
        ],
    )
    def test_k_come_back_where_k_pass(self, filled: EpisodicVectorStore, condition: Any) -> None:
        """Whatever a filter is written as, the k best of those that pass are found."""
        scored = filled.similarity_search_with_score("tea number 7", 60)
        passing = {
            document.id
            for document, _ in scored
            if (condition(document) if callable(condition) else None)
            or (isinstance(condition, Filter) and document.metadata["even"])
            or (
                isinstance(condition, dict)
                and ("n" not in condition or "even" in condition or document.metadata["n"] < 30)
                and ("even" not in condition or document.metadata["even"])
            )
        }
        expected = [document.id for document, _ in scored if document.id in passing]
        vector = PROVIDER.embed(["tea number 7"], kind="query")[0]
        assert len(expected) in (10, 30)
        for k in (1, 5, 10):
            found = filled.similarity_search("tea number 7", k, filter=condition)
            assert ids(found) == expected[:k]
            assert ids(filled.similarity_search_by_vector(vector, k, filter=condition)) == expected[:k]
            assert ids(asyncio.run(filled.asimilarity_search("tea number 7", k, filter=condition))) == expected[:k]
        assert set(ids(filled.similarity_search("tea", 60, filter=condition))) == passing
        chosen = filled.max_marginal_relevance_search("tea number 7", 5, filter=condition)
        assert len(chosen) == len(set(ids(chosen)) & passing) == 5

    def test_scores_are_cosines_and_relevance_lies_between_0_and_1(self, filled: EpisodicVectorStore) -> None:
        """An equal text scores 1, thresholds cut by the cosine, and modes without cosines are refused there."""
        (document, score), *others = filled.similarity_search_with_score("tea number 7", 60)
        assert document.id == "d07"
        assert score == pytest.approx(1)
        assert all(score >= other for _, other in others)
        relevant = filled.similarity_search_with_relevance_scores("tea number 7", 60, score_threshold=0.9)
        assert [one.id for one, _ in relevant] == [
            one.id for one, score in [(document, score), *others] if score >= 0.9
        ]
        searches: list[Callable[[], object]] = [
            lambda: filled.similarity_search_with_relevance_scores("tea", mode="hybrid"),
            lambda: asyncio.run(filled.asimilarity_search_with_relevance_scores("tea", mode="hybrid")),
        ]
        for search in searches:
            with pytest.raises(InputError, match="hybrid"):
                search()
        retriever = filled.as_retriever(
            search_type="similarity_score_threshold",
            search_kwargs={"score_threshold": 0.999, "filter": {"even": False}},
        )
        assert ids(retriever.invoke("tea number 7")) == ids(asyncio.run(retriever.ainvoke("tea number 7"))) == ["d07"]

    def test_opposite_vectors_are_no_warning(self) -> None:
        """A cosine below 0 is no relevance, and not a number that LangChain warns of."""

        class Opposed(DeterministicFakeEmbedding):
            def embed_query(self, text: str) -> list[float]:
                return [-number for number in super().embed_query(text)]

        store = EpisodicVectorStore.from_texts(["a"], Opposed(size=8))
        assert store.similarity_search_with_score("a")[0][1] == pytest.approx(-1)
        assert store.similarity_search_with_relevance_scores("a")[0][1] == 0
        store.close()

    def test_modes_find_by_words(self, filled: EpisodicVectorStore) -> None:
        """`mode` looks for words, or for all at once."""
        for mode in ("keyword", "hybrid"):
            assert ids(filled.similarity_search("number 33", 1, mode=mode)) == ["d33"]
            assert ids(asyncio.run(filled.asimilarity_search("number 33", 1, mode=mode))) == ["d33"]

    def test_variety(self, vectors: EpisodicVectorStore) -> None:
        """Maximal marginal relevance takes the second kind of text before a repetition of the first."""
        vectors.add_texts(["tea with milk", "tea with milk!", "tea without sugar"], ids=["a", "b", "c"])
        assert set(ids(vectors.similarity_search("tea with milk", 2))) == {"a", "b"}
        searches: list[Callable[[], list[Document]]] = [
            lambda: vectors.max_marginal_relevance_search("tea with milk", 2, lambda_mult=0.1),
            lambda: asyncio.run(vectors.amax_marginal_relevance_search("tea with milk", 2, lambda_mult=0.1)),
            lambda: vectors.as_retriever(search_type="mmr", search_kwargs={"k": 2, "lambda_mult": 0.1}).invoke(
                "tea with milk"
            ),
        ]
        for search in searches:
            assert "c" in ids(search())
        vectors.delete()
        assert vectors.max_marginal_relevance_search("tea", 2) == []

    def test_documents_keep_to_their_namespace(self, manager: DefaultMemoryManager) -> None:
        """Stores with other namespaces, deeper ones and conversations are neither found nor deleted."""
        stores = [EpisodicVectorStore(manager, namespace=name) for name in (("a",), ("a", "b"), ("ab",))]
        manager.episodic.add(EpisodicEntry("s", "user", "tea", id="x"))
        for number, store in enumerate(stores):
            store.add_texts([f"tea {number}"], ids=["x"])
        for number, store in enumerate(stores):
            assert [one.page_content for one in store.similarity_search("tea", 9)] == [f"tea {number}"]
            assert [one.page_content for one in store.get_by_ids(["x"])] == [f"tea {number}"]
        assert stores[0].delete(["x", "unknown"])
        assert stores[1].delete()
        assert manager.episodic.count() == 2
        with pytest.raises(InputError, match="namespace"):
            stores[2].similarity_search("tea", filter=Filter(namespace=("a",)))

    def test_ids_and_order(self, vectors: EpisodicVectorStore) -> None:
        """Ids may be given for some; documents by ids come in the order asked for; an id put twice is there once."""
        given = vectors.add_texts(["a", "b", "c"], [{"n": 0}, {"n": 1}, {"n": 2}], ids=["1", None, "1"])  # type: ignore[list-item]  # LangChain allows it
        assert given[0] == given[2] == "1"
        assert [one.page_content for one in vectors.get_by_ids([given[1], "unknown", "1"])] == ["b", "c"]
        assert vectors.delete([])
        assert len(vectors.similarity_search("a", 9)) == 2

    @pytest.mark.parametrize(
        "use",
        [
            lambda store: store.add_documents([Document(page_content="")]),
            lambda store: store.add_documents([Document(page_content="a", metadata={"x": object()})]),
            lambda store: store.add_documents([Document(page_content="a")], ids=["1", "2"]),
            lambda store: asyncio.run(store.aadd_documents([Document(page_content="a")], ids=[])),
            lambda store: store.add_documents([Document(page_content="a")], batch_size=5),
            lambda store: store.similarity_search("a", 0.5),
            lambda store: store.similarity_search("a", filters={}),
            lambda store: store.similarity_search("a", filter=5),
            lambda store: store.similarity_search("a", filter={"n": {"$in": [1]}}),
            lambda store: store.similarity_search("a", mode="fuzzy"),
            lambda store: store.delete(["1"], batch_size=5),
        ],
    )
    def test_what_is_refused(self, vectors: EpisodicVectorStore, use: Callable[[EpisodicVectorStore], Any]) -> None:
        """What cannot be kept or is not known is an error, and nothing is stored."""
        with pytest.raises(InputError):
            use(vectors)
        assert vectors.memory.count() == 0

    def test_a_store_of_its_own_is_durable(self, tmp_path: Path) -> None:
        """`from_texts` with a path keeps what it was given, and knows whose vectors it holds."""
        fake = DeterministicFakeEmbedding(size=8)
        path = tmp_path / "documents.db"
        store = EpisodicVectorStore.from_texts(["a", "b"], fake, [{"n": 1}, {"n": 2}], ids=["1", "2"], path=path)
        assert store.embeddings is fake
        store.close()
        store = EpisodicVectorStore.from_documents([Document(id="3", page_content="c")], fake, path=path)
        assert ids(store.similarity_search("b", 1)) == ["2"]
        assert ids(store.get_by_ids(["3", "1"])) == ["3", "1"]
        store.close()
        store = asyncio.run(EpisodicVectorStore.afrom_texts(["d"], EmbeddingService(PROVIDER)))  # type: ignore[arg-type]  # LangChain's type
        assert store.embeddings is None
        store.close()
        with pytest.raises(InputError):
            EpisodicVectorStore.from_texts([""], fake, path=path)
        with pytest.raises(InputError):
            EpisodicVectorStore.from_texts(["a"], fake, collection="x")

    def test_the_space_tells_models_apart(self) -> None:
        """Provider and model of the embedding space are the class and model of LangChain's object."""

        class Named(DeterministicFakeEmbedding):
            model: str = "small"

        provider = LangChainEmbeddings(Named(size=8))
        assert (provider.name, provider.model, provider.dimensions) == ("Named", "small", 8)
        assert LangChainEmbeddings(DeterministicFakeEmbedding(size=8), 8).model is None


class TestRetriever:
    def test_it_finds_as_the_memory_does(self, manager: DefaultMemoryManager) -> None:
        """Filter, mode and ranking are the memory's; a document tells session, role, time and score."""
        memory = manager.episodic
        memory.add_many(
            EpisodicEntry(f"s{n % 2}", "user", f"the ferry {n}", id=f"n{n}", metadata={"n": n, "role": "x"})
            for n in range(8)
        )
        where, ranking = Filter(session_id="s1"), Ranking(half_life=timedelta(days=1), now=datetime.now(UTC))
        retriever = EpisodicRetriever(memory=manager, k=3, where=where, ranking=ranking)
        hits = memory.search("ferry 3", 3, where=where, ranking=ranking)
        for found in (retriever.invoke("ferry 3"), asyncio.run(retriever.ainvoke("ferry 3"))):
            assert ids(found) == [hit.entry.id for hit in hits]
            assert found[0].metadata == {
                "n": hits[0].entry.metadata["n"],
                "session_id": "s1",
                "role": "user",
                "timestamp": hits[0].entry.timestamp.isoformat(),
                "score": hits[0].score,
            }
        assert len(retriever.invoke("ferry", k=1)) == 1
        meaning = EpisodicRetriever(memory=memory, mode="semantic")
        assert ids(meaning.invoke("the ferry 3")) == ids(asyncio.run(meaning.ainvoke("the ferry 3")))

    def test_what_it_cannot_be_made_of(self, manager: DefaultMemoryManager) -> None:
        """A wrong kind of memory, filter, ranking or mode is an error when it is made."""
        wrong: list[dict[str, Any]] = [{"memory": "m.db"}, {"where": {"n": 1}}, {"ranking": "new"}, {"mode": "fuzzy"}]
        for options in wrong:
            with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
                EpisodicRetriever(**{"memory": manager, **options})
