"""What importing the module does not do, and what it says where the SDK is missing."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from llmspell_memory.cli import main
sys.argv = ["llmspell-memory", "--db", sys.argv[2], "mcp"]
main()
"""
IMPORTED = """
import sys, threading
import mcp.server, uvicorn, anyio
opened = []
sys.addaudithook(lambda event, args: opened.append([event, str(args[0])]) if event in {
    "socket.connect", "socket.bind", "sqlite3.connect", "subprocess.Popen"
} or (event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")) else None)
sys.dont_write_bytecode = True
import llmspell_memory.mcp
assert not opened, opened
import llmspell_memory.mcp.http, llmspell_memory.mcp.stdio
sys.exit(str(opened) if opened or threading.active_count() > 1 else 0)
"""
LAZY = """
import sys
import llmspell_memory.mcp
import llmspell_memory.cli.app
sys.exit(str(found) if (found := {"mcp", "starlette", "uvicorn", "pydantic"} & set(sys.modules)) else 0)
"""


@pytest.mark.parametrize("script", [IMPORTED, LAZY])
def test_importing_does_nothing(script: str) -> None:
    """No file is written, no socket opened, no thread begun; and no other command waits for the SDK."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["mcp", "mcp_types"])
def test_a_missing_package_names_its_cure(package: str, tmp_path: Path) -> None:
    """Without the SDK the command says which line installs it, and makes no store."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, package, str(tmp_path / "memory.db")],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.count("\n") == 1
    assert 'pip install "llmspell-memory[mcp]"' in done.stderr
    assert list(tmp_path.iterdir()) == []
