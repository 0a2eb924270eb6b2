"""What the adapter offers, what importing it does not do; its page and its example, as they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from crewai.events.event_listener import event_listener

import llmspell_memory.adapters.crewai
from tests.fences import ROOT, Reader, fences

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")  # what CrewAI warns of is not ours

OPENED = """
import sys, threading
import crewai.memory.types
opened = []
sys.addaudithook(lambda event, args: opened.append([event, str(args[0])]) if event in {
    "socket.connect", "socket.bind", "sqlite3.connect", "subprocess.Popen"
} or (event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")) else None)
sys.dont_write_bytecode = True
before = threading.active_count()
import llmspell_memory.adapters.crewai
sys.exit(str(opened) if opened or threading.active_count() > before or "lancedb" in sys.modules else 0)
"""
OFFLINE = """
import os, runpy, sys
def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        os.write(2, f"{event}: {args}".encode())
        os._exit(3)  # CrewAI would go on after an exception
sys.addaudithook(refuse)
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_what_is_public() -> None:
    """These names are the interface; adding or removing one is a decision."""
    module = llmspell_memory.adapters.crewai
    assert module.__all__ == ["EpisodicStorage"]
    assert all(getattr(module, name).__doc__ for name in module.__all__)
    named = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert all(f"::: {module.__name__}.{name}\n" in named for name in module.__all__)


def test_importing_opens_nothing() -> None:
    """Beyond what CrewAI does, no file is written, no socket opened and no thread started by an import."""
    done = subprocess.run([sys.executable, "-c", OPENED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_the_page_shows_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snippets run without an error, and print what the page says they print; CrewAI's panels are switched off."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(event_listener.formatter, "verbose", False)
    page = ROOT / "docs" / "crewai.md"
    found, reader = fences(page), Reader(page, tmp_path)
    assert [fence.language for fence in found] == ["sh", "python", "text"]
    for fence in found:
        reader.read(fence)


def test_the_example_runs(tmp_path: Path) -> None:
    """Without network or key, and again, when it remembers the first time."""
    shutil.copy(ROOT / "examples" / "crewai_memory.py", tmp_path)
    for first in ("A rye loaf keeps for three days.", "I remember: A rye loaf keeps for three days."):
        done = subprocess.run(
            [sys.executable, "-c", OFFLINE, "crewai_memory.py"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == (
            f"the memory holds: / (1 records),  /bread (1 records)\nbaker: {first}\n"
            "the memory holds: / (1 records),  /bread (1 records)\n"
            "baker: I remember: A rye loaf keeps for three days.\n"
        )
