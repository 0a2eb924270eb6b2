"""The program of the writers, started with calls.c before everything else; and the calls it records."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from tests.faults.harness.history import Said
    from tests.faults.harness.mover import Job as MoverJob
    from tests.faults.harness.writer import Job

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[2]

KINDS: Final = ("create", "write", "truncate", "sync", "folder", "rename", "link", "unlink", "mark")
HEADER: Final = struct.Struct("=5Q")


class Call(NamedTuple):
    """A call that changed files, as calls.c recorded it; `at` is a size where it truncates."""

    kind: str
    path: str
    inode: int
    at: int
    data: bytes


def compiled(folder: Path) -> Path:
    """Compile calls.c and return the library."""
    library = folder / "calls.so"
    options = ["-std=gnu17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"]
    subprocess.run(["cc", *options, "-o", library, HERE / "calls.c", "-ldl"], check=True)
    return library


def recorded(log: Path) -> Iterator[Call]:
    """Yield the calls of a log in order."""
    data = log.read_bytes()
    at = 0
    while at < len(data):
        kind, length, inode, place, size = HEADER.unpack_from(data, at)
        path_at = at + HEADER.size
        data_at = path_at + length
        at = data_at + (size if KINDS[kind] in {"write", "rename", "link", "mark"} else 0)
        yield Call(KINDS[kind], data[path_at:data_at].decode(), inode, place, data[data_at:at])


class Writers:
    """Starts one writer after another.

    Args:
        library: calls.c, compiled.
        program: the module that forks one for each job.
    """

    def __init__(self, library: Path, program: str = "tests.faults.harness.writer") -> None:
        environment = os.environ | {"LD_PRELOAD": str(library), "OPENBLAS_NUM_THREADS": "1"}
        self._program = subprocess.Popen(
            [sys.executable, "-m", program],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, job: Job | MoverJob, *, kill_after: float | None = None) -> tuple[list[Said], int]:
        """Let a writer do its job, or kill it some time after it opened; return what it said, and its status."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(job) + "\n")
        self._program.stdin.flush()
        lines: list[Said] = []
        for line in self._program.stdout:
            said = json.loads(line)
            if "status" in said:
                return lines, said["status"]
            lines.append(said)
            if kill_after is not None and said == {"done": "open"}:
                time.sleep(kill_after)
                with suppress(ProcessLookupError):  # it may have done all it was asked for
                    os.kill(lines[0]["pid"], signal.SIGKILL)
                kill_after = None
        raise AssertionError("the program of the writers has ended")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._program.stdin.close()  # type: ignore[union-attr]
        self._program.stdout.close()  # type: ignore[union-attr]
        self._program.wait()
