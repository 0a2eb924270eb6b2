"""Odd and extreme input gives a result or a typed error, the same on every backend."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory.errors import DimensionError, InputError
from llmspell_memory.testing.backends.material import DIMENSIONS, START, contents, entry
from llmspell_memory.types import EpisodicEntry, Filter

if TYPE_CHECKING:
    from llmspell_memory.memory import EpisodicMemory


class LimitsContract:
    """What a backend promises about input at its limits."""

    @pytest.mark.parametrize(
        "odd",
        [
            "'",
            '"; DROP TABLE entries; --',
            "%",
            "_",
            "*",
            "..",
            "../../x",
            "a/b.c",
            "\n",
            " ",
            "🦀",
            "é́",
            "\u202e",
            "x" * 10_240,
        ],
        ids=lambda text: repr(text[:12]),
    )
    def test_odd_ids_and_sessions_are_only_texts(self, memory: EpisodicMemory, root: tuple[str, ...], odd: str) -> None:
        """Quotes, wildcards, paths, emoji, control characters and 10 kB are kept and found as they are."""
        memory.add(entry("plain", "other", id="other"))
        there = (*root, odd)
        memory.add(EpisodicEntry(odd, odd, odd, id=odd, namespace=there, metadata={odd: odd}, timestamp=START))
        where = Filter(session_id=odd, role=odd, namespace=there, metadata={odd: odd}, ids=frozenset([odd]))
        assert memory.get(odd).content == odd
        assert [hit.entry.id for hit in memory.search(odd, 5, where=where)] == [odd]
        assert memory.mark_processed([odd]) == 1
        assert memory.delete(where) == 1
        assert contents(list(memory.scan())) == ["plain"]

    def test_bad_texts_are_refused(self) -> None:
        """Nothing, NUL and lone surrogates are errors that name the field, before anything is stored."""
        for bad in ("", "a\0b", "\ud800", b"bytes", None):
            with pytest.raises(InputError, match="content"):
                EpisodicEntry("s", "user", bad)  # type: ignore[arg-type]
            with pytest.raises(InputError, match="session_id"):
                Filter(session_id=bad) if bad is not None else EpisodicEntry(bad, "user", "x")  # type: ignore[arg-type]

    def test_nothing_given_is_not_everything(self, memory: EpisodicMemory) -> None:
        """None where an id, a session, a moment or a filter belongs is an error, never "all of them"."""
        memory.add_many([entry("one"), entry("two", "s2")])
        nothing: Any = None
        for use in (
            lambda: memory.get(nothing),
            lambda: memory.get_session(nothing),
            lambda: memory.mark_processed(nothing),
            lambda: memory.mark_processed("one"),
            lambda: memory.delete_before(nothing),
            lambda: memory.delete(nothing),
            lambda: memory.search("one", 1, where=nothing),
            lambda: memory.count(nothing),
            lambda: memory.sessions(nothing),
            lambda: memory.scan(nothing),
            lambda: memory.get_session("s1", namespace=nothing),
        ):
            with pytest.raises(InputError):
                use()
        assert memory.count(Filter(processed=False)) == 2

    def test_queries_and_k_at_their_limits(self, memory: EpisodicMemory) -> None:
        """A k of 0 is nothing, beyond the entries is all, below 0 and an empty query are errors."""
        memory.add_many([entry("one"), entry("two")])
        assert memory.search("one", 0) == []
        assert len(memory.search("one", 1000)) == 2
        for query, k in (
            ("one", -1),
            ("one", 1.5),
            ("one", True),
            ("", 1),
            ("\0", 1),
            ([], 1),
            ([[1.0]], 1),
            ("x", "1"),
        ):
            with pytest.raises(InputError):
                memory.search(query, k)  # type: ignore[arg-type]
        with pytest.raises(DimensionError):
            memory.search([1.0, 2.0], 1)
        with pytest.raises(InputError, match="zeros"):
            memory.search(np.zeros(DIMENSIONS), 1)

    @pytest.mark.parametrize("year", [1, 1969, 9999])
    def test_years_from_1_to_9999_are_kept(self, memory: EpisodicMemory, year: int) -> None:
        """The first and last moments a datetime can tell are stored and compared exactly."""
        moment = datetime(year, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
        memory.add(EpisodicEntry("s", "user", "then", id="x", timestamp=moment))
        assert memory.get("x").timestamp == moment
        assert memory.count(Filter(since=moment)) == 1
        assert memory.count(Filter(until=moment)) == 0

    def test_long_texts_and_deep_metadata_are_kept(self, memory: EpisodicMemory) -> None:
        """100,000 characters and 50 levels come back as they were."""
        deep: Any = "bottom"
        for _ in range(50):
            deep = {"d": [deep]}
        text = "word ünïcode 🦀 " * 7000
        memory.add(entry(text, id="x", metadata={"deep": deep}))
        assert memory.get("x").content == text
        assert memory.get("x").metadata == {"deep": deep}
        assert memory.count(Filter(metadata={"deep": deep})) == 1
