"""The workflows and the settings of what builds wheels say what is promised."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, run

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PYTHONS = ("cp311", "cp312", "cp313", "cp314")
PROMISED = {
    "linux": {"x86_64": "manylinux_x86_64", "aarch64": "manylinux_aarch64"},
    "macos": {"x86_64": "macosx_x86_64", "arm64": "macosx_arm64"},
    "windows": {"AMD64": "win_amd64"},
}
"""Systems by cibuildwheel's names, their processors, and what a wheel for each is called."""


@pytest.mark.parametrize("system", PROMISED)
def test_wheels_are_built_of_all_that_is_promised(system: str) -> None:
    """One for each system, processor and Python of the metadata, and none beside."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"Python :: (3\.\d+)", " ".join(metadata["classifiers"]))
    assert tuple(f"cp{one.replace('.', '')}" for one in named) == PYTHONS
    assert metadata["requires-python"] == f">={named[0]}"
    for processor, platform in PROMISED[system].items():
        command = ("--print-build-identifiers", "--platform", system, "--archs", processor, ".")
        printed = run(sys.executable, "-m", "cibuildwheel", *command, cwd=ROOT)
        assert printed.split() == [f"{one}-{platform}" for one in PYTHONS]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_one(path: Path) -> None:
    """Its keys and values are those that the format has."""
    run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", path, cwd=ROOT)


def test_workflows_do_nothing_dangerous() -> None:
    """No action that could be exchanged, no permission too many, no text of others in a command, no credential kept."""
    run(Path(sys.executable).with_name("zizmor"), "--offline", "--persona", "auditor", ROOT / ".github", cwd=ROOT)
