"""Random histories of an index, with saving and opening in between, against a dictionary."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from llmspell_memory import HNSWConfig
from llmspell_memory.index import HNSWIndex
from llmspell_memory.testing.indexes import METRICS, gaussian, oracle_scores

if TYPE_CHECKING:
    import unittest

    from llmspell_memory._core import DType
    from llmspell_memory.types import Metric

WIDTH = 5
POINTS = gaussian(30, WIDTH).astype(np.float16).astype(np.float32)
"""Few, so that labels share vectors; and of float16, so that both storages keep them as they are."""

labels = st.integers(0, 50) | st.sampled_from([2**62, 2**62 + 1])
points = st.integers(0, len(POINTS) - 1)


class SavedIndex(RuleBasedStateMachine):
    """An index that is saved and opened between any two of its changes holds what the dictionary does."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.model: dict[int, int] = {}
        self.saves = 0

    @initialize(
        metric=st.sampled_from(METRICS), dtype=st.sampled_from(["float32", "float16"]), m=st.sampled_from([2, 3, 8])
    )
    def begin(self, metric: Metric, dtype: DType, m: int) -> None:
        config = HNSWConfig(m=m, ef_construction=6, ef_search=4, dtype=dtype)
        self.index = HNSWIndex(dimensions=WIDTH, metric=metric, config=config)

    @rule(label=labels, point=points)
    def add(self, label: int, point: int) -> None:
        self.index.add([label], POINTS[point : point + 1])
        self.model[label] = point

    @rule(several=st.lists(st.tuples(labels, points), max_size=40), threads=st.sampled_from([1, 2]))
    def add_several(self, several: list[tuple[int, int]], threads: int) -> None:
        names = np.array([label for label, _ in several], np.int64)
        self.index.add(names, POINTS[[point for _, point in several]].reshape(-1, WIDTH), threads=threads)
        self.model.update(several)

    @rule(some=st.lists(labels, max_size=12))
    def remove(self, some: list[int]) -> None:
        self.index.remove(np.array(some, np.int64))
        for label in some:
            self.model.pop(label, None)

    @rule()
    def save_and_open(self) -> None:
        path = Path(self.folder.name) / "an.idx"  # mostly the file that the index lies in
        self.saves += 1
        self.index.save(path, tag=self.saves)
        self.index = HNSWIndex.open(path)
        assert self.index.tag == self.saves
        self.index.verify()

    @rule(point=points)
    def search(self, point: int) -> None:
        """Through the graph and by scanning, with as many candidates as there are labels, all come, scored."""
        held = np.array(sorted(self.model), np.int64)
        for route in ("graph", "scan"):
            found = self.index.core.search(POINTS[point], 100, 100, None, route)
            assert found is not None
            assert sorted(found[0].tolist()) == held.tolist()
            rows = POINTS[[self.model[label] for label in found[0].tolist()]].reshape(-1, WIDTH)
            truth = oracle_scores(rows, POINTS[point], self.index.metric)
            np.testing.assert_allclose(found[1], truth, atol=2e-3)

    @invariant()
    def is_whole(self) -> None:
        if hasattr(self, "index"):
            assert self.index.check() == ""
            assert len(self.index) == len(self.model)

    def teardown(self) -> None:
        self.folder.cleanup()


TestSavedIndex: type[unittest.TestCase] = SavedIndex.TestCase
TestSavedIndex.settings = settings(  # type: ignore[attr-defined]
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
