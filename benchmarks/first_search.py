"""How long it takes a newcomer from a fresh clone to a first search: in Python, through MCP, over HTTP, in LangGraph.

Each way begins with nothing: a clone of this checkout as it is committed, a new virtual environment, pip and a
compiler. Packages come from pip's registry or its cache, so the first number is one of a network, too. A second number
is that of a first entry stored and found, in a new process and an empty folder.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data import machine

ROOT = Path(__file__).parents[1]

PYTHON = """
from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, MemoryConfig
from llmspell_memory.embeddings import LocalProvider

config = MemoryConfig.for_production(EmbeddingService(LocalProvider()), path="memory.db")
with DefaultMemoryManager.with_config(config) as memory:
    memory.episodic.add(EpisodicEntry("session-1", "user", "My dog is called Ada."))
    print(memory.episodic.search("what is my pet's name?", 1)[0].entry.content)
"""

MCP = """
import asyncio, sys
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

async def main():
    server = StdioServerParameters(command=sys.argv[1], args=["--db", "memory.db", "mcp"])
    async with stdio_client(server) as streams, ClientSession(*streams) as client:
        await client.initialize()
        entry = {"session_id": "session-1", "role": "user", "content": "My dog is called Ada."}
        await client.call_tool("add_memory", entry)
        found = await client.call_tool("search_memories", {"query": "what is my pet's name?"})
        print(found.content[0].text)

asyncio.run(main())
"""

HTTP = """
import json, re, subprocess, sys, urllib.request

def post(path, body):
    request = urllib.request.Request(base + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)

server = subprocess.Popen([sys.argv[1], "--db", "memory.db", "serve", "--port", "0"], stderr=subprocess.PIPE, text=True)
try:
    base = next(filter(None, (re.search(r"http://\\S+", line) for line in server.stderr)))[0]
    entry = {"session_id": "session-1", "role": "user", "content": "My dog is called Ada."}
    post("/v1/entries", {"entries": [entry]})
    print(post("/v1/search", {"query": "what is my pet's name?", "k": 1})["hits"][0]["entry"]["content"])
finally:
    server.terminate()
    server.wait()
"""

LANGGRAPH = """
from llmspell_memory.adapters.langgraph import EpisodicStore
from llmspell_memory.embeddings import LocalProvider

with EpisodicStore.open("memory.db", index={"embed": LocalProvider(), "fields": ["text"]}) as store:
    store.put(("users", "erik"), "dog", {"text": "My dog is called Ada."})
    print(store.search(("users", "erik"), query="what is my pet's name?", limit=1)[0].value["text"])
"""

WAYS = {
    "Python": ("local", PYTHON),
    "MCP over stdio": ("local,cli,mcp", MCP),
    "HTTP": ("local,cli,server", HTTP),
    "LangGraph": ("local,langgraph", LANGGRAPH),
}


def measured(extras: str, program: str) -> tuple[float, float]:
    """Return seconds from nothing to installed, and from there to the first entry found."""
    with tempfile.TemporaryDirectory() as folder:
        clone, empty, environment = (Path(folder, name) for name in ("clone", "empty", "environment"))
        empty.mkdir()
        began = time.perf_counter()
        run("git", "clone", "--quiet", ROOT, clone)
        run(sys.executable, "-m", "venv", environment)
        run(environment / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", f"{clone}[{extras}]")
        installed = time.perf_counter()
        command = environment / "bin" / "llmspell-memory"
        found = run(environment / "bin" / "python", "-c", program, command, folder=empty)
        ended = time.perf_counter()
        if "My dog is called Ada." not in found:
            raise SystemExit(f"it was not found: {found}")
        return installed - began, ended - installed


def run(*command: str | Path, folder: Path = ROOT) -> str:
    """Run a command and return what it prints; its failure ends the measurement."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LLMSPELL_")}
    done = subprocess.run(command, cwd=folder, env=kept, check=False, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command[:3]))}: {done.stderr or done.stdout}")
    return done.stdout


def main() -> None:
    """Measure the ways that are asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"of {', '.join(WAYS)}; all unless given")
    chosen = parser.parse_args().ways or list(WAYS)
    print(f"{machine()}\n\n| way | extras | clone, environment, install: s | to the first entry found: s |")
    print("|---|---|---:|---:|")
    for way in chosen:
        extras, program = WAYS[way]
        installed, found = measured(extras, program)
        print(f"| {way} | {extras} | {installed:.0f} | {found:.1f} |", flush=True)


if __name__ == "__main__":
    main()
