"""What says again what its session holds is left out where that is asked for, whoever else writes at the time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from llmspell_memory.errors import InputError
from llmspell_memory.testing.backends.material import START, contents, entry
from llmspell_memory.types import EpisodicEntry, Filter

if TYPE_CHECKING:
    from llmspell_memory.manager import DefaultMemoryManager
    from llmspell_memory.memory import EpisodicMemory


class RepeatsContract:
    """What a backend promises about repetitions."""

    def test_a_repetition_is_kept_unless_asked_otherwise(self, memory: EpisodicMemory) -> None:
        """By default every id is an entry of its own; "skip" returns the id of the first that said it."""
        first = memory.add(entry("yes", id="a"))
        assert memory.add(entry("yes", id="b", minute=1)) == "b"
        assert memory.add(entry("yes", id="c", minute=2), on_duplicate="skip") == first == "a"
        assert [one.id for one in memory.scan()] == ["a", "b"]
        with pytest.raises(InputError, match='on_duplicate must be "keep" or "skip"'):
            memory.add(entry("yes"), on_duplicate="drop")  # type: ignore[arg-type]  # what is refused

    def test_only_what_is_equal_in_one_session_is_a_repetition(
        self, memory: EpisodicMemory, root: tuple[str, ...]
    ) -> None:
        """Another session, role, namespace or character makes another entry; time and metadata do not."""
        memory.add(entry("Yes é", id="a"))
        others = [
            entry("Yes é", "s2", id="session"),
            EpisodicEntry("s1", "assistant", "Yes é", id="role", timestamp=START),
            entry("Yes é", id="namespace", namespace=(*root, "below")),
            entry("yes é", id="case"),
            entry("Yes é ", id="space"),
            entry("Yes e\u0301", id="accent"),
        ]
        names = [one.id for one in others]
        assert memory.add_many(others, on_duplicate="skip") == names
        again = [one.changed(id=f"{one.id} 2", metadata={"n": 1}, expires_at=None) for one in others]
        assert memory.add_many(again, on_duplicate="skip") == names
        assert memory.count() == 7

    def test_a_call_may_repeat_itself(self, memory: EpisodicMemory) -> None:
        """The first of equal entries of one call is stored, and the others are told its id, in their places."""
        texts = ["a", "b", "a", "c", "b", "a"]
        batch = [entry(text, id=str(n), minute=n) for n, text in enumerate(texts)]
        assert memory.add_many(batch, on_duplicate="skip") == ["0", "1", "0", "3", "1", "0"]
        assert contents(list(memory.scan())) == ["a", "b", "c"]
        assert memory.add_many(batch[::-1], on_duplicate="skip") == ["0", "1", "3", "0", "1", "0"]
        assert memory.count() == 3
        assert contents(memory.search("c", 3)) != []

    def test_a_known_id_is_replaced_all_the_same(self, memory: EpisodicMemory) -> None:
        """Who names an entry means that one; what it said before is no longer there to be repeated."""
        memory.add_many([entry("one", id="a"), entry("two", id="b", minute=1)])
        assert memory.add(entry("one", id="b", minute=2), on_duplicate="skip") == "b"
        assert contents(list(memory.scan())) == ["one", "one"]
        batch = [entry("new", id="a"), entry("new", id="b", minute=1), entry("one", id="c", minute=2)]
        assert memory.add_many(batch, on_duplicate="skip") == ["a", "b", "c"]
        assert contents(list(memory.scan())) == ["new", "new", "one"]

    def test_what_has_expired_is_not_repeated(self, memory: EpisodicMemory) -> None:
        """What nobody sees any more does not keep others out, be it stored or in the same call."""
        memory.add(entry("once", id="old", expires_at=START))
        batch = [entry("then", id="gone", expires_at=START), entry("then", id="here"), entry("then", id="again")]
        assert memory.add_many(batch, on_duplicate="skip") == ["gone", "here", "here"]
        assert memory.add(entry("once", id="new"), on_duplicate="skip") == "new"
        assert memory.add(entry("once", id="late", expires_at=START), on_duplicate="skip") == "new"
        assert {one.id for one in memory.scan()} == {"here", "new"}

    def test_what_was_deleted_may_be_said_again(self, memory: EpisodicMemory) -> None:
        """A deleted entry is no reason to leave another out."""
        memory.add(entry("yes", id="a"))
        memory.delete(Filter(ids=frozenset(["a"])))
        assert memory.add(entry("yes", id="b"), on_duplicate="skip") == "b"

    def test_who_says_the_same_at_once_is_stored_once(self, memory: EpisodicMemory) -> None:
        """Of threads that add equal entries at the same time one stores it, and all are told the same id."""
        told: list[list[str]] = []
        ready = threading.Barrier(4)

        def say(number: int) -> None:
            batch = [entry(f"turn {n}", id=f"{number}-{n}", minute=n) for n in range(20)]
            ready.wait()
            told.append([memory.add(one, on_duplicate="skip") for one in batch])

        speakers = [threading.Thread(target=say, args=(number,)) for number in range(4)]
        for speaker in speakers:
            speaker.start()
        for speaker in speakers:
            speaker.join()
        assert told == [told[0]] * 4
        assert [one.id for one in memory.scan()] == told[0]

    def test_the_newest_come_first_where_asked(self, manager: DefaultMemoryManager, root: tuple[str, ...]) -> None:
        """A scan from the newest is the other one turned round, ties included, whatever the filter and the limit."""
        manager.episodic.add_many(
            entry(f"{n}", f"s{n % 3}", id=f"n{n * 7 % 20}", minute=n // 4, namespace=(*root, f"t{n % 2}"))
            for n in range(20)
        )
        manager.episodic.add(entry("same id and moment", "s0", id="n0", namespace=(*root, "t9")))
        manager.episodic.add(entry("expired", minute=99, expires_at=START))
        below = Filter(namespace=(*root, "t1"))
        for where in (Filter(), Filter(session_id="s1"), below, Filter(role="user"), Filter(ids=["n0", "n7", "n3"])):  # type: ignore[arg-type]  # taken as a set
            forth = [one.identity for one in manager.backend.scan(where)]
            for limit in (None, 0, 1, 5, 100):
                back = [one.identity for one in manager.backend.scan(where, limit=limit, newest=True)]
                assert back == forth[::-1][:limit]
