"""What the documentation shows is run: every Python snippet and every command, in order, page by page.

A line before a fence says what is particular about it:

    <!-- not run: needs a server -->    the fence is not run, and why
    <!-- output -->                     the fence is what the one before it printed; "..." stands for anything

A `python` fence runs in this process, those of one page in one namespace and one folder of its own. An `sh` fence whose
commands are `llmspell-memory ...` runs in the same folder by `sh -eu`; one about the checkout (make, pip, git) is not
run, but every make target it names must exist.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import llmspell_memory
import llmspell_memory.client
import llmspell_memory.embeddings
import llmspell_memory.server
import llmspell_memory.testing
from tests.fences import FENCE, ROOT, Reader, fences, name_of

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
NOT_RUN = {
    "cli.md": 2,
    "embeddings.md": 1,
    "journal.md": 1,
    "mcp.md": 4,
    "scaling.md": 2,
    "security.md": 1,
    "server.md": 1,
}
"""Fences marked "not run", by page; one more is a decision."""

ELSEWHERE = {"crewai.md": "llmspell_memory.adapters.crewai"}
"""Pages that are run by `make test-crewai`, as CrewAI is not installed here, each with the module that it is about."""

MEASURED = {"migration.md"}
COMMANDS = (
    *("add", "search", "context", "recent", "sessions", "show", "stats", "import", "export", "delete", "sweep"),
    *("backup", "check", "repair", "migrate", "rollback", "rollout", "reembed", "tune", "advise", "demo"),
    *("serve", "keys", "mcp", "chat", "doctor"),
)

_LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_TEST = re.compile(r"`((?:tests/[\w/.-]+?/)?test_\w+\.py|tests/[\w/.-]+)(?:\s-k (\"[^\"]+\"|\w+))?`")
_TARGET = re.compile(r"^\s*make ([\w-]+)|`make ([\w-]+)`", re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in ELSEWHERE], ids=name_of)
def test_what_a_page_shows_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snippets and commands run without an error, and print what the page says they print."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    reader = Reader(page, tmp_path)
    for fence in fences(page):
        reader.read(fence)


def test_what_is_not_run_says_why() -> None:
    """Each fence that is not run gives its reason, and there are as many as agreed."""
    unrun = {page.name: [one for one in fences(page) if one.reason is not None] for page in PAGES}
    for name, found in unrun.items():
        for one in found:
            sys.stdout.write(f"{name}:{one.line} not run: {one.reason}\n")
            assert one.reason, f"{name}:{one.line} gives no reason"
    assert {name: len(found) for name, found in unrun.items() if found} == NOT_RUN


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_fence_is_of_a_known_kind(page: Path) -> None:
    """A fence that is misspelt would not be run: only these languages and marks there are."""
    text = page.read_text(encoding="utf-8")
    found = fences(page)
    assert text.count("\n```") == 2 * len(found), "a fence is not closed, or indented"
    assert {one.language for one in found} <= {"python", "sh", "text", "sql", "json"}
    assert all(one.mark in {"", "output", "measured:begin"} or one.reason is not None for one in found)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_json_is_json(page: Path) -> None:
    """What is shown as JSON can be read as such, as a program's configuration must be."""
    for fence in fences(page):
        if fence.language == "json":
            json.loads(fence.code)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of the project leads to one."""
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_that_a_page_names_exist(page: Path) -> None:
    """What is said to show a claim is there: the file or folder, and in it tests that each word of `-k` chooses."""
    for name, chosen in _TEST.findall(page.read_text(encoding="utf-8")):
        found = [ROOT / name] if "/" in name else list((ROOT / "tests").rglob(name))
        assert len(found) == 1, f"{name_of(page)} names {name}"
        assert found[0].exists(), f"{name_of(page)} names {name}"
        for word in re.findall(r"\w+", chosen):
            defined = re.findall(r"def (test_\w+)", found[0].read_text(encoding="utf-8"))
            assert word in {"or", "and"} or any(word in one for one in defined), f"{name_of(page)}: {name} -k {word}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    """Every `make ...` that a page names is a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    named = {first or second for first, second in _TARGET.findall(page.read_text(encoding="utf-8"))}
    assert named <= targets


def test_every_page_is_in_the_navigation() -> None:
    """The site's navigation names each page of docs/ once."""
    nav = re.findall(r"^ +- .*?: ([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(nav) == sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").glob("**/*.md"))


def test_the_reference_names_all_that_is_public() -> None:
    """Each public name has its place in reference.md, and nothing else has."""
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE))
    for module in (
        *(llmspell_memory, llmspell_memory.embeddings, llmspell_memory.testing),
        *(llmspell_memory.server, llmspell_memory.client),
    ):
        for name in module.__all__:
            assert {f"{module.__name__}.{name}", f"llmspell_memory.{name}"} & shown, f"{module.__name__}.{name}"
    for full in shown:
        owner, _, name = full.rpartition(".")
        if owner in ELSEWHERE.values():
            continue
        __import__(owner)
        assert hasattr(sys.modules[owner], name), full


def test_measurements_stand_between_their_markers() -> None:
    """The pages that show measurements have one place for them, which a command fills."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        begins, ends = text.count("<!-- measured:begin -->"), text.count("<!-- measured:end -->")
        assert begins == ends == (page.name in MEASURED), name_of(page)


class TestCommandLine:
    """`cli.md` against the program itself. That every option is told is up to `commands.md`, and tested in site/."""

    PAGE = ROOT / "docs" / "cli.md"

    @staticmethod
    @functools.cache
    def help_of(*command: str) -> str:
        program = Path(sys.executable).with_name("llmspell-memory")
        return subprocess.run(
            [program, *command, "--help"],
            env={"PATH": os.environ["PATH"], "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=True,
        ).stdout

    @classmethod
    def section(cls, heading: str) -> str:
        text = cls.PAGE.read_text(encoding="utf-8")
        found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
        assert found, f"cli.md has no section {heading!r}"
        return found[1]

    def test_every_command_is_described(self) -> None:
        """The program's commands and the page's sections are the same."""
        listed = re.findall(r"^ +([a-z]+)  +\S", self.help_of().partition("Commands")[2], re.MULTILINE)
        sections = re.findall(r"^### `(\w+)`$", self.PAGE.read_text(encoding="utf-8"), re.MULTILINE)
        assert sorted(listed) == sorted(sections) == sorted(COMMANDS)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_what_is_named_exists(self, command: str) -> None:
        """Options that a command's section names are its own or stand before it; the conditions, if it says so, too."""
        section, offered = self.section(f"### `{command}`"), set(_OPTION.findall(self.help_of(command)))
        itself = set(_OPTION.findall(FENCE.sub("", section)))  # an example may use other commands, too
        assert itself <= offered | set(_OPTION.findall(self.help_of()))
        conditions = set(_OPTION.findall(self.section("## Conditions")))
        assert len(conditions) == 8
        if "(#conditions)" in section:
            assert conditions - offered <= {"--session"}
