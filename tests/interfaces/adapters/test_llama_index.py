"""LlamaIndex's vector store over a memory: nodes whole, filters and modes as LlamaIndex's own, and an index on top."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageNode,
    IndexNode,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.simple import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from llmspell_memory import (
    ConfigError,
    DefaultMemoryManager,
    DimensionError,
    EmbeddingService,
    EpisodicEntry,
    InputError,
)
from llmspell_memory.adapters.llama_index import EpisodicVectorStore, LlamaIndexEmbeddings
from llmspell_memory.adapters.llama_index.conditions import condition
from llmspell_memory.embeddings import HashingProvider

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmspell_memory.protocols import EmbeddingKind


class Hashing(BaseEmbedding):
    """The embedding of the tests, as LlamaIndex takes it."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return list(map(float, HashingProvider().embed([text])[0]))

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


@pytest.fixture
def vectors(manager: DefaultMemoryManager) -> EpisodicVectorStore:
    return EpisodicVectorStore(manager)


def node(text: str, document: str | None = None, **metadata: Any) -> TextNode:
    made = TextNode(id_=f"id of {text}", text=text, metadata=metadata)
    if document is not None:
        made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=document)
    return made


def ids(nodes: Sequence[BaseNode] | None) -> list[str]:
    return [one.node_id.removeprefix("id of ") for one in nodes or []]


def only(*filters: Any, condition: FilterCondition = FilterCondition.AND) -> MetadataFilters:
    return MetadataFilters(
        filters=[one if isinstance(one, MetadataFilters) else MetadataFilter(**one) for one in filters],
        condition=condition,
    )


def test_nodes_come_back_whole(vectors: EpisodicVectorStore) -> None:
    """Nodes of every kind come back as they were, without their vectors; a known id is replaced."""
    nodes: list[BaseNode] = [
        node("plain"),
        node("rich", "doc", a=[1, {"b": None}], ref_doc_id="no document", s="ä"),
        TextNode(id_="marked", text="x", metadata={"a": 1}, excluded_embed_metadata_keys=["a"], start_char_idx=3),
        TextNode(id_="empty", text=""),
        IndexNode(id_="index", text="an index", index_id="i"),
        ImageNode(id_="image", image_url="file:///x.png", text="a picture"),
        Document(id_="document", text="a document"),
    ]
    assert vectors.add(nodes) == [one.node_id for one in nodes]
    back = vectors.get_nodes([one.node_id for one in nodes])
    for one, other in zip(nodes, back, strict=True):
        expected = TextNode(**one.dict()) if isinstance(one, Document) else one  # as LlamaIndex reads it back
        assert other.class_name() == expected.class_name()
        assert other.dict() | {"metadata": {}} == expected.dict() | {"metadata": {}, "class_name": other.class_name()}
        assert other.metadata == expected.metadata
    vectors.add([TextNode(id_="marked", text="y")])
    (again,) = vectors.get_nodes(["marked", "unknown", "marked"])
    assert (again.get_content(), again.metadata) == ("y", {})
    assert len(vectors.get_nodes()) == 7
    assert ids(vectors.get_nodes(["empty", "id of plain"])) == ["empty", "plain"]


def test_deleting(vectors: EpisodicVectorStore, manager: DefaultMemoryManager) -> None:
    """A document's nodes, nodes by id and filter, and all go, and nothing else."""
    manager.episodic.add(EpisodicEntry("s", "node", "deeper", namespace=("nodes", "deeper")))
    manager.episodic.add(EpisodicEntry("s", "user", "a turn", namespace=("nodes",)))
    beside = EpisodicVectorStore(manager, namespace=("others",))
    beside.add([node("a", "doc")])
    vectors.add([node("a", "doc"), node("b", "doc"), node("c", "doc2"), node("d"), node("e", x=1), node("f", x=1)])
    vectors.delete("doc")
    vectors.delete("None")
    assert ids(vectors.get_nodes()) == ["c", "d", "e", "f"]
    vectors.delete_nodes(["id of c", "id of e", "unknown"], only({"key": "x", "value": 1}))
    assert ids(vectors.get_nodes()) == ["c", "d", "f"]
    vectors.delete_nodes(["id of c"])
    vectors.delete_nodes(filters=only({"key": "x", "value": 1}))
    assert ids(vectors.get_nodes()) == ["d"]
    vectors.delete_nodes([])
    for empty in (None, MetadataFilters(filters=[])):
        with pytest.raises(InputError, match="say which nodes"):
            vectors.delete_nodes(filters=empty)
    vectors.clear()
    assert vectors.get_nodes() == []
    assert ids(beside.get_nodes()) == ["a"]
    assert manager.episodic.count() == 3


VALUES = [None, 1, 2.0, True, "1", "abc", "ABC", "", [], ["abc", "b"], [1, 2]]
ORDERS = (FilterOperator.GT, FilterOperator.GTE, FilterOperator.LT, FilterOperator.LTE)
WANTED = [None, 1, 2.0, "abc", "b", "", ["abc"], ["b", "x"], [1, 3]]


def test_filters_are_those_of_llama_index() -> None:
    """Every operator on every pair of values says what LlamaIndex's own says, but where that one fails."""
    compared = 0
    for operator, value, wanted in itertools.product(FilterOperator, VALUES, WANTED):
        filters = only({"key": "a", "value": wanted, "operator": operator})
        if operator in ORDERS and isinstance(value, list):
            continue  # theirs orders lists as Python does
        held = {"a": value}
        try:
            theirs = build_metadata_filter_fn({"x": held}.__getitem__, filters)("x")
        except (TypeError, ValueError):
            continue
        try:
            passes = condition(filters)
        except InputError:
            assert not isinstance(wanted, list)  # theirs looks for the letters of a text, or at no value
            continue
        assert passes is not None
        assert passes(held) == theirs, (operator, value, wanted)
        compared += 1
    assert compared > 500


def test_filters_nest(vectors: EpisodicVectorStore) -> None:
    """And, or and not combine filters, and filters of filters; what cannot be compared does not pass."""
    vectors.add([node(f"{n}", n=n, word="even" if n % 2 == 0 else "odd") for n in range(6)])
    even, odd = {"key": "word", "value": "even"}, {"key": "word", "value": "odd"}
    big = {"key": "n", "value": 3, "operator": ">="}
    for filters, expected in [
        (only(even), "024"),
        (only(even, big), "4"),
        (only(even, big, condition=FilterCondition.OR), "02345"),
        (only(even, big, condition=FilterCondition.NOT), "1"),
        (only(only(even, condition=FilterCondition.NOT), big), "35"),
        (only(only(even, odd), {"key": "n", "value": 0}, condition=FilterCondition.OR), "0"),
        (only({"key": "word", "value": 3, "operator": ">="}), ""),
        (only({"key": "n", "value": [0, 5], "operator": "in"}), "05"),
        (MetadataFilters(filters=[]), "012345"),
    ]:
        assert ids(vectors.get_nodes(filters=filters)) == list(expected)
        query = VectorStoreQuery(query_embedding=[1.0] + [0.0] * 255, similarity_top_k=6, filters=filters)
        assert sorted(ids(vectors.query(query).nodes)) == list(expected)
    with pytest.raises(InputError, match="takes a list"):
        vectors.get_nodes(filters=only({"key": "n", "value": 1, "operator": "in"}))


@pytest.mark.parametrize("mode", [VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR])
def test_queries_by_vector_are_those_of_llama_index(vectors: EpisodicVectorStore, mode: VectorStoreQueryMode) -> None:
    """The same nodes with the same scores as its simple store finds, under filters and ids, too."""
    rng = np.random.default_rng(3)
    nodes = [node(f"{n}", f"doc{n % 4}", n=n) for n in range(40)]
    for one in nodes:
        one.embedding = rng.standard_normal(256).tolist()
    simple = SimpleVectorStore()
    simple.add(nodes)
    vectors.add(nodes)
    for filters, node_ids in [
        (None, None),
        (only({"key": "n", "value": 20, "operator": "<"}), None),
        (None, [one.node_id for one in nodes[::3]]),
        (only({"key": "n", "value": 20, "operator": ">"}), [one.node_id for one in nodes[::3]]),
    ]:
        query = VectorStoreQuery(
            query_embedding=rng.standard_normal(256).tolist(),
            similarity_top_k=10,
            filters=filters,
            node_ids=node_ids,
            mode=mode,
        )
        mine, theirs = vectors.query(query), simple.query(query)
        assert mine.ids == theirs.ids
        assert mine.similarities == pytest.approx(theirs.similarities, abs=1e-5)
        assert ids(mine.nodes) == [one.removeprefix("id of ") for one in mine.ids or []]
    query.filters, query.node_ids, query.doc_ids = None, None, ["doc1"]
    assert {one.ref_doc_id for one in vectors.query(query).nodes or []} == {"doc1"}
    assert len(vectors.query(query).ids or []) == 10
    query.similarity_top_k = 0
    assert vectors.query(query).ids == []


def test_queries_by_words(vectors: EpisodicVectorStore) -> None:
    """Text search finds words alone, hybrid search both; a mode that is not there is told, and so is what it lacks."""
    vectors.add([node("rye bread is baked"), node("the ferry sails"), node("an oven")])
    for mode in ("text_search", "sparse", "hybrid", "semantic_hybrid"):
        query = VectorStoreQuery(query_str="the ferry", similarity_top_k=2, mode=VectorStoreQueryMode(mode))
        assert ids(vectors.query(query).nodes)[0] == "the ferry sails"
        assert len(vectors.query(query).ids or []) == (2 if "hybrid" in mode else 1)
        query.query_str = None
        with pytest.raises(InputError, match="needs its query_str"):
            vectors.query(query)
    with pytest.raises(InputError, match="needs its query_embedding"):
        vectors.query(VectorStoreQuery(query_str="x"))
    with pytest.raises(InputError, match="there is no mode"):
        vectors.query(VectorStoreQuery(query_embedding=[1.0], mode=VectorStoreQueryMode.SVM))
    with pytest.raises(DimensionError):
        vectors.query(VectorStoreQuery(query_embedding=[1.0]))
    with pytest.raises(InputError, match="there is no option nearby"):
        vectors.query(VectorStoreQuery(query_embedding=[1.0]), nearby=True)


async def test_awaited(vectors: EpisodicVectorStore) -> None:
    """The awaited verbs do what the others do."""
    await vectors.async_add([node("a", "doc"), node("b"), node("c"), node("d")])
    query = VectorStoreQuery(query_str="b", similarity_top_k=1, mode=VectorStoreQueryMode.HYBRID)
    assert ids((await vectors.aquery(query)).nodes) == ["b"]
    await vectors.adelete("doc")
    await vectors.adelete_nodes(["id of b"])
    assert ids(await vectors.aget_nodes()) == ["c", "d"]
    await vectors.aclear()
    assert await vectors.aget_nodes() == []


def test_an_index_over_it() -> None:
    """LlamaIndex's own index inserts, retrieves, filters and deletes through the store, and is opened again from it."""
    embed = Hashing()
    with DefaultMemoryManager.new_in_memory_with_embeddings(EmbeddingService(LlamaIndexEmbeddings(embed))) as memory:
        store = EpisodicVectorStore(memory)
        documents = [
            Document(id_="bread", text="Rye bread keeps for three days.", metadata={"kind": "food"}),
            Document(id_="dog", text="The dog is called Ada.", metadata={"kind": "pet"}),
        ]
        context = StorageContext.from_defaults(vector_store=store)
        VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=embed)
        index = VectorStoreIndex.from_vector_store(store, embed_model=embed)
        (found,) = index.as_retriever(similarity_top_k=1).retrieve("how long does bread keep?")
        assert found.text == "Rye bread keeps for three days."
        assert found.node.ref_doc_id == "bread"
        pets = only({"key": "kind", "value": "pet"})
        (found,) = index.as_retriever(similarity_top_k=5, filters=pets).retrieve("bread")
        assert found.metadata == {"kind": "pet"}
        index.delete_ref_doc("bread")
        assert [one.text for one in index.as_retriever(similarity_top_k=5).retrieve("bread")] == [documents[1].text]
        assert memory.episodic.search("dog", 1)[0].entry.content == "The dog is called Ada."


async def test_embeddings() -> None:
    """A LlamaIndex model embeds alike, blocking and awaited, in a space of its own name."""
    provider = LlamaIndexEmbeddings(Hashing(model_name="m"))
    assert (provider.name, provider.model, provider.dimensions) == ("Hashing", "m", 256)
    assert LlamaIndexEmbeddings(Hashing(), 256).model is None
    expected = HashingProvider().embed(["a dog", "b"])
    kinds: tuple[EmbeddingKind, ...] = ("document", "query")
    for kind in kinds:
        assert np.array_equal(provider.embed(["a dog", "b"], kind=kind), expected)
        assert np.array_equal(await provider.aembed(["a dog", "b"], kind=kind), expected)
    assert repr(provider) == "LlamaIndexEmbeddings(Hashing, 256)"


def test_bad_input_is_refused(vectors: EpisodicVectorStore) -> None:
    """What cannot be kept is told, and nothing of its call is stored."""
    with pytest.raises(InputError, match="content must not contain NUL"):
        vectors.add([node("good"), node("a \0")])
    short = node("short")
    short.embedding = [1.0]
    with pytest.raises(DimensionError):
        vectors.add([node("good"), short])
    assert vectors.get_nodes() == []
    with pytest.raises(ConfigError, match="memory must be"):
        EpisodicVectorStore("memory.db")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="namespace must be a tuple"):
        EpisodicVectorStore(vectors.client, namespace="nodes")  # type: ignore[arg-type]
