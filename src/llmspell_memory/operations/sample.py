"""A sample of searches, asked of two stores, and judged by the exact answer of one."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from llmspell_memory.operations.migration import RecallSample
from llmspell_memory.types import Filter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EpisodicEntry, Hit, Identity, Vector

_K: Final = 10
_NOISE: Final = 0.05
"""Length of what is added to a stored vector to ask for what is near it, as a part of the vector's own."""

_SAME_SCORE: Final = {"float32": 1e-5, "float16": 4e-3}
_IN_VAIN: Final = 10
_MORE: Final = 512


class Answer(NamedTuple):
    """Recall of the judge's own search and of the target's, and whether the target's exact answer is another."""

    source: float
    target: float
    wrong: bool


class Sample:
    """Rows to make searches of, drawn evenly from those that pass by (reservoir sampling, Vitter's algorithm R)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen = 0
        self._chance = random.Random(0)  # noqa: S311 (nobody is to be surprised by it)
        self.rows: list[EpisodicEntry] = []

    def see(self, entry: EpisodicEntry) -> None:
        """Let a row pass by."""
        self._seen += 1
        if len(self.rows) < self._size:
            self.rows.append(entry)
        elif (at := self._chance.randrange(self._seen)) < self._size:
            self.rows[at] = entry


def ask(
    judge: EpisodicBackend, target: EpisodicBackend, query: Vector, where: Filter, *, spare: Collection[Identity] = ()
) -> Answer | None:
    """Ask both the same; return both recalls, and whether the target's exact answer differs. None without an answer."""
    more = _K + min(len(spare), _MORE) if spare else _K  # what one of the two alone has may stand among the nearest
    truth = kept(judge.search(query, more, where, exact=True), spare)
    if not truth:
        return None
    dtypes = [one.hnsw.dtype if one.hnsw else "float32" for one in (judge, target)]
    near = max(_SAME_SCORE[dtype] for dtype in dtypes) * max(1.0, abs(truth[0].score))
    exact = kept(target.search(query, more, where, exact=True), spare)
    return Answer(
        recall(truth, kept(judge.search(query, more, where), spare), near),
        recall(truth, kept(target.search(query, more, where), spare), near),
        recall(truth, exact, near) < 1,
    )


def kept(hits: list[Hit], spare: Collection[Identity]) -> list[Hit]:
    """Return the hits without those of identities that do not count."""
    return [hit for hit in hits if (hit.entry.namespace, hit.entry.id) not in spare][:_K]


def recall(truth: list[Hit], hits: list[Hit], near: float) -> float:
    """Return the fraction of `truth` that was found; another row with as good a score counts as well."""
    names = {(hit.entry.namespace, hit.entry.id) for hit in truth}
    worst = truth[-1].score - near
    good = sum((hit.entry.namespace, hit.entry.id) in names or hit.score >= worst for hit in hits[: len(truth)])
    return good / len(truth)


def questions(rows: list[EpisodicEntry], scope: tuple[str, ...] = ()) -> Iterator[tuple[str, Vector, Filter]]:
    """Yield what is asked, a vector near that of a row, and a filter: none for every second, then one of three."""
    chance = np.random.default_rng(0)
    for number, row in enumerate(rows):
        assert row.embedding is not None  # noqa: S101 (for the type checker: Sample takes no others)
        length = float(np.linalg.norm(row.embedding)) or 1.0
        noise = chance.standard_normal(len(row.embedding)) * length * _NOISE / np.sqrt(len(row.embedding))
        query = (row.embedding + noise).astype(np.float32)
        kinds = (
            ("session", Filter(session_id=row.session_id, namespace=scope)),
            ("all", Filter(namespace=scope)),
            ("namespace", Filter(namespace=row.namespace, below=False)),
            ("all", Filter(namespace=scope)),
            ("role", Filter(role=row.role, namespace=scope)),
            ("all", Filter(namespace=scope)),
        )
        what, where = kinds[number % len(kinds)]
        yield what, query, where


def sampled(
    asked: Iterable[tuple[str, Vector, Filter]],
    ask_both: Callable[[Vector, Filter], Answer | None],
    *,
    judged: bool,
    on_done: Callable[[int], object] | None,
) -> tuple[RecallSample, ...]:
    """Ask everything, and return what came of it by the kind of question.

    Args:
        asked: kinds, vectors and filters.
        ask_both: returns an answer; None where there is none.
        judged: whether the source was asked, too.
        on_done: told how many were asked.
    """
    answers: dict[str, list[Answer]] = {}
    in_vain = 0
    for number, (what, query, where) in enumerate(asked, start=1):
        if answer := ask_both(query, where):
            answers.setdefault(what, []).append(answer)
        else:
            in_vain += 1
            if in_vain == _IN_VAIN:  # the source is written all the time; the rows were compared nevertheless
                break
        if on_done:
            on_done(number)
    return tuple(
        RecallSample(
            what=what,
            searches=len(some),
            source=float(np.mean([one.source for one in some])) if judged else None,
            target=float(np.mean([one.target for one in some])),
            wrong=sum(one.wrong for one in some),
        )
        for what, some in answers.items()
    )
