"""A release: its notes come from the changelog, and its workflows promise what the metadata promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import llmspell_memory
from release_notes import ReleaseError, main, notes, own_version

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
CHANGELOG = """\
# Changelog

## [Unreleased]

### Added

- Not yet.

## [0.2.0] - 2026-12-01

### Added

- A thing.

### Fixed

- Another.

## [0.1.0] - 2026-11-22

## [0.0.9]

- Without a date.
"""


def test_notes_are_the_versions_section() -> None:
    """From below its heading to the next version's; a tag's "v" is no part of the version."""
    expected = "### Added\n\n- A thing.\n\n### Fixed\n\n- Another.\n"
    assert notes(CHANGELOG, "v0.2.0", version="0.2.0") == notes(CHANGELOG, "0.2.0", version="0.2.0") == expected


@pytest.mark.parametrize(
    ("tag", "version", "says"),
    [
        ("v0.3.0", "0.2.0", "v0.3.0 is to be released, but __version__ is 0.2.0"),
        ("v0.3.0", "0.3.0", r"0 sections .*\[0.3.0\]"),
        ("v0.1.0", "0.1.0", "section of 0.1.0 in CHANGELOG.md is empty"),
        ("v0.0.9", "0.0.9", r"0 sections .*\[0.0.9\] - YYYY-MM-DD"),
        ("v0.2", "0.2", "0 sections"),
        ("Unreleased", "Unreleased", "0 sections"),
    ],
)
def test_what_does_not_agree_is_refused(tag: str, version: str, says: str) -> None:
    """No section, none with a date, an empty one, another version than the code's: each says so."""
    with pytest.raises(ReleaseError, match=says):
        notes(CHANGELOG, tag, version=version)


def test_a_version_twice_is_refused() -> None:
    """Which of two sections is meant, nobody could tell."""
    with pytest.raises(ReleaseError, match="2 sections"):
        notes(CHANGELOG + "\n## [0.2.0] - 2026-12-02\n\n- Again.\n", "v0.2.0", version="0.2.0")


def test_our_own_changelog_has_our_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints the section of the version in the code, and ends with 1 and one line for any other."""
    assert main([f"v{llmspell_memory.__version__}"]) == 0
    assert capsys.readouterr().out.startswith("### ")
    assert main(["v0.0.0"]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)


def test_the_version_is_read_from_the_code() -> None:
    """The code states it in one line, and without it nothing is released."""
    source = Path(llmspell_memory.__file__).read_text(encoding="utf-8")
    assert own_version(source) == llmspell_memory.__version__
    with pytest.raises(ReleaseError, match="states no __version__"):
        own_version("version = 1")


def workflow(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("name", ["tests.yml", "wheels.yml"])
def test_workflows_may_do_no_more_than_they_must(name: str) -> None:
    """Nothing is allowed but by a job, reading alone but to publish; every action is pinned to a commit."""
    loaded = workflow(name)
    assert loaded["permissions"] == {}
    for job, told in loaded["jobs"].items():
        writes = {key for key, value in told["permissions"].items() if value == "write"}
        assert writes == {"publish": {"id-token"}, "release": {"contents"}}.get(job, set())
        for step in told["steps"]:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step.get("uses", f"run@{'0' * 40}")), step
            assert "secrets." not in str(step)


def test_what_is_tested_is_what_is_promised() -> None:
    """Every Python of the metadata, on every system of which there are wheels."""
    pythons = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text("utf-8"))
    jobs = workflow("tests.yml")["jobs"]
    assert jobs["check"]["strategy"]["matrix"]["python"] == pythons
    assert jobs["elsewhere"]["strategy"]["matrix"]["python"] == pythons
    runners = {*jobs["elsewhere"]["strategy"]["matrix"]["runner"], jobs["check"]["runs-on"]}
    assert runners == set(workflow("wheels.yml")["jobs"]["wheels"]["strategy"]["matrix"]["runner"])


def test_nothing_is_published_before_everything_is_built() -> None:
    """Publication waits for the sdist, every wheel and the notes, and needs a tag; the release comes last."""
    jobs = workflow("wheels.yml")["jobs"]
    assert '\n  push:\n    tags: ["v*"]\n' in (WORKFLOWS / "wheels.yml").read_text(encoding="utf-8")
    assert set(jobs["publish"]["needs"]) == {"sdist", "wheels", "notes"}
    assert jobs["publish"]["if"] == jobs["notes"]["if"] == "github.ref_type == 'tag'"
    assert jobs["release"]["needs"] == "publish"
