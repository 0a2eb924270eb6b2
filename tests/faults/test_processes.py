"""Many processes on one store at once: nothing acknowledged is missing, nothing torn is seen, no call meets a lock.

The file is also the program of the processes it starts. Each writer numbers what it does and notes on a board, which
all of them share, how far it has come; so a reader knows what was acknowledged before its call began.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llmspell_memory import EmbeddingSpace, EpisodicEntry, Filter, HNSWConfig
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.types.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmspell_memory.types import Hit, Vector

WRITERS: Final = 4
READERS: Final = 4
VICTIMS: Final = 2
BATCH: Final = 10
"""Entries that a victim adds at once."""

DIMENSIONS: Final = 32
SPACE: Final = EmbeddingSpace(provider="test", model=None, dimensions=DIMENSIONS)

OLD: Final = Path(__file__).parents[1] / "golden" / "store-v1.db"

KEPT, MARKED, REPLACED, PASSING, DELETED = range(5)
"""Columns of the board, a row for each writer: how many entries it added to keep, how many of those are marked and how
many replaced, always the oldest; how many it added to delete later, and how many of those, again the oldest, it has
deleted."""


def board_at(path: str | Path, *, new: bool = False) -> np.memmap[Any, Any]:
    """Numbers of 8 bytes that each one process writes and all read."""
    return np.memmap(path, np.int64, "w+" if new else "r+", shape=(WRITERS, 5))


def vector_of(writer: int, kind: str, number: int, version: int) -> Vector:
    seed = [writer, kind == "kept", number, version]
    return np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)


def made(
    writer: int, kind: str, number: int, *, session: str, version: int = 0, processed: bool = False
) -> EpisodicEntry:
    return EpisodicEntry(
        session,
        "user",
        f"{kind} {number} of writer {writer}, version {version}",
        id=f"{kind}-{number}",
        namespace=(f"w{writer}", kind),
        metadata={"version": version},
        processed=processed,
        embedding=vector_of(writer, kind, number, version),
    )


def told(entry: EpisodicEntry) -> tuple[int, str, int, int]:
    """Writer, kind, number and version of an entry, once all of it is seen to belong together."""
    writer, kind = int(entry.namespace[0][1:]), entry.namespace[1]
    number, version = int(entry.id.split("-")[1]), entry.metadata["version"]
    assert isinstance(version, int)
    assert entry.content == f"{kind} {number} of writer {writer}, version {version}"
    assert np.array_equal(entry.embedding, vector_of(writer, kind, number, version))  # type: ignore[arg-type]
    return writer, kind, number, version


class Process:
    """A process that works on the store for some seconds, opening it anew now and then."""

    def __init__(self, path: str, board: str, number: int, seconds: float) -> None:
        self.path, self.number = path, number
        self.board = board_at(board)
        self.report = Path(board).with_name(f"{type(self).__name__}-{number}.json")
        self.chance = random.Random(number)
        self.until = time.monotonic() + seconds
        self.took: dict[str, list[float]] = defaultdict(list)
        self.backend = self.timed("open", self.open)

    def open(self) -> SQLiteBackend:
        return SQLiteBackend(self.path, SPACE, hnsw=HNSWConfig())

    def timed(self, name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        self.took[name].append(time.perf_counter() - start)
        return result

    def run(self) -> None:
        acts, weights = zip(*self.acts().items(), strict=True)
        while time.monotonic() < self.until:
            self.chance.choices(acts, weights)[0]()
        self.timed("close", self.backend.close)
        self.report.write_text(json.dumps(self.took))

    def acts(self) -> dict[Callable[[], None], float]:
        raise NotImplementedError

    def reopen(self) -> None:
        self.timed("close", self.backend.close)
        self.backend = self.timed("open", self.open)


class Writer(Process):
    """Adds, marks, replaces and deletes entries of its own, and notes each call on the board when it has returned."""

    def acts(self) -> dict[Callable[[], None], float]:
        return {
            self.add: 40, self.add_batch: 10, self.add_passing: 15,
            self.mark: 10, self.replace: 10, self.delete: 12, self.reopen: 1,
        }  # fmt: skip

    @property
    def row(self) -> Any:
        return self.board[self.number]

    def add(self) -> None:
        one = made(self.number, "kept", int(self.row[KEPT]), session="1")
        self.timed("add", lambda: self.backend.add([one]))
        self.row[KEPT] += 1

    def add_batch(self) -> None:
        first, size = int(self.row[KEPT]), self.chance.randint(2, 40)
        batch = [made(self.number, "kept", n, session=f"{first}:{size}") for n in range(first, first + size)]
        self.timed("add batch", lambda: self.backend.add(batch))
        self.row[KEPT] += size

    def add_passing(self) -> None:
        first, size = int(self.row[PASSING]), self.chance.randint(1, 10)
        batch = [made(self.number, "passing", n, session="p") for n in range(first, first + size)]
        self.timed("add batch", lambda: self.backend.add(batch))
        self.row[PASSING] += size

    def mark(self) -> None:
        first, size = int(self.row[MARKED]), min(10, int(self.row[KEPT] - self.row[MARKED]))
        where = Filter(
            namespace=(f"w{self.number}", "kept"), ids=frozenset(f"kept-{n}" for n in range(first, first + size))
        )
        assert self.timed("mark", lambda: self.backend.mark_processed(where)) == size
        self.row[MARKED] += size

    def replace(self) -> None:
        first, size = int(self.row[REPLACED]), min(5, int(self.row[KEPT] - self.row[REPLACED]))
        where = Filter(
            namespace=(f"w{self.number}", "kept"), ids=frozenset(f"kept-{n}" for n in range(first, first + size))
        )
        batch = [
            made(self.number, "kept", told(one)[2], session=one.session_id, version=1, processed=one.processed)
            for one in self.backend.scan(where)
        ]
        assert len(batch) == size
        self.timed("add batch", lambda: self.backend.add(batch))
        self.row[REPLACED] += size

    def delete(self) -> None:
        first, size = int(self.row[DELETED]), min(10, int(self.row[PASSING] - self.row[DELETED]))
        ids = frozenset(f"passing-{n}" for n in range(first, first + size))
        where = Filter(namespace=(f"w{self.number}", "passing"), ids=ids)
        assert self.timed("delete", lambda: self.backend.delete(where)) == size
        self.row[DELETED] += size


class Victim(Process):
    """Adds and deletes batches, saves its index and opens anew, without end: it will be killed."""

    def acts(self) -> dict[Callable[[], None], float]:
        return {self.add_batch: 10, self.delete: 3, self.rebuild: 1, self.reopen: 1}

    def add_batch(self) -> None:
        session = new_id()
        vectors = np.random.default_rng().standard_normal((BATCH, DIMENSIONS))
        self.backend.add([EpisodicEntry(session, "user", "x", namespace=("victim",), embedding=one) for one in vectors])

    def delete(self) -> None:
        for line in self.backend.sessions(Filter(namespace=("victim",)))[:1]:
            self.backend.delete(Filter(session_id=line.session_id))

    def rebuild(self) -> None:
        self.backend.configure(HNSWConfig(), rebuild=True)


class Reader(Process):
    """Compares every answer with what was on the board before the call, and with what it has seen before."""

    def __init__(self, path: str, board: str, number: int, seconds: float) -> None:
        super().__init__(path, board, 100 + number, seconds)
        self.seen = np.zeros((WRITERS, 5), np.int64)
        self.looked_for = self.found = 0

    def acts(self) -> dict[Callable[[], None], float]:
        return {
            self.search: 50,
            self.search_one: 10,
            self.search_some: 20,
            self.count: 20,
            self.batches: 2,
            self.reopen: 1,
        }

    def run(self) -> None:
        super().run()
        assert self.found >= 0.98 * self.looked_for, f"found {self.found} of {self.looked_for}"

    def acknowledged(self, entry: EpisodicEntry, before: Any) -> None:
        writer, kind, number, version = told(entry)
        if kind == "kept":
            assert entry.processed or number >= before[writer, MARKED], f"{entry.id} was marked"
            assert version or number >= before[writer, REPLACED], f"{entry.id} was replaced"
        else:
            assert number >= before[writer, DELETED], f"{entry.id} was deleted"

    def whole(self, hits: list[Hit], query: Vector, before: Any) -> None:
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert len({(hit.entry.namespace, hit.entry.id) for hit in hits}) == len(hits)
        for hit in hits:
            if hit.entry.namespace != ("victim",):
                self.acknowledged(hit.entry, before)
            vector = hit.entry.embedding
            assert vector is not None
            cosine = float(vector @ query / np.linalg.norm(vector) / np.linalg.norm(query))
            assert abs(cosine - hit.score) < 1e-4, f"{hit.entry.id} has {cosine}, is given {hit.score}"

    def pick(self, before: Any) -> tuple[int, int, Vector] | None:
        """Writer, number and vector of an entry that is there for certain, in a version that stays."""
        writer = self.chance.randrange(WRITERS)
        if not before[writer, REPLACED]:
            return None
        number = self.chance.randrange(before[writer, REPLACED])
        return writer, number, vector_of(writer, "kept", number, 1)

    def search(self) -> None:
        before = self.board.copy()
        if picked := self.pick(before):
            writer, number, query = picked
            hits = self.timed("search", lambda: self.backend.search(query, 10, Filter()))
            assert len(hits) == 10 or before[:, KEPT].sum() < 10
            self.whole(hits, query, before)
            self.looked_for += 1
            self.found += (f"w{writer}", f"kept-{number}") in [(one.entry.namespace[0], one.entry.id) for one in hits]

    def search_one(self) -> None:
        before = self.board.copy()
        if picked := self.pick(before):
            writer, number, query = picked
            where = Filter(namespace=(f"w{writer}",), ids=frozenset([f"kept-{number}"]))
            hits = self.timed("search by id", lambda: self.backend.search(query, 10, where))
            assert len(hits) == 1
            self.whole(hits, query, before)

    def search_some(self) -> None:
        before = self.board.copy()
        writer, kind = self.chance.randrange(WRITERS), self.chance.choice(["kept", "passing"])
        where = Filter(namespace=(f"w{writer}", kind), processed=self.chance.choice([None, False]))
        query = vector_of(writer, kind, 0, 0)
        hits = self.timed("search in a namespace", lambda: self.backend.search(query, 20, where))
        assert all(where.matches(hit.entry) for hit in hits)
        self.whole(hits, query, before)
        if where.processed is None and kind == "kept":
            assert len(hits) == 20 or before[writer, KEPT] < 20

    def count(self) -> None:
        writer = self.chance.randrange(WRITERS)
        for column, where in (
            (KEPT, Filter(namespace=(f"w{writer}", "kept"))),
            (MARKED, Filter(namespace=(f"w{writer}", "kept"), processed=True)),
        ):
            before = self.board[writer, column]
            counted = self.timed("count", lambda where=where: self.backend.count(where))  # type: ignore[misc]
            assert counted >= max(before, self.seen[writer, column])
            self.seen[writer, column] = counted

    def batches(self) -> None:
        writer = self.chance.randrange(WRITERS)
        before = self.board.copy()
        lines = self.timed("sessions", lambda: self.backend.sessions(Filter(namespace=(f"w{writer}", "kept"))))
        assert sum(line.entries for line in lines) >= max(before[writer, KEPT], self.seen[writer, KEPT])
        for line in lines:
            size = line.session_id.partition(":")[2]
            assert not size or line.entries == int(size), f"{line.entries} of a batch of {size} are seen"
        for one in self.backend.scan(Filter(namespace=(f"w{writer}", "passing")), limit=100):
            self.acknowledged(one, before)


def start(kind: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, kind, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def summary(name: str, seconds: list[float]) -> str:
    p50, p99, most = np.percentile(seconds, [50, 99, 100]) * 1000
    return f"{name}: {len(seconds)} calls, p50 {p50:.2f} ms, p99 {p99:.2f} ms, longest {most:.0f} ms"


def test_writers_and_readers_share_one_store(tmp_path: Path, torture: bool, figures: Callable[[str], None]) -> None:
    """Four writers and four readers, while others are killed, meet no error, and all that was acknowledged is there."""
    path, board = tmp_path / "memory.db", board_at(tmp_path / "board", new=True)
    seconds = 60 if torture else 4
    processes = [start("writer", path, tmp_path / "board", n, seconds) for n in range(WRITERS)]
    processes += [start("reader", path, tmp_path / "board", n, seconds) for n in range(READERS)]
    log, kills = 0, 0
    chance = random.Random(0)
    victims = [start("victim", path, tmp_path / "board", n, 10 * seconds) for n in range(VICTIMS)]
    while any(one.poll() is None for one in processes):
        log = max(log, sum(one.stat().st_size for one in tmp_path.glob("*-wal")))
        time.sleep(0.05)
        for number, victim in enumerate(victims):
            if chance.random() < 0.05:
                victim.kill()
                kills += 1
                assert victim.communicate()[1] == ""
                victims[number] = start("victim", path, tmp_path / "board", kills, 10 * seconds)
    for victim in victims:
        victim.kill()
        assert victim.communicate()[1] == ""
    ends = [one.communicate() for one in processes]
    assert [(one.returncode, err) for one, (_, err) in zip(processes, ends, strict=True)] == [(0, "")] * len(processes)
    took: dict[str, list[float]] = defaultdict(list)
    for report in tmp_path.glob("*.json"):
        for name, times in json.loads(report.read_text()).items():
            took[name] += times
    for name, times in took.items():
        figures(summary(name, times))
    total = int((board[:, KEPT] + board[:, PASSING] - board[:, DELETED]).sum())
    figures(f"{total} entries at the end, {kills} others killed, the log had {log / 2**20:.1f} MiB at most")
    assert min(board.sum(axis=1)) > 0, "a writer came to nothing"
    same_as_acknowledged(path, board)


def same_as_acknowledged(path: Path, board: Any) -> None:
    expected = {
        (writer, "kept", n, int(n < board[writer, REPLACED]), bool(n < board[writer, MARKED]))
        for writer in range(WRITERS)
        for n in range(board[writer, KEPT])
    }
    expected |= {
        (writer, "passing", n, 0, False)
        for writer in range(WRITERS)
        for n in range(board[writer, DELETED], board[writer, PASSING])
    }
    with closing(SQLiteBackend(path, SPACE, hnsw=HNSWConfig())) as backend:
        lines = backend.sessions(Filter(namespace=("victim",)))
        assert all(line.entries == BATCH for line in lines), "a batch of one that was killed is half there"
        entries = list(backend.scan(Filter()))
        stored = [(*told(one), one.processed) for one in entries if one.namespace != ("victim",)]
        assert len(stored) == len(expected)
        assert set(stored) == expected
        assert backend.stats().index.size == backend.count(Filter()) == len(entries)
    assert not path.with_name("memory.db-wal").exists(), "the last to close folds the log into the file"
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def open_each(number: int) -> None:
    """Open, write to, read and close each store whose path is given in a line; a line answers when it is done."""
    for line in sys.stdin:
        with closing(SQLiteBackend(line.rstrip("\n"), SPACE, hnsw=HNSWConfig())) as backend:
            backend.add([made(number, "kept", 0, session="s")])
            assert backend.count(Filter(namespace=(f"w{number}",))) == 1
        sys.stdout.write("done\n")
        sys.stdout.flush()


def count_each() -> None:
    """Open each store whose path is given in a line, and answer with how many entries it has."""
    for line in sys.stdin:
        with closing(SQLiteBackend(line.rstrip("\n"))) as backend:
            sys.stdout.write(f"{backend.count(Filter())}\n")
        sys.stdout.flush()


def ask_all(processes: list[subprocess.Popen[str]], path: Path) -> list[str]:
    """Give a line to all at once, and return their answers."""
    for one in processes:
        assert one.stdin is not None
        one.stdin.write(f"{path}\n")
        one.stdin.flush()
    answers = [one.stdout.readline() for one in processes if one.stdout is not None]
    assert all(answers), [one.communicate()[1] for one in processes]
    return answers


def test_eight_processes_create_open_and_close_one_store(tmp_path: Path, torture: bool) -> None:
    """Processes that all make, fill and leave a store at one moment make one store, with the entries of all."""
    processes = [start("opener", n) for n in range(8)]
    for number in range(1000 if torture else 40):
        path = tmp_path / f"{number}.db"
        if number % 3 == 0:
            path.touch()  # as tempfile makes one
        assert ask_all(processes, path) == ["done\n"] * 8
        with closing(SQLiteBackend(path, SPACE)) as backend:
            assert sorted(told(one)[0] for one in backend.scan(Filter())) == list(range(8))
    assert [(one.communicate()[1], one.returncode) for one in processes] == [("", 0)] * 8


def test_eight_processes_bring_one_old_file_up_to_date(tmp_path: Path, torture: bool) -> None:
    """Processes that open a file of an older version at one moment all find its entries, and change it once."""
    processes = [start("counter") for _ in range(8)]
    for number in range(500 if torture else 20):
        path = tmp_path / f"{number}.db"
        shutil.copy(OLD, path)
        assert ask_all(processes, path) == ["10\n"] * 8
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert [(one.communicate()[1], one.returncode) for one in processes] == [("", 0)] * 8


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    match kind:
        case "opener":
            open_each(int(rest[0]))
        case "counter":
            count_each()
        case _:
            path, board, number, seconds = rest
            {"writer": Writer, "reader": Reader, "victim": Victim}[kind](path, board, int(number), float(seconds)).run()
