"""What the stores of `peers.py` are given, and what is true of it: rows, questions, conditions and the best of each."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from data import made as made_vectors
from data import unit
from latency import made as made_utterances
from latency import read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from llmspell_memory.types import Matrix, Vector

K: Final = 10
ASKED: Final = 200
"""Questions there are; of a slow store fewer are asked."""

SHARES: Final = {"half": 2, "tenth": 10, "hundredth": 100}
"""Conditions on metadata: a number from 0 up to this; asked for is the one that is 0."""

_TEXTS: Final = "utterances-100k.jsonl.gz"
_VECTORS: Final = "utterances-minilm-100k.f16.npy"
_QUERIES: Final = "utterances-minilm-queries-1k.f16.npy"


class Row(NamedTuple):
    """An entry with its vector: what is stored."""

    id: str
    session: str
    text: str
    marks: dict[str, int]
    vector: Vector


class Question(NamedTuple):
    """What is asked: a vector, and a text that stands for it where a store takes texts alone."""

    text: str
    vector: Vector


class Where(NamedTuple):
    """A condition: "session" with its name, or one of SHARES with its number."""

    key: str
    value: str | int


class Material(NamedTuple):
    """All that is stored and asked."""

    rows: Sequence[Row]
    questions: Sequence[Question]
    matrix: Matrix
    source: str

    def vector_of(self) -> dict[str, Vector]:
        """Return the vector of every text, for stores that embed."""
        known = {row.text: row.vector for row in self.rows}
        return known | {question.text: question.vector for question in self.questions}


def load(folder: Path | None, size: int) -> Material:
    """Return `size` rows of a folder's utterances with their vectors; made ones where there is no folder."""
    if folder is None:
        lines = list(islice(made_utterances(size), size))
        both = made_vectors(size + ASKED)
        matrix, queries, source = both[:size], both[size:], "made: 384-d, clustered, seed 0"
    else:
        told = list(read(folder / _TEXTS))
        order = sorted(range(len(told)), key=lambda place: str(told[place]["session"]))[:size]  # sessions stay whole
        lines = [told[place] for place in order]
        matrix = unit(np.load(folder / _VECTORS, mmap_mode="r")[order])
        queries, source = unit(np.load(folder / _QUERIES)[:ASKED]), f"{_TEXTS}, {_VECTORS}"
    chance = np.random.default_rng(0)
    marks = {name: chance.integers(of, size=size) for name, of in SHARES.items()}
    rows = [
        Row(
            id=str(number),
            session=str(line["session"]),
            text=str(line["text"]),
            marks={name: int(values[number]) for name, values in marks.items()},
            vector=matrix[number],
        )
        for number, line in enumerate(lines)
    ]
    questions = [Question(f"q{number}", vector) for number, vector in enumerate(queries)]
    return Material(rows, questions, matrix, source)


def conditions(material: Material) -> dict[str, list[Where | None]]:
    """Return what each question is asked under, by the name of the condition: one session has at least K rows."""
    count = len(material.questions)
    told: dict[str, list[Where | None]] = {"none": [None] * count}
    told |= {name: [Where(name, 0)] * count for name in SHARES}
    sizes: dict[str, int] = {}
    for row in material.rows:
        sizes[row.session] = sizes.get(row.session, 0) + 1
    large = [name for name, rows in sizes.items() if rows >= K]
    if not large:
        raise SystemExit(f"no session has {K} rows; take more of them")
    chance = np.random.default_rng(1)
    return told | {"session": [Where("session", large[place]) for place in chance.integers(len(large), size=count)]}


class Judge:
    """Says how much of what should have been found was."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self._columns = {name: np.array([row.marks[name] for row in material.rows]) for name in SHARES}
        self._sessions = np.array([row.session for row in material.rows])

    def share(self, question: Question, where: Where | None, found: Sequence[str]) -> tuple[int, int]:
        """Return how many of the K best among what matches were found, and how many there are.

        Rows that tie for the last place are as good as one another; one that does not match counts for nothing.
        """
        scores = self._material.matrix @ question.vector
        if where is not None:
            column = self._sessions if where.key == "session" else self._columns[where.key]
            scores = np.where(column == where.value, scores, -np.inf)
        there = min(K, int(np.count_nonzero(np.isfinite(scores))))
        worst = np.partition(scores, -there)[-there] - 1e-6
        return sum(bool(scores[int(one)] >= worst) for one in set(found)), there
