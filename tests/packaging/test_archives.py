"""The sdist and the wheel hold what they must, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import llmspell_memory
import sbom
from tests.packaging.conftest import ROOT, run

if TYPE_CHECKING:
    from tests.packaging.conftest import Built

LEFT_OUT = (".ci/", ".github/", "benchmarks/")
"""Of no use without a checkout; all else is what a distributor builds, tests and documents from."""

GENERATED = {"PKG-INFO"}


def tracked() -> set[str]:
    """Return the files of the checkout that are under version control, new ones among them."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    return {one for one in listed if (ROOT / one).exists()}


def test_the_sdist_is_the_checkout_without_its_workshop(built: Built) -> None:
    """Sources, tests, examples and documentation; no benchmarks, nothing that was built, nothing that git ignores."""
    with tarfile.open(built.sdist) as archive:
        held = {one.name.partition("/")[2] for one in archive.getmembers() if one.isfile()}
    assert held - GENERATED == {one for one in tracked() if not one.startswith(LEFT_OUT)}
    assert held >= GENERATED


def test_the_wheel_is_the_package_and_its_papers(built: Built) -> None:
    """Every file of the package, the native modules, metadata, licences and the bill of materials."""
    names = built.names()
    package = {one.removeprefix("src/") for one in tracked() if one.startswith("src/")}
    assert {"llmspell_memory/py.typed", "llmspell_memory/_core.pyi", "llmspell_memory/_pages.pyi"} <= package <= names
    compiled = {one for one in names if one.endswith((".so", ".pyd"))}
    assert {one.partition(".")[0] for one in compiled} == {"llmspell_memory/_core", "llmspell_memory/_pages"}
    papers = {
        *("METADATA", "WHEEL", "RECORD", "entry_points.txt", "sboms/llmspell-memory.cdx.json"),
        *("licenses/LICENSE", "licenses/nanobind/LICENSE", "licenses/robin-map/LICENSE"),
    }
    assert names == package | compiled | {f".dist-info/{one}" for one in papers}


def test_what_is_compiled_in_is_named_with_its_licence(built: Built) -> None:
    """The bill is valid CycloneDX, and the text of each part's licence is there."""
    text = built.metadata("sboms/llmspell-memory.cdx.json")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["version"] == llmspell_memory.__version__
    parts = {one["name"]: (one["version"], one["licenses"][0]["license"]["id"]) for one in bill["components"]}
    assert {name: licence for name, (_, licence) in parts.items()} == {"nanobind": "BSD-3-Clause", "robin-map": "MIT"}
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for version, _ in parts.values())
    assert "Redistribution and use in source and binary forms" in built.metadata("licenses/nanobind/LICENSE")
    assert built.metadata("licenses/robin-map/LICENSE").startswith("MIT License")
    assert "License-Expression: Apache-2.0\nLicense-File: LICENSE\n" in built.metadata("METADATA")


def test_versions_are_those_of_the_sources() -> None:
    """What is named is what this environment has; beside nanobind's own sources lies robin-map and nothing else."""
    found = metadata.distribution("nanobind")
    headers = Path(str(found.locate_file("nanobind/ext/robin_map/include")))
    assert (sbom.nanobind().name, sbom.nanobind().version) == ("nanobind", found.version)
    policy = (headers / "tsl" / "robin_growth_policy.h").read_text(encoding="utf-8")
    major, minor, patch = sbom.robin_map(headers).version.split(".")
    for name, number in (("MAJOR", major), ("MINOR", minor), ("PATCH", patch)):
        assert f"#define TSL_RH_VERSION_{name} {number}\n" in policy
    extra = {path.parts[2] for path in found.files or () if path.parts[:2] == ("nanobind", "ext")}
    assert extra == {"robin_map"}


def test_checkers_find_nothing(built: Built) -> None:
    """An index takes both and can show their description; the wheel holds no stray file."""
    folder = built.sdist.parent
    run(sys.executable, "-m", "twine", "check", "--strict", built.sdist, built.wheel, cwd=folder)
    run(sys.executable, "-m", "check_wheel_contents", built.wheel, cwd=folder)


@pytest.mark.skipif(sys.platform != "linux", reason="auditwheel knows Linux alone")
def test_the_wheel_needs_no_library_but_the_systems(built: Built) -> None:
    """A manylinux wheel can be made of it: every library it needs is one that each Linux has."""
    shown = run(sys.executable, "-m", "auditwheel", "show", built.wheel, cwd=built.sdist.parent)
    assert "manylinux_2_" in shown


def test_a_wheel_without_licences_is_not_built(tmp_path: Path) -> None:
    """Where robin-map has come without its licence, the build stops and says so."""
    (tmp_path / "tsl").mkdir()
    (tmp_path / "tsl" / "robin_map.h").write_text("#define TSL_RH_VERSION_MAJOR 1\n", encoding="utf-8")
    script, folder = str(ROOT / "tools" / "sbom.py"), str(tmp_path)
    command = [sys.executable, script, "--version", "1", "--robin-map", folder, "--to", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "robin-map 1 has come without the text of the MIT licence" in done.stderr
    assert not (tmp_path / "licenses").exists()


def test_the_wheel_serves_the_pythons_it_names(built: Built) -> None:
    """From 3.12 on it is one for every later Python, and uses nothing that a later one may lack."""
    abi3 = sys.version_info >= (3, 12)
    assert ("-cp312-abi3-" in built.wheel.name) == abi3
    assert ("llmspell_memory/_core.abi3.so" in built.names()) == (abi3 and sys.platform != "win32")
    if abi3:
        run(sys.executable, "-m", "abi3audit", "--strict", built.wheel, cwd=built.sdist.parent)
