"""mem0's `Memory` by its verbs: its shapes, its filters, and walls between users, agents and runs."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from llmspell_memory import ConfigError, DefaultMemoryManager, EmbeddingService, EpisodicEntry, Filter, InputError
from llmspell_memory.adapters.mem0 import Memory
from llmspell_memory.embeddings import HashingProvider

if TYPE_CHECKING:
    from pathlib import Path

TOLD = {"id", "memory", "hash", "metadata", "created_at", "updated_at", "user_id", "role"}
ALIKE = [
    *("ada", "Ada", "ad", "ada2", "ada%", "a_a", "ada*", "user_id=ada", "ada/1", "ada:1", '"ada"', "ada'--"),
    *("åda", "a\u030ada", "\uff41da", "ada\u200b", "None", "1", "01", "1.0", "true", "()"),
]


@pytest.fixture
def memory(manager: DefaultMemoryManager) -> Memory:
    return Memory(manager)


def texts(found: dict[str, Any]) -> list[str]:
    return [one["memory"] for one in found["results"]]


def test_shapes_are_those_of_mem0(memory: Memory) -> None:
    """Each verb returns the keys and kinds that mem0's returns with infer=False."""
    added = memory.add("My dog is called Ada.", user_id="erik", metadata={"topic": "pets"}, infer=False)
    assert added.keys() == {"results"}
    (one,) = added["results"]
    assert one == {"id": one["id"], "memory": "My dog is called Ada.", "event": "ADD", "actor_id": None, "role": "user"}

    (found,) = memory.search("dog", user_id="erik")["results"]
    assert found.keys() == TOLD | {"score"}
    assert 0.1 <= found["score"] <= 1
    assert found["metadata"] == {"topic": "pets"}
    assert found["hash"] == hashlib.md5(b"My dog is called Ada.", usedforsecurity=False).hexdigest()
    assert datetime.fromisoformat(found["created_at"]).utcoffset() == timedelta(0)
    assert found["created_at"] == found["updated_at"]
    assert memory.get(one["id"]) == found | {"score": None}
    (listed,) = memory.get_all(user_id="erik")["results"]
    assert listed.keys() == TOLD
    assert listed == {key: found[key] for key in TOLD}

    assert memory.update(one["id"], "My cat is called Ada.") == {"message": "Memory updated successfully!"}
    first, second = memory.history(one["id"])
    assert first.keys() == {
        *("id", "memory_id", "old_memory", "new_memory", "event", "created_at", "updated_at", "is_deleted"),
        *("actor_id", "role"),
    }
    assert (first["old_memory"], first["new_memory"], first["event"]) == (None, "My dog is called Ada.", "ADD")
    assert (second["old_memory"], second["new_memory"], second["event"]) == (
        "My dog is called Ada.", "My cat is called Ada.", "UPDATE",
    )  # fmt: skip
    assert memory.delete(one["id"]) == {"message": "Memory deleted successfully!"}
    assert memory.get(one["id"]) is None
    assert memory.history(one["id"]) == []
    assert memory.delete_all(user_id="erik") == {"message": "Memories deleted successfully!"}


def test_messages_of_every_form(memory: Memory) -> None:
    """A text, a message and a list of them are kept in order, each by itself, but for what says nothing."""
    memory.add({"role": "assistant", "content": "one", "name": "bot"}, user_id="u")
    parts = [{"type": "text", "text": "four"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    memory.add(
        [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "two"},
            {"role": "assistant", "content": None, "tool_calls": []},
            {"role": "tool", "content": "three"},
            {"role": "user", "content": parts},
            {"role": "user", "content": " "},
        ],
        user_id="u",
    )
    found = memory.get_all(user_id="u")["results"]
    assert [(one["role"], one["memory"]) for one in found] == [
        ("assistant", "one"), ("user", "two"), ("tool", "three"), ("user", "four"),
    ]  # fmt: skip
    assert found[0]["actor_id"] == "bot"
    assert texts(memory.get_all(filters={"user_id": "u", "actor_id": "bot"})) == ["one"]
    assert memory.add([], user_id="u") == {"results": []}
    for bad in (5, None, ["text"], [{"content": "no role"}], {"role": 1, "content": "x"}):
        with pytest.raises(InputError, match="message"):
            memory.add(bad, user_id="u")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="role"):
        memory.add([{"role": "user", "content": "lost"}, {"content": "no role"}], user_id="u")
    assert len(memory.get_all(user_id="u")["results"]) == 4


@pytest.mark.parametrize("kind", ["user_id", "agent_id", "run_id"])
def test_ids_that_look_alike_are_apart(memory: Memory, kind: str) -> None:
    """Who has an id finds, lists and deletes their own alone, whatever other ids look like."""
    for one in ALIKE:
        whose: dict[str, Any] = {kind: one}
        memory.add(f"the secret of {one}", **whose)
    for one in ALIKE:
        expected = [f"the secret of {one}"]
        assert texts(memory.get_all(**{kind: one})) == expected  # type: ignore[arg-type]
        assert texts(memory.search("the secret", filters={kind: one}, top_k=50, threshold=0)) == expected
        for other in {"user_id", "agent_id", "run_id"} - {kind}:
            assert texts(memory.search("the secret", filters={other: one}, threshold=0)) == []
    for n, one in enumerate(ALIKE):
        memory.delete_all(**{kind: one})
        assert memory.memory.count() == len(ALIKE) - n - 1


def test_ids_together_mean_both(memory: Memory) -> None:
    """A memory of a user and an agent is found by each and by both, and by no other pair."""
    memory.add("of both", user_id="u", agent_id="a")
    memory.add("of the user", user_id="u")
    memory.add("of the agent", agent_id="a")
    memory.add("in a run", user_id="u", agent_id="a", run_id="r")
    assert texts(memory.get_all(user_id="u")) == ["of both", "of the user", "in a run"]
    assert texts(memory.get_all(filters={"agent_id": "a"})) == ["of both", "of the agent", "in a run"]
    assert texts(memory.get_all(user_id="u", filters={"agent_id": "a"})) == ["of both", "in a run"]
    assert texts(memory.get_all(user_id="u", agent_id="b")) == []
    assert texts(memory.get_all(user_id=" u ", run_id="r")) == ["in a run"]
    memory.delete_all(user_id="u", agent_id="a")
    assert texts(memory.get_all(user_id="u")) == ["of the user"]
    assert texts(memory.get_all(agent_id="a")) == ["of the agent"]


def test_nobody_means_everybody(memory: Memory) -> None:
    """Without an id, with a blank or a wildcard, or with two that differ, nothing is found, kept or deleted."""
    memory.add("kept", user_id="u")
    for ids in ({}, {"user_id": ""}, {"user_id": " "}, {"user_id": "*"}, {"user_id": "a b"}, {"user_id": True}):
        for call in (
            lambda ids=ids: memory.add("x", **ids),
            lambda ids=ids: memory.search("kept", **ids),
            lambda ids=ids: memory.get_all(filters=ids),
            lambda ids=ids: memory.delete_all(**ids),
        ):
            with pytest.raises(ValueError, match=r"user_id|whose"):
                call()
    for filters in ({"user_id": {"in": ["u", "v"]}}, {"user_id": {"ne": "v"}}, {"OR": [{"user_id": "u"}]}, "user_id"):
        with pytest.raises(ValueError, match=r"user_id|filters"):
            memory.search("kept", filters=filters)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="another user_id"):
        memory.search("kept", user_id="u", filters={"user_id": "v"})
    assert memory.memory.count() == 1


def test_metadata_says_nothing_about_whose_it_is(memory: Memory) -> None:
    """Ids in metadata move no memory to another's, on adding or updating."""
    added = memory.add("mine", user_id="u", metadata={"user_id": "v", "run_id": "r", "x": 1})["results"][0]
    memory.update(added["id"], metadata={"agent_id": "a", "user_id": "u", "y": 2})
    assert texts(memory.get_all(user_id="v")) + texts(memory.get_all(run_id="r")) == []
    assert texts(memory.get_all(agent_id="a")) == []
    (found,) = memory.get_all(user_id="u")["results"]
    assert found["metadata"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"n": 2}, "2"),
        ({"n": {"eq": 2}}, "2"),
        ({"n": {"ne": 2}}, "013"),
        ({"n": {"gt": 0, "lte": 2}}, "12"),
        ({"n": {"gte": 3}}, "3"),
        ({"n": {"lt": "1"}}, ""),
        ({"n": {"in": [0, 3, "1"]}}, "03"),
        ({"n": {"nin": [0, 3]}}, "12"),
        ({"word": {"contains": "o"}}, "02"),
        ({"word": {"contains": "O"}}, "1"),
        ({"word": {"icontains": "O"}}, "012"),
        ({"tags": {"contains": "b"}}, "13"),
        ({"odd": "*"}, "13"),
        ({"role": "user"}, "0123"),
        ({"AND": [{"n": {"gt": 0}}, {"odd": True}]}, "13"),
        ({"OR": [{"n": 0}, {"odd": True, "n": 3}]}, "03"),
        ({"NOT": [{"n": 0}, {"n": 1}]}, "23"),
        ({"NOT": [{"OR": [{"n": 0}, {"n": 1}]}], "odd": True}, "3"),
    ],
)
def test_filters(memory: Memory, condition: dict[str, Any], expected: str) -> None:
    """mem0's operators and combinations hold for listing and for searching, and only among one's own."""
    for n, word in enumerate(["zero", "ONE", "two", "three"]):
        odd = {"odd": True, "tags": ["a", "b"]} if n % 2 else {"tags": []}
        memory.add(f"number {n}", user_id="u", metadata={"n": n, "word": word, **odd})
        memory.add(f"number {n}", user_id="v", metadata={"n": n, "word": word, **odd})
    for user in "uv":
        filters = {"user_id": user, **condition}
        assert texts(memory.get_all(filters=filters)) == [f"number {n}" for n in expected]
        found = memory.search("number", filters=filters, threshold=0)["results"]
        assert sorted(one["memory"] for one in found) == [f"number {n}" for n in expected]
        assert {one["user_id"] for one in found} <= {user}


@pytest.mark.parametrize(
    "condition", [{"n": {"near": 1}}, {"OR": []}, {"AND": {"n": 1}}, {"NOT": [1]}, {"n": {"in": "abc"}}]
)
def test_filters_that_mean_nothing_are_refused(memory: Memory, condition: dict[str, Any]) -> None:
    """An unknown operator or a wrong operand is told, not passed over."""
    with pytest.raises(InputError):
        memory.search("number", filters={"user_id": "u", **condition})


def test_as_many_as_asked_for(memory: Memory) -> None:
    """top_k, limit and threshold hold: the best of a search, the newest of a list, also behind a filter."""
    memory.add([{"role": "user", "content": f"bread number {n}"} for n in range(60)], user_id="u")
    memory.add([{"role": "user", "content": f"bread of another {n}"} for n in range(200)], user_id="v")
    assert texts(memory.get_all(user_id="u", limit=3)) == ["bread number 57", "bread number 58", "bread number 59"]
    assert len(texts(memory.get_all(user_id="u"))) == 20
    assert len(texts(memory.search("bread", user_id="u", top_k=50))) == 50
    assert texts(memory.search("bread", user_id="u", limit=0)) == []
    assert texts(memory.search("zeppelin", user_id="u")) == []
    assert len(texts(memory.search("zeppelin", user_id="u", threshold=0, limit=1))) <= 1
    for bad in ({"top_k": -1}, {"threshold": 2}, {"threshold": "x"}):
        with pytest.raises(InputError):
            memory.search("bread", user_id="u", **bad)
    with pytest.raises(InputError, match="query"):
        memory.search(" ", user_id="u")


def test_what_has_expired_is_not_seen(memory: Memory) -> None:
    """A memory is seen on its last day and not after, unless it is asked for; an update may change the day."""
    today = datetime.now(UTC).date()
    memory.add("today", user_id="u", expiration_date=(today + timedelta(days=1)).isoformat())
    past = memory.add("past", user_id="u", expiration_date=today - timedelta(days=1))["results"][0]["id"]
    assert texts(memory.get_all(user_id="u")) == ["today"]
    assert texts(memory.search("past", user_id="u", threshold=0)) == ["today"]
    assert texts(memory.get_all(user_id="u", show_expired=True)) == ["today", "past"]
    memory.update(past, metadata={"x": 1})
    assert texts(memory.get_all(user_id="u")) == ["today"]
    memory.update(past, expiration_date=None)
    assert texts(memory.get_all(user_id="u")) == ["today", "past"]
    with pytest.raises(InputError, match="YYYY-MM-DD"):
        memory.update(past, expiration_date="soon")


def test_an_update_keeps_the_rest(memory: Memory) -> None:
    """Id, owner, age and other keys of the metadata stay; what it said before is no longer found."""
    added = memory.add("I live in Turku.", user_id="u", metadata={"a": 1, "b": 1})["results"][0]
    before = memory.get(added["id"])
    memory.update(added["id"], data="I live in Lahti.", metadata={"b": 2})
    after = memory.get(added["id"])
    assert before is not None
    assert after is not None
    assert after["metadata"] == {"a": 1, "b": 2}
    assert (after["created_at"], after["user_id"]) == (before["created_at"], "u")
    assert after["updated_at"] > before["updated_at"]
    assert memory.search("Lahti", user_id="u")["results"][0]["memory"] == "I live in Lahti."
    assert memory.memory.count() == 1
    with pytest.raises(ValueError, match="no memory with the id 'unknown'"):
        memory.update("unknown", "x")
    with pytest.raises(ValueError, match="no memory with the id 'unknown'"):
        memory.delete("unknown")
    with pytest.raises(InputError, match="nothing is to be changed"):
        memory.update(added["id"])


def test_reset_leaves_other_entries(manager: DefaultMemoryManager) -> None:
    """Everybody's memories go; entries beside them, deeper or in another namespace, stay."""
    manager.episodic.add(EpisodicEntry("s", "user", "a turn", namespace=("mem0", "deeper")))
    manager.episodic.add(EpisodicEntry("s", "user", "a turn"))
    mine, others = Memory(manager), Memory(manager, namespace=("mem0", "b"))
    scoped = Memory(manager.scoped("acme"))
    for one in (mine, others, scoped):
        one.add("x", user_id="u")
    assert [texts(one.get_all(user_id="u")) for one in (mine, others, scoped)] == [["x"]] * 3
    mine.reset()
    assert [texts(one.get_all(user_id="u")) for one in (mine, others, scoped)] == [[], ["x"], ["x"]]
    assert manager.episodic.count() == 4
    assert manager.episodic.count(Filter(namespace=("acme", "mem0"))) == 1


def test_opening(tmp_path: Path) -> None:
    """`Memory()` needs nothing; `open` keeps all in a file; what is not here says what to do instead."""
    with Memory() as memory:
        memory.add("x", user_id=7)  # type: ignore[arg-type]
        assert texts(memory.get_all(user_id="7")) == ["x"]
    for n in range(2):
        with Memory.open(tmp_path / "memory.db", EmbeddingService(HashingProvider())) as memory:
            memory.add(f"{n}", user_id="u")
            assert texts(memory.get_all(user_id="u")) == ["0", "1"][: n + 1]
    with pytest.raises(ConfigError, match=r"llm, embedder.*Memory\.open"):
        Memory.from_config({"llm": {}, "embedder": {}})
    with Memory() as memory, pytest.raises(InputError, match="infer=True needs a language model"):
        memory.add("x", user_id="u", infer=True)
