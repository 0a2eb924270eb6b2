"""The same operations on our storage and on CrewAI's own: the same results, wherever that one is right."""

from __future__ import annotations

import shutil
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from crewai.memory.storage.lancedb_storage import LanceDBStorage
from crewai.memory.types import MemoryRecord
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicBackendType, MemoryConfig
from llmspell_memory.adapters.crewai import EpisodicStorage
from llmspell_memory.embeddings import HashingProvider

if TYPE_CHECKING:
    import unittest

pytestmark = pytest.mark.filterwarnings("ignore")  # what CrewAI warns of is not ours

PROVIDER = HashingProvider(64)
SCOPES = ["/", "/app", "/apple", "/app-2", "/app/sub", "/app/sub/x", "/a_p", "/a%", "/o'hara", "/ü/b c"]
TEXTS = ["tea with milk", "coffee", "the ferry to Kiel", "tea", 'it\'s "quoted" 100%', "long " * 60]
CATEGORIES = ["x", "y", "o'hara", "ü b.c"]
START = datetime(2025, 1, 1)  # noqa: DTZ001 (CrewAI's own moments are naive)


def within(scope: str, prefix: str | None) -> bool:
    path = (prefix or "").strip("/")
    return not path or scope.strip("/") == path or scope.strip("/").startswith(path + "/")


class Corrected(LanceDBStorage):
    """CrewAI's storage without what it does wrong: each method here is one of its defects."""

    def matching(self, scope_prefix: str | None) -> list[MemoryRecord]:
        return [one for one in super().list_records(limit=10_000) if within(one.scope, scope_prefix)]

    def _scan_rows(self, scope_prefix: str | None = None, *_: Any, **__: Any) -> list[dict[str, Any]]:
        """Scopes are compared letter by letter there: "/app" has what is in "/apple"."""
        return [row for row in super()._scan_rows() if within(row["scope"], scope_prefix)]

    def search(  # type: ignore[override]  # by keywords, as it is called here
        self, query_embedding: list[float], scope_prefix: str | None = None, *, limit: int, **options: Any
    ) -> list[tuple[MemoryRecord, float]]:
        """Of scopes the same; and categories and values are compared after the best are chosen."""
        hits = super().search(query_embedding, limit=10_000, **options)
        return [(one, score) for one, score in hits if within(one.scope, scope_prefix)][:limit]

    def list_records(self, scope_prefix: str | None = None, limit: int = 200, offset: int = 0) -> list[MemoryRecord]:
        """Of scopes the same."""
        return self.matching(scope_prefix)[offset:][:limit]

    def delete(self, scope_prefix: str | None = None, **conditions: Any) -> int:  # type: ignore[override]  # the same
        """Ids make all else forgotten, or are forgotten; with a scope goes the root; an empty list of ids is all."""
        ids, before, categories = (conditions.get(name) for name in ("record_ids", "older_than", "categories"))
        values = conditions.get("metadata_filter") or {}
        gone = [
            one.id
            for one in self.matching(scope_prefix)
            if (ids is None or one.id in ids)
            and (before is None or one.created_at < before)
            and (not categories or set(categories) & set(one.categories))
            and all(one.metadata.get(key) == value for key, value in values.items())
        ]
        return super().delete(record_ids=gone) if gone else 0

    def reset(self, scope_prefix: str | None = None) -> None:
        """With "/app" goes "/app-2"; and a table is dropped whose width another process may think it knows."""
        self.delete(scope_prefix)


scopes = st.sampled_from(SCOPES)
prefixes = st.none() | scopes | scopes.map(lambda scope: scope + "/")
categories = st.lists(st.sampled_from(CATEGORIES), max_size=3, unique=True)
values = st.fixed_dictionaries(
    {}, optional={"n": st.sampled_from([2, 3, 2.5]), "t": st.sampled_from(TEXTS), "d": st.just({"a": [2]})}
)
conditions = st.fixed_dictionaries(
    {}, optional={"categories": categories, "metadata_filter": values | st.just({"n": None})}
)
drafts = st.fixed_dictionaries(
    {"content": st.sampled_from(TEXTS), "scope": scopes, "categories": categories, "metadata": values},
    optional={
        "importance": st.sampled_from([0.0, 0.25, 1.0]),
        "source": st.sampled_from(["erik", ""]),
        "private": st.booleans(),
    },
)


class Machine(RuleBasedStateMachine):
    """Does the same to both."""

    durable: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.theirs = Corrected(self.folder / "lance", vector_dim=PROVIDER.dimensions, compact_every=0)
        self.ids: list[str] = []
        self.open()

    def open(self) -> None:
        config = MemoryConfig.for_production(EmbeddingService(PROVIDER), path=self.folder / "memory.db")
        if not self.durable:
            config = config.with_path(None).with_backend(EpisodicBackendType.IN_MEMORY)
        self.manager = DefaultMemoryManager.with_config(config)
        self.ours = EpisodicStorage(self.manager)

    def record(self, draft: dict[str, Any]) -> MemoryRecord:
        """Return a record made after all others: neither storage says how equal moments are ordered."""
        self.ids.append(f"id-{len(self.ids)}")
        made = START + timedelta(hours=len(self.ids))
        (vector,) = self.ours.embedder([draft["content"]])
        return MemoryRecord(**draft, id=self.ids[-1], created_at=made, last_accessed=made, embedding=vector)

    @precondition(lambda self: self.durable)
    @rule()
    def reopen(self) -> None:
        self.manager.close()
        self.open()

    @rule(given=st.lists(drafts, min_size=1, max_size=6))
    def save(self, given: list[dict[str, Any]]) -> None:
        records = [self.record(one) for one in given]
        self.ours.save(records)
        self.theirs.save(records)
        self.check()

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), draft=drafts)
    def update(self, data: st.DataObject, draft: dict[str, Any]) -> None:
        name = data.draw(st.sampled_from(self.ids))
        changed = self.record(draft).model_copy(update={"id": name})
        self.ours.update(changed)
        self.theirs.update(changed)
        self.check()

    @rule(data=st.data(), prefix=prefixes, others=conditions, hours=st.none() | st.integers(0, 30))
    def delete(self, data: st.DataObject, prefix: str | None, others: dict[str, Any], hours: int | None) -> None:
        ids = data.draw(st.none() | st.lists(st.sampled_from([*self.ids, "unknown"]), max_size=4))
        older = None if hours is None else START + timedelta(hours=hours)
        arguments = {"scope_prefix": prefix, "record_ids": ids, "older_than": older, **others}
        assert self.ours.delete(**arguments) == self.theirs.delete(**arguments)
        self.check()

    @rule(prefix=scopes)
    def reset(self, prefix: str) -> None:
        self.ours.reset(prefix)
        self.theirs.reset(prefix)
        self.check()

    @rule(text=st.sampled_from([*TEXTS, "milk"]), prefix=prefixes, others=conditions, limit=st.integers(0, 5),
          least=st.sampled_from([0.0, 0.4, 0.9]))  # fmt: skip
    def search(self, text: str, prefix: str | None, others: dict[str, Any], limit: int, least: float) -> None:
        (vector,) = self.ours.embedder([text])
        every = self.theirs.search(vector, prefix, **others, limit=10_000, min_score=least - 1e-5)
        scores = {one.id: score for one, score in every}
        ours = self.ours.search(vector, prefix, **others, limit=limit, min_score=least)
        assert [score for _, score in ours] == pytest.approx([score for _, score in every][: len(ours)], abs=1e-5)
        for one, score in ours:
            assert scores[one.id] == pytest.approx(score, abs=1e-5)
        certain = sum(score >= least + 1e-5 for score in scores.values())
        assert min(limit, certain) <= len(ours) <= limit

    @rule(prefix=prefixes, limit=st.integers(-1, 6), offset=st.integers(0, 4))
    def page(self, prefix: str | None, limit: int, offset: int) -> None:
        ours = self.ours.list_records(prefix, limit, offset)
        assert [told(one) for one in ours] == [
            told(one) for one in self.theirs.list_records(prefix, max(0, limit), offset)
        ]

    @rule(scope=scopes, end=st.sampled_from(["", "/"]))
    def look(self, scope: str, end: str) -> None:
        assert self.ours.get_scope_info(scope + end) == self.theirs.get_scope_info(scope + end)
        assert self.ours.list_scopes(scope + end) == self.theirs.list_scopes(scope + end)
        assert self.ours.list_categories(scope + end) == self.theirs.list_categories(scope + end)
        assert self.ours.count(scope + end) == self.theirs.count(scope + end)

    def check(self) -> None:
        """What both hold is the same."""
        assert [told(one) for one in self.ours.list_records()] == [told(one) for one in self.theirs.list_records()]
        for name in self.ids[-3:]:
            ours, theirs = self.ours.get_record(name), self.theirs.get_record(name)
            assert (ours and told(ours)) == (theirs and told(theirs))

    def teardown(self) -> None:
        self.manager.close()
        shutil.rmtree(self.folder)


def told(record: MemoryRecord) -> tuple[dict[str, Any], list[float]]:
    return record.model_dump(), [round(float(one), 5) for one in record.embedding or []]


def case(*, durable: bool) -> type[unittest.TestCase]:
    machine: Any = type("Machine", (Machine,), {"durable": durable})
    machine.TestCase.settings = settings(
        max_examples=20,
        stateful_step_count=12,
        deadline=None,
        phases=[Phase.reuse, Phase.generate, Phase.shrink],  # explaining takes minutes
        suppress_health_check=list(HealthCheck),
    )
    return machine.TestCase  # type: ignore[no-any-return]  # hypothesis makes it


TestExact = case(durable=False)
TestDurableHNSW = case(durable=True)
