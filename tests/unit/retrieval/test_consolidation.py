"""What was said is read once, a session at a time, and a crash repeats one batch without doubling anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, Filter, InputError, MemoryConfig
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.retrieval import Consolidation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmspell_memory import EpisodicMemory

NOON = datetime(2025, 6, 18, 12, tzinfo=UTC)


class Counting:
    """Makes one entry of a batch, which names what was read; can fail at a call."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.read: list[list[str]] = []
        self._fails_at = fails_at

    def consolidate(self, entries: Sequence[EpisodicEntry]) -> list[EpisodicEntry]:
        self.read.append([one.id for one in entries])
        if len(self.read) == self._fails_at:
            raise RuntimeError("no answer")
        return [EpisodicEntry(entries[0].session_id, "fact", " ".join(self.read[-1]))]


def turn(name: str, *, hours: int, namespace: tuple[str, ...] = ()) -> EpisodicEntry:
    moment = NOON + timedelta(hours=hours)
    return EpisodicEntry(f"s-{name[0]}", "user", f"said {name}", id=name, namespace=namespace, timestamp=moment)


@pytest.fixture
def memory() -> Iterator[EpisodicMemory]:
    with DefaultMemoryManager.with_config(MemoryConfig(service=EmbeddingService(HashingProvider(64)))) as manager:
        manager.episodic.add_many([turn(f"{name}{n}", hours=n) for name in "ab" for n in range(5)])
        yield manager.episodic


def facts(memory: EpisodicMemory) -> list[str]:
    return sorted(one.content for one in memory.scan(Filter(role="fact")))


def test_every_entry_is_read_once_in_batches_of_a_session(memory: EpisodicMemory) -> None:
    """A second time there is nothing to do: what was made is not read either."""
    counting = Counting()
    assert memory.consolidate(counting, batch=3) == Consolidation(batches=4, read=10, added=4)
    assert sorted(counting.read) == [["a0", "a1", "a2"], ["a3", "a4"], ["b0", "b1", "b2"], ["b3", "b4"]]
    assert memory.list_unprocessed() == []
    assert memory.consolidate(counting) == Consolidation()
    assert memory.consolidate(counting, where=Filter(session_id="s-a")) == Consolidation()


def test_a_filter_says_what_is_read(memory: EpisodicMemory) -> None:
    """What does not match stays as it was."""
    assert memory.consolidate(Counting(), where=Filter(session_id="s-a", until=NOON + timedelta(hours=2))).read == 2
    assert len(memory.list_unprocessed()) == 8


def test_a_failing_consolidator_leaves_its_batch_unread(memory: EpisodicMemory) -> None:
    """What came before it is done, and the next call begins with that batch."""
    with pytest.raises(RuntimeError, match="no answer"):
        memory.consolidate(failing := Counting(fails_at=2), batch=3)
    assert len(memory.list_unprocessed()) == 7
    memory.consolidate(again := Counting(), batch=3)
    assert again.read[0] == failing.read[1]
    assert len(facts(memory)) == 4


def test_a_crash_before_the_mark_repeats_one_batch_and_doubles_nothing(
    memory: EpisodicMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the batch had given is replaced, also where the session has gone on meanwhile."""

    def crash(where: Filter) -> int:
        raise KeyboardInterrupt(repr(where))

    only = Filter(session_id="s-a")
    with monkeypatch.context() as patch:
        patch.setattr(memory._backend, "mark_processed", crash)
        with pytest.raises(KeyboardInterrupt):
            memory.consolidate(Counting(), where=only)
    assert facts(memory) == ["a0 a1 a2 a3 a4"]
    memory.add(turn("a5", hours=5))
    memory.consolidate(Counting(), where=only)
    assert facts(memory) == ["a0 a1 a2 a3 a4 a5"]


class Fewer:
    """Makes as many facts of a batch as it is told."""

    def __init__(self, count: int) -> None:
        self.count = count

    def consolidate(self, entries: Sequence[EpisodicEntry]) -> list[EpisodicEntry]:
        return [EpisodicEntry(entries[0].session_id, "fact", f"{n} of {self.count}") for n in range(self.count)]


def test_a_repeated_batch_that_gives_less_leaves_nothing_over(
    memory: EpisodicMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it gave before, and does not give again, is deleted."""
    only = Filter(session_id="s-a")
    with monkeypatch.context() as patch:
        patch.setattr(memory._backend, "mark_processed", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            memory.consolidate(Fewer(4), where=only)
    assert len(facts(memory)) == 4
    memory.consolidate(Fewer(1), where=only)
    assert facts(memory) == ["0 of 1"]
    memory.add(turn("a9", hours=9))
    memory.consolidate(Fewer(0), where=only)
    assert facts(memory) == ["0 of 1"], "those of another batch stay"


def test_what_is_replaced_while_it_is_read_is_read_again(memory: EpisodicMemory) -> None:
    """Its new words were not read; and a consolidator that replaces what it reads does not go on for ever."""

    class Replacing(Counting):
        def __init__(self, names: list[str]) -> None:
            super().__init__()
            self.names = names

        def consolidate(self, entries: Sequence[EpisodicEntry]) -> list[EpisodicEntry]:
            for name in self.names:
                memory.add(turn(name, hours=int(name[1])).changed(content=f"{name} anew, {len(self.read)}"))
            return super().consolidate(entries)

    only = Filter(session_id="s-a")
    assert memory.consolidate(Replacing(["a1"]), where=only, batch=5).read == 4
    assert [one.content for one in memory.list_unprocessed(session_id="s-a")] == ["a1 anew, 1"]
    memory.consolidate(Counting(), where=only)
    assert memory.list_unprocessed(session_id="s-a") == []
    memory.add(turn("a1", hours=1))
    assert memory.consolidate(Replacing(["a1"]), where=only).read == 0
    assert len(memory.list_unprocessed(session_id="s-a")) == 1


def test_namespaces_are_not_mixed(memory: EpisodicMemory) -> None:
    """An entry of the same id and session below is another's: it is read apart, and its facts are its own's."""
    memory.add_many([turn("a0", hours=0, namespace=("x",)), turn("a0", hours=0, namespace=("x", "y"))])
    below = Filter(namespace=("x",))
    counting = Counting()
    memory.consolidate(counting, where=Filter(namespace=("x",), below=False))
    assert [one.namespace for one in memory.list_unprocessed(namespace=("x",))] == [("x", "y")]
    memory.consolidate(counting, where=below)
    assert sorted(one.namespace for one in memory.scan(Filter(role="fact"))) == [("x",), ("x", "y")]
    assert counting.read == [["a0"], ["a0"]]


class Wrong:
    def consolidate(self, entries: Sequence[EpisodicEntry]) -> Any:
        del entries
        return ["a fact"]


@pytest.mark.parametrize(
    ("consolidator", "given", "message"),
    [
        (len, {}, "must have a method"),
        (Wrong(), {}, "must return entries"),
        (Counting(), {"batch": 0}, "batch must be"),
        (Counting(), {"where": None}, "where must be"),
    ],
)
def test_wrong_arguments_are_refused(
    memory: EpisodicMemory, consolidator: Any, given: dict[str, Any], message: str
) -> None:
    """Each says what it should be, and nothing is marked."""
    with pytest.raises(InputError, match=message):
        memory.consolidate(consolidator, **given)
    assert len(memory.list_unprocessed()) == 10
