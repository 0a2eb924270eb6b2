"""The demo's measurements: answers with their times, the two views side by side, and a store opened again."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.memory import EpisodicMemory
from llmspell_memory.types import Filter, HNSWConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from llmspell_memory.cli.demonstration.material import Question
    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.manager import DefaultMemoryManager
    from llmspell_memory.types import Hit, Vector

K: Final = 10
_RUNS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a question found, and how long embedding it and searching for it took, in microseconds."""

    question: Question
    vector: Vector
    hits: list[Hit]
    embed_us: float
    search_us: float

    def found_in(self, k: int) -> bool:
        """Say whether a piece of the evidence is among the first k."""
        return any(hit.entry.id in self.question.evidence for hit in self.hits[:k])


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewFigures:
    """One view of the store: time to build its index, its size, recall@10 against exact, search times in µs."""

    view: str
    build_ms: float
    memory_bytes: int
    recall: float
    p50_us: float
    p95_us: float
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopened:
    """What a store is after it was closed and opened again, against what it was before."""

    before: int
    after: int
    entry_id: str
    entry_equal: bool
    question: str
    hits_equal: bool

    @property
    def equal(self) -> bool:
        """Whether all is as it was."""
        return self.before == self.after and self.entry_equal and self.hits_equal


def answers(memory: DefaultMemoryManager, questions: Sequence[Question]) -> list[Answer]:
    """Ask every question; one search beforehand pays for what only the first one does."""
    if questions:
        memory.episodic.search(questions[0].text, K)
        memory.service.forget([questions[0].text])
    return [_answer(memory, question) for question in questions]


def _answer(memory: DefaultMemoryManager, question: Question) -> Answer:
    began = time.perf_counter()
    vector = memory.service.embed_one(question.text)
    embedded = time.perf_counter()
    hits = memory.episodic.search(vector, K + (question.asked_in is not None))
    found = time.perf_counter()
    return Answer(
        question=question,
        vector=vector,
        hits=[hit for hit in hits if hit.entry.id != question.asked_in][:K],
        embed_us=(embedded - began) * 1e6,
        search_us=(found - embedded) * 1e6,
    )


def both_views(path: Path, service: EmbeddingService, vectors: Sequence[Vector]) -> list[ViewFigures]:
    """Search one file through the exact and through the HNSW view, in turn, so that both meet the same disturbances."""
    with (
        closing(SQLiteBackend(path, service.space, warm=False)) as exact,
        closing(SQLiteBackend(path, service.space, hnsw=HNSWConfig(), warm=False)) as hnsw,
    ):
        views = {"exact": exact, "hnsw": hnsw}
        built = {name: _build_ms(backend) for name, backend in views.items()}
        memories = {name: EpisodicMemory(backend, service) for name, backend in views.items()}
        truth = [_ids(memories["exact"], vector) for vector in vectors]
        times = _times(memories, vectors)
        return [
            ViewFigures(
                view=name,
                build_ms=built[name],
                memory_bytes=backend.stats().index.memory_bytes,
                recall=_recall([_ids(memories[name], vector) for vector in vectors], truth),
                p50_us=float(np.percentile(times[name], 50)),
                p95_us=float(np.percentile(times[name], 95)),
                runs=len(times[name]),
            )
            for name, backend in views.items()
        ]


def _build_ms(backend: SQLiteBackend) -> float:
    began = time.perf_counter()
    backend.configure(backend.stats().index.config, rebuild=True)
    return (time.perf_counter() - began) * 1e3


def _times(memories: dict[str, EpisodicMemory], vectors: Sequence[Vector]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in memories}
    for _ in range(math.ceil(_RUNS / len(vectors))):
        for vector in vectors:
            for name, memory in memories.items():
                began = time.perf_counter()
                memory.search(vector, K)
                times[name].append((time.perf_counter() - began) * 1e6)
    return times


def _ids(memory: EpisodicMemory, vector: Vector) -> set[str]:
    return {hit.entry.id for hit in memory.search(vector, K)}


def _recall(found: list[set[str]], truth: list[set[str]]) -> float:
    return sum(len(some & all_) for some, all_ in zip(found, truth, strict=True)) / max(1, sum(map(len, truth)))


def reopened(path: Path, service: EmbeddingService, before: DefaultMemoryManager, answer: Answer) -> Reopened:
    """Close `before`, open its file again, and compare."""
    count = before.episodic.count()
    entry = answer.hits[0].entry
    old = before.episodic.search(answer.vector, K)
    before.close()
    with closing(SQLiteBackend(path, service.space, hnsw=HNSWConfig())) as backend:
        memory = EpisodicMemory(backend, service)
        again = next(memory.scan(Filter(ids=frozenset([entry.id]), namespace=entry.namespace)), None)
        new = memory.search(answer.vector, K)
        return Reopened(
            before=count,
            after=memory.count(),
            entry_id=entry.id,
            entry_equal=again == entry and np.array_equal(again.embedding, entry.embedding),  # type: ignore[arg-type]
            question=answer.question.text,
            hits_equal=new == old,
        )
