"""Entries end as they were told to: what has expired is unseen, what is swept is told, what is forgotten is gone."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from llmspell_memory.errors import InputError, NotFoundError
from llmspell_memory.testing.backends.material import DIMENSIONS, START, contents, entry
from llmspell_memory.testing.indexes import gaussian
from llmspell_memory.types import Filter, Removal, RetentionRule

if TYPE_CHECKING:
    from llmspell_memory.manager import DefaultMemoryManager
    from llmspell_memory.memory import EpisodicMemory

PAST = datetime(2020, 1, 1, tzinfo=UTC)
FUTURE = datetime(9000, 1, 1, tzinfo=UTC)


class RetentionContract:
    """What a backend promises about the end of entries."""

    def test_what_has_expired_is_invisible_at_once(self, memory: EpisodicMemory) -> None:
        """No verb sees, marks or deletes it, and a search fills its place with others, before anything is swept."""
        memory.add_many([entry(f"tea {n}", f"s{n % 2}", id=f"n{n}", minute=n) for n in range(4, 7)])
        memory.add(entry("tea 7", "s1", id="n7", minute=7, expires_at=FUTURE))
        for seconds in (0.3, 1.0, 5.0, 30.0):  # until there is time to look before
            soon = datetime.now(UTC) + timedelta(seconds=seconds)
            memory.add_many([entry(f"tea {n}", f"s{n % 2}", id=f"n{n}", minute=n, expires_at=soon) for n in range(4)])
            there = len(memory.search("tea", 8)), memory.count()
            if datetime.now(UTC) < soon:
                break
        assert there == (8, 8)
        time.sleep(max(0.0, (soon - datetime.now(UTC)).total_seconds()) + 0.01)
        kept = ["tea 4", "tea 5", "tea 6", "tea 7"]
        assert contents(list(memory.scan())) == kept
        assert sorted(contents(memory.search("tea", 4))) == sorted(contents(memory.search("tea", 8))) == kept
        assert sorted(contents(memory.search("tea", 4, where=Filter(session_id="s1")))) == ["tea 5", "tea 7"]
        assert memory.count() == len(memory.list_unprocessed()) == 4
        assert sum(line.entries for line in memory.sessions()) == 4
        assert contents(memory.get_session("s0")) == ["tea 4", "tea 6"]
        with pytest.raises(NotFoundError):
            memory.get("n1")
        assert memory.mark_processed(["n1"]) == memory.delete(Filter(ids=frozenset(["n1"]))) == 0
        assert memory.count(Filter(expired=True)) == 4
        assert memory.count(Filter(expired=None)) == 8

    def test_an_expiry_can_be_changed(self, memory: EpisodicMemory) -> None:
        """Adding an id again with another expiry, or none, makes the entry visible or invisible."""
        memory.add(entry("x", id="x", expires_at=PAST))
        assert memory.count() == 0
        assert memory.search("x", 1) == []
        memory.add(entry("x", id="x"))
        assert memory.get("x").expires_at is None
        assert contents(memory.search("x", 1)) == ["x"]
        memory.add(entry("x", id="x", expires_at=FUTURE))
        assert memory.get("x").expires_at == FUTURE
        memory.add(entry("x", id="x", expires_at=PAST))
        assert memory.count() == len(memory.search("x", 1)) == 0

    def test_a_life_can_be_prolonged_or_ended(self, memory: EpisodicMemory) -> None:
        """Every verb follows a new expiry at once, nothing else of the entry changes, and a filter says whose it is."""
        memory.add_many([entry(f"tea {n}", f"s{n % 2}", id=f"n{n}", minute=n, expires_at=FUTURE) for n in range(4)])
        before = {one.id: one for one in memory.scan()}
        assert memory.set_expiry(Filter(session_id="s1"), PAST) == 2
        assert contents(list(memory.scan())) == ["tea 0", "tea 2"]
        assert sorted(contents(memory.search("tea", 4))) == ["tea 0", "tea 2"]
        assert contents(memory.search("tea", 4, mode="keyword", where=Filter(session_id="s1"))) == []
        assert memory.set_expiry(Filter(ids=frozenset(["n1", "n0"])), None) == 1
        assert memory.get("n0").expires_at is None
        assert memory.set_expiry(Filter(ids=frozenset(["n1"]), expired=None), FUTURE) == 1
        assert memory.get("n1") == before["n1"]
        assert sorted(contents(memory.search("tea", 4))) == ["tea 0", "tea 1", "tea 2"]
        assert sorted(contents(memory.search("tea", 4, mode="keyword"))) == ["tea 0", "tea 1", "tea 2"]
        assert memory.set_expiry(Filter(ids=frozenset(["unknown"])), PAST) == 0
        assert memory.sweep().entries == 1
        with pytest.raises(InputError):
            memory.set_expiry(Filter(), datetime(2020, 1, 1))  # noqa: DTZ001 (naive on purpose)

    def test_a_sweep_removes_what_has_expired_and_tells_it(self, memory: EpisodicMemory, root: tuple[str, ...]) -> None:
        """Only what has expired goes, is told by namespace, and a second sweep finds nothing."""
        acme = (*root, "acme", "alice")
        memory.add_many([entry(f"n{n}", id=f"n{n}", expires_at=PAST if n % 2 else FUTURE) for n in range(6)])
        memory.add_many([entry(f"n{n}", id=f"n{n}", namespace=acme, expires_at=PAST) for n in range(3)])
        memory.add(entry("for ever", id="e", namespace=acme))
        report = memory.sweep()
        assert report.removals == (
            Removal(reason="expired", namespace=root, entries=3),
            Removal(reason="expired", namespace=acme, entries=3),
        )
        assert report.entries == 6
        assert memory.count(Filter(expired=None)) == 4
        assert memory.sweep().removals == ()

    def test_rules_limit_age_and_number_by_namespace(self, memory: EpisodicMemory, root: tuple[str, ...]) -> None:
        """A rule holds for its namespace and those below, each counted alone; the newest stay, others are untouched."""
        now = datetime.now(UTC)
        acme, alice, acme2 = (*root, "acme"), (*root, "acme", "alice"), (*root, "acme2")
        for namespace in [root, acme, alice, acme2]:
            memory.add_many(
                entry(f"{n}", id=f"n{n}", namespace=namespace).changed(timestamp=now - timedelta(days=n))
                for n in range(10)
            )
        report = memory.sweep(RetentionRule(namespace=acme, max_age=timedelta(days=7.5), max_entries=3))
        assert {(one.reason, one.namespace, one.entries) for one in report.removals} == {
            ("too old", acme, 2),
            ("too many", acme, 5),
            ("too old", alice, 2),
            ("too many", alice, 5),
        }
        for namespace, count in [(root, 10), (acme, 3), (alice, 3), (acme2, 10)]:
            alone = Filter(namespace=namespace, below=False)
            assert sorted(contents(list(memory.scan(alone)))) == [str(n) for n in range(count)]

    def test_a_namespace_can_be_meant_alone(self, memory: EpisodicMemory, root: tuple[str, ...]) -> None:
        """With `below=False` every verb means the one namespace, and not those below it."""
        for below in [(), ("a",), ("a", "b"), ("ab",)]:
            memory.add(entry("/".join(("tea", *below)), id="x", namespace=(*root, *below)))
        for below, expected in [((), "tea"), (("a",), "tea/a"), (("a", "b"), "tea/a/b"), (("b",), None)]:
            alone = Filter(namespace=(*root, *below), below=False)
            expect = [] if expected is None else [expected]
            assert contents(list(memory.scan(alone))) == contents(memory.search("tea", 5, where=alone)) == expect
            assert memory.count(alone) == sum(line.entries for line in memory.sessions(alone)) == len(expect)
        assert memory.delete(Filter(namespace=(*root, "a"), below=False)) == 1
        assert memory.count() == 3

    def test_what_is_forgotten_is_gone_and_receipted(
        self, manager: DefaultMemoryManager, root: tuple[str, ...]
    ) -> None:
        """Forgetting removes what matches, expired or not, from rows, index and embedding cache, and tells of it."""
        memory, service, acme = manager.episodic, manager.service, (*root, "acme")
        memory.add_many([entry(f"secret {n}", f"s{n % 2}", id=f"n{n}", namespace=acme) for n in range(4)])
        memory.add(entry("secret, expired", "s2", id="old", namespace=acme, expires_at=PAST))
        memory.add_many([entry(f"public {n}", id=f"p{n}") for n in range(4)])
        memory.delete(Filter(ids=frozenset(["n3"])))
        where = Filter(namespace=acme)
        receipt = memory.forget(where)
        assert receipt.where == where
        assert (receipt.entries, receipt.sessions, receipt.texts) == (4, 3, 4)
        assert sorted(receipt.ids) == [(acme, "n0"), (acme, "n1"), (acme, "n2"), (acme, "old")]
        assert receipt.began <= receipt.finished <= datetime.now(UTC)
        assert memory.count(Filter(expired=None)) == len(memory.search("secret", 9)) == manager.stats().index.size == 4
        misses = service.misses
        service.embed(["secret 0", "secret, expired"])
        assert service.misses == misses + 2
        assert memory.forget(where).entries == 0
        memory.add(entry("secret 0", id="n0"))
        assert contents(memory.search("secret 0", 1)) == ["secret 0"]

    def test_only_what_has_expired_can_be_forgotten(self, memory: EpisodicMemory) -> None:
        """A filter that asks for what has expired means that, and nothing living."""
        memory.add_many([entry("lives", id="l"), entry("gone", id="g", expires_at=PAST)])
        assert [one for _, one in memory.forget(Filter(expired=True)).ids] == ["g"]
        assert contents(list(memory.scan(Filter(expired=None)))) == ["lives"]

    def test_many_may_have_expired(self, memory: EpisodicMemory) -> None:
        """With hundreds expired among the nearest, a search still finds k of the living, the best of them."""
        vectors = gaussian(2000, DIMENSIONS)
        for number, count in [(0, 40), (40, 700)]:
            memory.add_many(
                entry(f"e{n}", id=f"e{n}", expires_at=PAST, embedding=vectors[0] + 0.01 * vectors[n + 1])
                for n in range(number, number + count)
            )
            memory.add_many(entry(f"n{n}", id=f"n{n}", embedding=vectors[n]) for n in range(1000, 1300))
            hits = memory.search(vectors[0], 20)
            assert len(hits) == 20
            assert all(hit.entry.id.startswith("n") for hit in hits)
            assert hits[0].score == max(hit.score for hit in memory.search(vectors[0], 300))

    def test_forgetting_everything_must_be_said(self, memory: EpisodicMemory) -> None:
        """Without a condition forgetting is refused, unless everything is what is meant; then all is gone."""
        memory.add_many([entry("one"), entry("two", expires_at=PAST)])
        with pytest.raises(InputError, match="everything=True"):
            memory.forget(Filter())
        assert memory.count(Filter(expired=None)) == 2
        assert memory.forget(Filter(), everything=True).entries == 2
        assert memory.count(Filter(expired=None)) == 0
        memory.add(entry("three"))
        assert contents(memory.search("three", 3)) == ["three"]

    def test_searches_find_k_after_much_was_forgotten(self, memory: EpisodicMemory) -> None:
        """With half of a thousand entries forgotten, a search finds the best of the others, as many as asked for."""
        vectors = gaussian(1000, DIMENSIONS)
        memory.add_many(entry(f"n{n}", f"s{n % 2}", embedding=vector) for n, vector in enumerate(vectors))
        assert memory.forget(Filter(session_id="s0")).entries == 500
        for number in range(1, 100, 10):
            hits = memory.search(vectors[number], 500)
            assert len(hits) == 500
            assert hits[0].entry.content == f"n{number}"

    def test_expiry_is_kept_in_order_of_time(self, memory: EpisodicMemory) -> None:
        """Expiries before 1970, to the microsecond and at the end of time come back as they were."""
        for moment in (START, PAST.replace(year=1960, microsecond=123_457), FUTURE.replace(year=9999)):
            memory.add(entry("x", id="x", expires_at=moment))
            (found,) = memory.scan(Filter(expired=None))
            assert found.expires_at == moment
