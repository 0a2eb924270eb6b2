"""The package as a whole: its floors, and what importing it does not do."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import llmspell_memory

ROOT = Path(llmspell_memory.__file__).parent
FLOORS = {
    0: {"types", "errors"},
    1: {"protocols"},
    2: {"index", "embeddings"},
    3: {"backends"},
    4: {"config", "memory", "manager", "aio", "operations", "retrieval", "watch", "wire"},
    5: {"cli", "server", "mcp", "client", "adapters"},
}
NATIVE = {"_core": ("index",), "_pages": ("backends", "sqlite", "pages")}
"""Who alone may see each native module."""

STARTS: dict[tuple[str, ...], str] = {("cli", "commands", "serve"): "server", ("cli", "commands", "mcp"): "mcp"}
"""Who alone of floor 5 may see another room there: a command that starts it."""

FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
OPTIONAL = {
    "httpx",
    "wordllama",
    "tokenizers",
    "safetensors",
    "sentence_transformers",
    "torch",
    "typer",
    "rich",
    "matplotlib",
    "opentelemetry",
    "dateparser",
    "psycopg",
    "psycopg_pool",
    "pgvector",
    "pymilvus",
    "starlette",
    "uvicorn",
    "httptools",
    "mcp",
    "mcp_types",
    "grpc",
    "langgraph",
    "langchain_core",
    "agents",
    "llama_index",
    "sqlalchemy",
    "google",
    "openai",
    "langsmith",
    "pydantic",
}


def imports(path: Path) -> set[str]:
    """Names of all modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_module_imports_only_from_floors_below() -> None:
    """A room sees lower floors and itself; rooms of one floor see each other on floors 0 and 4 alone."""
    faults = []
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] in ("__init__", "testing"):
            continue  # the front door shows what is there; the contract suites are seen by tests alone
        for name in imports(path):
            if not name.startswith("llmspell_memory"):
                continue
            room = [*name.split("."), ""][1]
            if room in NATIVE:
                allowed = parts[: len(NATIVE[room])] == NATIVE[room]
            elif room in FLOOR_OF:
                here, there = FLOOR_OF[parts[0]], FLOOR_OF[room]
                allowed = (
                    there < here or room == parts[0] or (there == here and here in (0, 4)) or STARTS.get(parts) == room
                )
            else:
                allowed = room in ("", "__version__")
            if not allowed:
                faults.append(f"{'/'.join(parts)} imports {name}")
    assert faults == []


def test_every_module_stands_on_a_floor_and_says_what_it_is() -> None:
    """No room without a floor, and no module without a docstring."""
    rooms = {path.relative_to(ROOT).with_suffix("").parts[0] for path in ROOT.rglob("*.py")}
    assert rooms - {"__init__", "testing"} <= FLOOR_OF.keys()
    for path in ROOT.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_only_the_top_floor_reads_the_environment() -> None:
    """No module below floor 5 looks at environment variables."""
    for path in ROOT.rglob("*.py"):
        if path.relative_to(ROOT).parts[0] not in ("cli", "testing"):
            assert not re.search(r"\benviron\b|\bgetenv\b", path.read_text(encoding="utf-8")), path


PROBE = """
import json, sys, threading, time
start = time.process_time()
import numpy
measure = time.process_time() - start
before = set(sys.modules)
opened = []
sys.addaudithook(lambda event, args: opened.append([event, str(args[0])]) if event in {
    "socket.connect", "socket.bind", "socket.__new__", "sqlite3.connect", "subprocess.Popen"
} or (event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")) else None)
start = time.process_time()
import llmspell_memory
spent = time.process_time() - start
print(json.dumps({
    "times_numpy": spent / measure, "opened": opened, "threads": threading.active_count(),
    "modules": sorted({name.split(".")[0] for name in set(sys.modules) - before}),
}))
"""


def test_importing_is_quick_and_does_nothing() -> None:
    """Not twice the CPU of importing numpy, which it needs; no file written, no socket, no thread, nothing optional."""
    runs = []
    for _ in range(40):  # numpy, imported just before, tells how quick the machine is at this moment
        out = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, check=True, text=True).stdout
        runs.append(json.loads(out))
        if runs[-1]["times_numpy"] < 2:
            break
        time.sleep(0.2)
    best = min(runs, key=lambda run: run["times_numpy"])
    assert best["times_numpy"] < 2, best
    assert best["opened"] == []
    assert best["threads"] == 1
    assert not OPTIONAL & set(best["modules"])
