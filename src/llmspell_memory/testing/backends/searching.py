"""A filter means the same everywhere, and is applied before the k best are chosen."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory.testing.backends.material import DIMENSIONS, START, contents, entry
from llmspell_memory.testing.indexes import gaussian, oracle_scores
from llmspell_memory.types import EpisodicEntry, Filter

if TYPE_CHECKING:
    from llmspell_memory.memory import EpisodicMemory


class SearchContract:
    """What a backend promises about filters and searches."""

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            (Filter(), "abcdef"),
            (Filter(session_id="s1"), "ab"),
            (Filter(role="assistant"), "c"),
            (Filter(since=START + timedelta(minutes=3)), "def"),
            (Filter(until=START + timedelta(minutes=3)), "abc"),
            (Filter(since=START + timedelta(minutes=1), until=START + timedelta(minutes=2)), "b"),
            (Filter(known_by=START), "a"),
            (Filter(processed=True), "d"),
            (Filter(metadata={"n": 1}), "ad"),
            (Filter(metadata={"n": 1.0, "t": "x"}), "a"),
            (Filter(metadata={"n": True}), "b"),
            (Filter(metadata={"deep": {"k": [1, 2]}}), "c"),
            (Filter(metadata={"deep": {"k": [1]}}), ""),
            (Filter(metadata={"none": None}), "e"),
            (Filter(metadata={"n": 2**70}), "f"),
            (Filter(metadata={'odd".key': "v%_"}), "e"),
            (Filter(namespace=("acme",)), "ef"),
            (Filter(namespace=("acme", "bob")), "f"),
            (Filter(namespace=("ac",)), ""),
            (Filter(ids=frozenset(["a", "f", "zzz"])), "af"),
            (Filter(ids=frozenset()), ""),
            (Filter(session_id="s1", role="user", metadata={"n": 1}), "a"),
        ],
    )
    def test_filters_choose_the_same_everywhere(
        self, memory: EpisodicMemory, root: tuple[str, ...], where: Filter, expected: str
    ) -> None:
        """Scan, count, search, sessions, mark and delete all mean the same entries by a filter."""
        where = replace(where, namespace=(*root, *where.namespace) if where.namespace else ())
        letters: list[dict[str, Any]] = [
            {"session_id": "s1", "metadata": {"n": 1, "t": "x"}, "ingestion_time": START},
            {"session_id": "s1", "metadata": {"n": True}},
            {"session_id": "S1", "role": "assistant", "metadata": {"deep": {"k": [1.0, 2]}}},
            {"session_id": "s%", "metadata": {"n": 1.0}, "processed": True},
            {"session_id": "s_", "metadata": {"none": None, 'odd".key': "v%_"}, "namespace": (*root, "acme", "alice")},
            {"session_id": "s", "metadata": {"n": 2**70}, "namespace": (*root, "acme", "bob")},
        ]
        memory.add_many(
            EpisodicEntry(
                **{"role": "user", "content": f"letter {name}", "id": name, **fields},
                timestamp=START + timedelta(minutes=number),
            )
            for number, (name, fields) in enumerate(zip("abcdef", letters, strict=True))
        )
        assert "".join(one.id for one in memory.scan(where)) == expected
        assert memory.count(where) == len(expected)
        assert "".join(sorted(hit.entry.id for hit in memory.search("letter", 10, where=where))) == expected
        assert sum(line.entries for line in memory.sessions(where)) == len(expected)
        assert memory.delete(where, everything=True) == len(expected)
        assert "".join(one.id for one in memory.scan()) == "".join(sorted(set("abcdef") - set(expected)))

    def test_a_small_session_in_a_big_store_is_found_whole(self, memory: EpisodicMemory) -> None:
        """A search in a session of 5 among 10,000 entries returns those 5, ranked as the definition ranks them."""
        vectors = gaussian(10_000, DIMENSIONS)
        memory.add_many(
            entry(f"n{n}", "small" if n % 2000 == 7 else f"s{n % 50}", embedding=vector)
            for n, vector in enumerate(vectors)
        )
        small = vectors[7::2000]
        for query in gaussian(10, DIMENSIONS, seed=4):
            hits = memory.search(query, 10, where=Filter(session_id="small"))
            order = np.argsort(-oracle_scores(small, query, "cosine"))
            assert contents(hits) == [f"n{7 + 2000 * row}" for row in order]

    def test_a_filtered_search_is_whole_beside_a_writer(self, memory: EpisodicMemory) -> None:
        """While entries are exchanged for others, a search always finds k of those that match, and only such."""
        vectors = gaussian(40, DIMENSIONS)
        where = Filter(metadata={"kind": "kept"}, processed=False)
        done = threading.Event()
        faults: list[str] = []

        def generation(number: int) -> list[EpisodicEntry]:
            return [
                entry(f"{number}", id=f"{number}-{row}", metadata={"kind": "kept"}, embedding=vector)
                for row, vector in enumerate(vectors[:20])
            ]

        def read() -> None:
            while not done.is_set():
                hits = memory.search(vectors[30], 20, where=where)
                if len(hits) != 20:
                    faults.append(f"{len(hits)} hits")
                if any(hit.entry.processed or hit.entry.metadata.get("kind") != "kept" for hit in hits):
                    faults.append("a hit that does not match")

        memory.add_many(entry(f"n{n}", f"s{n}", embedding=vector) for n, vector in enumerate(gaussian(500, DIMENSIONS)))
        memory.add_many(generation(0))
        reader = threading.Thread(target=read)
        reader.start()
        for number in range(1, 100):
            memory.add_many(generation(number))
            gone = frozenset(f"{number - 1}-{row}" for row in range(20))
            memory.mark_processed(gone)
            memory.delete(Filter(ids=gone))
        done.set()
        reader.join()
        assert faults == []
