"""Faults of the system: each is a typed error, leaves the store as it was, and is over when its cause is gone.

Every case runs in a process of its own, for which the file is also the program; where it mounts something, in a mount
namespace of its own too: as root, or else in a user namespace.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest
from numpy.random import default_rng

from llmspell_memory import EmbeddingSpace, Filter, HNSWConfig, StorageError
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.sqlite import connection
from llmspell_memory.testing.backends import entry, fields_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmspell_memory import EpisodicEntry

DIMENSIONS: Final = 64
SPACE: Final = EmbeddingSpace(provider="test", model=None, dimensions=DIMENSIONS)
EVERYTHING: Final = Filter()
QUERY: Final = np.ones(DIMENSIONS, np.float32)
NOBODY: Final = 65_534
MIB: Final = 2**20


class Log(logging.Handler):
    """Keeps what the library says at WARNING and above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        logging.getLogger("llmspell_memory").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Store:
    """An open backend, and what it has acknowledged."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "memory.db"
        self.backend = self.opened()
        self.acknowledged: dict[str, EpisodicEntry] = {}
        self.number = 0

    def opened(self) -> SQLiteBackend:
        return SQLiteBackend(self.path, SPACE, hnsw=HNSWConfig())

    def some(self, count: int = 20, *, characters: int = 2000) -> list[EpisodicEntry]:
        self.number += count
        numbers = range(self.number - count, self.number)
        chance = default_rng(self.number)
        return [
            entry("x" * characters, id=str(n), minute=n, embedding=chance.standard_normal(DIMENSIONS)) for n in numbers
        ]

    def add(self, batch: list[EpisodicEntry]) -> None:
        self.backend.add(batch)
        self.acknowledged |= {one.id: one for one in batch}

    def mark(self) -> None:
        chosen = [one for one in self.acknowledged.values() if not one.processed][:5]
        assert self.backend.mark_processed(Filter(ids=frozenset(one.id for one in chosen))) == len(chosen)
        self.acknowledged |= {one.id: one.changed(processed=True) for one in chosen}

    def delete(self) -> None:
        chosen = list(self.acknowledged)[3:5]
        assert self.backend.delete(Filter(ids=frozenset(chosen))) == len(chosen)
        for one in chosen:
            del self.acknowledged[one]

    def check(self, backend: SQLiteBackend | None = None) -> None:
        """Every answer is that of the acknowledged entries."""
        backend = backend or self.backend
        expected = list(self.acknowledged.values())
        assert list(map(fields_of, backend.scan(EVERYTHING))) == list(map(fields_of, expected))
        assert backend.count(EVERYTHING) == len(expected)
        assert sum(line.entries for line in backend.sessions(EVERYTHING)) == len(expected)
        for where in (EVERYTHING, Filter(processed=False)):
            hits = backend.search(QUERY, 10, where)
            matching = [one for one in expected if where.matches(one)]
            assert len(hits) == min(10, len(matching))
            for hit in hits:
                assert fields_of(hit.entry) == fields_of(self.acknowledged[hit.entry.id])

    def works(self) -> None:
        """All verbs do their work on the backend that is open, and on one that is opened now."""
        self.add(self.some(3))
        self.mark()
        self.delete()
        self.check()
        self.backend.configure(HNSWConfig(), rebuild=True)
        with closing(self.opened()) as other:
            self.check(other)
        self.backend.close()
        assert not leftovers(self.path.parent)
        self.backend = self.opened()
        self.check()
        self.backend.close()

    def tries(self) -> int:
        """Try every verb; return how many were refused, each with a StorageError and without effect."""
        batch = self.some(3)
        verbs: list[Callable[[], object]] = [
            lambda: self.add(batch),
            self.mark,
            self.delete,
            self.check,
            lambda: self.backend.configure(HNSWConfig(), rebuild=True),
            self.check_opened_now,
            self.check,
        ]
        return sum(not done(verb) for verb in verbs)

    def check_opened_now(self) -> None:
        with closing(self.opened()) as other:
            self.check(other)


def done(verb: Callable[[], object]) -> bool:
    """Whether `verb` was done: the only other way is a StorageError."""
    try:
        verb()
    except StorageError as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
        return False
    return True


def leftovers(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir() if ".new" in one.name]


def run(*command: object) -> None:
    subprocess.run(list(map(str, command)), check=True)


@contextlib.contextmanager
def full(folder: Path, *, but: int = 0) -> Iterator[None]:
    """No byte is free in the file system of `folder`, `but` for so many."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size):
                    pass
        file.truncate(file.tell() - but)
    yield
    ballast.unlink()


def mounted(folder: Path, size: str) -> Path:
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    return folder


# What follows runs in processes of its own, each started by the test of its name.


def disk_full_while_open(folder: Path) -> None:
    store = Store(mounted(folder / "small", "16m"))
    store.add(store.some(100))
    with full(store.path.parent):
        while done(lambda: store.add(store.some())):
            pass
        assert store.tries() >= 1
        store.check()
        while done(lambda: store.add(store.some(1, characters=1))):
            pass
        store.tries()
    store.works()


def disk_full_while_log_is_folded_in(folder: Path) -> None:
    connection._LOG_BYTES = 100_000  # type: ignore[misc]  # so that it is, at every turn
    disk_full_while_open(folder)


def disk_full_amidst_a_batch(folder: Path) -> None:
    store = Store(mounted(folder / "small", "4m"))
    store.add(store.some(100))
    batch = store.some(1000, characters=10_000)
    assert not done(lambda: store.add(batch))
    store.check()
    store.works()


def disk_full_while_made(folder: Path) -> None:
    small = mounted(folder / "small", "1m")
    for free in range(0, 200_000, 4096):
        path = small / f"{free}.db"
        with full(small, but=free):
            opened = done(lambda: SQLiteBackend(path, SPACE, hnsw=HNSWConfig()).close())  # noqa: B023 (called at once)
        store = Store(small)
        store.check()
        store.backend.close()
        with closing(SQLiteBackend(path, SPACE)) as backend:
            backend.add(store.some(1))
            assert backend.count(EVERYTHING) == 1
        for one in small.iterdir():
            one.unlink()
        if opened:
            break
    else:
        raise AssertionError("it was never opened")


def disk_full_while_index_is_saved(folder: Path) -> None:
    log = Log()
    store = Store(mounted(folder / "small", "8m"))
    for free in (0, 60_000, 120_000, 160_000):
        store.add(store.some(500))
        with full(store.path.parent, but=free):
            store.backend.close()
            assert not leftovers(store.path.parent)
            assert 1 <= len(log.lines) <= 2  # of the index, and of what is made of the rows, where that is due
            assert all("was not saved" in line for line in log.lines)
            log.lines.clear()
        store.backend = store.opened()
        store.check()
        with full(store.path.parent, but=free):
            store.backend.configure(HNSWConfig(m=8), rebuild=True)
            store.check()
            assert not leftovers(store.path.parent)
        log.lines.clear()
        store.backend.delete(EVERYTHING)
        store.acknowledged.clear()
    store.add(store.some(500))
    store.works()
    assert not log.lines


def read_only_medium(folder: Path) -> None:
    store = Store(mounted(folder / "small", "16m"))
    store.add(store.some(100))
    store.backend.close()
    before = {one.name: one.read_bytes() for one in store.path.parent.iterdir()}
    run("mount", "-o", "remount,ro", store.path.parent)
    done(store.check_opened_now)
    assert not done(lambda: SQLiteBackend(store.path.parent / "new.db", SPACE))
    assert {one.name: one.read_bytes() for one in store.path.parent.iterdir()} == before
    run("mount", "-o", "remount,rw", store.path.parent)
    store.backend = store.opened()
    store.check()
    store.works()


def read_only_while_open(folder: Path) -> None:
    store = Store(mounted(folder / "small", "16m"))
    store.add(store.some(100))
    run("mount", "--bind", store.path.parent, store.path.parent)
    run("mount", "-o", "remount,bind,ro", store.path.parent)
    scans = [store.backend.scan(EVERYTHING) for _ in range(3)]
    for scan in scans:
        done(partial(next, scan))
    store.tries()
    before = store.backend
    if done(lambda: setattr(store, "backend", store.opened())):
        assert not done(lambda: store.add(store.some(1)))
        store.tries()
    opened_meanwhile, store.backend = store.backend, before
    run("umount", "--lazy", store.path.parent)
    del scans
    store.check(opened_meanwhile)
    store.check()
    store.backend = opened_meanwhile
    store.add(store.some(3))
    store.backend = before
    store.works()
    opened_meanwhile.close()


def permission_denied(folder: Path) -> None:
    if os.geteuid() == 0:
        folder.chmod(0o777)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    place = folder / "place"
    place.mkdir()
    store = Store(place)
    store.add(store.some(100))
    for target, mode, was in (
        (place, 0, 0o700),
        (place, 0o500, 0o700),
        (store.path, 0, 0o600),
        (store.path, 0o400, 0o600),
    ):
        target.chmod(mode)
        store.tries()
        target.chmod(was)
        store.check()
        store.backend.close()
        target.chmod(mode)
        done(store.check_opened_now)
        assert mode or not done(store.check_opened_now)
        assert target != place or not done(lambda: SQLiteBackend(place / "new.db", SPACE))
        target.chmod(was)
        store.backend = store.opened()
        store.check()
    store.works()


def file_taken_away(folder: Path) -> None:
    place, elsewhere = folder / "place", folder / "elsewhere"
    place.mkdir()
    store = Store(place)
    store.add(store.some(100))
    for what in (place, store.path):
        what.rename(elsewhere)
        refused = store.tries()
        assert refused == 7, refused
        assert not store.path.exists()
        elsewhere.rename(what)
        store.check()
        store.add(store.some(3))
    store.works()


def log_taken_away(folder: Path) -> None:
    store = Store(folder)
    store.add(store.some(100))
    aside = folder / "aside"
    for suffix in ("-wal", "-shm"):
        beside = folder / f"memory.db{suffix}"
        beside.rename(aside)
        batch = store.some(3)
        for verb in (lambda: store.add(batch), store.mark, store.delete):  # noqa: B023 (called at once)
            assert not done(verb)
        store.check()
        aside.rename(beside)
        store.check()
        store.add(store.some(3))
    (folder / "memory.db-wal").unlink()
    assert not done(lambda: store.add(store.some(3)))
    store.backend.close()
    store.backend = store.opened()
    store.check()
    store.works()


def file_replaced(folder: Path) -> None:
    store = Store(folder)
    store.add(store.some(100))
    aside = folder / "aside"
    other = SQLiteBackend(folder / "other.db", SPACE)
    other.add(store.some(5))
    other.close()
    foreign = (folder / "other.db").read_bytes()
    for replacement in (foreign, b"", b"not a database"):
        store.path.rename(aside)
        store.path.write_bytes(replacement)
        batch = store.some(3)
        assert not done(lambda: store.add(batch))  # noqa: B023 (called at once)
        assert not done(store.mark)
        assert not done(store.delete)
        assert not done(store.check)
        assert store.path.read_bytes() == replacement
        aside.rename(store.path)
        store.check()
        store.add(store.some(3))
    store.works()


def no_file_handles(folder: Path) -> None:
    store = Store(folder)
    store.add(store.some(100))
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    scans = []
    for more in range(8):
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, usual[1]))
        refused = store.tries()
        assert refused or more
        scans = [store.backend.scan(EVERYTHING) for _ in range(9)]
        begun = [done(partial(next, scan)) for scan in scans]
        assert not all(begun)
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
        for scan, was_begun in zip(scans, begun, strict=True):
            assert len(list(scan)) == (len(store.acknowledged) - 1 if was_begun else 0)
        store.check()
    store.works()


def no_memory(folder: Path) -> None:
    store = Store(folder)
    store.add(store.some(1500, characters=5000))
    refused: set[int] = set()
    for slack in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256):
        big = store.some(10, characters=MIB)
        verbs: list[Callable[[], object]] = [
            lambda: store.add(big),  # noqa: B023 (called at once)
            store.mark,
            store.delete,
            lambda: list(store.backend.scan(EVERYTHING)),
            lambda: store.backend.search(QUERY, 2000, EVERYTHING),
            lambda: store.backend.search(QUERY, 2000, Filter(role="user")),
            lambda: store.backend.count(Filter(metadata={"k": "v"})),
            lambda: store.backend.sessions(EVERYTHING),
            lambda: store.backend.configure(HNSWConfig(), rebuild=True),
            lambda: store.opened().close(),
        ]
        for number, verb in enumerate(verbs):
            error = None
            with little_memory(slack * 64 * 1024):
                try:
                    verb()
                except (StorageError, MemoryError) as raised:
                    error = raised
            if error:
                refused.add(number)
                sys.stdout.write(f"{slack} {number} {type(error).__name__}: {error}\n")
        assert slack < 16 or not isinstance(error, MemoryError)
        store.check()
        store.backend.delete(Filter(ids=frozenset(one.id for one in big)))
        for one in big:
            store.acknowledged.pop(one.id, None)
    assert len(refused) >= 8, refused
    store.works()


@contextlib.contextmanager
def little_memory(free: int) -> Iterator[None]:
    """The process can have so many bytes more, and no other."""
    gc.collect()
    usual = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    ballast: list[bytes | None] = [None] * 100_000
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MIB, usual[1]))
    filled = 0
    for size in (16 * MIB, MIB, 64 * 1024, 4096, 600):
        with contextlib.suppress(MemoryError):
            while True:
                ballast[filled] = bytes(size)
                filled += 1
    while free > 0:
        filled -= 1
        free -= len(ballast[filled] or b"")
        ballast[filled] = None
    try:
        yield
    finally:
        ballast.clear()
        resource.setrlimit(resource.RLIMIT_AS, usual)


def file_size_limit(folder: Path) -> None:
    store = Store(folder)
    store.add(store.some(100))
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 4096, 100_000, MIB):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
        while done(lambda: store.add(store.some())):
            pass
        store.tries()
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        store.check()
        store.add(store.some(3))
    store.works()


CASES: Final[dict[str, tuple[Callable[[Path], None], bool]]] = {
    case.__name__: (case, mounts)
    for case, mounts in (
        (disk_full_while_open, True),
        (disk_full_while_log_is_folded_in, True),
        (disk_full_amidst_a_batch, True),
        (disk_full_while_made, True),
        (disk_full_while_index_is_saved, True),
        (read_only_medium, True),
        (read_only_while_open, True),
        (permission_denied, False),
        (file_taken_away, False),
        (file_replaced, False),
        (log_taken_away, False),
        (no_file_handles, False),
        (no_memory, False),
        (file_size_limit, False),
    )
}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_of_the_system_is_an_error_and_passes(case: str) -> None:
    """It is a StorageError, all acknowledged is there and nothing half, and the open backend works again afterwards."""
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, into which nobody but its owner may look
        command = [*(namespace() if CASES[case][1] else []), sys.executable, __file__, case, folder]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, f"{ended.returncode}\n{ended.stdout[-4000:]}\n{ended.stderr[-8000:]}"


def namespace() -> list[str]:
    """The command in front of one that mounts file systems which nobody else sees."""
    needed = "this test mounts file systems: it needs util-linux's unshare, and either root or user namespaces"
    assert shutil.which("unshare"), needed
    command = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    assert tried.returncode == 0, f"{needed}: {tried.stderr}"
    return command


if __name__ == "__main__":
    CASES[sys.argv[1]][0](Path(sys.argv[2]))
