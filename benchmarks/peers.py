"""Other memories and vector stores beside this library: writes, searches, filters, kills, files, packages, network.

Each store is measured in processes of its own, with the same rows, vectors and questions, by the way that its
documentation shows (`peers_vectors.py` and `peers_memories.py`). --data is a folder with utterances and their vectors;
without it they are made. Needs an environment with the group `peers` (`make bench-peers`).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from data import machine
from packaging.requirements import Requirement
from peers_child import KILLED_OVER, TENANTS
from peers_data import load
from peers_stores import STORES
from peers_tables import told, write_page

if TYPE_CHECKING:
    from collections.abc import Iterable

    from peers_base import Store

SIZES: Final = (10_000, 100_000)
ACKNOWLEDGED: Final = 50
"""Adds that are acknowledged before a process is killed."""

_CHILD: Final = Path(__file__).with_name("peers_child.py")
_TO_OTHERS: Final = re.compile(r"sa_family=AF_INET6?,.*?(?:inet_addr\(\"|inet_pton\(AF_INET6, \")([^\"]+)")
_OWN: Final = re.compile(r"127\.|::1$|0\.0\.0\.0$|::$")


class Runner:
    """Starts processes that measure.

    Args:
        data: the folder of the data, if there is one.
    """

    def __init__(self, data: Path | None) -> None:
        self._more = [] if data is None else ["--data", str(data)]

    def command(self, part: str, kind: type[Store], size: int, folder: Path) -> list[str]:
        """Return the command of one process."""
        return [sys.executable, str(_CHILD), part, kind.name, str(size), str(folder), *self._more]

    def run(self, part: str, kind: type[Store], size: int, folder: Path, **more: str) -> dict[str, Any]:
        """Return what one process has measured.

        Args:
            part: what is measured.
            kind: the store.
            size: rows.
            folder: of the store.
            more: environment variables.
        """
        command = self.command(part, kind, size, folder)
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | more)
        if done.returncode:
            raise SystemExit(f"{kind.name}, {part}, {size}:\n{done.stderr}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result


def measured(runner: Runner, kind: type[Store], size: int) -> dict[str, Any]:
    """Return what a store does with so many rows."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        load_before = os.getloadavg()[0]
        result = {"store": kind.name, "size": size, "load": load_before} | runner.run("measure", kind, size, folder)
        if kind.durable:
            result["bytes"] = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
            result |= runner.run("open", kind, size, folder)
        return result


def killed(runner: Runner, kind: type[Store]) -> dict[str, Any]:
    """Kill a process that adds, as soon as it has acknowledged some, and count which of those are there."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        command = runner.command("adding", kind, KILLED_OVER, Path(name))
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            lines = process.stdout or ()
            said = [line.strip() for line, _ in zip(lines, range(ACKNOWLEDGED), strict=False)]
            process.send_signal(signal.SIGKILL)
        return runner.run("survived", kind, KILLED_OVER, Path(name), ACKNOWLEDGED=",".join(said))


def network(runner: Runner, kind: type[Store]) -> dict[str, Any]:
    """Return which hosts a process has asked for, and to which addresses of others it has tried to connect."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        trace = Path(name) / "trace"
        command = runner.command("use", kind, KILLED_OVER, Path(name) / "store")
        (Path(name) / "store").mkdir()
        tracer = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(trace)]
        if shutil.which("strace") is None:
            tracer = []
        done = subprocess.run([*tracer, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{kind.name}, use:\n{done.stderr}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        told_to = set(_TO_OTHERS.findall(trace.read_text(errors="replace"))) if tracer else set()
        return result | {"traced": bool(tracer), "connected": sum(not _OWN.match(one) for one in told_to)}


def imported(kind: type[Store]) -> float:
    """Return the milliseconds that importing takes in a new process, the median of five."""
    script = (
        "import time, importlib, sys; began = time.perf_counter()\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print(time.perf_counter() - began)"
    )
    return 1e3 * median(
        float(subprocess.check_output([sys.executable, "-W", "ignore", "-c", script, *kind.modules])) for _ in range(5)
    )


def packages(kind: type[Store]) -> dict[str, Any]:
    """Return the versions of what one installs, how many packages come of it, and how many bytes they are."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [Requirement(name) for name in kind.packages]
    seen = set()
    while waiting:
        wanted = waiting.pop()
        key = (_normal(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        package = found[key[0]] = importlib.metadata.distribution(wanted.name)
        extras = ("", *wanted.extras)
        waiting += [
            one
            for one in map(Requirement, package.requires or ())
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras)
        ]
    return {
        "versions": {name: importlib.metadata.version(name) for name in kind.packages},
        "packages": len(found),
        "package_bytes": sum(map(_size, found.values())),
    }


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _size(package: importlib.metadata.Distribution) -> int:
    size = 0
    for one in package.files or ():
        with contextlib.suppress(OSError):
            size += Path(str(one.locate())).stat().st_size
    return size


def result_of(runner: Runner, kinds: Iterable[type[Store]], sizes: Iterable[int]) -> dict[str, Any]:
    """Measure the stores, and return all of it."""
    rows, facts = [], []
    for kind in kinds:
        print(kind.name, file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            apart = runner.run("tenants", kind, KILLED_OVER, Path(folder))
        facts.append(
            {"store": kind.name, "how": kind.how, "import_ms": imported(kind)}
            | packages(kind)
            | {"kill": killed(runner, kind), "network": network(runner, kind), "tenants": apart}
        )
        rows += [measured(runner, kind, size) for size in sizes if size <= kind.largest]
    return {"facts": facts, "rows": rows, "names": len(TENANTS)}


def main() -> None:
    """Measure, print the tables and write the result as JSON, on request the tables into the docs."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, help="folder with utterances and their vectors; made ones when left out")
    options.add_argument("--stores", default="", help="names, with ; between; all when left out")
    options.add_argument("--sizes", default=",".join(map(str, SIZES)))
    options.add_argument("--write-docs", action="store_true", help="put the tables into docs/comparison.md")
    options.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    given = options.parse_args()
    names = [name.strip() for name in given.stores.split(";") if name.strip()]
    kinds = [kind for kind in STORES if not names or kind.name in names]
    result = {"machine": machine(), "data": load(given.data, KILLED_OVER).source} | result_of(
        Runner(given.data), kinds, [int(size) for size in given.sizes.split(",")]
    )
    print(told(result))
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "peers.json").write_text(json.dumps(result, indent=1) + "\n")
    if given.write_docs:
        write_page(result)


if __name__ == "__main__":
    main()
