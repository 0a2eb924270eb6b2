"""A sample of searches, judged by exact answers that are found while all rows pass by: without an index."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from llmspell_memory.operations.migration.follow import found
from llmspell_memory.operations.migration.report import RecallSample
from llmspell_memory.types import Filter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from numpy.typing import NDArray

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EpisodicEntry, Hit, Identity, Matrix, Vector
    from llmspell_memory.types.space import Metric

_K: Final = 10
_BLOCK: Final = 1024
_NOISE: Final = 0.05
"""Length of what is added to a stored vector to ask for what is near it, as a part of the vector's own."""

_SAME_SCORE: Final = {"float32": 1e-4, "float16": 4e-3}
"""How far two scores of the same pair may lie apart, as a part of the best one."""

_MORE: Final = 512


class Question(NamedTuple):
    """What is asked: of which kind, by which vector, among which entries."""

    what: str
    vector: Vector
    where: Filter


class Sample:
    """Rows to make searches of, drawn evenly from those that pass by (reservoir sampling, Vitter's algorithm R)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen = 0
        self._chance = random.Random(0)  # noqa: S311 (nobody is to be surprised by it)
        self.names: list[Identity] = []

    def see(self, entry: EpisodicEntry) -> None:
        """Let a row pass by."""
        if entry.expires_at is not None:
            return
        self._seen += 1
        if len(self.names) < self._size:
            self.names.append(entry.identity)
        elif (at := self._chance.randrange(self._seen)) < self._size:
            self.names[at] = entry.identity

    def questions(self, target: EpisodicBackend) -> Iterator[Question]:
        """Yield a vector near that of each row, as the target has it, and a filter for every second."""
        chance = np.random.default_rng(0)
        there = found(target, self.names)
        for number, row in enumerate(there[name] for name in self.names if name in there):
            assert row.embedding is not None  # noqa: S101 (for the type checker: a stored row has its vector)
            length = float(np.linalg.norm(row.embedding)) or 1.0
            noise = chance.standard_normal(len(row.embedding)) * length * _NOISE / np.sqrt(len(row.embedding))
            kinds = (
                ("session", Filter(session_id=row.session_id)),
                ("all", Filter()),
                ("namespace", Filter(namespace=row.namespace, below=False)),
                ("all", Filter()),
                ("role", Filter(role=row.role)),
                ("all", Filter()),
            )
            what, where = kinds[number % len(kinds)]
            yield Question(what, (row.embedding + noise).astype(np.float32), where)


class Truth:
    """The exact answers to questions, kept up while all rows pass by; in memory are the ten best of each.

    Args:
        questions: what is asked.
        metric: how vectors are compared.
    """

    def __init__(self, questions: list[Question], *, metric: Metric) -> None:
        self.questions = questions
        self._metric = metric
        self._now = datetime.now(UTC)
        self._rows: list[EpisodicEntry] = []
        self._best: list[list[tuple[float, Identity]]] = [[] for _ in questions]
        self._masks: dict[tuple[str, tuple[str, ...], str], NDArray[np.bool_]] = {}
        wheres = [one.where for one in questions]
        self._sessions = {one.session_id for one in wheres}
        self._namespaces = {one.namespace for one in wheres if not one.below}
        self._roles = {one.role for one in wheres}

    def see(self, entry: EpisodicEntry) -> None:
        """Let a row pass by."""
        if self.questions and (entry.expires_at is None or entry.expires_at > self._now):
            self._rows.append(entry)
            if len(self._rows) == _BLOCK:
                self._weigh()

    def best(self, number: int) -> list[tuple[float, Identity]]:
        """Return the scores and identities nearest to a question, best first."""
        if self._rows:
            self._weigh()
        return self._best[number]

    def _weigh(self) -> None:
        vectors = np.array([row.embedding for row in self._rows], np.float32)
        may = np.array([self._mask(row) for row in self._rows])
        for number, question in enumerate(self.questions):
            best = self._best[number]
            scores = np.where(may[:, number], scored(vectors, question.vector, self._metric), -np.inf)
            worst = best[-1][0] if len(best) == _K else -np.inf
            good = np.flatnonzero(scores > worst)
            if len(good) > _K:
                good = good[np.argpartition(scores[good], -_K)[-_K:]]
            new = [(float(scores[at]), (self._rows[at].namespace, self._rows[at].id)) for at in good]
            self._best[number] = sorted(best + new, reverse=True)[:_K]
        self._rows = []

    def _mask(self, row: EpisodicEntry) -> NDArray[np.bool_]:
        """Return which questions a row may answer: found once for all rows that the filters cannot tell apart."""
        key = (
            row.session_id if row.session_id in self._sessions else "",
            row.namespace if row.namespace in self._namespaces else ("",),
            row.role if row.role in self._roles else "",
        )
        mask = self._masks.get(key)
        if mask is None:
            mask = np.array([question.where.matches(row, now=self._now) for question in self.questions], np.bool_)
            self._masks[key] = mask
        return mask


def scored(vectors: Matrix, query: Vector, metric: Metric) -> Vector:
    """Return the score of each vector, higher for nearer."""
    if metric == "euclidean":
        away: Vector = -np.linalg.norm(vectors - query, axis=1)
        return away
    scores: Vector = vectors @ query
    if metric == "cosine":
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
        scores = np.divide(scores, lengths, out=np.zeros_like(scores), where=lengths > 0)
    return scores


def asked(
    truth: Truth,
    source: EpisodicBackend | None,
    target: EpisodicBackend,
    *,
    spare: Collection[Identity] = (),
    still: bool,
    on_done: Callable[[int], object] | None,
) -> tuple[RecallSample, ...]:
    """Ask the target, and the source where its index is at hand; return recall by kind of question.

    Nothing is asked of a target that searches exactly and has no index in memory yet: it would answer from the rows
    that were compared, and an index of them all would be made for that.

    Args:
        truth: the questions and their answers.
        source: of the migration; None where it cannot be asked.
        target: of the migration.
        spare: identities that do not count.
        still: whether nothing was written since the truth was found.
        on_done: told how many were asked.
    """
    stats = target.stats()
    if not target.hnsw and not stats.index.size:
        return ()
    near = _SAME_SCORE[target.hnsw.dtype if target.hnsw else "float32"]
    can_ask = source is not None and source.space == target.space and (not source.hnsw or source.stats().index.size)
    answers: dict[str, list[tuple[float, float | None, bool]]] = {}
    for number, question in enumerate(truth.questions):
        best = truth.best(number)
        if best:
            exact = recall(best, _hits(target, question, spare, exact=True), near)
            of_source = _recall_of_source(source, question, best, near) if can_ask and source is not None else None
            found_now = recall(best, _hits(target, question, spare), near)
            answers.setdefault(question.what, []).append((found_now, of_source, still and exact < 1))
        if on_done:
            on_done(number + 1)
    return tuple(
        RecallSample(
            what=what,
            searches=len(some),
            source=_mean([one[1] for one in some if one[1] is not None]) if can_ask else None,
            target=_mean([one[0] for one in some]),
            wrong=sum(one[2] for one in some),
        )
        for what, some in answers.items()
    )


def _recall_of_source(
    source: EpisodicBackend, question: Question, best: list[tuple[float, Identity]], near: float
) -> float:
    if not source.hnsw:
        return 1.0  # an exact search is the judge
    where = question.where if question.where.namespace else question.where.within(source.namespace)
    return recall(best, source.search(question.vector, _K, where), near)


def _hits(
    backend: EpisodicBackend, question: Question, spare: Collection[Identity], *, exact: bool = False
) -> list[Hit]:
    """Search, passing over identities that do not count."""
    count = _K + min(len(spare), _MORE) if spare else _K
    hits = backend.search(question.vector, count, question.where, exact=exact)
    return [hit for hit in hits if hit.entry.identity not in spare][:_K]


def recall(best: list[tuple[float, Identity]], hits: list[Hit], near: float) -> float:
    """Return the fraction of the best that was found; another row with as good a score counts as well."""
    names = {name for _, name in best}
    worst = best[-1][0] - near * max(1.0, abs(best[0][0]))
    good = sum(hit.entry.identity in names or hit.score >= worst for hit in hits[: len(best)])
    return good / len(best)


def _mean(values: list[float]) -> float:
    return float(np.mean(values))
