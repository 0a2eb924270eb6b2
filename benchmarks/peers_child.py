"""What one process measures of one store, started by `peers.py`; prints a line of JSON."""

from __future__ import annotations

import argparse
import atexit
import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from data import percentiles
from peers_data import ASKED, Judge, conditions, load
from peers_stores import store_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from peers_base import Store
    from peers_data import Material, Row

A_TURN: Final = 5.0
"""Seconds for the searches of one kind, or for adds; at least `FEWEST` are done."""

FEWEST: Final = 20
KILLED_OVER: Final = 1_000
"""Rows that are there before the process that adds is killed."""

TENANTS: Final = ("acme", "acme2", "Acme", "ACME ", "ac_e", "a%", "acme/eu", "acme:eu", "ac")
"""Names that one store or another could take for each other's, or for patterns."""


def measure(kind: type[Store], material: Material, folder: Path) -> dict[str, Any]:
    """Fill a new store, and ask it under each condition."""
    store = kind(folder, material)
    began = time.perf_counter()
    store.fill(material.rows)
    result: dict[str, Any] = {"fill_seconds": time.perf_counter() - began, "searches": {}}
    for question in material.questions[:FEWEST]:
        store.search(question, None)
    judge = Judge(material)
    for name, asked in conditions(material).items():
        result["searches"][name] = searched(store, material, judge, asked)
    if not kind.durable:
        result["add_ms"] = added(store, material)
    store.close()
    return result


def searched(store: Store, material: Material, judge: Judge, asked: Sequence[Any]) -> dict[str, Any]:
    """Return how long searches took, the share found of what should have been, and how many of k came."""
    spent, answers = [], []
    end = time.perf_counter() + A_TURN
    for question, where in zip(material.questions, asked, strict=True):
        began = time.perf_counter()
        answers.append((question, where, store.search(question, where)))
        spent.append((time.perf_counter() - began) * 1e3)
        if time.perf_counter() > end and len(spent) >= FEWEST:
            break
    # Judged afterwards: that takes all cores, and what they have in their caches.
    right, there = np.sum([judge.share(*answer) for answer in answers], axis=0).tolist()
    came = sum(len(found) for _, _, found in answers)
    return {
        "ms": precise(spent),
        "recall": round(right / there, 4),
        "came": round(came / there, 4),
        "asked": len(spent),
    }


def precise(milliseconds: Sequence[float]) -> dict[str, float]:
    """Return percentiles, in milliseconds."""
    return {name: value / 1e3 for name, value in percentiles(np.asarray(milliseconds) * 1e3).items()}


def added(store: Store, material: Material) -> dict[str, float]:
    """Return how long it took to add one row, over and over."""
    spent = []
    end = time.perf_counter() + A_TURN
    for row in further(material.rows, "more"):
        began = time.perf_counter()
        store.add(row)
        spent.append((time.perf_counter() - began) * 1e3)
        if len(spent) >= ASKED or (time.perf_counter() > end and len(spent) >= FEWEST):
            break
    return precise(spent)


def further(rows: Sequence[Row], name: str) -> Iterator[Row]:
    """Yield rows that are there already under new ids, in a session of their own."""
    for number, row in enumerate(rows):
        yield row._replace(id=f"{name}-{number}", session=name)


def opened(kind: type[Store], material: Material, folder: Path) -> dict[str, Any]:
    """Open a store that is there, ask it at once, and then add to it."""
    for name in kind.modules:
        import_module(name)
    began = time.perf_counter()
    store = kind(folder, material)
    first = store.search(material.questions[0], None)
    spent = time.perf_counter() - began
    result: dict[str, Any] = {"open_ms": spent * 1e3, "first": len(first), "add_ms": added(store, material)}
    store.close()
    return result


def adding(kind: type[Store], material: Material, folder: Path) -> dict[str, Any]:
    """Add rows for ever, and say each one that is acknowledged, until this process is killed."""
    store = kind(folder, material)
    store.fill(material.rows[:KILLED_OVER])
    for row in further(material.rows, "killed"):
        store.add(row)
        print(row.id, flush=True)
    return {}


def survived(kind: type[Store], material: Material, folder: Path) -> dict[str, Any]:
    """Say which of the rows that a killed process has added are there."""
    store = kind(folder, material)
    names = set(os.environ["ACKNOWLEDGED"].split(","))
    rows = [row for row in further(material.rows, "killed") if row.id in names]
    found = sum(store.has(row) for row in rows)
    store.close()
    return {"acknowledged": len(names), "there": found}


def tenants(kind: type[Store], material: Material, folder: Path) -> dict[str, Any]:
    """Let tenants with names that look alike store a row each, and see what each finds of the others'."""
    store = kind(folder, material)
    refused, owners = [], {}
    for name, row in zip(TENANTS, material.rows, strict=False):
        one = row._replace(id=f"of-{name}", text=row.text)
        try:
            store.of_tenant(name).add(one)
            owners[name] = one.id
        except Exception as error:  # noqa: BLE001 (whatever it is called: the name was refused, which is an answer)
            refused.append(f"{name}: {type(error).__name__}")
    seen = 0
    for name, own in owners.items():
        found = set(store.of_tenant(name).search(material.questions[0], None))
        seen += len(found & set(owners.values()) - {own})
    return {"tenants": len(owners), "refused": refused, "seen_of_others": seen}


def used(kind: type[Store], material: Material, folder: Path) -> dict[str, Any]:
    """Import, open, add ten, ask, close; what of it went to the network is seen by a hook, and by who traces this."""
    asked_for: list[str] = []
    events = {"socket.getaddrinfo": 0, "socket.gethostbyname": 0, "socket.connect": 1, "socket.sendto": 1}

    def see(event: str, args: tuple[Any, ...]) -> None:
        if event in events:
            target = args[events[event]]
            if isinstance(target, bytes):
                target = target.decode()
            if isinstance(target, str | tuple) and event != "socket.connect":
                asked_for.append(str(target))
            elif isinstance(target, tuple):
                asked_for.append(str(target[0]))

    atexit.register(lambda: print(json.dumps({"hosts": sorted(set(asked_for))}), flush=True))  # as the last
    sys.addaudithook(see)
    for name in kind.modules:
        import_module(name)
    store = kind(folder, material)
    for row in material.rows[:10]:
        store.add(row)
    store.search(material.questions[0], None)
    store.close()
    time.sleep(2)  # what is sent in the background gets its time
    return {}


Part: TypeAlias = "Callable[[type[Store], Material, Path], dict[str, Any]]"

PARTS: Final[dict[str, Part]] = {
    "measure": measure,
    "open": opened,
    "adding": adding,
    "survived": survived,
    "tenants": tenants,
    "use": used,
}


def main() -> None:
    """Measure what the arguments name."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("part", choices=PARTS)
    options.add_argument("store")
    options.add_argument("size", type=int)
    options.add_argument("folder", type=Path)
    options.add_argument("--data", type=Path)
    given = options.parse_args()
    kind = store_named(given.store)
    print(json.dumps(PARTS[given.part](kind, load(given.data, given.size), given.folder)), flush=True)


if __name__ == "__main__":
    main()
