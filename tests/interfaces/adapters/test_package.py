"""What importing the adapters does not do, and what they say where a framework is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llmspell_memory.adapters.missing import missing

EXAMPLES = Path(__file__).parents[3] / "examples"
WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[2:]))
try:
    __import__(f"llmspell_memory.adapters.{sys.argv[1]}")
except ImportError as error:
    print(type(error).__name__, error)
"""
ALONE = """
import sys
sys.exit(str(found) if (found := {"langgraph", "langchain", "openai", "agents", "torch"} & set(sys.modules)) else 0)
"""
NOTHING = """
import sys
sys.exit(str(found) if (found := {"mem0", "pydantic", "openai", "langchain_core"} & set(sys.modules)) else 0)
"""
OPENED = """
import importlib, sys, threading
import langchain_core.documents, langchain_core.retrievers, langchain_core.vectorstores, langgraph.store.base
import agents, google.adk.memory.base_memory_service, llama_index.core.memory
opened = []
sys.addaudithook(lambda event, args: opened.append([event, str(args[0])]) if event in {
    "socket.connect", "socket.bind", "sqlite3.connect", "subprocess.Popen"
} or (event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")) else None)
sys.dont_write_bytecode = True
before = threading.active_count()
for name in ("google_adk", "langchain", "langgraph", "llama_index", "mem0", "openai_agents"):
    importlib.import_module(f"llmspell_memory.adapters.{name}")
sys.exit(str(opened) if opened or threading.active_count() > before else 0)
"""


def run(script: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("adapter", "absent"),
    [
        ("langgraph", ["langgraph"]),
        ("langgraph", ["langgraph", "langchain_core"]),
        ("langchain", ["langchain_core"]),
        ("openai_agents", ["agents"]),
        ("llama_index", ["llama_index", "llama_index.core"]),
        ("google_adk", ["google.adk"]),
        ("google_adk", ["google"]),
        ("crewai", ["crewai"]),
    ],
)
def test_a_missing_framework_names_its_cure(adapter: str, absent: list[str]) -> None:
    """Importing an adapter without its framework says the pip line."""
    told = run(WITHOUT, adapter, *absent)
    assert told.startswith("MissingDependencyError")
    assert told.endswith(f'run: pip install "llmspell-memory[{adapter.replace("_", "-")}]"\n')


def test_another_package_that_is_missing_is_named_as_it_is() -> None:
    """What a framework itself lacks is not taken for the framework."""
    error = ModuleNotFoundError("No module named 'pydantic'", name="pydantic")
    assert missing(error, extra="langchain") is error


def test_langchain_needs_its_core_alone() -> None:
    """The LangChain adapter loads neither LangGraph nor LangChain itself."""
    run(ALONE)


def test_mem0_needs_nothing() -> None:
    """The adapter for mem0's names loads no framework, and not mem0."""
    run(NOTHING)


def test_importing_opens_nothing() -> None:
    """Beyond what the frameworks do, no file is written, no socket opened and no thread started by an import."""
    run(OPENED)


@pytest.mark.parametrize(
    ("example", "ends"),
    [
        ("langgraph_memory.py", "agent: Your dog is called Ada.\n"),
        ("langchain_retriever.py", "On Friday, and a loaf keeps for three days.\n"),
        ("google_adk_memory.py", "baker: Noted.\nbaker: I remember: My dog is called Ada.\n"),
        ("llama_index_memory.py", "user: The order of rye bread is for Friday.\n"),
        ("mem0_style_memory.py", "UPDATE -> I am allergic to walnuts and almonds.\n[0, 1]\n"),
        ("openai_agents_session.py", "user: My rye loaf keeps for three days.\n"),
    ],
)
def test_examples_run(example: str, ends: str, tmp_path: Path) -> None:
    """Each example runs without network, keys or warnings, and twice where the second run remembers the first."""
    for _ in range(2 if example == "langgraph_memory.py" else 1):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", OFFLINE, str(EXAMPLES / example)],
            cwd=tmp_path,
            env={"PATH": "", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(ends)
    if example == "langgraph_memory.py":
        assert done.stdout.count("My dog is called Ada.") == 3  # said again, remembered twice, kept once
    elif example == "google_adk_memory.py":
        assert done.stdout.count("\n") == 2
    elif example == "llama_index_memory.py":
        assert done.stdout.startswith("A rye loaf keeps for three days.\n## monday\n")
    elif example == "mem0_style_memory.py":
        assert done.stdout.startswith("erik said: I am allergic to walnuts.\n")
    elif example == "openai_agents_session.py":
        assert done.stdout.startswith("monday holds 2 items\n")
    else:
        assert "A rye loaf keeps for three days." in done.stdout
        assert "The order of rye bread is for Friday." in done.stdout
        assert "dog" not in done.stdout


OFFLINE = """
import runpy, sys
def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise SystemExit(f"{event}: {args}")
sys.addaudithook(refuse)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
