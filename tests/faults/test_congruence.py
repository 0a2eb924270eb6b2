"""Two backends side by side under random operations: exact in RAM, and SQLite with HNSW in a process that is killed.

The file is also the program of that process: it does what the test writes to its input, and answers on its output.
"""

from __future__ import annotations

import contextlib
import pickle
import random
import select
import signal
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias

import numpy as np
import pytest

from llmspell_memory import EmbeddingSpace, EpisodicEntry, Filter, HNSWConfig
from llmspell_memory.backends import LocalBackend, SQLiteBackend
from llmspell_memory.testing.backends import fields_of
from llmspell_memory.testing.indexes import oracle_scores

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmspell_memory.types import Hit, Vector

DIMENSIONS: Final = 16
SPACE: Final = EmbeddingSpace(provider="test", model=None, dimensions=DIMENSIONS)
START: Final = datetime(2025, 1, 1, tzinfo=UTC)
NARROW: Final = HNSWConfig(m=4, ef_construction=20, ef_search=10)
PAST: Final = datetime(2001, 1, 1, tzinfo=UTC)
FUTURE: Final = datetime(2101, 1, 1, tzinfo=UTC)
LEAST_RECALL: Final = 0.95

Act: TypeAlias = tuple[Any, ...]
"""A verb of a backend with its arguments, or "reopen"."""

EVERYTHING: Final = Filter()
ALL: Final = Filter(expired=None)
"""What has expired, too."""


def serve(path: str) -> None:
    """Do what comes in, on a backend that is open, until the input ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    hnsw = pickle.load(requests)  # noqa: S301 (from the test)
    backend = SQLiteBackend(path, SPACE, hnsw=hnsw)
    pickle.dump(backend.stats().index.size, answers)
    answers.flush()
    while True:
        try:
            verb, *arguments = pickle.load(requests)  # noqa: S301 (from the test)
        except EOFError:
            return backend.close()
        if verb == "reopen":
            backend.close()
            backend = SQLiteBackend(path, SPACE, hnsw=arguments[0])
            result: Any = None
        else:
            result = getattr(backend, verb)(*arguments)
        pickle.dump(list(result) if verb == "scan" else result, answers)
        answers.flush()


class Served:
    """A SQLiteBackend in a process of its own; the next process is started in advance, for its imports take a while."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spare = self.start()
        self.kills = 0

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, str(self.path)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def open(self, hnsw: HNSWConfig | None) -> int:
        self.process, self.spare = self.spare, self.start()
        self.send(hnsw)
        size: int = self.answer()
        return size

    @property
    def pipes(self) -> tuple[BinaryIO, BinaryIO]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        return self.process.stdin, self.process.stdout  # type: ignore[return-value]

    def send(self, what: object) -> None:
        pickle.dump(what, self.pipes[0])
        self.pipes[0].flush()

    def answer(self) -> Any:
        return pickle.load(self.pipes[1])  # noqa: S301 (from our own process)

    def do(self, act: Act) -> Any:
        self.send(act)
        return self.answer()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL, "it ended before it was killed"
        self.kills += 1
        for pipe in self.pipes:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def kill_amidst(self, act: Act, after: float) -> tuple[bool, Any]:
        """Kill it some time after it was given `act`; say whether it had answered, and what."""
        self.send(act)
        reader = self.pipes[1]
        answered = bool(select.select([reader], [], [], after)[0])
        result = self.answer() if answered else None
        self.kill()
        return answered, result

    def close(self) -> None:
        for process in (self.process, self.spare):
            process.kill()
            process.communicate()


class Chance:
    """Random entries, filters and acts; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)

    def name(self) -> str:
        return self.random.choice(["a", "b", "c", "%", "a%", "_", "a/b"])

    def moment(self) -> datetime:
        return START + timedelta(minutes=self.random.randrange(3000))

    def metadata(self) -> dict[str, Any]:
        values = [1, 1.0, True, "1", None, [1], {"x": 1}]
        return {
            key: self.random.choice(values)
            for key in self.random.sample(["k", "l", 'k":'], self.random.choice([0, 0, 1, 2]))
        }

    def vector(self) -> Vector:
        if self.random.random() < 0.05:  # one that was given before
            return np.full(DIMENSIONS, self.random.randrange(1, 9), np.float32)
        return self.numbers.standard_normal(DIMENSIONS).astype(np.float32)

    def entry(self) -> EpisodicEntry:
        return EpisodicEntry(
            self.name(),
            self.random.choice(["user", "assistant"]),
            "text " * self.random.choice([1, 1, 10, 300]) + str(self.random.random()),
            id=str(self.random.randrange(6000)),
            namespace=tuple(self.name() for _ in range(self.random.randrange(3))),
            timestamp=self.moment(),
            ingestion_time=self.moment(),
            metadata=self.metadata(),
            processed=self.random.random() < 0.2,
            expires_at=self.random.choice([None, None, None, None, PAST, FUTURE]),
            embedding=self.vector(),
        )

    def filter(self) -> Filter:
        maybe: dict[str, Callable[[], Any]] = {
            "session_id": self.name,
            "role": lambda: "user",
            "since": self.moment,
            "until": self.moment,
            "known_by": self.moment,
            "processed": lambda: self.random.random() < 0.5,
            "expired": lambda: self.random.choice([True, None]),
            "metadata": self.metadata,
            "namespace": lambda: tuple(self.name() for _ in range(self.random.randrange(3))),
            "ids": lambda: frozenset(
                str(self.random.randrange(6000)) for _ in range(self.random.choice([0, 1, 50, 1000]))
            ),
        }
        chosen = self.random.sample(sorted(maybe), self.random.choice([1, 1, 2, 3]))
        return Filter(**{name: maybe[name]() for name in chosen})

    def narrow_filter(self) -> Filter:
        """One that lets little pass, so that deletes do not outrun adds."""
        ids = frozenset(str(self.random.randrange(6000)) for _ in range(self.random.choice([1, 30, 300])))
        since = self.moment()
        until = since + timedelta(minutes=self.random.choice([1, 20]))
        return self.random.choice(
            [Filter(ids=ids, expired=None), Filter(since=since, until=until, session_id=self.name())]
        )

    def config(self) -> HNSWConfig | None:
        return self.random.choice([HNSWConfig(), HNSWConfig(), HNSWConfig(ef_search=51), NARROW, None])

    def act(self) -> Act:
        pick = self.random.choice
        acts: dict[Callable[[], Act], float] = {
            lambda: ("add", [self.entry()]): 20,
            lambda: ("add", [self.entry() for _ in range(pick([2, 10, 40, 200]))]): 12,
            lambda: ("mark_processed", pick([self.filter, self.narrow_filter])()): 8,
            lambda: ("delete", self.narrow_filter()): 10,
            lambda: ("forget", self.narrow_filter()): 0.7,
            lambda: ("search", self.vector(), pick([0, 1, 5, 10, 10, 40, 600]), EVERYTHING): 30,
            lambda: ("search", self.vector(), pick([1, 10, 100]), self.filter()): 15,
            lambda: (pick(["scan", "count", "count", "sessions"]), self.filter()): 12,
            lambda: (pick(["configure", "reopen"]), self.config()): 1.7,
        }
        return self.random.choices(list(acts), list(acts.values()))[0]()


class SideBySide:
    """Both backends, and what was counted while they were compared."""

    def __init__(self, path: Path, seed: int) -> None:
        self.chance = Chance(seed)
        self.model = LocalBackend(SPACE)
        self.served = Served(path)
        self.hnsw: HNSWConfig | None = HNSWConfig()
        self.served.open(self.hnsw)
        self.took: dict[str, float] = {}
        self.wanted = self.found = 0

    def step(self) -> Act:
        act = self.chance.act()
        dice = self.chance.random.random()
        if dice < 0.01:
            self.served.kill()
            self.open_again(None)
        elif dice < (0.25 if act[0] in ("forget", "reopen", "configure") else 0.022):
            return self.interrupted(act)
        start = time.monotonic()
        result = self.served.do(act)
        self.took[act[0]] = time.monotonic() - start
        self.compare(act, result)
        return act

    def interrupted(self, act: Act) -> Act:
        """Kill the process amidst an act: the store is as before it or as after it, and as after it if it answered."""
        delay = self.chance.random.uniform(0, 1.2) * self.took.get(act[0], 0.01)
        answered, result = self.served.kill_amidst(act, delay)
        if answered:
            self.compare(act, result)
        self.open_again(None if answered else act)
        return act

    def open_again(self, pending: Act | None) -> None:
        size = self.served.open(self.hnsw)
        stored = list(map(fields_of, self.served.do(("scan", ALL))))
        assert size == len(stored)
        if pending and pending[0] in ("add", "mark_processed", "delete", "forget") and stored != self.rows():
            self.on_model(pending)
        assert stored == self.rows()

    def rows(self) -> list[tuple[object, ...]]:
        return list(map(fields_of, self.model.scan(ALL)))

    def on_model(self, act: Act) -> Any:
        verb, *arguments = act
        result = getattr(self.model, verb)(*arguments)
        return list(result) if verb == "scan" else result

    def compare(self, act: Act, result: Any) -> None:
        match act[0]:
            case "configure" | "reopen":
                self.hnsw = act[1]
            case "search":
                self.compare_hits(act, result)
            case "scan":
                assert list(map(fields_of, result)) == list(map(fields_of, self.on_model(act)))
            case "forget":
                assert sorted(result) == sorted(self.on_model(act))
            case _:
                assert result == self.on_model(act)

    def compare_hits(self, act: Act, hits: list[Hit]) -> None:
        _, query, k, where = act
        best = self.model.search(query, k, where)
        assert len(hits) == len(best) == min(k, self.model.count(where))
        if not hits:
            return
        identities = frozenset((hit.entry.namespace, hit.entry.id) for hit in hits)
        assert len(identities) == len(hits)
        met = Filter(ids=frozenset(hit.entry.id for hit in hits), expired=None)
        known = {(one.namespace, one.id): one for one in self.model.scan(met)}
        for hit in hits:
            assert where.matches(hit.entry)
            assert fields_of(hit.entry) == fields_of(known[hit.entry.namespace, hit.entry.id])
        scores = np.array([hit.score for hit in hits])
        truth = oracle_scores(np.array([hit.entry.embedding for hit in hits]), query, "cosine")
        np.testing.assert_allclose(scores, truth, atol=1e-5)
        assert (np.diff(scores) <= 0).all()
        found = int((scores >= best[-1].score - 1e-5).sum())
        if self.hnsw is None:
            assert found == len(hits)
        elif self.hnsw != NARROW:
            self.wanted, self.found = self.wanted + len(hits), self.found + found


@pytest.mark.timeout(7200)
def test_both_backends_give_the_same_answers(tmp_path: Path, torture: bool, figures: Callable[[str], None]) -> None:
    """Whatever is done, SQLite with HNSW answers as the exact backend in RAM, kills amidst operations included."""
    kills = wanted = found = most = 0
    seeds, steps = (12, 2000) if torture else (2, 1050)
    for seed in range(seeds):
        sides = SideBySide(tmp_path / f"{seed}.db", seed)
        with closing(sides.served), closing(sides.model):
            for step in range(steps):
                state = sides.chance.random.getstate()
                try:
                    sides.step()
                except BaseException as error:
                    sides.chance.random.setstate(state)
                    error.add_note(f"seed {seed}, step {step}, {str(sides.chance.act())[:300]}")
                    raise
            most = max(most, sides.model.count(EVERYTHING))
        kills, wanted, found = kills + sides.served.kills, wanted + sides.wanted, found + sides.found
    figures(f"{seeds * steps} steps, {kills} kills, up to {most} entries, recall {found / wanted:.4f} of {wanted} hits")
    assert kills >= seeds * steps / 100
    assert found >= LEAST_RECALL * wanted


if __name__ == "__main__":
    serve(sys.argv[1])
