"""Damage to the files of a store: every answer is right or a typed error, and no process hangs or dies.

The file is also the program of the process that opens damaged files: it is told one damage a line, and says in a line
what came of it.
"""

from __future__ import annotations

import json
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pytest

from llmspell_memory import EmbeddingSpace, EpisodicEntry, Filter, HNSWConfig, StorageError
from llmspell_memory.backends import LocalBackend, SQLiteBackend
from llmspell_memory.testing.backends import entry, fields_of
from llmspell_memory.testing.indexes import gaussian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import Vector

DIMENSIONS: Final = 32
SPACE: Final = EmbeddingSpace(provider="test", model=None, dimensions=DIMENSIONS)
EVERYTHING: Final = Filter()
ALL: Final = Filter(expired=None)
"""What has expired, too."""

STORE: Final = "memory.db"
INDEX: Final = "memory.db-index"
ROWS: Final = ["memory.db-rows-turns", "memory.db-rows-words"]
LOG: Final = "memory.db-wal"
PATIENCE: Final = 60.0
"""Seconds after which an answer is a hang."""

Question: TypeAlias = "Callable[[EpisodicBackend], object]"


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done to one file: from byte `at` on, with `size` bytes or with one of another value."""

    file: str
    kind: str
    at: int
    size: int = 1
    other: int = 0

    def done_to(self, data: bytearray) -> bytearray:
        one, two = slice(self.at, self.at + self.size), slice(self.other, self.other + self.size)
        match self.kind:
            case "bit" | "byte":
                data[self.at] ^= self.other
            case "truncate":
                del data[self.at :]
            case "zero":
                data[one] = bytes(len(data[one]))
            case "swap":
                data[one], data[two] = data[two], data[one]
        return data


def damages(file: str, length: int, places: Iterable[int], chance: random.Random) -> Iterator[Damage]:
    """Each kind of damage at each place."""
    for at in places:
        size = min(chance.choice([64, 512, 4096]), length // 2)
        block = chance.choice([at // size * size, min(at, length - size)])
        blocks = [n for n in range(0, length - size + 1, size) if abs(n - block) >= size]
        yield Damage(file, "bit", at, other=1 << chance.randrange(8))
        yield Damage(file, "byte", at, other=chance.randrange(1, 256))
        yield Damage(file, "truncate", at)
        yield Damage(file, "zero", block, size)
        yield Damage(file, "swap", block, size, chance.choice(blocks))


# --- a store with a history -------------------------------------------------------------------------------------------


def made(number: int, *, of: str = "", **fields: Any) -> EpisodicEntry:
    names: list[tuple[str, ...]] = [(), ("acme",), ("acme", "alice"), ("acme2",)]
    return entry(
        f"{of}{number} " + "x" * (number * 37 % 900 if number % 20 else 9000),
        f"session {number % 6}",
        id=f"{of}{number}",
        minute=number * 7 % 400,
        namespace=names[number % 4],
        metadata={"number": number, "even": number % 2 == 0} if number % 3 else {},
        ingestion_time=datetime(2025, 4, 1, tzinfo=UTC) + timedelta(minutes=number),
        expires_at=datetime(2025 if number % 2 else 2125, 5, 1, tzinfo=UTC)
        if number % 10 == 0 or number % 10 == 5
        else None,
        embedding=gaussian(1, DIMENSIONS, seed=number)[0],
        **fields,
    )


def fill(backend: EpisodicBackend) -> None:
    """Adds, replacements, marks and deletes, always the same."""
    backend.add([made(n) for n in range(300)])
    backend.add([made(n, processed=True) for n in range(0, 300, 9)])
    backend.mark_processed(Filter(namespace=("acme", "alice")))
    backend.delete(Filter(ids=frozenset(str(n) for n in range(0, 300, 7)), expired=None))
    for number in range(300, 340):
        backend.add([made(number)])


STEPS: Final = 60
CLOSED_AFTER: Final = 20


def step(backend: EpisodicBackend, number: int) -> None:
    """One change, whole or not at all."""
    match number % 5:
        case 3:
            backend.mark_processed(Filter(session_id=f"session {number % 6}"))
        case 4:
            backend.delete(Filter(ids=frozenset(str(n) for n in range(5 * number - 30, 5 * number - 20))))
        case _:
            backend.add([made(n) for n in range(5 * number, 5 * number + 5)])


def write_until_killed(path: str) -> None:
    """Do step by step and say so, with an index saved in between."""
    backend = SQLiteBackend(path, SPACE, hnsw=HNSWConfig())
    for number in range(STEPS):
        step(backend, number)
        if number + 1 == CLOSED_AFTER:
            backend.close()
            backend = SQLiteBackend(path, SPACE, hnsw=HNSWConfig())
        if number + 1 == STEPS // 2:
            backend.configure(HNSWConfig(), rebuild=True)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
    signal.pause()


FILTERS: Final = (
    EVERYTHING,
    ALL,
    Filter(expired=True),
    Filter(session_id="session 2"),
    Filter(namespace=("acme",)),
    Filter(processed=True, role="user"),
    Filter(metadata={"even": True}),
    Filter(since=made(20).timestamp, until=made(40).timestamp),
    Filter(known_by=made(100).ingestion_time),
    Filter(ids=frozenset(map(str, range(100, 130)))),
)


class Score(float):
    """A score, equal to another where the two differ as two ways to compute it may."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(self - other) < 1e-5

    def __ne__(self, other: object) -> bool:
        return not self == other


def counted(where: Filter, backend: EpisodicBackend) -> object:
    return backend.count(where)


def scanned(where: Filter, backend: EpisodicBackend) -> list[tuple[object, ...]]:
    return list(map(fields_of, backend.scan(where)))


def sessions(where: Filter, backend: EpisodicBackend) -> object:
    return backend.sessions(where)


def found(where: Filter, query: Vector, k: int, backend: EpisodicBackend) -> object:
    return [(fields_of(hit.entry), Score(hit.score)) for hit in backend.search(query, k, where)]


def questions() -> Iterator[tuple[str, Question]]:
    for number, where in enumerate(FILTERS):
        for ask in (counted, scanned, sessions):
            yield f"{ask.__name__} {number}", partial(ask, where)
        query = gaussian(1, DIMENSIONS, seed=1000 + number)[0]
        for k in (1, 10, 200):
            yield f"found {number}, {k}", partial(found, where, query, k)


# --- the process that opens damaged files -----------------------------------------------------------------------------


class Judge:
    """Asks damaged stores what a store in RAM of the same history answers."""

    def __init__(self) -> None:
        self.questions = dict(questions())
        self.model = LocalBackend(SPACE)
        fill(self.model)
        self.begun_after = STEPS
        self.known: dict[tuple[str, int, int], object] = {}
        self.wrong: list[str] = []
        self.errors: Counter[str] = Counter()

    def right(self, name: str) -> object:
        """What the model answers, asked once for each of its states."""
        key = (name, self.begun_after, self.model.count(ALL))
        if key not in self.known:
            self.known[key] = self.questions[name](self.model)
        return self.known[key]

    def judge(self, path: Path) -> None:
        self.model.delete(Filter(session_id="new", expired=None))
        self.use_twice(path)

    def judge_after_a_cut(self, path: Path) -> None:
        """The rows are those after one of the steps, and everything else fits them."""
        with suppress(StopIteration):
            with closing(self.attempt("open", lambda: SQLiteBackend(path, SPACE, hnsw=HNSWConfig()))) as backend:
                entries = self.attempt("scan", lambda: list(backend.scan(ALL)))
            rows = list(map(fields_of, entries))
            if rows not in self.states:
                self.wrong.append(f"{len(rows)} rows that never were there together")
                return
            self.begun_after = self.states.index(rows)
            self.errors["nothing lost" if rows == self.states[-1] else "last steps lost"] += 1
            self.model = LocalBackend(SPACE)
            self.model.add(entries)
            self.use_twice(path)

    def use_twice(self, path: Path) -> None:
        for _ in range(2):
            with suppress(StopIteration):
                self.use(path)

    def use(self, path: Path) -> None:
        backend = self.attempt("open", lambda: SQLiteBackend(path, SPACE, hnsw=HNSWConfig()))
        with closing(backend):
            for name, ask in self.questions.items():
                self.compare(name, partial(ask, backend), self.right(name))
            self.through_the_graph(backend)
            new = made(self.model.count(ALL), of="new ").changed(session_id="new")
            with suppress(StopIteration):
                self.attempt("add", lambda: backend.add([new]))
                self.model.add([new])
            self.compare("all after", partial(scanned, ALL, backend), scanned(ALL, self.model))

    @cached_property
    def states(self) -> list[object]:
        """The rows after each step that the log could take back."""
        model = LocalBackend(SPACE)
        states: list[object] = []
        for number in range(STEPS):
            step(model, number)
            states.append(scanned(ALL, model))
        return states[CLOSED_AFTER - 1 :]

    def through_the_graph(self, backend: SQLiteBackend) -> None:
        """So few candidates that the graph is walked: what it finds is true, if not always the best."""
        with suppress(StopIteration):
            self.attempt("configure", lambda: backend.configure(HNSWConfig(ef_search=1)))
            self.compare("invariants", backend._using.view.index.check, "")
            rows = scanned(EVERYTHING, self.model)
            for one in self.model.scan(EVERYTHING, limit=3):
                assert one.embedding is not None
                hits = self.attempt("walk", partial(backend.search, one.embedding, 5, EVERYTHING))
                if len(hits) != 5 or not all(fields_of(hit.entry) in rows for hit in hits):
                    self.wrong.append(f"walk: {hits}")

    def attempt(self, name: str, call: Callable[[], Any]) -> Any:
        """Return the answer, or note an error and stop."""
        try:
            return call()
        except StorageError as error:
            self.errors[f"{type(error).__name__}"] += 1
        except Exception as error:  # noqa: BLE001 (that is what is looked for)
            self.wrong.append(f"{name}: {type(error).__name__}: {error}")
        raise StopIteration

    def compare(self, name: str, call: Callable[[], Any], expected: object) -> None:
        with suppress(StopIteration):
            answer = self.attempt(name, call)
            if answer != expected:
                self.wrong.append(f"{name}: {difference(answer, expected)}")


def difference(answer: object, expected: object) -> str:
    if isinstance(answer, list) and isinstance(expected, list):
        more = [one for one in answer if one not in expected]
        fewer = [one for one in expected if one not in answer]
        return f"{len(answer)} in place of {len(expected)}, among them {str(more)[:300]}, missing {str(fewer)[:300]}"
    return f"{str(answer)[:300]} in place of {str(expected)[:300]}"


def judge_all(pristine: Path) -> None:
    judge = Judge()
    for line in sys.stdin:
        damage = Damage(**json.loads(line))
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(pristine, folder, dirs_exist_ok=True)
            file = Path(folder) / damage.file
            file.write_bytes(damage.done_to(bytearray(file.read_bytes())))
            judge.wrong, judge.errors = [], Counter()
            (judge.judge_after_a_cut if damage.file == LOG else judge.judge)(Path(folder) / STORE)
        sys.stdout.write(json.dumps([judge.wrong, judge.errors]) + "\n")
        sys.stdout.flush()


# --- the test's side --------------------------------------------------------------------------------------------------


class Court:
    """The process that judges, started anew when it hangs or dies."""

    def __init__(self, *command: object) -> None:
        self.command = [sys.executable, "-X", "faulthandler", __file__, *map(str, command)]
        self.said = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (a pipe that nobody reads would fill up)
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True
        )

    def judge(self, damage: Damage) -> tuple[list[str], dict[str, int]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asdict(damage)) + "\n")
        self.process.stdin.flush()
        answered = select.select([self.process.stdout], [], [], PATIENCE)[0]
        if answered and (line := self.process.stdout.readline()):
            wrong, errors = json.loads(line)
            return wrong, errors
        if not answered:
            self.process.send_signal(signal.SIGABRT)
        self.process.communicate()
        self.said.seek(0)
        said = self.said.read()
        self.start()
        return [f"it {'hung' if not answered else 'died'}: {said[-2000:]}"], {}

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.said.close()


def outcomes(pristine: Path, cases: Iterable[Damage], *, errors_allowed: bool) -> str:
    """Let all be judged; return figures, or fail with every place where something is wrong."""
    wrong: list[str] = []
    said: Counter[str] = Counter()
    with closing(Court("judge", pristine)) as court:
        for damage in cases:
            mistakes, errors = court.judge(damage)
            wrong += [f"{damage}: {mistake}" for mistake in mistakes]
            if errors and not errors_allowed:
                wrong.append(f"{damage}: {errors}")
            said[" and ".join(sorted(errors)) or "right answers"] += 1
    assert not wrong, f"{len(wrong)} wrong\n" + "\n".join(wrong[:40])
    return f"{said.total()} damages: " + ", ".join(f"{count} {name}" for name, count in said.most_common())


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    with closing(SQLiteBackend(folder / STORE, SPACE, hnsw=HNSWConfig())) as backend:
        fill(backend)
    assert sorted(one.name for one in folder.iterdir()) == [STORE, INDEX, *ROWS]
    return folder


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", [INDEX, *ROWS])
def test_damage_to_an_index_is_never_seen(
    pristine: Path, name: str, torture: bool, figures: Callable[[str], None]
) -> None:
    """Whatever happens to the file of an index, at any section, every answer is right."""
    chance = random.Random(1)
    data = (pristine / name).read_bytes()
    (count,) = struct.unpack_from("<I", data, 12)
    sections = [(0, 16), (16, 24 * count)]
    sections += [(at, size) for _, _, at, size in struct.iter_unpack("<IIQQ", data[16 : 16 + 24 * count]) if size]
    places = [chance.randrange(at, at + size) for at, size in sections for _ in range(10 if torture else 1)]
    cases = list(damages(name, len(data), places, chance))
    figures(outcomes(pristine, cases, errors_allowed=False))


@pytest.mark.timeout(7200)
def test_damage_to_the_database_is_never_a_wrong_answer(
    pristine: Path, torture: bool, figures: Callable[[str], None]
) -> None:
    """Whatever happens to the database, each call answers rightly or raises a StorageError."""
    chance = random.Random(2)
    length = (pristine / STORE).stat().st_size
    places = [chance.randrange(1, length) for _ in range(1000 if torture else 200)]
    kinds = list(damages(STORE, length, places, chance))
    cases = kinds if torture else [kinds[5 * n + n % 5] for n in range(len(places))]
    figures(outcomes(pristine, [Damage(STORE, "truncate", 0), *cases], errors_allowed=True))


@pytest.mark.timeout(7200)
def test_damage_to_the_log_is_at_most_a_power_cut(
    tmp_path: Path, torture: bool, figures: Callable[[str], None]
) -> None:
    """Of the log that a killed process left, damage takes the last steps, whole ones, or it is a StorageError."""
    command = [sys.executable, __file__, "write", str(tmp_path / STORE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert [int(writer.stdout.readline()) for _ in range(STEPS)] == list(range(STEPS))
        writer.kill()
    assert sorted(one.name for one in tmp_path.iterdir()) == [STORE, INDEX, *ROWS, f"{STORE}-shm", LOG]
    chance = random.Random(3)
    length = (tmp_path / LOG).stat().st_size
    places = [0, 24, 32, *(chance.randrange(length) for _ in range(100 if torture else 17))]
    figures(outcomes(tmp_path, damages(LOG, length, places, chance), errors_allowed=True))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write_until_killed(sys.argv[2])
    else:
        judge_all(Path(sys.argv[2]))
