"""A served memory under load: processes that search and add over keep-alive connections, and how long each waits.

The server is `llmspell-memory serve` in a process of its own, over a file with an HNSW index, and embeds what it is
asked by the hashing provider. The clients are plain: they send bytes that were made before, and read an answer whole.
They share the machine's processors with the server, so its own throughput is more.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from data import machine

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, HNSWConfig
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.embeddings import HashingProvider

if TYPE_CHECKING:
    from collections.abc import Iterator

DIMENSIONS = 256
WORDS = "oven bread dawn Ada dog river train Bristol lease rent garden bakes walks asks leaves ends rose".split()  # noqa: SIM905 (to be read)
JSON = {"Content-Type": "application/json"}


def text(number: int) -> str:
    """Return a sentence of some of the words, the same for the same number."""
    chosen = np.random.default_rng(number).choice(WORDS, 12)
    return f"{' '.join(chosen)}, {number}"


def fill(path: Path, entries: int) -> None:
    """Make a store with an index beside it."""
    service = EmbeddingService(HashingProvider(DIMENSIONS), cache=None)
    with DefaultMemoryManager(SQLiteBackend(path, service.space, hnsw=HNSWConfig()), service, watch=None) as memory:
        for start in range(0, entries, 2_000):
            memory.episodic.add_many(
                EpisodicEntry(f"s{n // 15}", "user", text(n), id=str(n))
                for n in range(start, min(entries, start + 2_000))
            )


@contextmanager
def serving(path: Path) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run the server, and give its port and process."""
    program = Path(sys.executable).with_name("llmspell-memory")
    command = [str(program), "--db", str(path), "serve", "--port", "0", "--rate", "0", "--quiet"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline() if process.stderr is not None else ""
            found = re.search(r":(\d+) ", line)
            if found is None:
                raise SystemExit(f"the server did not begin: {line}")
            yield int(found[1]), process
        finally:
            process.terminate()


def requests(seed: int, entries: int, share: float) -> list[tuple[str, str, bytes]]:
    """Return requests to send one after the other, again and again: a kind, a path and a body."""
    chance = np.random.default_rng(seed)
    made: list[tuple[str, str, dict[str, Any]]] = []
    for n in range(2_000):
        if chance.random() < share:
            entry = {"session_id": f"new-{seed}", "role": "user", "content": text(int(chance.integers(10**9)))}
            made.append(("add", "/v1/entries", {"entries": [entry]}))
        elif n % 2:
            made.append(("search by meaning", "/v1/search", {"query": text(n), "k": 10, "mode": "semantic"}))
        else:
            made.append(("search by everything", "/v1/search", {"query": text(int(chance.integers(entries))), "k": 10}))
    return [(kind, path, json.dumps(body).encode()) for kind, path, body in made]


def ask(port: int, seed: int, seconds: float, entries: int, share: float) -> dict[str, list[float]]:
    """Send requests for so many seconds, and return the milliseconds that each kind took."""
    took: dict[str, list[float]] = defaultdict(list)
    asked = requests(seed, entries, share)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    until, number = time.perf_counter() + seconds, 0
    while (began := time.perf_counter()) < until:
        kind, path, body = asked[number % len(asked)]
        number += 1
        connection.request("POST", path, body, JSON)
        response = connection.getresponse()
        response.read()
        took[kind if response.status < 300 else f"{kind}: {response.status}"].append(
            (time.perf_counter() - began) * 1000
        )
    connection.close()
    return dict(took)


def client(port: int, seed: int, threads: int, seconds: float, entries: int, share: float, into: Any) -> None:
    """Be one client process of several connections."""
    all_took: list[dict[str, list[float]]] = []
    begun = [
        threading.Thread(target=lambda n=n: all_took.append(ask(port, seed * 100 + n, seconds, entries, share)))
        for n in range(threads)
    ]
    for one in begun:
        one.start()
    for one in begun:
        one.join()
    into.put(all_took)


def cpu_seconds(process: int) -> float:
    """Return how much processor time a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Run the load, and return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.db"
        fill(path, options.entries)
        with serving(path) as (port, process):
            ask(port, 999, 1.0, options.entries, 0.0)  # so that what is read once has been
            context = multiprocessing.get_context("spawn")
            into = context.Queue()
            arguments = (options.threads, options.seconds, options.entries, options.adds, into)
            clients = [context.Process(target=client, args=(port, n, *arguments)) for n in range(options.clients)]
            before = cpu_seconds(process.pid)
            for one in clients:
                one.start()
            told = [into.get() for _ in clients]
            spent = cpu_seconds(process.pid) - before
            for one in clients:
                one.join()
    took: dict[str, list[float]] = defaultdict(list)
    for threads in told:
        for kinds in threads:
            for kind, times in kinds.items():
                took[kind] += times
    rows = [
        {
            "kind": kind,
            "requests": len(times),
            **dict(zip(("p50", "p95", "p99"), np.percentile(times, (50, 95, 99)), strict=True)),
        }
        for kind, times in sorted({**took, "all": [one for times in took.values() for one in times]}.items())
    ]
    total = sum(map(len, took.values()))
    return {"machine": machine(), "rows": rows, "total": total, "cpu_ms": spent / total * 1000}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=2, help="processes")
    parser.add_argument("--threads", type=int, default=4, help="connections of each")
    parser.add_argument("--entries", type=int, default=10_000, help="in the store when it begins")
    parser.add_argument("--adds", type=float, default=0.1, help="share of the requests that add an entry")
    options = parser.parse_args()
    told = measured(options)
    connections = options.clients * options.threads
    print(f"{told['machine']}; {options.entries:,} entries, {connections} connections, {options.seconds:g} s:")
    rate = told["total"] / options.seconds
    print(f"{rate:,.0f} requests a second, {told['cpu_ms']:.2f} ms of the server's processor each")
    print("\n| request | how many | p50 ms | p95 ms | p99 ms |\n|---|---:|---:|---:|---:|")
    for row in told["rows"]:
        print(f"| {row['kind']} | {row['requests']:,} | {row['p50']:.1f} | {row['p95']:.1f} | {row['p99']:.1f} |")


if __name__ == "__main__":
    main()
