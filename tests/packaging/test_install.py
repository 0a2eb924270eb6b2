"""The wheel is installed and used where no compiler is; and the tests in the sdist pass on it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.packaging.conftest import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packaging.conftest import Built

USE = """
import importlib.metadata, importlib.util, pathlib, shutil, sys
import llmspell_memory
from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, MemoryConfig
from llmspell_memory.embeddings import HashingProvider

assert not any(shutil.which(name) for name in ("cc", "gcc", "g++", "c++", "clang", "cmake", "make")), "a compiler"
assert pathlib.Path(llmspell_memory.__file__).is_relative_to(sys.prefix)
assert importlib.util.find_spec("nanobind") is None
assert importlib.metadata.version("llmspell-memory") == llmspell_memory.__version__
config = MemoryConfig.for_production(EmbeddingService(HashingProvider()), path="memory.db")
with DefaultMemoryManager.with_config(config) as memory:
    memory.episodic.add(EpisodicEntry("session-1", "user", "My dog is called Ada."))
    memory.episodic.add(EpisodicEntry("session-1", "user", "The train to Bristol leaves at nine."))
with DefaultMemoryManager.with_config(config) as memory:
    print(memory.backend_name, memory.episodic.search("what is my dog called?", 1)[0].entry.content)
"""
TYPED = """
from llmspell_memory import DefaultMemoryManager
reveal_type(DefaultMemoryManager.new_in_memory().episodic.search("a", 1)[0].score)
"""
QUICK = (
    *("contract/test_indexes.py", "unit/test_index_kernels.py", "unit/test_index_golden.py"),
    *("unit/test_sqlite_upgrade.py", "unit/test_stubs.py"),
)


@pytest.fixture(scope="module")
def python(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Python that has the wheel and what it depends on, all of it installed from wheels."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    found = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    run(found, "-m", "pip", "install", "--quiet", "--only-binary=:all:", built.wheel, cwd=folder, env=bare(folder))
    return found


def bare(folder: Path) -> dict[str, str]:
    """Return an environment in which nothing can be compiled."""
    return {"PATH": "", "CC": "false", "CXX": "false", "HOME": str(folder)}


def test_it_remembers_where_no_compiler_is(python: Path, tmp_path: Path) -> None:
    """A fresh environment stores, closes, opens again and finds, in a file and by HNSW."""
    printed = run(python, "-W", "error", "-c", USE, cwd=tmp_path, env=bare(tmp_path))
    assert printed == "HNSW My dog is called Ada.\n"


def test_a_missing_extra_says_its_line(python: Path, tmp_path: Path) -> None:
    """The command is there, and without its extra names the cure."""
    command = "import sys, llmspell_memory.cli as c; sys.argv = ['llmspell-memory', 'stats']; c.main()"
    assert python.with_name("llmspell-memory").exists()
    with pytest.raises(AssertionError, match=r'pip install "llmspell-memory\[cli\]"'):
        run(python, "-c", command, cwd=tmp_path, env=bare(tmp_path))


def test_its_types_are_seen(python: Path, tmp_path: Path) -> None:
    """A type checker takes the types of the installed package for what they are."""
    (tmp_path / "typed.py").write_text(TYPED, encoding="utf-8")
    printed = run(sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "typed.py", cwd=tmp_path)
    assert 'Revealed type is "float"' in printed


def test_the_sdists_own_tests_pass(built: Built, python: Path, tmp_path: Path) -> None:
    """Who packages it can test what was built, from the same archive and with pytest alone."""
    run(python, "-m", "pip", "install", "--quiet", "pip>=25.1", cwd=built.source)
    run(python, "-m", "pip", "install", "--quiet", "--group", f"{built.source}/pyproject.toml:runner", cwd=tmp_path)
    tests = [str(built.source / "tests" / one) for one in QUICK]
    printed = run(
        python,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        built.source / "pyproject.toml",
        *tests,
        cwd=tmp_path,
    )
    assert " passed" in printed
    assert "skipped" not in printed
