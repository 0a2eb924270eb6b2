"""CrewAI's `Memory`, agents and crews over the storage, with a model that answers from a script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from crewai import Agent, Crew, Memory, Task
from crewai.memory.storage.factory import set_memory_storage_factory
from crewai.memory.storage.lancedb_storage import LanceDBStorage

from llmspell_memory import EmbeddingService
from llmspell_memory.adapters.crewai import EpisodicStorage
from llmspell_memory.embeddings import HashingProvider
from tests.optional.crewai.scripted import Scripted

if TYPE_CHECKING:
    from pathlib import Path

    from crewai.memory.types import MemoryMatch

pytestmark = pytest.mark.filterwarnings("ignore")  # what CrewAI warns of is not ours

ANALYSE, CONSOLIDATE, EXTRACT = (
    "suggested_scope",
    "existing memories to decide how",
    "memory statements from raw content",
)
GIVEN: dict[str, Any] = {"categories": ["x"], "importance": 0.5}


def memory_over(storage: Any, script: dict[str, Any] | None = None, **settings: Any) -> Memory:
    embedder = EmbeddingService(HashingProvider()).embed
    return Memory(storage=storage, embedder=lambda texts: embed_rows(embedder(texts)), llm=Scripted(script), **settings)


def prompts_of(memory: Memory) -> list[str]:
    assert isinstance(memory.llm, Scripted)
    return memory.llm.prompts


def embed_rows(rows: Any) -> list[list[float]]:
    return [row.tolist() for row in rows]


def contents(matches: list[MemoryMatch]) -> list[str]:
    return [one.record.content for one in matches]


def scores(matches: list[MemoryMatch]) -> dict[str, float]:
    return {one.record.content: one.score for one in matches}


def test_what_is_remembered_is_recalled(storage: EpisodicStorage) -> None:
    """With all fields given and in one vector search, no model is asked; the deep search finds the same."""
    model = Scripted()
    memory = Memory(storage=storage, embedder=storage.embedder, llm=model)
    memory.remember("My dog is called Ada.", scope="/home", **GIVEN)
    memory.remember("The ferry to Kiel leaves at nine.", scope="/work", **GIVEN)
    for depth in ("shallow", "deep"):
        assert contents(memory.recall("what is my dog called?", limit=1, depth=depth)) == ["My dog is called Ada."]
        assert contents(memory.recall("dog", scope="/work", depth=depth)) == ["The ferry to Kiel leaves at nine."]
    assert model.prompts == []
    assert memory.tree() == "/ (2 records)\n  /home (1 records)\n  /work (1 records)"
    memory.close()
    assert storage.count() == 2  # the memory of another is not closed


def test_a_model_says_where_it_belongs(storage: EpisodicStorage) -> None:
    """Scope, categories, importance and metadata are the model's, who is told those that there are."""
    script = {ANALYSE: {"suggested_scope": "pets//dogs/", "categories": ["pets"], "importance": 0.75,
                        "extracted_metadata": {"entities": ["Ada"]}}}  # fmt: skip
    memory = memory_over(storage, script, consolidation_threshold=1.0)
    memory.remember("Before", scope="/known/deep", **GIVEN)
    made = memory.remember("My dog is called Ada.")
    assert made is not None
    kept = storage.get_record(made.id)
    assert kept is not None
    assert (kept.scope, kept.categories, kept.importance) == ("/pets/dogs", ["pets"], 0.75)
    assert kept.metadata["entities"] == ["Ada"]
    assert "['/known']" in prompts_of(memory)[0]
    assert "['x']" in prompts_of(memory)[0]


def test_what_is_said_again_is_consolidated(storage: EpisodicStorage) -> None:
    """The thresholds of `Memory` mean here what they do elsewhere: near ones are asked about, others are not."""
    plan: dict[str, Any] = {"actions": [], "insert_new": False}
    memory = memory_over(storage, {CONSOLIDATE: plan})
    first = memory.remember("My dog is called Ada.", scope="/home", **GIVEN)
    gone = memory.remember("The ferry to Kiel leaves at nine.", scope="/home", **GIVEN)
    assert first is not None
    assert gone is not None
    assert prompts_of(memory) == []
    plan["actions"] = [{"action": "update", "record_id": first.id, "new_content": "My dog is called Ada Lovelace."},
                       {"action": "delete", "record_id": gone.id}]  # fmt: skip
    memory.remember("My dog is called Ada.", scope="/home", **GIVEN)
    assert len(prompts_of(memory)) == 1
    assert [one.content for one in memory.list_records()] == ["My dog is called Ada Lovelace."]
    assert storage.get_record(first.id) is not None
    assert contents(memory.recall("Lovelace", depth="shallow")) == ["My dog is called Ada Lovelace."]


def test_it_ranks_as_over_crewais_own(storage: EpisodicStorage, tmp_path: Path) -> None:
    """The same facts over both storages: the same matches, with the same scores."""
    own = LanceDBStorage(tmp_path / "lance")
    both = [memory_over(one, consolidation_threshold=1.0) for one in (storage, own)]
    facts = ["My dog is called Ada.", "My dog eats rye bread.", "Rye bread keeps for three days.", "The ferry to Kiel"]
    for memory in both:
        for n, fact in enumerate(facts):
            memory.remember(fact, scope=f"/s{n % 2}", categories=[f"c{n}"], importance=n / 4)
    for query in ("what does my dog eat?", "rye", "Kiel"):
        for options in ({}, {"scope": "/s1"}, {"categories": ["c0", "c3"]}, {"depth": "shallow"}):
            ours, theirs = (memory.recall(query, **options) for memory in both)
            assert scores(ours) == pytest.approx(scores(theirs), abs=1e-4)
            assert list(scores(ours).values()) == sorted(scores(ours).values(), reverse=True)
    for memory in both:
        memory.close()


def test_views_stay_inside_their_scope(storage: EpisodicStorage) -> None:
    """A scope and a slice of a memory find and forget what is theirs, and not what only begins alike."""
    memory = memory_over(storage, consolidation_threshold=1.0)
    for name in ("/app", "/app/sub", "/apple", "/b"):
        memory.remember(f"dog of {name}", scope=name, **GIVEN)
    view = memory.scope("/app")
    view.remember("dog of the view", scope="new", **GIVEN)
    assert sorted(contents(view.recall("dog", depth="shallow"))) == [
        "dog of /app",
        "dog of /app/sub",
        "dog of the view",
    ]
    both = memory.slice(["/app/sub", "/b"])
    assert sorted(contents(both.recall("dog", depth="shallow"))) == ["dog of /app/sub", "dog of /b"]
    assert view.forget() == 3
    assert sorted(one.scope for one in memory.list_records()) == ["/apple", "/b"]


def test_a_root_keeps_crews_apart(storage: EpisodicStorage) -> None:
    """Two memories with a root of their own over one storage see, list and reset nothing of each other."""
    research, sales = (memory_over(storage, root_scope=f"/crew/{name}") for name in ("research", "research-2"))
    for memory in (research, sales):
        memory.remember("dog", scope="/facts", **GIVEN)
    assert [one.scope for one in research.list_records()] == ["/crew/research/facts"]
    assert len(research.recall("dog", depth="shallow")) == research.info().record_count == 1
    research.reset()
    assert (len(research.list_records()), len(sales.list_records())) == (0, 1)


def test_records_are_changed_and_forgotten(storage: EpisodicStorage) -> None:
    """`update` changes a record under its id, `forget` deletes what meets its conditions."""
    memory = memory_over(storage, consolidation_threshold=1.0)
    made = [memory.remember(f"fact {n}", scope="/a", **GIVEN) for n in range(3)]
    first, second = (one.id for one in made[:2] if one is not None)
    memory.update(first, content="my dog", scope="pets", categories=["y"], metadata={"k": 1}, importance=1.0)
    assert contents(memory.recall("dog", scope="/pets", depth="shallow")) == ["my dog"]
    assert memory.list_categories() == {"x": 2, "y": 1}
    assert memory.forget(record_ids=[]) == 0
    assert memory.forget(scope="/a", record_ids=[first, second]) == 1
    assert memory.forget(categories=["y"], metadata_filter={"k": 1}) == 1
    assert [one.content for one in memory.list_records()] == ["fact 2"]


def test_private_memories_are_their_sources(storage: EpisodicStorage) -> None:
    """What a source keeps to itself is found by it alone."""
    memory = memory_over(storage)
    memory.remember("the safe is behind the oven", scope="/", source="erik", private=True, **GIVEN)
    for options, seen in (({}, 0), ({"source": "eve"}, 0), ({"source": "erik"}, 1), ({"include_private": True}, 1)):
        assert len(memory.recall("the safe", depth="shallow", **options)) == seen


def test_saves_in_the_background_are_seen(storage: EpisodicStorage) -> None:
    """A recall finds what was handed over before it."""
    memory = memory_over(storage)
    facts = [f"{word} number {n}" for n, word in enumerate(["dog", "ferry", "bread", "oven", "cat"] * 4)]
    memory.remember_many(facts, scope="/a", categories=[], importance=0.5)
    assert sorted(contents(memory.recall("dog", limit=20, depth="shallow"))) == sorted(facts)


def test_another_model_is_refused(storage: EpisodicStorage) -> None:
    """An embedder of another width than the memory's cannot save, and says so."""
    memory = Memory(storage=storage, embedder=lambda texts: [[1.0, 0.0]] * len(texts), llm=Scripted())
    with pytest.raises(ValueError, match="expected a vector of 256 dimensions, got 2"):
        memory.remember("dog", scope="/a", **GIVEN)
    assert storage.count() == 0


def test_a_factory_gives_it_to_every_memory(storage: EpisodicStorage) -> None:
    """Where CrewAI makes the memory itself, it may be told to keep it here."""
    set_memory_storage_factory(lambda spec: storage if spec == "llmspell" else None)
    try:
        memory_over("llmspell").remember("dog", scope="/a", **GIVEN)
    finally:
        set_memory_storage_factory(None)
    assert storage.count("/a") == 1


def answer_of(crew: Crew) -> str:
    output: Any = crew.kickoff()
    return str(output.raw)


def crew_of(model: Scripted, memory: Memory, question: str) -> Crew:
    baker = Agent(role="baker", goal="answer", backstory="bakes", llm=model)
    task = Task(description=question, expected_output="a sentence", agent=baker)
    return Crew(agents=[baker], tasks=[task], memory=memory)


def test_a_crew_remembers_its_last_run(tmp_path: Path) -> None:
    """What one run found out, the next is told before it begins, from the file."""
    learned = "A rye loaf keeps for three days."
    path, service = tmp_path / "crew.db", EmbeddingService(HashingProvider())
    model = Scripted({
        EXTRACT: {"memories": [learned, ""]},
        ANALYSE: {"suggested_scope": "/bread", "categories": ["shelf life"], "importance": 0.5},
        "": "Thought: I now can give a great answer\nFinal Answer: three days",
    })  # fmt: skip
    with EpisodicStorage.open(path, service) as storage:
        memory = Memory(storage=storage, embedder=storage.embedder, llm=model)
        assert answer_of(crew_of(model, memory, "How long does a rye loaf keep?")) == "three days"
        memory.drain_writes()
        assert [(one.content, one.scope) for one in storage.list_records()] == [(learned, "/bread")]
        assert learned not in model.prompts[0]
    asked = Scripted({EXTRACT: {"memories": []}, learned: "Final Answer: as I said", "": "Final Answer: who knows"})
    with EpisodicStorage.open(path, service) as storage:
        memory = Memory(storage=storage, embedder=storage.embedder, llm=asked)
        assert answer_of(crew_of(asked, memory, "Until when can I eat rye?")) == "as I said"
        memory.drain_writes()
        copied = crew_of(asked, memory, "Until when can I eat rye?").copy()
        assert answer_of(copied) == "as I said"


def test_an_agent_searches_and_saves_by_its_tools(storage: EpisodicStorage) -> None:
    """CrewAI's own tools for agents go to the storage, too."""
    memory = memory_over(storage, {EXTRACT: {"memories": []}, ANALYSE: {"suggested_scope": "/pets"}})
    memory.remember("zebra stripes are black", scope="/facts", **GIVEN)
    call = "Thought: look\nAction: {}\nAction Input: {}"
    model = Scripted({
        EXTRACT: {"memories": []},
        "Saved to memory": "Final Answer: noted",
        "Found memories": call.format("save_to_memory", '{"contents": ["My cat is called Tom."]}'),
        "": call.format("search_memory", '{"queries": ["zebra"]}'),
    })  # fmt: skip
    assert answer_of(crew_of(model, memory, "What do you know?")) == "noted"
    memory.drain_writes()
    assert sorted((one.scope, one.content) for one in storage.list_records()) == [
        ("/facts", "zebra stripes are black"), ("/pets", "My cat is called Tom."),
    ]  # fmt: skip
